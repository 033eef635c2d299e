import * as beam from "apache-beam";
import {
  definePipeline,
  json,
  type PipelineDefinition,
  readZnodeChanges,
  sessions,
  writeToZnodes,
} from "beamkeeper";

interface Visit {
  readonly user: string;
  readonly page: string;
}

/**
 * Sessionisation: visits are written below /visits, and those of a user belong together until nothing has come for so long.
 * Each session becomes one znode, with its pages, when it has ended.
 */
export function sessionisation(gapSeconds: number): PipelineDefinition {
  return definePipeline({
    name: "sessionisation",
    build: (root) => {
      root
        .apply(
          readZnodeChanges("/visits/*", {
            ...{ recursive: false, kinds: ["existing", "created"], decode: json<Visit>() },
          }),
        )
        .flatMap(({ value }) => (value === null ? [] : [{ user: value.user, pages: [value.page] }]))
        .apply(beam.windowInto(sessions(gapSeconds)))
        .apply(beam.groupBy("user").combining("pages", (a: string[], b: string[]) => [...a, ...b], "pages"))
        .apply(
          writeToZnodes(({ user, pages }, { window }) => ({
            path: `/sessions/${user}/${window.kind === "interval" ? window.startMs : "always"}`,
            data: JSON.stringify({ visits: pages.length, pages: [...new Set(pages)].sort() }),
          })),
        );
    },
  });
}

export default sessionisation(1_800);
