import type { BlobStore } from "../checkpoint/blobs";
import { CommitLostError, reading, sendFenced } from "../checkpoint/commit";
import type { SourceLayout } from "../checkpoint/layout";
import { type Cursor, decodeCursor, encodeCursor, nextCommit } from "../checkpoint/records";
import type { CurrentGeneration } from "../checkpoint/scope";
import type { SnapshotRequest } from "../checkpoint/snapshot";
import type { ZnodeSource } from "../checkpoint/znode-source";
import type { Clock } from "../clock";
import type { Log } from "../log";
import type { Op, Watch, WatchNotification, ZooKeeperClient } from "../zookeeper";
import { appends } from "./appends";
import { type Batch, type BatchParts, type BatchState, collect, emptyBatch } from "./batch";
import { BatchSize, nextBatchInMs } from "./batch-window";
import { ChangeReader } from "./change-reader";
import { CommitTeller, type CommitTellerOptions } from "./commit-ahead";
import { DirtyPaths } from "./dirty-paths";
import { cursorAhead, SourceError, takenOver } from "./errors";
import { Gaps } from "./gaps";
import { generationAfter } from "./generation-after";
import type { RelayLimits } from "./limits";
import type { SourceMetrics } from "./metrics";
import { ReadAhead } from "./read-ahead";
import type { RelayCommit } from "./relay-commit";
import { SourceBlobs } from "./source-blobs";
import { SourceEnsemble } from "./source-ensemble";
import { SourceSnapshot } from "./source-snapshot";
import { SourceWalk } from "./source-walk";
import { patiently } from "./standby";
import type { ManifestChange } from "./stored-manifest";
import { StoredSource } from "./stored-source";
import type { TokenBucket } from "./token-bucket";

export type { CommitAhead } from "./commit-ahead";
export type { RelayLimits } from "./limits";
export type { RelayCommit } from "./relay-commit";

export interface SourceRelayOptions extends CommitTellerOptions {
  /** Of the ensemble that holds the root. */
  readonly client: ZooKeeperClient;
  /** Of the ensemble that the source is on, where that is another one. */
  readonly elsewhere?: ZooKeeperClient | undefined;
  readonly sourceId: string;
  readonly source: ZnodeSource;
  /** Stages that read the source. */
  readonly consumers: readonly string[];
  readonly root: string;
  readonly current: CurrentGeneration;
  /** Where segments go that are larger than `limits.segmentSizeBytes`: one large value each. */
  readonly blobs: BlobStore;
  readonly clock: Clock;
  readonly log: Log;
  readonly limits: RelayLimits;
  /** Called after each commit. */
  readonly onCommit: (commit: RelayCommit) => void;
  readonly metrics?: SourceMetrics | undefined;
  /** The writes that relays of this pipeline may make (default: as many as they like). */
  readonly budget?: TokenBucket;
  /** Whether what is behind the source is so far behind that it should wait (default: never). */
  readonly isHeld?: () => boolean;
  /** The next watermark above `watermarkMs` that would fire something; Infinity if none is known. */
  readonly nextTimerMs: (watermarkMs: number) => number;
}

/** A commit's time, to be published once everything that was dirty when its reply came is appended. */
interface Barrier {
  readonly order: number;
  readonly mtimeMs: number;
}

// A chunk of the manifest's snapshot in sizes of a commit; above the size of a segment it is a blob.
const CHUNK_COMMITS = 2;
// A walk waits while this many batches are dirty.
const WALK_AHEAD_BATCHES = 2;
// A standby walks until so many znodes are dirty; the rest of the walk waits for its turn.
const STANDBY_DIRTY = 100_000;
// How often a standby reads what the active relay has delivered; so old is what it may have to catch up with.
const FOLLOW_INTERVAL_MS = 1_000;
// Two commits in a row publish a watermark; this keeps an empty pipeline from spinning between them.
const MIN_HEARTBEAT_MS = 2;
const HELD_POLL_MS = 20;

