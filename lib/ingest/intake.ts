import type { BlobStore } from "../checkpoint/blobs";
import { CommitLostError, MAX_LOSSES, operationsBytes, reading } from "../checkpoint/commit";
import { requireGeneration } from "../checkpoint/control";
import { bucketOf, encodeBucket, hashId, hasRoom, MAX_RECENT_IDS, take } from "../checkpoint/event-ids";
import { encodeEventRecord, eventKey } from "../checkpoint/event-record";
import type { PlannedEventSource } from "../checkpoint/event-source";
import type { PipelineLayout } from "../checkpoint/layout";
import { type Cursor, decodeCursor, nextCommit } from "../checkpoint/records";
import { type CurrentGeneration, openPipeline, type ScopePlan } from "../checkpoint/scope";
import type { Clock } from "../clock";
import type { Log } from "../log";
import { appends, type KeyedElement } from "../relay/appends";
import { MAX_BLOB_BYTES, SourceBlobs } from "../relay/source-blobs";
import {
  BadVersionError,
  ConnectionLossError,
  MultiError,
  NoNodeError,
  type Op,
  SessionExpiredError,
  type ZooKeeperClient,
} from "../zookeeper";
import { RecordsRefusedError } from "./errors";
import type { IncomingRecord, IntakeResult } from "./incoming";
import { type ReadBucket, StoredIds, wasTaken } from "./stored-ids";

export interface IntakeOptions {
  readonly client: ZooKeeperClient;
  readonly layout: PipelineLayout;
  /** Creates the pipeline's znodes where it was never started. Default: that is an error. */
  readonly plan?: ScopePlan;
  /** Where segments go that are larger than `limits.segmentSizeBytes`. */
  readonly blobs: BlobStore;
  readonly clock: Clock;
  readonly log: Log;
  readonly limits: IntakeLimits;
}

export interface IntakeLimits {
  /** Bytes of one commit's multi. */
  readonly commitSizeBytes: number;
  /** Bytes of one inline segment. */
  readonly segmentSizeBytes: number;
  /** Segments in an inbox above which nothing is appended to it. */
  readonly maxBacklog: number;
  /** How long records wait for room in an inbox before they are refused, in ms. Default: 0. */
  readonly roomWaitMs?: number;
  /** Ids that a source remembers at most. Default: MAX_IDS. */
  readonly maxIds?: number;
}

/** The records of one commit. */
const MAX_RECORDS = 500;
/** The share of a commit that elements take; ids have the rest. */
const ELEMENTS_SHARE = 0.5;
/** After this many lost races, others are let through: the records come again. */
const MAX_CONFLICTS = 25;
/** Between two looks whether there is room again. */
const ROOM_POLL_MS = 250;
const FIRST_PAUSE_MS = 2;
const LAST_PAUSE_MS = 250;

/** The state that an append is made from. Its versions are checked, so that nothing has changed when it takes effect. */
interface Basis {
  readonly cursor: Cursor;
  readonly cursorVersion: number;
  readonly buckets: ReadonlyMap<number, ReadBucket>;
}

/** A record with what it is known by. */
interface HashedRecord extends IncomingRecord {
  readonly hash: Buffer | undefined;
  /** That hold its id and its stream's shard. */
  readonly buckets: readonly number[];
}

/**
 * Takes records into the sources of one pipeline, each record once.
 *
 * What was taken is remembered in the multi that appends it, so a record that comes again is found, whoever took it and
 * whatever became of that invocation: a redelivery, a retry, two invocations at once, and a reply that was lost are all the
 * same here. May be used by several invocations one after the other, and by several at once.
 */
export class EventIntake {
  private current: CurrentGeneration | undefined;
  private readonly ids = new Map<string, StoredIds>();

  constructor(private readonly options: IntakeOptions) {}

  /** Takes records in their order, as far as it comes. Rejects with PipelineMismatchError, ControlError, or EncodingError. */
  async take(planned: PlannedEventSource, records: readonly IncomingRecord[]): Promise<IntakeResult> {
    const result = { accepted: 0, duplicates: 0 };
    const { clock, limits } = this.options;
    const waitUntilMs = clock.now() + (limits.roomWaitMs ?? 0);
    let taken = 0;
    for (const chunk of this.cut(planned, records)) {
      try {
        const accepted = await this.takeChunk(planned, chunk.map(hashed), waitUntilMs);
        result.accepted += accepted;
        result.duplicates += chunk.length - accepted;
      } catch (error) {
        const reason = error instanceof Error ? error : new Error(String(error));
        if (!isTransient(reason)) throw reason;
        return { ...result, refused: records.slice(taken), reason };
      }
      taken += chunk.length;
    }
    return { ...result, refused: [], reason: undefined };
  }

