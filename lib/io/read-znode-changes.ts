import { type PCollection, type PTransform, type Root, withName } from "apache-beam";
import { readPrimitive } from "../beam/primitives";
import { filterProblem, type ValueFilter } from "../checkpoint/value-filter";
import { CHANGE_KINDS, type ChangeKind, type ZnodeChange } from "../checkpoint/znode-change";
import type { SourceBatching, ZnodeSource } from "../checkpoint/znode-source";
import { type DecodedZnodeChange, type Decoder, decodeChange } from "./decode";
import { patternProblem } from "./znode-path";

export interface ReadZnodeChangesOptions {
  /** Watch what lies below the path as well. Default: true. For one level, watch `/path/*` with `recursive: false`. */
  readonly recursive?: boolean;
  /** Patterns of paths that are left out with everything below them; their values are not read. Default: none. */
  readonly exclude?: string | readonly string[];
  /**
   * What is delivered: `existing`, `created`, `changed`, `deleted`, `children`, `acl`. A change that is not
   * delivered is not read either, where that is known before. Default: the first four.
   */
  readonly kinds?: readonly ChangeKind[];
  /**
   * Deliver a value only if it is JSON whose fields fit, in the language of Lambda's event filtering. Applied to
   * what has a value: deletions, `children` and `acl` pass. Default: every value.
   */
  readonly filter?: ValueFilter;
  /** Deliver the value before each change as `previous`, where the relay still knows it. Default: false. */
  readonly previous?: boolean;
  /**
   * `snapshot` delivers what is there at the very first start as elements of kind `existing`; `now` delivers only
   * what happens after it. Default: "snapshot".
   */
  readonly start?: "snapshot" | "now";
  /**
   * How changes are brought together in commits: `size`, znodes in one (1 to 10,000; default 500); `windowMs`,
   * how long the first of them waits for others (0 to 300,000; default: BEAMKEEPER_LINGER_MS, which is 0); `bytes` of
   * the elements in one (from 1,024; default and most: three quarters of BEAMKEEPER_COMMIT_SIZE_BYTES). A batch that
   * is full does not wait. It may change from one build to the next.
   */
  readonly batching?: SourceBatching;
  /**
   * The ensemble that is watched, by its name in BEAMKEEPER_ENSEMBLES. The cursor and all results stay on the one that
   * holds the root. Default: that one.
   */
  readonly ensemble?: string;
  /** Let this pipeline write below the path that it watches; its own writes come back to it. Default: false. */
  readonly allowFeedback?: boolean;
}

export interface DecodingOptions<T> extends ReadZnodeChangesOptions {
  /** Gives each element a typed `value`: `json<T>()`, `text()`, `bytes()`, or one of the decoders for known layouts. */
  readonly decode: Decoder<T>;
}

/**
 * Reads the changes of znodes: an unbounded source with one element for each value that could be seen.
 *
 * Every final value of every watched znode is delivered exactly once; values that were overwritten before they
 * could be read are counted in `missed`. The event time is the later of the znode's mtime and the published
 * watermark, in the global window.
 *
 * @param path a znode path, or several; a name may be `*`, for any one name (`/dubbo/*\/providers`), or `**`, for
 * any number of names.
 * @throws TypeError if a path is none, or an option has the wrong type. A value that can't be decoded is a
 * ZnodeDecodeError when the element is processed.
 */
export function readZnodeChanges<T>(
  path: string | readonly string[],
  options: DecodingOptions<T>,
): PTransform<Root, PCollection<DecodedZnodeChange<T>>>;
export function readZnodeChanges(
  path: string | readonly string[],
  options?: ReadZnodeChangesOptions,
): PTransform<Root, PCollection<ZnodeChange>>;
export function readZnodeChanges(
  path: string | readonly string[],
  options: ReadZnodeChangesOptions & { readonly decode?: Decoder<unknown> } = {},
): PTransform<Root, PCollection<ZnodeChange>> {
  const config = sourceOf(path, options);
  const read = readPrimitive<ZnodeChange>("readZnodeChanges", {
    kind: "znode-changes",
    config,
    ...(options.batching ? { tuning: batchingOf(config.paths[0]!, options.batching) } : {}),
    bounded: false,
  });
  const { decode } = options;
  if (decode === undefined) return read;
  if (typeof decode?.decode !== "function")
    throw new TypeError(
      `readZnodeChanges("${config.paths[0]}"): decode must be a decoder such as json(), text() or bytes()`,
    );
  return withName("decodeZnodeChanges", (root: Root) =>
    root.apply(read).map((change) => decodeChange(decode, change)),
  );
}

function sourceOf(path: string | readonly string[], options: ReadZnodeChangesOptions): ZnodeSource {
  const paths = listOf(path);
  if (paths.length === 0) throw new TypeError("readZnodeChanges needs a path");
  const { recursive = true, previous = false, allowFeedback = false, start = "snapshot", filter } = options;
  const exclude = listOf(options.exclude ?? []);
  checkPatterns("path", paths);
  checkPatterns("path to exclude", exclude);
  const fail = (problem: string): never => {
    throw new TypeError(`readZnodeChanges("${paths[0]}"): ${problem}`);
  };
  for (const [name, value] of Object.entries({ recursive, previous, allowFeedback }))
    if (typeof value !== "boolean") fail(`${name} must be true or false`);
  if (start !== "snapshot" && start !== "now") fail(`start must be "snapshot" or "now"`);
  const { kinds, ensemble } = options;
  if (ensemble !== undefined && (typeof ensemble !== "string" || ensemble === ""))
    fail("ensemble must be a name of BEAMKEEPER_ENSEMBLES");
  if (kinds && (kinds.length === 0 || kinds.some((kind) => !CHANGE_KINDS.includes(kind))))
    fail(`kinds must be a list of ${CHANGE_KINDS.join(", ")}`);
  const problem = filter && filterProblem(filter);
  if (problem) fail(problem);
  return {
    paths,
    recursive,
    start,
    allowFeedback,
    // What is not said is not part of the pipeline's fingerprint.
    ...(ensemble === undefined ? {} : { ensemble }),
    ...(exclude.length > 0 ? { exclude } : {}),
    ...(kinds ? { kinds: CHANGE_KINDS.filter((kind) => kinds.includes(kind)) } : {}),
    ...(filter ? { filter } : {}),
    ...(previous ? { previous } : {}),
  };
}

const BATCHING = { size: [1, 10_000], windowMs: [0, 300_000], bytes: [1_024, 2 ** 31 - 1] } as const;

function batchingOf(path: string, batching: SourceBatching): SourceBatching {
  for (const [name, value] of Object.entries(batching)) {
    const [least, most] = BATCHING[name as keyof SourceBatching] ?? [];
    const problem =
      least === undefined ? `there is no ${name}` : `${name} must be a whole number from ${least} to ${most}`;
    if (least === undefined || !Number.isInteger(value) || value < least || value > most!)
      throw new TypeError(`readZnodeChanges("${path}"): batching: ${problem}`);
  }
  return batching;
}

function listOf(value: string | readonly string[]): readonly string[] {
  return Array.isArray(value) ? value : [value as string];
}

function checkPatterns(what: string, patterns: readonly string[]): void {
  for (const pattern of patterns) {
    const problem = patternProblem(pattern);
    if (problem !== undefined)
      throw new TypeError(`readZnodeChanges: the ${what} ${JSON.stringify(pattern)} ${problem}`);
  }
}