/** Turns the changes of one source into elements, and appends them with the cursor and the manifest in one multi. */
export class SourceRelay {
  private readonly dirty: DirtyPaths;
  private readonly gaps = new Gaps();
  private readonly ensemble: SourceEnsemble;
  /** With the client of the source's ensemble. */
  private readonly watching: SourceRelayOptions;
  private readonly reader: ChangeReader;
  private readonly reads: ReadAhead;
  private readonly batchSize: BatchSize;
  private readonly snapshot: SourceSnapshot;
  private readonly teller: CommitTeller;
  private readonly blobs: SourceBlobs;
  private readonly layout: SourceLayout;
  private readonly stored: StoredSource;
  /** How far the ensemble's time is ahead of the local clock. */
  private skewMs = 0;
  private lastCommitAtMs = Number.NEGATIVE_INFINITY;
  private barrier: Barrier | undefined;
  private watches: Watch[] = [];
  private walkNeeded = true;
  private walking: SourceWalk | undefined;
  /** What happened later is heard of; undefined until a walk has come to its end. */
  private walkedZxid: bigint | undefined;
  private isStandby = false;
  /** Some of what the active relay delivered was not read in time. */
  private hasLostTrack = false;
  private compactedLast = false;
  /** A relay that stands by reads no values. */
  private isActive = false;
  /** While draining: the latest mark when that became known. What was marked up to then is delivered before the end. */
  private drainOrder: number | undefined;
  private current: CurrentGeneration;
  private wake: () => void = () => undefined;
  /** When `sleep` ends by itself. */
  private wakesAtMs = Number.NEGATIVE_INFINITY;

  constructor(private readonly options: SourceRelayOptions) {
    this.layout = options.current.scope.source(options.sourceId);
    this.dirty = new DirtyPaths(() => options.clock.now());
    this.ensemble = new SourceEnsemble(options.client, options.elsewhere);
    this.watching = { ...options, client: this.ensemble.client };
    this.reader = new ChangeReader(this.watching);
    this.reads = new ReadAhead(this.reader, this.dirty);
    this.batchSize = new BatchSize(options.limits);
    this.snapshot = new SourceSnapshot(this.watching, this.reader, this.dirty, () => this.wake());
    this.teller = new CommitTeller(options);
    this.blobs = new SourceBlobs(options, this.layout.cursor);
    const maxChunkBytes = options.limits.commitSizeBytes * CHUNK_COMMITS;
    this.stored = new StoredSource(options.client, this.blobs, this.layout, maxChunkBytes);
    this.current = options.current;
  }

  /** Whether the source was drained: its watermark is at infinity, and nothing is read any more. */
  get hasEnded(): boolean {
    return this.stored.cursor.watermarkMs === Number.POSITIVE_INFINITY;
  }

  /** A person asks for the present values, or for a pause of that. May be called at any time. */
  askForSnapshot(request: SnapshotRequest): void {
    this.snapshot.ask(request);
  }

  /** Runs until the signal aborts or the source is drained. Rejects with what a restart of the relay can or cannot mend, see lib/relay/errors. */
  async run(signal: AbortSignal): Promise<void> {
    signal.addEventListener("abort", () => this.wake(), { once: true });
    try {
      await (this.isStandby ? this.follow() : this.load());
      await this.checkAhead();
      this.snapshot.load(this.stored.cursor.snapshot);
      this.isActive = true;
      while (!signal.aborted && !this.hasEnded) await this.step(signal);
    } finally {
      for (const watch of this.watches) watch.remove();
    }
  }

