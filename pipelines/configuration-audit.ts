import * as beam from "apache-beam";
import {
  definePipeline,
  json,
  type PipelineDefinition,
  readZnodeChanges,
  writeToText,
  writeToZnodes,
} from "beamkeeper";

interface Limits {
  readonly requestsPerSecond?: number;
}

/**
 * An audit of the configuration below /config: each change with the value before it, as text; and configuration that
 * is derived from it, written back exactly once for each change: the limit of each of a service's ten instances.
 */
export function configurationAudit(windowSeconds: number): PipelineDefinition {
  return definePipeline({
    name: "configuration-audit",
    build: (root) => {
      const changes = root.apply(
        readZnodeChanges("/config/*/limits", { recursive: false, decode: json<Limits>(), previous: true }),
      );
      changes
        .flatMap(({ path, value }) => {
          const perSecond = value?.requestsPerSecond;
          if (perSecond === undefined) return [];
          return [{ service: path.split("/")[2] ?? "", perInstance: perSecond / 10 }];
        })
        .apply(
          writeToZnodes(({ service, perInstance }) => ({
            path: `/derived/${service}/limits`,
            data: JSON.stringify({ requestsPerSecond: perInstance }),
          })),
        );
      changes
        .map(({ path, kind, mtimeMs, version, value, previousValue, missed, missedAtLeast }) => ({
          ...{ path, kind, mtimeMs, version, value },
          // Undefined where the value before is not known any more, as after a relay's start.
          before: previousValue,
          ...{ missed, missedAtLeast },
        }))
        .apply(beam.windowInto(beam.fixedWindows(windowSeconds)))
        .apply(writeToText("configuration-audit/changes", { suffix: ".jsonl" }));
    },
  });
}

export default configurationAudit(60);
