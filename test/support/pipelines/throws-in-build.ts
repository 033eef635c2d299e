import { definePipeline } from "beamkeeper";

export default definePipeline({
  name: "throws-in-build",
  build: () => {
    throw new TypeError("the configuration file is missing");
  },
});
