import { type PCollection, type PTransform, withName } from "apache-beam";
import { decodeInboxElement, encodeElement, encodeReplay } from "./coders/element-coder";
import type { Pane } from "./engine/panes";
import type { Window } from "./engine/windows";
import { splittablePrimitive } from "./primitives";

/** Records that a source has read of a restriction, and what it has not read yet. */
export interface ReadPiece<R, T> {
  /** May be empty. Keep a piece small (a megabyte or so): it is in memory as a whole. */
  readonly records: readonly T[];
  /** What is left after these records; undefined where that is nothing. */
  readonly rest: R | undefined;
  /** Event times of the records, in ms. Default: the time of the element that was split. */
  readonly timestampsMs?: readonly number[];
  /**
   * The watermark estimate: no record of the rest is older than this, in ms. Default: the estimate before, at first
   * the time of the element that was split. When nothing is left, the watermark is free. Only of a source whose
   * `watermark` is "manual".
   */
  readonly watermarkMs?: number;
  /**
   * Of a source without an end: there is nothing more for now, and the rest is to be read on after so many ms of
   * processing time. Default: at once. Beam model: `ProcessContinuation.resume`.
   */
  readonly resumeAfterMs?: number;
}

/**
 * How the watermark of what is left of a restriction is estimated. Beam model: `WatermarkEstimator`.
 *
 * - `manual`: as the pieces say (`watermarkMs`).
 * - `monotonic`: the latest time of a record so far, for sources whose records come in the order of their times.
 * - `wallTime`: the clock's time when the piece was read, which is also the time of records that bring none.
 */
export type WatermarkEstimator = "manual" | "monotonic" | "wallTime";

/** A file, or an object, as it was found. */
export interface InputFile {
  readonly name: string;
  readonly sizeBytes: number;
  /** Changes with the content: a file that was split is read only while it is the same. */
  readonly version: string;
}

/** Files and objects to read from. */
export interface InputFiles {
  /**
   * What a name or a pattern stands for, in the order of the names. In a pattern `*` is any text without a slash, `**`
   * any text, `?` any character but a slash; a name that ends in a slash is a folder, and stands for the files in it.
   */
  list(pattern: string): Promise<readonly InputFile[]>;
  /**
   * The bytes from `from` on and before `to` (default: the end), in pieces of any size.
   * Rejects with InputFileError where the file is gone or has changed.
   */
  read(file: InputFile, from: number, to?: number): AsyncIterable<Buffer>;
}

/** What a source may use. */
export interface ReadContext {
  readonly files: InputFiles;
  /** The ensemble of Beamkeeper itself, to read from. Rejects with the client's errors. */
  readonly znodes: {
    getChildren(path: string): Promise<{ readonly children: readonly string[] }>;
    getData(path: string): Promise<{ readonly data: Buffer; readonly stat: ZnodeStat }>;
  };
  /** The znode that all of Beamkeeper's own are below. */
  readonly root: string;
}

/** What ZooKeeper knows of a znode; times in ms. */
export interface ZnodeStat {
  readonly czxid: bigint;
  readonly mzxid: bigint;
  readonly ctime: number;
  readonly mtime: number;
  readonly version: number;
  readonly numChildren: number;
  readonly ephemeralOwner: bigint;
}

/**
 * A source that is read in parts: Beam's splittable DoFn. An element stands for an amount of work (a pattern of files, a
 * table, a feed), a restriction for a part of it (a file from one byte to another). Both are plain data.
 */