  /**
   * Watches, walks and follows what the active relay delivers, until the signal aborts; a `run` after it begins where
   * that one ended, without a walk. A source that was never started has nothing to follow.
   */
  async standBy(signal: AbortSignal): Promise<void> {
    await this.load();
    if (this.stored.cursor.number === 0) return;
    this.isStandby = true;
    const follow = patiently(this.options, () => this.follow());
    while (!signal.aborted) {
      if (this.watches.length < this.reader.paths.roots.length) await this.arm();
      if (this.walkNeeded) this.beginWalk();
      if (this.walking && this.dirty.size < STANDBY_DIRTY) await this.walkOn(this.walking);
      else await this.options.clock.sleep(FOLLOW_INTERVAL_MS, signal);
      if (!this.walking) await follow();
    }
  }

  /** Takes over what another relay has delivered: what was heard of it is done with. */
  private async follow(): Promise<void> {
    if (this.hasLostTrack) return this.loadAnew();
    const isWhole = await this.stored.follow({
      beforehand: () => this.ensemble.heardAll(),
      take: (updates) => {
        for (const [znode, known, zxid] of updates) {
          this.dirty.deliveredElsewhere(znode, known ? known.mzxid : zxid);
          // It may have been deleted before the watch was armed, when the walk did not know of it.
          if (known && known.mzxid <= (this.walkedZxid ?? known.mzxid)) this.dirty.suspected(znode);
          if (!known) this.gaps.deletionDelivered(znode, this.gaps.count);
        }
      },
    });
    this.hasLostTrack = !isWhole;
    if (this.hasLostTrack) await this.loadAnew();
  }

  /**
   * It was not read in time what another relay has delivered. What is known of a znode tells of its writes; of one that
   * is gone it is not known whether that was delivered, so it is not any more, and a next life may hide others.
   */
  private async loadAnew(): Promise<void> {
    await this.load();
    await this.ensemble.heardAll();
    for (const znode of this.dirty.all) {
      const known = this.stored.manifest.known.get(znode);
      if (known) this.dirty.deliveredElsewhere(znode, known.mzxid);
      else this.dirty.unsure(znode);
    }
    // What a walk has found was compared with what was known then.
    this.walkNeeded = true;
    this.walking = undefined;
    this.hasLostTrack = false;
  }

  private async step(signal: AbortSignal): Promise<void> {
    if (this.watches.length < this.reader.paths.roots.length) await this.arm();
    if (this.walkNeeded) this.beginWalk();
    const { maxBatchPaths } = this.options.limits;
    const pauseMs = this.pauseMs();
    if (pauseMs > 0) return this.options.clock.sleep(pauseMs, signal);
    if (this.walking && this.dirty.size < WALK_AHEAD_BATCHES * maxBatchPaths) await this.walkOn(this.walking);
    if (this.walking && this.dirty.size === 0) return;
    // In turn with deliveries, which a large manifest would hold up for seconds.
    const hasTurn = !this.compactedLast || this.dirty.size === 0;
    this.compactedLast = hasTurn && this.stored.manifest.isCompactionDue;
    if (this.compactedLast)
      return this.commit(
        emptyBatch(this.gaps.count),
        this.stored.manifest.compaction(this.stored.cursor.number + 1),
      );
    if (this.current.generation.state === "draining" && this.isWalked) await this.beginDrain();
    if (this.drainOrder === undefined) this.snapshot.advance();
    const batchInMs = this.batchInMs();
    if (batchInMs <= 0) this.reads.send(this.batchSize.paths);
    const isHeartbeat = this.reads.isEmpty;
    if (isHeartbeat && this.walking) return;
    const waitMs = isHeartbeat && !this.snapshot.isEndDue ? Math.min(batchInMs, this.heartbeatInMs()) : 0;
    if (waitMs > 0) return this.sleep(waitMs, signal);
    // A batch that has waited for its window goes as a whole.
    await (this.options.limits.lingerMs > 0 ? this.reads.all() : this.reads.first());
    this.teller.read(this.stored.cursor.number + 1, this.current, this.parts, this.state);
    const batch = this.collect();
    // A gap meanwhile: what was read is read again.
    if (batch.delivered.size === 0 && !isHeartbeat) return;
    await this.commit(batch, this.stored.manifest.delta(batch.updates, this.stored.cursor.number + 1));
  }

