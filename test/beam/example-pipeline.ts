import * as beam from "apache-beam";
import { definePipeline, readZnodeChanges, writeToText, writeToZnodes } from "beamkeeper";

/** The example of the design document, as a user writes it: no casts, no annotations beyond TypeScript's own. */
export default definePipeline({
  name: "registry-flaps",
  build: (root) => {
    const flaps = root
      .apply(readZnodeChanges("/dubbo/*/providers", { recursive: true })) // unbounded: one element for each change
      .map((change) => ({ service: change.path.split("/")[2], value: 1 }))
      .apply(beam.windowInto(beam.fixedWindows(60)))
      .apply(beam.groupBy("service").combining("value", (a, b) => a + b, "flaps"));
    flaps.apply(
      writeToZnodes((f) => ({ path: `/alerts/${f.service}`, data: JSON.stringify(f) }), { mode: "upsert" }),
    );
    flaps.apply(writeToText("s3://audit/flaps"));
  },
});