  private *cut(planned: PlannedEventSource, records: readonly IncomingRecord[]): Generator<IncomingRecord[]> {
    const { limits } = this.options;
    const blobs = this.blobsOf(planned, "");
    let chunk: IncomingRecord[] = [];
    let inline = 0;
    let large = 0;
    for (const each of records) {
      const element = encodeEventRecord(each.record, 0);
      const bytes = blobs.inlineBytes(element) * planned.consumers.length;
      const blobBytes = blobs.blobBytes(element);
      const isFull =
        chunk.length >= MAX_RECORDS ||
        inline + bytes > limits.commitSizeBytes * ELEMENTS_SHARE ||
        large + blobBytes > MAX_BLOB_BYTES;
      if (isFull && chunk.length > 0) {
        yield chunk;
        chunk = [];
        inline = 0;
        large = 0;
      }
      chunk.push(each);
      inline += bytes;
      large += blobBytes;
    }
    if (chunk.length > 0) yield chunk;
  }

  /** How many of the records were appended by this; the others had been before. */
  private async takeChunk(
    planned: PlannedEventSource,
    chunk: readonly HashedRecord[],
    waitUntilMs: number,
  ): Promise<number> {
    const { client, layout } = this.options;
    let losses = 0;
    // What a multi appended whose reply was lost is ours, also where we find it among what was there before.
    let unsure = new Set<HashedRecord>();
    for (let conflicts = 0; conflicts < MAX_CONFLICTS; ) {
      const current = await this.requireRunning();
      let ops: Op[] = [];
      try {
        const basis = await this.read(current, planned, chunk);
        if (basis.cursor.watermarkMs === Number.POSITIVE_INFINITY) {
          // It was drained, and its generation says so.
          await this.lookAgain(++conflicts);
          continue;
        }
        const fresh = freshOf(chunk, basis);
        const ours = chunk.filter((each) => unsure.has(each) && !fresh.includes(each)).length;
        if (fresh.length === 0) return ours;
        this.checkIds(planned, fresh, basis);
        await this.awaitRoom(current, planned, waitUntilMs);
        ops = await this.operations(current, planned, fresh, basis);
        unsure = new Set([...unsure, ...fresh]);
        await client.multi(ops);
        await this.compact(current, planned, basis);
        return ours + fresh.length;
      } catch (error) {
        if (isLoss(error)) {
          losses += 1;
          await client.connected();
          if (losses >= MAX_LOSSES)
            throw new CommitLostError(
              current.scope.source(planned.id).cursor,
              losses,
              operationsBytes(ops),
              error,
            );
          continue;
        }
        if (!isConflict(error)) throw error;
        // Nothing of this multi took effect; of one before it, whose reply was lost, it may have.
        if (losses === 0) unsure = new Set();
        await this.lookAgain(++conflicts);
      }
    }
    throw new RecordsRefusedError(
      `source "${planned.source.name}" of ${layout.path}: ${MAX_CONFLICTS} times in a row another invocation was faster. ` +
        "Let fewer of them run at once; the records are taken when they come again.",
      "retryable",
    );
  }

  /** After a pause, the longer the more of them there were; the generation is read anew. */
  private async lookAgain(conflicts: number): Promise<void> {
    const { clock } = this.options;
    this.current = undefined;
    const pauseMs = Math.min(LAST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** Math.min(conflicts, 10));
    await clock.sleep(pauseMs * clock.random());
  }

  /** The generation, as long as nothing says that it is another one. Throws RecordsRefusedError where it takes nothing. */
  private async requireRunning(): Promise<CurrentGeneration> {
    this.current ??= await this.open();
    const { state } = this.current.generation;
    if (state === "running") return this.current;
    this.current = undefined;
    const { path } = this.options.layout;
    if (state === "paused")
      throw new RecordsRefusedError(
        `${path} is paused: the records are taken once it is resumed`,
        "retryable",
      );
    throw new RecordsRefusedError(
      `${path} is ${state}, and takes no more records. Remove what delivers them, or send them to another pipeline`,
      "terminal",
    );
  }

  private async open(): Promise<CurrentGeneration> {
    const { client, layout, plan } = this.options;
    return plan ? openPipeline(client, layout, plan) : requireGeneration(client, layout);
  }