  /**
   * How long to send nothing, in ms. The watch goes on: what changes meanwhile is only marked, a path once however
   * often it changes, so what is read later is one value, and the others are counted as missed.
   */
  private pauseMs(): number {
    const { budget, isHeld } = this.options;
    const isBehind = this.dirty.size > 0 && isHeld?.() === true;
    return Math.max(isBehind ? HELD_POLL_MS : 0, budget?.waitMs ?? 0);
  }

  private async arm(): Promise<void> {
    this.walkNeeded = true;
    this.dirty.interrupt();
    const { client } = this.ensemble;
    const hear = (notification: WatchNotification): void => this.hear(notification);
    for (const armed of this.watches) armed.remove();
    this.watches = [];
    // A session that expires meanwhile ends those that are armed; then all are armed again.
    for (const root of this.reader.paths.roots) {
      const armed = await reading(client, () => client.addWatch(root, "persistentRecursive", hear));
      // Not before the wait: the list may have been replaced meanwhile, and a watch that is forgotten is heard twice.
      this.watches.push(armed);
    }
  }

  private hear(notification: WatchNotification): void {
    if (notification.type === "event") {
      if (!this.reader.heard(notification.event, this.dirty)) return;
      const batchInMs = this.batchInMs();
      // At once, while a commit is under way as well.
      if (batchInMs <= 0 && this.isActive && this.pauseMs() === 0) this.reads.send(this.batchSize.paths);
      // More events do not wake a relay that waits for the end of their window.
      if (this.options.clock.now() + batchInMs >= this.wakesAtMs) return;
    } else {
      this.dirty.interrupt();
      this.gaps.interrupted();
      this.walkNeeded = true;
      this.walking = undefined;
      this.reads.drop();
      this.barrier = undefined;
      // What happened before the drain may be known to the next walk alone.
      this.drainOrder = undefined;
      if (notification.type === "ended") this.watches = [];
    }
    this.wake();
  }

  private beginWalk(): void {
    this.walkNeeded = false;
    this.walkedZxid = undefined;
    this.barrier = undefined;
    this.walking = new SourceWalk(this.watching, this.reader, this.stored.manifest.known);
  }

  /** Marks what the next portion of the walk found. */
  private async walkOn(walking: SourceWalk): Promise<void> {
    const portion = await walking.next();
    // A gap meanwhile: another walk follows.
    if (this.walking !== walking) return;
    if (portion) return walking.mark(portion, this.dirty);
    this.walking = undefined;
    this.walkedZxid = this.ensemble.lastZxid;
    this.dirty.resume();
    walking.end();
  }

  /** No walk is under way or to come: all that differs is marked. */
  private get isWalked(): boolean {
    return !this.walkNeeded && !this.walking;
  }

  /** How long until changes that wait may be read for a commit, in ms; at once where the source is to end. */
  private batchInMs(): number {
    const { dirty, reads, drainOrder } = this;
    const { clock, limits } = this.options;
    const changes = { taken: reads.size, untaken: dirty.untaken, sinceMs: dirty.untakenSinceMs };
    const lingerMs = drainOrder === undefined ? limits.lingerMs : 0;
    return nextBatchInMs(changes, { maxBatchPaths: this.batchSize.paths, lingerMs }, clock.now());
  }

  /** How long until the next empty commit is due; it moves the watermark on. */
  private heartbeatInMs(): number {
    const { clock, limits, nextTimerMs } = this.options;
    if (this.drainOrder !== undefined) return 0;
    const sinceMs = clock.now() - this.lastCommitAtMs;
    // The watermark does not pass what waits for the end of its window.
    const timerMs =
      this.dirty.size > 0 ? Number.POSITIVE_INFINITY : nextTimerMs(this.stored.cursor.watermarkMs);
    if (this.barrier && this.barrier.mtimeMs >= timerMs) return Math.max(0, MIN_HEARTBEAT_MS - sinceMs);
    const untilTimerMs = timerMs - (clock.now() + this.skewMs);
    const waitMs = Math.min(
      limits.idleIntervalMs - sinceMs,
      Math.max(untilTimerMs, MIN_HEARTBEAT_MS - sinceMs),
    );
    // The local clock may have gone back since the last commit.
    return Math.min(waitMs, limits.idleIntervalMs);
  }

