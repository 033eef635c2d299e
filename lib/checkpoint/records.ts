import {
  decodeJson,
  EncodingError,
  encodeJson,
  fromJsonTime,
  type JsonTime,
  type RecordKind,
  toJsonTime,
} from "./encoding";
import type { StateSummary } from "./state";
import { metricsFromJson, metricsToJson, NO_METRICS, type UserMetrics } from "./user-metrics";

/** How many commit ids a head or cursor remembers: enough for an ambiguous commit that others committed on top of. */
export const REMEMBERED_COMMITS = 8;

/** What a head and a cursor have in common: the number of the last commit and the ids of the last eight, newest first. */
export interface CommitHistory {
  readonly number: number;
  readonly ids: readonly string[];
}

/** The history after one more commit. */
export function nextCommit(history: CommitHistory, id: string): CommitHistory {
  return { number: history.number + 1, ids: [id, ...history.ids].slice(0, REMEMBERED_COMMITS) };
}

export const NO_COMMITS: CommitHistory = { number: 0, ids: [] };

/**
 * `draining`: the sources read no more, and what was read is being finished. `drained` and `cancelled` are the ends:
 * everything was finished, or nothing is any more.
 */
export type GenerationState = "running" | "paused" | "draining" | "drained" | "cancelled";

/** Whether bundles and relays may commit. */
export function admitsCommits({ state }: Pick<Generation, "state">): boolean {
  return state === "running" || state === "draining";
}

/** The znode whose version every multi below the root checks. */
export interface Generation {
  readonly state: GenerationState;
  readonly epoch: number;
  /** Of the compiled graph; code with another fingerprint must not run. */
  readonly fingerprint: string;
  /** The number of shards of each stage, fixed for the epoch. */
  readonly shards: Readonly<Record<string, number>>;
  /** What each stage reads, the stages in the order in which data flows. */
  readonly upstream: Readonly<Record<string, readonly Upstream[]>>;
  /** Stages whose shards each hold all side inputs. */
  readonly sideInputStages: readonly string[];
  /** Stages whose elements have no key: what waits in a shard stays together. Undefined in what older code has written. */
  readonly keylessStages?: readonly string[];
  /** The code that bundles run in; undefined where they have no versions, as on one's own machine. */
  readonly code?: FunctionCode;
  /** It is paused for a rescale, and runs again after that. */
  readonly isRescaling?: boolean;
}

/** A published version of a bundle function. */
export interface FunctionCode {
  /** Its name. */
  readonly function: string;
  readonly version: string;
}

/** What a stage reads: a source, or the output of another stage. */
export interface Upstream {
  readonly type: "source" | "stage";
  readonly id: string;
}

/** Where one shard of one stage stands. */
export interface Head extends CommitHistory {
  /** The input watermark that the last commit was computed with. */
  readonly watermarkMs: number;
  /** The smallest output time that the shard's state holds back. */
  readonly holdMs: number;
  /** The smallest input watermark at which a timer fires. */
  readonly nextTimerMs: number;
  /** The smallest processing time, on the functions' clock, at which a trigger fires. */
  readonly nextProcessingTimerMs: number;
  /** How far the oldest segment is consumed, where that is not whole. */
  readonly position: SegmentPosition | null;
  /** The bundle that is under way has failed; null after a commit that leaves nothing of it. */
  readonly failing: FailingBundle | null;
  /** Segments that a rescaling brought from shards whose watermarks differed, in the order of the inbox. */
  readonly inherited: readonly InheritedSegments[];
  readonly state: StateSummary;
  /** Blobs that the last commit needed no longer; they are deleted before the next. */
  readonly garbage: readonly string[];
  /** Totals over the life of the shard. */
  readonly counters: ShardCounters;
  /** What user code counted in committed bundles. */
  readonly metrics: UserMetrics;
}

/** How far a segment is consumed. */
export interface SegmentPosition {
  readonly segment: string;
  /** Elements from its beginning that are consumed whole. */
  readonly elements: number;
  /** What is left of the next one, where that is a part (base64). */
  readonly residual?: string;
  /** Nothing that is left in the segment is older, in ms. Default: the time in the segment's name. */
  readonly holdMs?: number;
}

