import type { PCollection, PTransform, Root } from "apache-beam";
import { readPrimitive } from "../beam/primitives";
import type { ZnodeChange } from "../checkpoint/znode-change";
import type { ZnodeSource } from "../checkpoint/znode-source";
import { patternProblem } from "./znode-path";

export interface ReadZnodeChangesOptions {
  /** Watch what lies below the path as well. Default: true. */
  readonly recursive?: boolean;
  /**
   * `snapshot` delivers what is there at the very first start as elements of kind `existing`; `now` delivers only
   * what happens after it. Default: "snapshot".
   */
  readonly start?: "snapshot" | "now";
  /** Let this pipeline write below the path that it watches; its own writes come back to it. Default: false. */
  readonly allowFeedback?: boolean;
}

/**
 * Reads the changes of znodes: an unbounded source with one element for each value that could be seen.
 *
 * Every final value of every watched znode is delivered exactly once; values that were overwritten before they
 * could be read are counted in `missed`. The event time is the later of the znode's mtime and the published
 * watermark, in the global window.
 *
 * @param path a znode path; a segment may be `*`, for any one name: `/dubbo/*\/providers`.
 * @throws TypeError if the path is none, or an option has the wrong type.
 */
export function readZnodeChanges(
  path: string,
  options: ReadZnodeChangesOptions = {},
): PTransform<Root, PCollection<ZnodeChange>> {
  const problem = patternProblem(path);
  if (problem !== undefined)
    throw new TypeError(`readZnodeChanges: the path ${JSON.stringify(path)} ${problem}`);
  const { recursive = true, start = "snapshot", allowFeedback = false } = options;
  for (const [name, value] of Object.entries({ recursive, allowFeedback })) {
    if (typeof value !== "boolean")
      throw new TypeError(`readZnodeChanges("${path}"): ${name} must be true or false`);
  }
  if (start !== "snapshot" && start !== "now") {
    throw new TypeError(`readZnodeChanges("${path}"): start must be "snapshot" or "now"`);
  }
  const config: ZnodeSource = { path, recursive, start, allowFeedback };
  return readPrimitive<ZnodeChange>("readZnodeChanges", { kind: "znode-changes", config, bounded: false });
}
