import { createHash } from "node:crypto";
import { decodeFrame, EncodingError, encodeFrame } from "./encoding";

/**
 * The memory of which records a source has taken. An id is known by the first 96 bits of its SHA-256, and belongs to one
 * of {@link ID_BUCKETS} buckets. A bucket is one znode, rewritten by each commit that takes one of its ids, with the
 * latest ids in it; older ones are brought together in runs, znodes that are never written again. Pure.
 */
export const ID_BUCKETS = 16;
export const ID_BYTES = 12;
/** A bucket with more recent ids than this is to be compacted. */
export const MAX_RECENT_IDS = 256;
/** Ids of one run: 48 KB. */
const MAX_RUN_IDS = 4_096;
/** Ids are forgotten run by run, so a run must not stand for too much of the time that they are remembered. */
const RUN_SPAN_SHARE = 1 / 8;
/** What a source remembers at most: 60 MB, in some 1,500 znodes. */
export const MAX_IDS = 5_000_000;

/** What was taken in this slot and the one before says how far behind a source is, in ms. */
const LAG_SLOT_MS = 60_000;

/** A znode of ids, oldest and newest on the function's clocks, in ms. */
export interface IdRun {
  readonly number: number;
  readonly ids: number;
  readonly oldestMs: number;
  readonly newestMs: number;
}

/** How far a shard of a stream was taken. */
export interface StreamPosition {
  /** A decimal number. */
  readonly sequence: string;
  readonly takenMs: number;
}

export interface IdBucket {
  /** The number of the next run; none is used twice. */
  readonly nextRun: number;
  readonly runs: readonly IdRun[];
  /** In the order of taking. */
  readonly recent: readonly { readonly id: Buffer; readonly takenMs: number }[];
  /** By the stream's shard. */
  readonly positions: Readonly<Record<string, StreamPosition>>;
  /** How long ago records had arrived at the service when they were taken, at most, in the last two slots. */
  readonly lags: readonly { readonly slot: number; readonly lagMs: number }[];
}

export const NEW_BUCKET: IdBucket = { nextRun: 0, runs: [], recent: [], positions: {}, lags: [] };

export function hashId(id: string): Buffer {
  return createHash("sha256").update(id).digest().subarray(0, ID_BYTES);
}

export function bucketOf(hash: Buffer): number {
  return hash[0]! % ID_BUCKETS;
}

// JSON length, JSON of what is short, then 16 bytes for each recent id: the id and the second after it was taken.
const RECENT_BYTES = ID_BYTES + 4;

/** Each commit writes it, so what is there many times has no names. */
interface BucketJson extends Omit<IdBucket, "recent" | "runs"> {
  readonly runs: readonly (readonly [number: number, ids: number, oldestMs: number, newestMs: number])[];
}

export function encodeBucket({ recent, runs, ...rest }: IdBucket): Buffer {
  const rows = runs.map(({ number, ids, oldestMs, newestMs }) => [number, ids, oldestMs, newestMs] as const);
  const json = Buffer.from(JSON.stringify({ ...rest, runs: rows } satisfies BucketJson), "utf8");
  const payload = Buffer.allocUnsafe(4 + json.length + recent.length * RECENT_BYTES);
  let at = payload.writeUInt32BE(json.length, 0);
  at += json.copy(payload, at);
  for (const { id, takenMs } of recent) {
    at += id.copy(payload, at);
    at = payload.writeUInt32BE(Math.ceil(takenMs / 1000), at);
  }
  return encodeFrame("event-ids", payload);
}

/** Throws {@link EncodingError}. */
export function decodeBucket(frame: Uint8Array, path: string): IdBucket {
  const payload = decodeFrame("event-ids", frame, path);
  const from = 4 + (payload.length < 4 ? Number.POSITIVE_INFINITY : payload.readUInt32BE(0));
  if (from > payload.length || (payload.length - from) % RECENT_BYTES !== 0) throw cutOff(path);
  const recent: { id: Buffer; takenMs: number }[] = [];
  for (let at = from; at < payload.length; at += RECENT_BYTES)
    recent.push({
      id: payload.subarray(at, at + ID_BYTES),
      takenMs: payload.readUInt32BE(at + ID_BYTES) * 1000,
    });
  const { runs: rows, ...rest } = JSON.parse(payload.toString("utf8", 4, from)) as BucketJson;
  const runs = rows.map(([number, ids, oldestMs, newestMs]) => ({ number, ids, oldestMs, newestMs }));
  return { ...rest, runs, recent };
}

function cutOff(path: string): EncodingError {
  return new EncodingError(path, "the record of ids is cut off", "Restore the znode from a backup.");
}

/** Ids in order, one behind the other. */
export function encodeRun(ids: readonly Buffer[]): Buffer {
  return encodeFrame("event-id-run", Buffer.concat([...ids].sort(Buffer.compare)));
}

/** Throws {@link EncodingError}. */
export function decodeRun(frame: Uint8Array, path: string): Buffer {
  const ids = decodeFrame("event-id-run", frame, path);
  if (ids.length % ID_BYTES !== 0) throw cutOff(path);
  return ids;
}