  private async sleep(ms: number, signal: AbortSignal): Promise<void> {
    const woken = new AbortController();
    // With a reason of its own: else it is an exception with a stack, at every change.
    this.wake = () => woken.abort(null);
    this.wakesAtMs = this.options.clock.now() + ms;
    if (!signal.aborted) await this.options.clock.sleep(ms, woken.signal);
    this.wake = () => undefined;
  }

  /** What happened before the drain became known is delivered before the end. */
  private async beginDrain(): Promise<void> {
    const { count } = this.gaps;
    if (this.drainOrder === undefined) await this.ensemble.heardAll();
    if (count === this.gaps.count) this.drainOrder ??= this.dirty.latest;
  }

  /** Of a source elsewhere: what its ensemble had done by the commit's reply is heard a little later. */
  private async raiseBarrier(mtimeMs: number): Promise<void> {
    const { count } = this.gaps;
    await this.ensemble.heardAll();
    if (count !== this.gaps.count || !this.isWalked) return;
    this.barrier = { order: this.dirty.latest, mtimeMs };
    this.wake();
  }

  private get parts(): BatchParts {
    const { reads, reader, dirty, snapshot, gaps, blobs, options } = this;
    const consumers = options.consumers.length;
    return { reads, reader, dirty, snapshot, gaps, blobs, consumers, maxBytes: this.batchSize.bytes };
  }

  private get state(): BatchState {
    const { startZxid, watermarkMs } = this.stored.cursor;
    const start = { zxid: startZxid ?? 0n, mode: this.options.source.start };
    return { known: this.stored.manifest.known, start, watermarkMs, latestMs: this.stored.mtimeMs };
  }

  private collect(): Batch {
    const batch = collect(this.parts, this.state);
    if (batch.elements.length > 0) this.batchSize.delivered(batch.delivered.size, batch.bytes);
    return batch;
  }