  private idsOf(current: CurrentGeneration, { id }: PlannedEventSource): StoredIds {
    const source = current.scope.source(id);
    const known = this.ids.get(id);
    if (known?.layout.cursor === source.cursor) return known;
    const ids = new StoredIds(this.options.client, source);
    this.ids.set(id, ids);
    return ids;
  }

  private async read(
    current: CurrentGeneration,
    planned: PlannedEventSource,
    chunk: readonly HashedRecord[],
  ): Promise<Basis> {
    const { client } = this.options;
    const { cursor: path } = current.scope.source(planned.id);
    const numbers = [...new Set(chunk.flatMap(({ buckets }) => buckets))].sort((a, b) => a - b);
    const [{ data, stat }, buckets] = await Promise.all([
      reading(client, () => client.getData(path)),
      this.idsOf(current, planned).read(numbers),
    ]);
    return {
      cursor: decodeCursor(data, path),
      cursorVersion: stat.version,
      buckets: new Map(buckets.map((each) => [each.number, each])),
    };
  }

  /** Throws RecordsRefusedError where what waits in the inboxes, or what is remembered, is too much already. */
  private checkIds(
    { source, settings }: PlannedEventSource,
    fresh: readonly HashedRecord[],
    { buckets }: Basis,
  ): void {
    const { layout, limits, clock } = this.options;
    const nowMs = clock.now();
    const touched = new Set(fresh.flatMap(({ hash }) => (hash ? [bucketOf(hash)] : [])));
    for (const number of touched)
      if (!hasRoom(buckets.get(number)!.bucket, nowMs, settings.rememberMs, limits.maxIds))
        throw new RecordsRefusedError(
          `source "${source.name}" of ${layout.path} remembers as many ids as it may, those of ${settings.rememberMs / 3_600_000} hours. It takes more as ` +
            "they are forgotten. Set rememberSeconds to what the service may need to deliver a record again.",
          "retryable",
        );
  }

  /** Waits while too much waits in an inbox. Throws RecordsRefusedError where that lasts too long. */
  private async awaitRoom(
    current: CurrentGeneration,
    { source, consumers }: PlannedEventSource,
    untilMs: number,
  ): Promise<void> {
    const { client, layout, limits, clock } = this.options;
    const inboxes = consumers.flatMap((stage) =>
      Array.from(
        { length: current.generation.shards[stage] ?? 1 },
        (_, shard) => current.scope.shard(stage, shard).inbox,
      ),
    );
    for (;;) {
      const stats = await Promise.all(inboxes.map((inbox) => reading(client, () => client.exists(inbox))));
      const most = Math.max(...stats.map((stat) => stat?.numChildren ?? 0));
      if (most <= limits.maxBacklog) return;
      if (clock.now() >= untilMs)
        throw new RecordsRefusedError(
          `source "${source.name}" of ${layout.path} is behind: ${most} segments wait in one inbox, more than ` +
            `BEAMKEEPER_MAX_BACKLOG (${limits.maxBacklog}). The records are taken when they come again.`,
          "retryable",
        );
      await clock.sleep(ROOM_POLL_MS);
    }
  }

  /**
   * One multi: check(generation), check(cursor), so that the watermark is the one that event times were made with, the
   * buckets of the ids with their versions, segments for the shards.
   */
  private async operations(
    current: CurrentGeneration,
    planned: PlannedEventSource,
    fresh: readonly HashedRecord[],
    { cursor, cursorVersion, buckets }: Basis,
  ): Promise<Op[]> {
    const { clock, limits } = this.options;
    const layout = current.scope.source(planned.id);
    const timed = fresh.map((each) => ({ each, timestampMs: eventTime(each, cursor.watermarkMs) }));
    const elements = timed.map(
      ({ each: { record }, timestampMs }): KeyedElement => ({
        key: eventKey(record),
        element: encodeEventRecord(record, timestampMs),
      }),
    );
    const remembered = [...buckets.values()].flatMap(({ number, bucket, version }): Op[] => {
      const mine = timed.filter(({ each }) => each.buckets.includes(number));
      if (mine.length === 0) return [];
      const taken = {
        ids: mine.flatMap(({ each: { hash } }) => (hash && bucketOf(hash) === number ? [hash] : [])),
        positions: positionsOf(
          mine.map(({ each }) => each),
          number,
        ),
        arrivalMs: Math.min(...mine.map(({ each }) => each.record.arrivalMs)),
      };
      const data = encodeBucket(take(bucket, taken, clock.now(), planned.settings.rememberMs));
      return [{ type: "setData", path: layout.idBucket(number), data, version }];
    });
    const segments = appends(current, planned.consumers, elements, limits.segmentSizeBytes).ops;
    const blobs = this.blobsOf(planned, layout.cursor);
    const isLarge = elements.some(({ element }) => blobs.blobBytes(element) > 0);
    // The cursor's next commit ends this one's chance: from then on what it left in the blob store can be collected.
    const next = { ...cursor, ...nextCommit(cursor, clock.uniqueId()) };
    return [
      { type: "check", path: current.layout.generation, version: current.version },
      { type: "check", path: layout.cursor, version: cursorVersion },
      ...remembered,
      ...(isLarge ? (await blobs.keep(segments, next)).ops : segments),
    ];
  }