/** Whether the run has the id. */
export function runHas(run: Buffer, id: Buffer): boolean {
  let low = 0;
  let high = run.length / ID_BYTES;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const order = run.compare(id, 0, ID_BYTES, middle * ID_BYTES, (middle + 1) * ID_BYTES);
    if (order === 0) return true;
    if (order < 0) low = middle + 1;
    else high = middle;
  }
  return false;
}

export function bucketHas({ recent }: IdBucket, id: Buffer): boolean {
  return recent.some((each) => each.id.equals(id));
}

/** Whether a bucket has room for more ids; those that need not be remembered any more don't count. */
export function hasRoom(
  { runs, recent }: IdBucket,
  nowMs: number,
  rememberMs: number,
  maxIds = MAX_IDS,
): boolean {
  const needed = runs.filter(({ newestMs }) => newestMs + rememberMs > nowMs);
  return needed.reduce((sum, { ids }) => sum + ids, recent.length) < maxIds / ID_BUCKETS;
}

/** What one commit takes of a bucket's ids and streams. */
export interface Taken {
  readonly ids: readonly Buffer[];
  readonly positions: Readonly<Record<string, string>>;
  /** The earliest arrival at the service. */
  readonly arrivalMs: number;
}

/** Longer than the longest retention of a stream. */
const POSITION_MS = 366 * 24 * 3_600_000;

/** The bucket with more in it, and without the recent ids and positions that it need not remember any more. */
export function take(bucket: IdBucket, taken: Taken, nowMs: number, rememberMs: number): IdBucket {
  const slot = Math.floor(nowMs / LAG_SLOT_MS);
  const lagBefore = bucket.lags.find((each) => each.slot === slot)?.lagMs ?? 0;
  const positions = Object.entries({
    ...bucket.positions,
    ...Object.fromEntries(
      Object.entries(taken.positions).map(([shard, sequence]) => [shard, { sequence, takenMs: nowMs }]),
    ),
  });
  return {
    ...bucket,
    recent: [
      ...bucket.recent.filter(({ takenMs }) => takenMs + rememberMs > nowMs),
      ...taken.ids.map((id) => ({ id, takenMs: nowMs })),
    ],
    positions: Object.fromEntries(positions.filter(([, { takenMs }]) => takenMs + POSITION_MS > nowMs)),
    lags: [
      ...bucket.lags.filter((each) => each.slot === slot - 1),
      { slot, lagMs: Math.max(lagBefore, nowMs - taken.arrivalMs) },
    ],
  };
}

/** How far behind their arrival records were taken of late, at most, in ms; 0 where none was taken. */
export function recentLag({ lags }: IdBucket, nowMs: number): number {
  const slot = Math.floor(nowMs / LAG_SLOT_MS);
  return Math.max(0, ...lags.filter((each) => each.slot >= slot - 1).map(({ lagMs }) => lagMs));
}

/** How a bucket is compacted: its recent ids become a run, together with the newest one where that is small. */
export interface Compaction {
  readonly bucket: IdBucket;
  /** The run that is written; its ids are the recent ones and those of `merged`. */
  readonly run: IdRun | undefined;
  readonly merged: IdRun | undefined;
  /** Runs that are to be deleted: `merged`, and those whose ids need not be remembered any more. */
  readonly removed: readonly IdRun[];
}

/** Undefined where there is nothing to be gained. */
export function compaction(bucket: IdBucket, nowMs: number, rememberMs: number): Compaction | undefined {
  const isOver = ({ newestMs }: IdRun): boolean => newestMs + rememberMs <= nowMs;
  const expired = bucket.runs.filter(isOver);
  const kept = bucket.runs.filter((run) => !isOver(run));
  const isFull = bucket.recent.length > MAX_RECENT_IDS;
  if (!isFull) {
    if (expired.length === 0) return undefined;
    return { bucket: { ...bucket, runs: kept }, run: undefined, merged: undefined, removed: expired };
  }
  const newest = kept.at(-1);
  const ids = bucket.recent.length;
  const span = newest ? nowMs - newest.oldestMs : 0;
  const fits = newest && newest.ids + ids <= MAX_RUN_IDS && span <= rememberMs * RUN_SPAN_SHARE;
  const merged = fits ? newest : undefined;
  const run: IdRun = {
    number: bucket.nextRun,
    ids: ids + (merged?.ids ?? 0),
    oldestMs: Math.min(bucket.recent[0]!.takenMs, merged?.oldestMs ?? Number.POSITIVE_INFINITY),
    newestMs: Math.max(...bucket.recent.map(({ takenMs }) => takenMs)),
  };
  const runs = [...kept.filter((each) => each !== merged), run];
  return {
    bucket: { ...bucket, nextRun: bucket.nextRun + 1, runs, recent: [] },
    run,
    merged,
    removed: merged ? [...expired, merged] : expired,
  };
}
