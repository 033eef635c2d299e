/**
 * What the runner sees of Beam: a compiled pipeline, its stages, and the tentative bundle of one shard.
 * Times are milliseconds since 1970; no I/O and no clock anywhere behind this surface.
 */

import type { KeptRead } from "./engine/reads";
import type { BeamError } from "./errors";
import type { FailurePolicy } from "./failure-policy";
import type { ReadZnode } from "./followed-znode";
import type { AnySource } from "./splittable";

/** A window: `global`, or the half-open interval [startMs, endMs). */
export type BoundedWindow =
  | { readonly kind: "global" }
  | { readonly kind: "interval"; readonly startMs: number; readonly endMs: number };

/** Pane information, Beam model "PaneInfo". */
export interface Pane {
  readonly index: number;
  readonly nonSpeculativeIndex: number;
  readonly timing: "EARLY" | "ON_TIME" | "LATE" | "UNKNOWN";
  readonly isFirst: boolean;
  readonly isLast: boolean;
}

/** Who appends to the inboxes of the stages that read a source: the relay, what creates a run, the events function. */
export type SourceKind = "znode-changes" | "run" | "events";

/** A source of the pipeline, as construction declared it; `config` is what the transform was made with. */
export interface CompiledSource {
  /** From the transform's name; stable over builds of the same code. */
  readonly id: string;
  readonly kind: SourceKind | "impulse";
  readonly config: unknown;
  /** How it is read: not part of the fingerprint. */
  readonly tuning?: unknown;
  /** The stages that read it. */
  readonly consumers: readonly string[];
}

/** A sink of the pipeline, as construction declared it; `config` is what the transform was made with. */
export interface CompiledSink {
  readonly sink: string;
  readonly transform: string;
  readonly config: unknown;
}

/** A znode whose value a transform takes up while the pipeline runs. */
export interface FollowedPath {
  readonly transform: string;
  readonly path: string;
}

/** A version that a commit is to check: the bundle was computed from it. */
export interface ZnodeCheck {
  readonly path: string;
  readonly version: number;
}

/** PTransforms fused up to the next shuffle. */
export interface CompiledStage {
  /** From the root transform's name or its place in construction, never from function text. */
  readonly id: string;
  readonly kind: "ordinary" | "aggregate" | "splittable";
  readonly upstream: readonly { readonly type: "source" | "stage"; readonly id: string }[];
  /** Ids of the stages whose inboxes it feeds. */
  readonly downstream: readonly string[];
  /** Each of its shards is sent every side input. */
  readonly hasSideInputs?: boolean;
  /** Its elements have no key: they are spread over its shards. */
  readonly isKeyless?: boolean;
  /** Of a stage that divides elements into restrictions, or reads these: the runner does both, and hands on what comes. */
  readonly splitting?: { readonly phase: "split" | "read"; readonly source: AnySource };
  /** Full names of the transforms in it, for messages. */
  readonly transforms: readonly string[];
}

/** A compiled graph as plain data, which is stored with what it has written. */
export interface GraphDescription {
  /** In the order in which data flows. */
  readonly stages: readonly StageDescription[];
  /** Names of the finalisers that committed tokens may wait for. */
  readonly finalizers: readonly string[];
}

export interface StageDescription {
  readonly id: string;
  /** What the stage's waiting elements and state depend on: texts by what they are, such as `windowing` or `coders`. */
  readonly form: Readonly<Record<string, string>>;
  /** The stage that each side input comes from, by the side input's name. */
  readonly sides: Readonly<Record<string, string>>;
  /** What is fused behind the stage's root, by name: it keeps nothing between bundles. */
  readonly transforms: Readonly<Record<string, string>>;
}

export interface CompiledPipeline {
  readonly name: string;
  /** How many shards each stage has, by stage id; 1 where the definition says nothing. */
  readonly shards: ReadonlyMap<string, number>;
  /** What happens to what its functions fail on. Not part of the fingerprint. */
  readonly failures: FailurePolicy;
  /** SHA-256 (hex) of the graph, free of function text and of random or minified names. */
  readonly fingerprint: string;
  /** The graph that the fingerprint is of, so that it can be said what differs. */
  readonly graph: GraphDescription;
  readonly sources: readonly CompiledSource[];
  readonly sinks: readonly CompiledSink[];
  /** In the order of construction. Not part of the fingerprint. */
  readonly followed: readonly FollowedPath[];
  /** In the order in which data flows. */
  readonly stages: readonly CompiledStage[];
  /**
   * Calls what the stage's transforms have to have called once for each process, before its first bundle; undefined
   * where there is nothing left to wait for. Rejects with UserCodeError; the next call tries again.
   */
  setUp(stageId: string): Promise<void> | undefined;
  /**
   * To be called before each bundle: lets transforms take up what znodes hold now. Undefined where there is none that
   * does. Rejects with UserCodeError, for which no element is to blame, or with what `read` rejects with.
   *
   * @param report is told of a value that can't be used, where the one before stays.
   */
  refresh(stageId: string, read: ReadZnode, report?: (problem: BeamError) => void): Promise<void> | undefined;
  /** Calls what is to be called when the process ends in an orderly way, for all that was set up. */
  tearDown(): Promise<void>;
  /** Calls a finaliser, after the commit of its bundle. Rejects with UserCodeError. */
  finalize(finalization: Finalization): Promise<void>;
  /** An empty shard of the stage. */
  openShard(stageId: string): StageShard;
  /**
   * A shard of the stage as the changes of all its committed bundles leave it.
   *
   * @param spool default: memory.
   */
  loadShard(stageId: string, spool?: Spool): ShardLoader;
}