  private blobsOf({ id, consumers }: PlannedEventSource, cursorPath: string): SourceBlobs {
    return new SourceBlobs({ ...this.options, sourceId: id, consumers }, cursorPath);
  }

  /** What this leaves to be done, the next one that takes records finds again. */
  private async compact(
    current: CurrentGeneration,
    planned: PlannedEventSource,
    { buckets }: Basis,
  ): Promise<void> {
    const { clock, log } = this.options;
    const { rememberMs } = planned.settings;
    const check: Op = { type: "check", path: current.layout.generation, version: current.version };
    const nowMs = clock.now();
    const ids = this.idsOf(current, planned);
    for (const { number, bucket } of buckets.values()) {
      const isDue =
        bucket.recent.length >= MAX_RECENT_IDS ||
        bucket.runs.some((run) => run.newestMs + rememberMs <= nowMs);
      if (!isDue) continue;
      try {
        await ids.compact(number, check, nowMs, rememberMs);
      } catch (error) {
        log("debug", "ids were not compacted", {
          pipeline: current.layout.pipeline,
          source: planned.id,
          error,
        });
        return;
      }
    }
  }
}

function hashed(each: IncomingRecord): HashedRecord {
  const hash = each.isKnownById ? hashId(each.record.id) : undefined;
  const position = each.position && bucketOf(hashId(each.position.shard));
  const buckets = [...(hash ? [bucketOf(hash)] : []), ...(position === undefined ? [] : [position])];
  return { ...each, hash, buckets };
}

/** The records that were not taken before, each once. */
function freshOf(chunk: readonly HashedRecord[], { buckets }: Basis): HashedRecord[] {
  const ids = new Set<string>();
  const positions = new Map<string, bigint>();
  return chunk.filter(({ hash, position }) => {
    if (position) {
      const stored = buckets.get(bucketOf(hashId(position.shard)))!.bucket.positions[position.shard];
      const last = positions.get(position.shard) ?? BigInt(stored?.sequence ?? -1);
      if (BigInt(position.sequence) <= last) return false;
      positions.set(position.shard, BigInt(position.sequence));
    }
    if (!hash) return true;
    const id = hash.toString("latin1");
    if (ids.has(id) || wasTaken(buckets.get(bucketOf(hash))!, hash)) return false;
    ids.add(id);
    return true;
  });
}

/** The last position of each of the stream's shards that belong to the bucket. */
function positionsOf(records: readonly HashedRecord[], bucket: number): Record<string, string> {
  const all = records.flatMap(({ position }) => (position ? [position] : []));
  const mine = all.filter(({ shard }) => bucketOf(hashId(shard)) === bucket);
  return Object.fromEntries(mine.map(({ shard, sequence }) => [shard, sequence]));
}

/** A record without a time of its own is never late. */
function eventTime({ timestampMs, record }: IncomingRecord, watermarkMs: number): number {
  return timestampMs ?? Math.max(record.arrivalMs, watermarkMs);
}

function isLoss(error: unknown): boolean {
  return error instanceof ConnectionLossError || error instanceof SessionExpiredError;
}

/** Something of what the multi was made from has changed, or the epoch has. */
function isConflict(error: unknown): boolean {
  const cause = error instanceof MultiError ? error.cause : error;
  return cause instanceof BadVersionError || cause instanceof NoNodeError;
}

/** Whether the records are to be delivered again. */
function isTransient(error: Error): boolean {
  if (error instanceof RecordsRefusedError || error instanceof CommitLostError) return true;
  const { outcome } = error as { outcome?: unknown };
  return outcome === "retryable" || outcome === "ambiguous";
}
