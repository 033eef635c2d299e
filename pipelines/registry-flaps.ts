import * as beam from "apache-beam";
import { definePipeline, type PipelineDefinition, readZnodeChanges, writeToZnodes } from "beamkeeper";

/**
 * Instances of a service that come and go: how many of each in a window. Any registry whose instances are znodes below
 * their service will do (Curator's, Spring Cloud's); for Dubbo watch `/dubbo/*\/providers/*`. Values are never read.
 */
export function registryFlaps(windowSeconds: number): PipelineDefinition {
  return definePipeline({
    name: "registry-flaps",
    build: (root) => {
      root
        .apply(
          readZnodeChanges("/services/*/*", {
            recursive: false,
            kinds: ["created", "deleted"],
            start: "now",
          }),
        )
        .map(({ path, kind }) => ({
          service: path.split("/")[2] ?? "",
          joined: kind === "created" ? 1 : 0,
          left: kind === "deleted" ? 1 : 0,
        }))
        .apply(beam.windowInto(beam.fixedWindows(windowSeconds)))
        .apply(
          beam
            .groupBy("service")
            .combining("joined", (a: number, b: number) => a + b, "joined")
            .combining("left", (a: number, b: number) => a + b, "left"),
        )
        .apply(
          writeToZnodes(({ service, joined, left }, { window }) => ({
            path: `/flaps/${service}/${window.kind === "interval" ? window.startMs : "always"}`,
            data: JSON.stringify({ joined, left }),
          })),
        );
    },
  });
}

export default registryFlaps(60);
