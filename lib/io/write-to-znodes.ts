import type { PCollection, PTransform } from "apache-beam";
import { type SinkPlace, writePrimitive } from "../beam/primitives";
import { pathProblem } from "../zookeeper/paths";

/** `upsert` creates or overwrites, `create` and `update` do one of the two, `delete` deletes. */
export type ZnodeWriteMode = "upsert" | "create" | "update" | "delete";

export type ConflictPolicy = "fail" | "skip" | "dead-letter";

export interface WriteToZnodesOptions {
  /** Default: "upsert". */
  readonly mode?: ZnodeWriteMode;
  /**
   * What happens when the mode or the expected version does not fit the znode: `fail` tries the bundle again, as the
   * pipeline's `failures` say; `skip` leaves the write out; `dead-letter` puts the element aside at once, with all that
   * its transforms make of it. Default: "fail".
   */
  readonly onConflict?: ConflictPolicy;
}

/** What the function returns for an element. */
export interface ZnodeWrite {
  readonly path: string;
  /** Text is written as UTF-8. Left out for a deletion. */
  readonly data?: string | Uint8Array;
  /** Write only if the znode has this version; 0 means version 0. Default: any. */
  readonly version?: number;
}

export const ZNODES_SINK = "znodes";

/** The payload of a `SinkEffect` of the sink "znodes". */
export interface ZnodeWritePayload {
  readonly path: string;
  readonly data: Uint8Array;
  readonly version?: number;
  readonly mode: ZnodeWriteMode;
  readonly onConflict: ConflictPolicy;
}

const MODES: readonly string[] = ["upsert", "create", "update", "delete"];
const POLICIES: readonly string[] = ["fail", "skip", "dead-letter"];

/**
 * Writes a znode for each element, in the same multi that commits the bundle: exactly once.
 *
 * @param fn gives path, data and perhaps an expected version for an element; also gets its window, pane and time.
 * @throws TypeError if an option has the wrong value.
 */
export function writeToZnodes<T>(
  fn: (element: T, place: SinkPlace) => ZnodeWrite,
  options: WriteToZnodesOptions = {},
): PTransform<PCollection<T>, void> {
  const { mode = "upsert", onConflict = "fail" } = options;
  if (typeof fn !== "function")
    throw new TypeError("writeToZnodes needs a function that gives { path, data }");
  checkChoice("mode", mode, MODES);
  checkChoice("onConflict", onConflict, POLICIES);
  return writePrimitive<T>("writeToZnodes", {
    sink: ZNODES_SINK,
    config: { mode, onConflict },
    toPayload: (element: T, place: SinkPlace) => toPayload(fn(element, place), mode, onConflict),
  });
}

function toPayload(write: ZnodeWrite, mode: ZnodeWriteMode, onConflict: ConflictPolicy): ZnodeWritePayload {
  if (typeof write !== "object" || write === null)
    throw new TypeError("writeToZnodes: the function must give { path, data }");
  const { path, data, version } = write;
  const problem = path === "/" ? "is the root, which can't be written" : pathProblem(path);
  if (problem !== undefined)
    throw new TypeError(`writeToZnodes: the path ${JSON.stringify(path)} ${problem}`);
  if (version !== undefined && !(Number.isInteger(version) && version >= 0 && version < 2 ** 31)) {
    throw new TypeError(
      `writeToZnodes: the version of ${path} must be a whole number from 0, it is ${String(version)}`,
    );
  }
  return {
    path,
    data: toBytes(data, path, mode),
    ...(version === undefined ? {} : { version }),
    mode,
    onConflict,
  };
}

function toBytes(data: unknown, path: string, mode: ZnodeWriteMode): Uint8Array {
  if (typeof data === "string") return Buffer.from(data, "utf8");
  if (data instanceof Uint8Array) return data;
  if (data === undefined && mode === "delete") return Buffer.alloc(0);
  throw new TypeError(
    `writeToZnodes: the data of ${path} must be a string or a Uint8Array, it is ${typeof data}`,
  );
}

function checkChoice(name: string, value: string, choices: readonly string[]): void {
  if (choices.includes(value)) return;
  throw new TypeError(
    `writeToZnodes: ${name} must be one of ${choices.join(", ")}; it is ${JSON.stringify(value)}`,
  );
}