export interface SplittableSource<E, R, T> {
  /** Names the transform. */
  readonly name: string;
  /** Plain data that the source was made with: it is part of the graph's fingerprint. */
  readonly config?: unknown;
  /** The initial restrictions of an element. They are spread over the shards of the stage that reads. */
  split(element: E, context: ReadContext): Iterable<R> | AsyncIterable<R> | Promise<Iterable<R>>;
  /**
   * Reads a restriction, piece after piece. The runner stops asking when a bundle is full or an invocation is near its
   * end, commits what it has, and goes on with `rest`, maybe in another process. So `read(rest)` must give exactly the
   * records that would have come next, in the same order, in pieces of any size. A source without an end need not: what is
   * left of a piece is kept with the commit, and `read(rest)` gives what there is then.
   *
   * What it throws is treated as an error of user code on this restriction, unless the error has an `outcome` that is
   * "retryable" or "ambiguous": then the invocation fails, and is made again.
   */
  read(restriction: R, context: ReadContext): AsyncIterable<ReadPiece<R, T>> | Iterable<ReadPiece<R, T>>;
  /** How much there is to read of a restriction, in bytes, for the progress that people see. Default: 0, not known. */
  size?(restriction: R): number;
  /**
   * Restrictions may have no end: what is left of each waits until it is to be read on (`resumeAfterMs`), while others are
   * read. Records are plain data then. Default: false, each restriction is read to its end before the next one.
   */
  readonly unbounded?: boolean;
  /** Default: "manual". */
  readonly watermark?: WatermarkEstimator;
  /**
   * Of a source without an end: what is still to be read of a restriction when the pipeline is drained, up to the first
   * piece that asks to be resumed later; undefined for nothing. Default: nothing. Bounded restrictions are read to their
   * ends in any case. Beam model: `TruncateRestriction`.
   */
  truncate?(restriction: R): R | undefined;
}

const ESTIMATORS: readonly (WatermarkEstimator | undefined)[] = [
  undefined,
  "manual",
  "monotonic",
  "wallTime",
];

/** A source whose types only its own functions know. */
export type AnySource = SplittableSource<unknown, unknown, unknown>;

/**
 * Reads what each element of the input stands for. Records have the window of their element, and its time unless the
 * source gives them times of their own. Beam model: splittable DoFn.
 */
export function splittableRead<E, R, T>(
  source: SplittableSource<E, R, T>,
): PTransform<PCollection<E>, PCollection<T>> {
  if (typeof source?.name !== "string" || source.name === "")
    throw new TypeError("splittableRead: a source needs a name");
  for (const method of ["split", "read"] as const)
    if (typeof source[method] !== "function")
      throw new TypeError(`splittableRead: the source "${source.name}" has no function ${method}`);
  if (!ESTIMATORS.includes(source.watermark))
    throw new TypeError(
      `splittableRead: the source "${source.name}" has no known watermark; it is "manual", "monotonic" or "wallTime"`,
    );
  return withName(source.name, (input: PCollection<E>) =>
    input
      .apply(splittablePrimitive<E, R>("split", { phase: "split", source }))
      .apply(splittablePrimitive<R, T>("read", { phase: "read", source })),
  );
}

/** What the inbox of a stage that splits or reads holds. */
export interface ReadTask {
  /** An element to split, a restriction to read, or a record that had been set aside and goes straight on. */
  readonly kind: "work" | "record";
  readonly value: unknown;
  /** Of a restriction: so many of its first records have been processed. */
  readonly skip: number;
  readonly timestampMs: number;
  readonly window: Window;
  readonly pane: Pane;
}

/** @throws CorruptEncodingError */
export function decodeReadTask(bytes: Uint8Array): ReadTask {
  const { form, key, value, timestampMs, window, pane } = decodeInboxElement(bytes);
  const skip = typeof key === "number" ? key : 0;
  return { kind: form === "element" ? "work" : "record", value, skip, timestampMs, window, pane };
}

/** What is left of a restriction has the number of records to skip in the place of the key, which it has not. */
export function encodeReadTask({ kind, value, skip, timestampMs, window, pane }: ReadTask): Buffer {
  const element = { key: skip === 0 ? undefined : skip, value, timestampMs, window, pane };
  return kind === "work" ? encodeElement(element) : encodeReplay("pane", element);
}
