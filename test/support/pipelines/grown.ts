import * as beam from "apache-beam";
import { reshuffle } from "apache-beam/transforms/utils";
import { definePipeline, type PipelineDefinition, readZnodeChanges, writeToZnodes } from "beamkeeper";

interface Count {
  readonly path: string;
  readonly changes: number;
}

/** Counts changes of each path in windows of an hour; what was updated also counts those from then on in days. */
function counting(isUpdated: boolean): PipelineDefinition {
  return definePipeline({
    name: "grown",
    shards: 2,
    build: (root) => {
      const changes = root
        .apply(readZnodeChanges("/grown/*", { recursive: false }))
        .map(({ path }): Count => ({ path, changes: 1 }));
      const sums = beam.groupBy("path").combining("changes", (a: number, b: number) => a + b, "changes");
      const write = (below: string) =>
        writeToZnodes(({ path, changes: count }: Count) => ({ path: `${below}${path}`, data: `${count}` }), {
          mode: "create",
        });
      const hourly = changes.apply(beam.windowInto(beam.fixedWindows(3_600)));
      if (!isUpdated) {
        hourly.apply(sums).apply(write("/hours"));
        changes.apply(beam.withName("spread", reshuffle())).map(({ path }) => path);
        return;
      }
      hourly
        .apply(beam.withName("perPath", sums))
        .map(({ path, changes: count }) => ({ path: `/updated${path}`, changes: count }))
        .apply(write("/hours"));
      changes
        .apply(beam.windowInto(beam.fixedWindows(86_400)))
        .apply(beam.withName("perDay", sums))
        .apply(write("/days"));
    },
  });
}

export const before = counting(false);

export default counting(true);
