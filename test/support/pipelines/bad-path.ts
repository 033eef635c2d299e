import { definePipeline, readZnodeChanges, writeToZnodes } from "beamkeeper";

export default definePipeline({
  name: "bad-path",
  build: (root) => {
    root
      .apply(readZnodeChanges("app/without/slash"))
      .apply(writeToZnodes(({ path }) => ({ path, data: "" })));
  },
});