/** What asynchronous calls need to know of time. */
export interface BundleClock {
  /** Milliseconds since 1970. */
  now(): number;
  /** Resolves after `ms`, or at once when the signal aborts. Never rejects. */
  sleep(ms: number, signal: AbortSignal): Promise<void>;
}

/** What one finaliser is to be given once its bundle has been committed. */
export interface Finalization {
  readonly finalizer: string;
  readonly tokens: Uint8Array;
}

/** Where a shard keeps the values of large groups between bundles: on this machine, and for no longer than it lives. */
export interface Spool {
  /** @returns a handle for `read` and `free`. */
  write(bytes: Uint8Array): number;
  read(handle: number): Uint8Array;
  free(handle: number): void;
}

/**
 * The panes of a bundle that are kept from the transforms behind the grouping, by their number in the bundle. With
 * "all", these transforms are not even started.
 */
export type SetAside = ReadonlySet<number> | "all";

/** Where a pane stands; the key as a text. */
export interface PanePosition {
  readonly key: string;
  readonly window: BoundedWindow;
  readonly pane: Pane;
  readonly timestampMs: number;
}

/** A pane, or an element that had waited for a side input, that was set aside: the state has moved on as if it had been emitted. */
export interface SetAsidePane {
  /**
   * `timer`: the value of the pane could not be had, so the bytes hold its accumulator. `element`: it had waited for
   * a side input.
   */
  readonly kind: "element" | "pane" | "timer";
  /** In the order of the bundle, from 0. */
  readonly number: number;
  readonly position: PanePosition;
  /** The value or the accumulator, shortened, for a person. */
  readonly text: string;
  /** What `processElement` takes to emit the pane after all. */
  readonly bytes: Uint8Array;
}

/** Takes the state of a shard cell by cell. Throws CorruptEncodingError, also for state of another windowing. */
export interface ShardLoader {
  /** @param id as in `StateChange`. */
  add(id: string, value: Uint8Array): void;
  /** @param shared the `BundleResult.sharedState` of the last committed bundle. */
  open(shared: Uint8Array | undefined): StageShard;
}

/**
 * The committed state of one shard of one stage. A bundle changes nothing of it; but the first use of the shard that a
 * bundle gives (`BundleResult.shard`) uses up the one that the bundle began with.
 */
export interface StageShard {
  /**
   * Starts a bundle on top of this state; nothing of it is visible here.
   *
   * @param nowMs the processing time; it counts up to the highest one given so far. Without any, delays of
   *   triggers (AfterProcessingTime) do not begin.
   * @param setAside default: no pane.
   * @param clock for the time limits of asynchronous calls. Default: they have none.
   */
  beginBundle(
    inputWatermarkMs: number,
    nowMs?: number,
    setAside?: SetAside,
    clock?: BundleClock,
  ): TentativeBundle;
  /** To be called once the commit that made this shard has succeeded: writes what it keeps in the spool. Throws its error. */
  accept(): void;
}

/** All that a bundle would change, until its commit. */
export interface TentativeBundle {
  /** One element of a source, in the global window, at its event time. */
  processSourceElement(value: unknown, timestampMs: number): void;
  /** A restriction that an element was divided into, or a record that was read: what a splittable stage gives. */
  processRecord(value: unknown, timestampMs: number, window: BoundedWindow, pane: Pane): void;
  /**
   * One element as an `OutputBlock` of the stage upstream has it, or a pane as `SetAsidePane.bytes`: all of `encoded`, or
   * what lies in it from `start` to before `end`. The bytes must stay as they are until the bundle is finished.
   */
  processElement(encoded: Uint8Array, start?: number, end?: number): void;
  /**
   * Moves the input watermark on and fires what is due, in order, at most `maxTimers`.
   * Returns true while more is due at this watermark.
   */
  advanceWatermark(watermarkMs: number, maxTimers: number): boolean;
  /** The same for processing time: fires the triggers whose delays have ended. */
  advanceProcessingTime(nowMs: number, maxTimers: number): boolean;
  /** Of a stage that reads without end: what is left of its restrictions. */
  readonly reads: BundleReads | undefined;
  /** Bytes that outputs and effects hold so far; a cheap estimate for cutting a bundle. */
  readonly pendingBytes: number;
  /** How many panes it has begun to emit, and the number of the one that failed when it threw. */
  readonly panes: { readonly begun: number; readonly failed: number | undefined };
  /** The place in the bundle, from 0, of an element that failed after its turn: in an asynchronous call. */
  readonly failedElement: number | undefined;
  /** Some of its transforms are asynchronous: it has to be given `room` while it `isBusy`, and `drain` before its end. */
  readonly isAsync: boolean;
  /** Enough asynchronous calls wait for their turn. */
  readonly isBusy: boolean;
  /** Resolves when more may be given. Rejects with what user code threw; the bundle has failed then. */
  room(): Promise<void>;
  /** Waits for everything that is under way, and ends the transforms. Rejects as `room` does. */
  drain(): Promise<void>;
  /** Frees what the bundle keeps, its outputs among it, and gives up its calls, whatever became of it. */
  dispose(): void;
  /** Ends the bundle (finishBundle of the DoFns included). The bundle is used up. */
  finish(): BundleResult;
}

