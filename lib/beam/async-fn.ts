import type { BoundedWindow, Pane } from "./api";
import type { FollowedZnode } from "./followed-znode";

/** What a call of an asynchronous function is told beside its element. */
export interface AsyncCall<C = undefined> {
  /** Event time of the element, in milliseconds. */
  readonly timestampMs: number;
  readonly window: BoundedWindow;
  readonly pane: Pane;
  /**
   * Aborted when the call has taken longer than `timeoutMs`, or when its bundle has failed or been given up; nobody
   * waits for its result then. To be passed on, as in `fetch(url, { signal })`.
   */
  readonly signal: AbortSignal;
  /** The `context` of the options: its parameters (window, side inputs, metrics ...) are those of this element. */
  readonly context: C;
}

/** What a call of a function of batches is told. */
export type BatchCall<C = undefined> = Pick<AsyncCall<C>, "signal" | "context">;

export interface AsyncOptions<C = undefined> {
  /** Calls at a time, of one shard. Default: 10. */
  readonly concurrency?: number;
  /** Results in the order of their elements; else each as it comes. Default: true. */
  readonly ordered?: boolean;
  /** How long a call may take, in milliseconds; one that takes longer has failed. Default: 30,000. */
  readonly timeoutMs?: number;
  /** As the second argument of `map`: side inputs, metrics, window parameters. */
  readonly context?: C;
}

/** How elements are brought together. A batch is never larger than a bundle. */
export interface BatchOptions {
  /**
   * Elements of a batch at least, at most half of `maxElements`. Only a bundle with fewer elements has a smaller batch.
   * Default: 1.
   */
  readonly minElements?: number;
  /** Default: 100. */
  readonly maxElements?: number;
  /** A batch ends before it is larger than this, unless it is a single element. Default: no limit. */
  readonly maxBytes?: number;
  /** Bytes of an element, for `maxBytes`. Default: an estimate from its texts, byte arrays and properties. */
  readonly sizeOf?: (element: never) => number;
}

/**
 * A DoFn whose calls may be asynchronous. Its results come as one iterable, or one by one from an async generator;
 * they get the window and the time of their element.
 */
export interface AsyncDoFn<I, O, C = undefined> {
  /** Once for each process, before its first bundle. What it throws is no failure of an element: it is tried again. */
  setup?(): unknown;
  /** Before the first call of a bundle, which waits for it. */
  startBundle?(): unknown;
  process(
    element: I,
    call: AsyncCall<C>,
  ): Promise<Iterable<O> | undefined> | Promise<void> | AsyncIterable<O> | Iterable<O> | undefined;
  /** After the last call of a bundle, before its commit. */
  finishBundle?(): unknown;
  /** When the process ends in an orderly way, which on Lambda it need not. */
  teardown?(): unknown;
}

/** The options with their defaults; `batch` where calls are for batches. */
export interface CallSettings {
  readonly concurrency: number;
  readonly ordered: boolean;
  readonly timeoutMs: number;
  readonly batch: BatchSettings | undefined;
}

export interface BatchSettings {
  readonly minElements: number;
  readonly maxElements: number;
  readonly maxBytes: number;
  readonly sizeOf: ((element: unknown) => number) | undefined;
}

/** What one call gives, and how it becomes elements: one, several, or one for each element of its batch. */
export type CallKind = "map" | "flatMap" | "batch";

/** Calls of a function of the user's that may be asynchronous, as `parDo` is given them. */
export class AsyncFn {
  constructor(
    readonly kind: CallKind,
    readonly fn: (element: never, call: never) => unknown,
    readonly settings: CallSettings,
    readonly hooks: Hooks = {},
  ) {}

  /** What `parDo` asks for; the operators call `fn` itself. */
  process(): Iterable<never> {
    return [];
  }
}

/** What is called beside `process`. */
export interface Hooks {
  readonly setup?: () => unknown;
  readonly startBundle?: () => unknown;
  readonly finishBundle?: () => unknown;
  readonly teardown?: () => unknown;
  /** What is made of this znode is the context of a bundle's calls. */
  readonly follows?: Pick<FollowedZnode<unknown>, "path" | "take" | "lend" | "close">;
}

/** `batchElements`, as `parDo` is given it. */
export class BatchFn {
  constructor(readonly settings: BatchSettings) {}

  process(): Iterable<never> {
    return [];
  }
}

const DEFAULT_TIMEOUT_MS = 30_000;
// Longer than any function lives.
const MAX_TIMEOUT_MS = 24 * 3_600_000;

/** @throws RangeError that names the option. */
export function callSettings(
  name: string,
  options: Pick<AsyncOptions<unknown>, "concurrency" | "ordered" | "timeoutMs">,
  batch?: BatchOptions,
): CallSettings {
  const { concurrency = 10, ordered = true, timeoutMs = DEFAULT_TIMEOUT_MS } = options;
  requireWhole(name, "concurrency", concurrency, 1, 100_000);
  if (!(timeoutMs >= 1 && timeoutMs <= MAX_TIMEOUT_MS))
    throw new RangeError(`${name}: timeoutMs must be from 1 to ${MAX_TIMEOUT_MS}; it is ${timeoutMs}`);
  return { concurrency, ordered, timeoutMs, batch: batch && batchSettings(name, batch) };
}

/** @throws RangeError that names the option. */
export function batchSettings(name: string, options: BatchOptions): BatchSettings {
  const { minElements = 1, maxElements = 100, maxBytes = Number.POSITIVE_INFINITY, sizeOf } = options;
  requireWhole(name, "maxElements", maxElements, 1, 1_000_000);
  requireWhole(name, "minElements", minElements, 1, Math.max(1, Math.floor(maxElements / 2)));
  if (!(maxBytes >= 1)) throw new RangeError(`${name}: maxBytes must be at least 1; it is ${maxBytes}`);
  const measure = sizeOf as ((element: unknown) => number) | undefined;
  return { minElements, maxElements, maxBytes, sizeOf: measure };
}

function requireWhole(name: string, option: string, value: number, least: number, most: number): void {
  if (Number.isInteger(value) && value >= least && value <= most) return;
  throw new RangeError(`${name}: ${option} must be a whole number from ${least} to ${most}; it is ${value}`);
}