/** The oldest segments of an inbox, which are to be processed before the watermark moves on. */
export interface InheritedSegments {
  /** The name of the last of them. */
  readonly through: string;
  /** The watermark that the shard has when they are consumed: that of the shard which the next segments come from. */
  readonly watermarkMs: number;
}

/** A bundle that user code has failed on since the last commit. */
export interface FailingBundle {
  readonly attempts: number;
  /** When it failed first, on the functions' clock, in ms. */
  readonly sinceMs: number;
  /** Elements and timers, from the position on, among which the fault lies. */
  readonly units: number;
  /** The attempts or the time are used up: what fails is looked for and set aside. */
  readonly isExhausted: boolean;
}

export interface ShardCounters {
  readonly elementsIn: number;
  readonly elementsOut: number;
  readonly droppedLate: number;
  /** Bundles that user code failed on, each attempt counted. */
  readonly failures: number;
  /** Elements, timers and panes that went to dead-letter, those that were replayed since included. */
  readonly deadLettered: number;
  /** What sources have found that there is to read, and have read of it, in bytes. */
  readonly totalBytes: number;
  readonly readBytes: number;
}

export const NEW_HEAD: Head = {
  ...NO_COMMITS,
  watermarkMs: Number.NEGATIVE_INFINITY,
  holdMs: Number.POSITIVE_INFINITY,
  nextTimerMs: Number.POSITIVE_INFINITY,
  nextProcessingTimerMs: Number.POSITIVE_INFINITY,
  position: null,
  inherited: [],
  state: { shared: null, znodes: 0, bytes: 0 },
  garbage: [],
  failing: null,
  counters: {
    elementsIn: 0,
    elementsOut: 0,
    droppedLate: 0,
    failures: 0,
    deadLettered: 0,
    totalBytes: 0,
    readBytes: 0,
  },
  metrics: NO_METRICS,
};

/** Where one source stands. */
/** How far a source is with a snapshot that was asked of it: see SourceSnapshot. */
export interface SnapshotProgress {
  /** Of the request. */
  readonly id: string;
  /** The last path up to which all are done, in the snapshot's order; null before the first. */
  readonly position: string | null;
  /** Paths behind it that are done, too. */
  readonly beyond: readonly string[];
  /** Elements that it has delivered. */
  readonly elements: number;
  /** Why it is over; `not wanted` where the source does not deliver the kind `existing`. */
  readonly end?: "done" | "cancelled" | "not wanted";
}

export interface Cursor extends CommitHistory {
  /** The highest zxid that the relay had seen; a server below it is not the one that the pipeline read. */
  readonly zxid: bigint;
  /** The published watermark. */
  readonly watermarkMs: number;
  /** The zxid at which the source was first started; znodes older than that were there before. Null before the start. */
  readonly startZxid: bigint | null;
  /** The latest snapshot that was asked for and begun. */
  readonly snapshot?: SnapshotProgress;
}

export const NEW_CURSOR: Cursor = {
  ...NO_COMMITS,
  zxid: 0n,
  watermarkMs: Number.NEGATIVE_INFINITY,
  startZxid: null,
};

/** The snapshot of a source's manifest: for each of its chunks the number of the cursor's commit that wrote it. */
export interface ManifestIndex {
  readonly generation: number;
  readonly chunks: readonly number[];
}

export const NEW_MANIFEST: ManifestIndex = { generation: 0, chunks: [] };

/** A committed file that waits to get its final name. */
export interface OutputEntry {
  readonly temporary: string;
  readonly final: string;
}

/** What a finaliser of user code is to be given, in base64, and has not been given yet as far as anyone knows. */
export interface FinalizationEntry {
  readonly finalizer: string;
  readonly tokens: string;
}

/** What waits below `outputs` for something that comes after its commit. */
export type WaitingEntry = OutputEntry | FinalizationEntry;

export function encodeGeneration(generation: Generation): Buffer {
  return encodeJson("generation", generation);
}

export function decodeGeneration(frame: Uint8Array, path: string): Generation {
  return decodeJson("generation", frame, path) as Generation;
}