/** What is left of restrictions without an end, as a bundle sees it. */
export interface BundleReads {
  /**
   * Takes the one that is due at a processing time and has waited longest; undefined where none is. Each is taken once in a
   * bundle, and is gone after it unless it is kept again.
   */
  take(nowMs: number): KeptRead | undefined;
  /** Whether `take` would give one. */
  isDue(nowMs: number): boolean;
  /** Keeps a new one, or what is left of one that was taken. Throws UnencodableValueError. */
  keep(read: KeptRead): void;
}

/** One element for a downstream stage. */
export interface BundleOutput {
  readonly bytes: Uint8Array;
  readonly timestampMs: number;
  /** Unsigned 32-bit hash of the key by value; equal keys have equal hashes in every process. */
  readonly keyHash: number;
  /** For every shard of the stage, whatever its hash: a pane of a side input. */
  readonly isBroadcast: boolean;
}

/** Elements one behind the other. */
export interface OutputBlock {
  /** Longer than what is in use. */
  readonly bytes: Uint8Array;
  readonly count: number;
  /** Where each ends; the next one begins there. */
  readonly ends: ArrayLike<number>;
  readonly timestampsMs: ArrayLike<number>;
  /** See `BundleOutput.keyHash`; -1 where it is for every shard. */
  readonly keyHashes: ArrayLike<number>;
}

/** What a bundle gives off for one stage, in the order of emission. */
export interface StageOutputs extends Iterable<BundleOutput> {
  /** The same without an object for each. A block has some 8 MB at most, or one element. */
  blocks(): Iterable<OutputBlock>;
}

/** What a sink transform asks for; `payload` is what its function returned. Carried out by the commit. */
export interface SinkEffect {
  readonly sink: string;
  readonly transform: string;
  readonly payload: unknown;
  readonly window: BoundedWindow;
  readonly pane: Pane;
  readonly timestampMs: number;
}

/** What became of one cell of a shard's state: of a key, or of a key in one window. */
export interface StateChange {
  /** Unsigned 32-bit hash of the key by value, as in `BundleOutput`. */
  readonly keyHash: number;
  /** Bytes as a text, one a character (latin1): states have them in that form. */
  readonly id: string;
  /** In the same form; undefined where the cell is removed. */
  readonly value: string | undefined;
}

export interface BundleResult {
  /** By id of the downstream stage, in the order of emission; readable until the bundle is disposed of. */
  readonly outputs: ReadonlyMap<string, StageOutputs>;
  /** What outputs and effects take, about. */
  readonly pendingBytes: number;
  readonly effects: readonly SinkEffect[];
  readonly setAside: readonly SetAsidePane[];
  /** What has to be so still when the bundle is committed; else it has to be run again. */
  readonly znodeChecks: readonly ZnodeCheck[];
  /** What is to be told of the commit. */
  readonly finalizations: readonly Finalization[];
  /** The shard after this bundle: what to go on with once the commit has succeeded. */
  readonly shard: StageShard;
  /** What the bundle changed, each cell once. Their number and size go with the bundle, not with the shard. */
  readonly stateChanges: readonly StateChange[];
  /** Whether the shard has no cell any more. */
  readonly isStateEmpty: boolean;
  /** What the cells of the shard have in common: a few bytes, new with each bundle. Undefined where there is nothing. */
  readonly sharedState: Uint8Array | undefined;
  /** The smallest output time that the shard still holds back; Infinity if none. */
  readonly holdMs: number;
  /** The smallest input watermark at which something will fire; Infinity if none. */
  readonly nextTimerMs: number;
  /** The smallest processing time at which something will fire; Infinity if none. */
  readonly nextProcessingTimerMs: number;
  readonly counters: {
    readonly elementsIn: number;
    readonly elementsOut: number;
    readonly droppedLate: number;
  };
  /** The user's metrics of this bundle, to be counted once it is committed; by `transform:name`. */
  readonly metrics: {
    readonly counters: ReadonlyMap<string, number>;
    readonly distributions: ReadonlyMap<string, Distribution>;
  };
}

/** What a user's distribution metric was given. */
export interface Distribution {
  readonly count: number;
  readonly sum: number;
  readonly min: number;
  readonly max: number;
}
