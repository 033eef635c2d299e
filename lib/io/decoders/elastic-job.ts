import type { Decoder } from "../decode";
import { namesBelow } from "./fields";

/**
 * What ElasticJob keeps of a job, by the path of its znode. Source of the forms: ElasticJob's documentation of its
 * registry's data structure. The job's configuration is YAML, and given as text.
 */
export type ElasticJobMetadata =
  | { readonly type: "config"; readonly job: string; readonly yaml: string }
  | {
      /** Ephemeral: one for each process that runs the job. */
      readonly type: "instance";
      readonly job: string;
      readonly instance: string;
      readonly ip: string;
    }
  | { readonly type: "server"; readonly job: string; readonly ip: string; readonly isEnabled: boolean }
  | { readonly type: "sharding"; readonly job: string; readonly item: number; readonly instance: string }
  /** Ephemeral while the item runs. */
  | { readonly type: "running"; readonly job: string; readonly item: number }
  | { readonly type: "leader"; readonly job: string; readonly instance: string }
  | { readonly type: "other" };

/** @param namespace of the registry, as a path: "/my-jobs". */
export function elasticJob(namespace: string): Decoder<ElasticJobMetadata> {
  return {
    format: "ElasticJob's registry data",
    decode(data, path) {
      const [job, place, name, leaf, ...deeper] = namesBelow(path, namespace) ?? [];
      if (job === undefined || place === undefined || deeper.length > 0) return { type: "other" };
      const text = data.toString("utf8");
      if (place === "config" && name === undefined) return { type: "config", job, yaml: text };
      if (place === "instances" && name !== undefined && leaf === undefined)
        return { type: "instance", job, instance: name, ip: name.split("@-@")[0]! };
      if (place === "servers" && name !== undefined && leaf === undefined)
        return { type: "server", job, ip: name, isEnabled: text !== "DISABLED" };
      if (place === "leader" && name === "election" && leaf === "instance")
        return { type: "leader", job, instance: text };
      return place === "sharding" && name !== undefined ? sharding(job, name, leaf, text) : { type: "other" };
    },
  };
}

function sharding(job: string, name: string, leaf: string | undefined, text: string): ElasticJobMetadata {
  if (leaf !== "instance" && leaf !== "running") return { type: "other" };
  if (!/^\d+$/.test(name)) throw new TypeError(`the sharding item is not a number: ${name}`);
  const item = Number(name);
  return leaf === "instance"
    ? { type: "sharding", job, item, instance: text }
    : { type: "running", job, item };
}
