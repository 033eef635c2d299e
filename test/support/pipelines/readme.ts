import * as beam from "apache-beam";
import { definePipeline, readZnodeChanges, writeToText, writeToZnodes } from "beamkeeper";

export default definePipeline({
  name: "registry-flaps",
  build: (root) => {
    const flaps = root
      .apply(readZnodeChanges("/dubbo/*/providers"))
      .map((change) => ({ service: change.path.split("/")[2] ?? "", value: 1 }))
      .apply(beam.windowInto(beam.fixedWindows(1)))
      .apply(beam.groupBy("service").combining("value", (a, b) => a + b, "flaps"));
    flaps.apply(writeToZnodes((f) => ({ path: `/alerts/${f.service}`, data: JSON.stringify(f) })));
    flaps.apply(writeToText("registry-flaps/flaps"));
  },
});