  /**
   * One multi: check(generation), the cursor with its version, the manifest's delta or snapshot, segments for the
   * shards, whose blobs are written before. It takes effect once or not at all; a relay that is fenced by another one's cursor rejects with
   * RelayStoppedError and has appended nothing.
   */
  private async commit(batch: Batch, manifest: ManifestChange): Promise<void> {
    const { client, clock, sourceId, consumers, limits } = this.options;
    const watermarkMs = this.publishable(batch);
    const commitId = clock.uniqueId();
    const snapshot = this.snapshot.after(batch.delivered, batch.existing);
    const cursor: Cursor = {
      ...nextCommit(this.stored.cursor, commitId),
      zxid:
        this.stored.cursor.zxid > this.ensemble.lastZxid ? this.stored.cursor.zxid : this.ensemble.lastZxid,
      watermarkMs,
      startZxid: this.stored.cursor.startZxid,
      ...(snapshot ? { snapshot } : {}),
    };
    const segments = appends(this.current, consumers, batch.elements, limits.segmentSizeBytes);
    const { ops, written } = await this.blobs.keep([...manifest.ops, ...segments.ops], cursor);
    const own: Op[] = [
      { type: "check", path: this.current.layout.generation, version: this.current.version },
      { type: "setData", path: this.layout.cursor, data: encodeCursor(cursor), version: this.stored.version },
      ...ops,
    ];
    const fence = { path: this.layout.cursor, decode: decodeCursor };
    const sent = sendFenced(client, { commitId, fence, own, user: [] });
    this.teller.sent(cursor.number, segments.fed);
    const outcome = await sent.catch((error: unknown) => {
      if (error instanceof CommitLostError)
        throw new SourceError(error.message, "retryable", { cause: error });
      throw error;
    });
    if (outcome.kind !== "committed") {
      this.dirty.giveBack([...batch.delivered.keys()]);
      return this.rejected(outcome.cause);
    }
    if (outcome.overtaken) throw takenOver(sourceId);
    this.stored.cursor = cursor;
    this.stored.version = outcome.version;
    this.stored.mtimeMs = outcome.mtimeMs;
    this.options.budget?.take(own.length - 1);
    this.lastCommitAtMs = clock.now();
    this.skewMs = outcome.mtimeMs - this.lastCommitAtMs;
    const garbage = manifest.committed(written);
    this.snapshot.committed(snapshot, batch.delivered);
    for (const [path, known] of batch.updates) if (!known) this.gaps.deletionDelivered(path, batch.gaps);
    for (const [path, read] of batch.delivered) {
      this.dirty.delivered(path, read.zxid, read.order);
      this.reader.delivered(read);
      if (read.observed === "unreadable") this.dirty.unread(path);
    }
    // A walk that is still to come may find changes that are older than this commit.
    if (!this.isWalked) this.barrier = undefined;
    else if (this.ensemble.isElsewhere) void this.raiseBarrier(outcome.mtimeMs).catch(() => undefined);
    else this.barrier = { order: this.dirty.latest, mtimeMs: outcome.mtimeMs };
    const { elements, missed, coalesced } = batch;
    this.options.onCommit({
      sourceId,
      number: cursor.number,
      zxid: outcome.zxid,
      ...(this.ensemble.isElsewhere ? { sourceZxid: this.ensemble.lastZxid } : {}),
      ...{ mtimeMs: outcome.mtimeMs, watermarkMs, fed: segments.fed, snapshot },
      code: this.current.generation.code,
      ...{ elements: elements.length, missed, coalesced },
    });
    if (garbage.length > 0) await this.blobs.discard(garbage);
  }

  /**
   * The watermark that this commit may publish: the barrier's time, once all that was heard before it is appended;
   * of a source that is drained infinity, once all is appended that happened before the drain.
   */
  private publishable({ delivered: done }: Batch): number {
    const published = this.stored.cursor.watermarkMs;
    if (!this.isWalked) return published;
    if (this.drainOrder !== undefined && !this.dirty.waitsSince(this.drainOrder, done))
      return Number.POSITIVE_INFINITY;
    if (!this.barrier) return published;
    return this.dirty.waitsSince(this.barrier.order, done)
      ? published
      : Math.max(published, this.barrier.mtimeMs);
  }

  /** The commit was refused: by a generation that went on (then this relay follows it), or by another relay's cursor. */
  private async rejected(cause: Error): Promise<void> {
    const { client, sourceId } = this.options;
    const generation = await generationAfter(client, this.current);
    const { stat } = await reading(client, () => client.getData(this.layout.cursor));
    if (stat.version !== this.stored.version) throw takenOver(sourceId);
    if (generation.version === this.current.version)
      throw new SourceError(`source "${sourceId}": a commit was refused`, "retryable", { cause });
    this.current = generation;
  }

  private async load(): Promise<void> {
    await this.ensemble.heardAll();
    await this.stored.load();
    const { manifest, cursor } = this.stored;
    const own = { path: this.layout.manifest, blobNames: manifest.blobNames };
    await this.blobs.collect(cursor.number, this.current, own);
    if (cursor.startZxid === null) this.stored.cursor = { ...cursor, startZxid: this.ensemble.lastZxid };
    else this.gaps.interrupted();
  }

  /** An ensemble that is older than what was read of it must not be compared with. */
  private async checkAhead(): Promise<void> {
    await this.ensemble.heardAll();
    const { lastZxid } = this.ensemble;
    if (lastZxid < this.stored.cursor.zxid)
      throw cursorAhead(this.options.sourceId, this.layout.cursor, this.stored.cursor.zxid, lastZxid);
  }
}