export function encodeHead(head: Head): Buffer {
  const json: HeadJson = {
    number: head.number,
    ids: head.ids,
    watermarkMs: toJsonTime(head.watermarkMs),
    holdMs: toJsonTime(head.holdMs),
    nextTimerMs: toJsonTime(head.nextTimerMs),
    nextProcessingTimerMs: toJsonTime(head.nextProcessingTimerMs),
    position: head.position,
    inherited: head.inherited.length === 0 ? undefined : head.inherited.map(inheritedToJson),
    state: head.state,
    garbage: head.garbage,
    failing: head.failing,
    counters: head.counters,
    metrics: metricsToJson(head.metrics),
  };
  return encodeJson("head", json);
}

/** Each of its fields, so that none is forgotten where they are listed. */
type HeadJson = { readonly [Field in keyof Head]: unknown };

/**
 * The heads that were decoded last, by path. Whoever derives a watermark reads the heads of all shards upstream, and
 * most of them are what they were.
 */
const lastHeads = new Map<string, { readonly frame: Buffer; readonly head: Head }>();
const MOST_LAST_HEADS = 1_024;

export function decodeHead(frame: Uint8Array, path: string): Head {
  const last = lastHeads.get(path);
  if (last?.frame.equals(frame)) return last.head;
  const head = headFrom(frame, path);
  if (lastHeads.size >= MOST_LAST_HEADS) lastHeads.clear();
  lastHeads.set(path, { frame: Buffer.from(frame), head });
  return head;
}

function headFrom(frame: Uint8Array, path: string): Head {
  const head = decodeJson("head", frame, path) as Head;
  requireHistory("head", head, path);
  return {
    number: head.number,
    ids: head.ids,
    watermarkMs: fromJsonTime(head.watermarkMs as JsonTime),
    holdMs: fromJsonTime(head.holdMs as JsonTime),
    nextTimerMs: fromJsonTime(head.nextTimerMs as JsonTime),
    nextProcessingTimerMs: fromJsonTime(head.nextProcessingTimerMs as JsonTime),
    position: head.position,
    inherited: (head.inherited ?? []).map(inheritedFromJson),
    state: head.state,
    garbage: head.garbage,
    failing: head.failing ?? null,
    counters: { ...NEW_HEAD.counters, ...head.counters },
    metrics: metricsFromJson(head.metrics),
  };
}

function inheritedToJson({ through, watermarkMs }: InheritedSegments): unknown {
  return { through, watermarkMs: toJsonTime(watermarkMs) };
}

function inheritedFromJson({ through, watermarkMs }: InheritedSegments): InheritedSegments {
  return { through, watermarkMs: fromJsonTime(watermarkMs as JsonTime) };
}

export function encodeCursor(cursor: Cursor): Buffer {
  return encodeJson("cursor", {
    ...cursor,
    watermarkMs: toJsonTime(cursor.watermarkMs),
    zxid: cursor.zxid.toString(),
    startZxid: cursor.startZxid === null ? null : cursor.startZxid.toString(),
  });
}

export function decodeCursor(frame: Uint8Array, path: string): Cursor {
  const cursor = decodeJson("cursor", frame, path) as Record<keyof Cursor, never>;
  requireHistory("cursor", cursor, path);
  return {
    number: cursor.number,
    ids: cursor.ids,
    watermarkMs: fromJsonTime(cursor.watermarkMs as JsonTime),
    zxid: BigInt(cursor.zxid),
    startZxid: cursor.startZxid === null ? null : BigInt(cursor.startZxid),
    ...(cursor.snapshot === undefined ? {} : { snapshot: cursor.snapshot }),
  };
}

export function encodeManifestIndex(index: ManifestIndex): Buffer {
  return encodeJson("manifest-index", index);
}

export function decodeManifestIndex(frame: Uint8Array, path: string): ManifestIndex {
  return decodeJson("manifest-index", frame, path) as ManifestIndex;
}

export function encodeOutput(entry: WaitingEntry): Buffer {
  return encodeJson("output", entry);
}

export function decodeOutput(frame: Uint8Array, path: string): WaitingEntry {
  return decodeJson("output", frame, path) as WaitingEntry;
}

/** A record that passed its checksum and still lacks the history was written by something else. */
function requireHistory(kind: RecordKind, record: Partial<CommitHistory>, path: string): void {
  if (typeof record.number !== "number" || !Array.isArray(record.ids)) {
    throw new EncodingError(
      path,
      `the ${kind} record has no commit history`,
      "Run the version of Beamkeeper that wrote it.",
    );
  }
}
