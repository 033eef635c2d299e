import type { BlobStore } from "../checkpoint/blobs";
import { CommitLostError, reading, sendFenced } from "../checkpoint/commit";
import { decodeBucket, ID_BUCKETS, recentLag } from "../checkpoint/event-ids";
import type { PlannedEventSource } from "../checkpoint/event-source";
import type { SourceLayout } from "../checkpoint/layout";
import { type Cursor, decodeCursor, encodeCursor, nextCommit } from "../checkpoint/records";
import type { CurrentGeneration } from "../checkpoint/scope";
import type { Clock } from "../clock";
import type { Log } from "../log";
import type { Watch, WatchNotification, ZooKeeperClient } from "../zookeeper";
import { SourceError } from "./errors";
import { generationAfter } from "./generation-after";
import type { RelayLimits } from "./limits";
import type { RelayCommit } from "./relay-commit";
import { SourceBlobs } from "./source-blobs";

export interface EventSourceRelayOptions {
  readonly client: ZooKeeperClient;
  readonly planned: PlannedEventSource;
  readonly current: CurrentGeneration;
  readonly blobs: BlobStore;
  readonly clock: Clock;
  readonly log: Log;
  readonly limits: Pick<RelayLimits, "idleIntervalMs" | "segmentSizeBytes">;
  /** The next watermark above `watermarkMs` that would fire something; Infinity if none is known. */
  readonly nextTimerMs: (watermarkMs: number) => number;
  /** Called after each commit, and when another one's is found. */
  readonly onCommit: (commit: RelayCommit) => void;
  /** Called for each shard with something in its inbox, when records were taken. */
  readonly wake: (stage: string, shard: number, zxid: bigint) => void;
}

// Two publications are at least so far apart, in ms.
const MIN_INTERVAL_MS = 10;

/**
 * What a source of events needs besides its records, which the events function appends: who publishes its watermark, and
 * who hears that there is something to do. Several may do so at once; the cursor's version admits one publication, and
 * whoever was refused goes on from the other one's.
 *
 * The watermark is the clock, less how far behind their arrival records were taken in the last one to two minutes, less
 * the source's delay. It never goes back.
 */
export class EventSourceRelay {
  private readonly layout: SourceLayout;
  private current: CurrentGeneration;
  private cursor!: Cursor;
  private version = 0;
  private watch: Watch | undefined;
  private hasHeard = true;
  private triedAtMs = Number.NEGATIVE_INFINITY;
  private hasAdvanced = true;
  private wake: () => void = () => undefined;

  constructor(private readonly options: EventSourceRelayOptions) {
    this.current = options.current;
    this.layout = options.current.scope.source(options.planned.id);
  }

  /** Whether the source was drained: its watermark is at infinity. */
  get hasEnded(): boolean {
    return this.cursor.watermarkMs === Number.POSITIVE_INFINITY;
  }

  /** There is nothing to get ready. */
  standBy(): Promise<void> {
    return Promise.resolve();
  }

  /** Runs until the signal aborts or the source is drained. Rejects with RelayStoppedError, SourceError, or the client's error. */
  async run(signal: AbortSignal): Promise<void> {
    signal.addEventListener("abort", () => this.wake(), { once: true });
    const { client, planned, blobs, log, limits } = this.options;
    try {
      await this.load();
      const stored = new SourceBlobs(
        { client, sourceId: planned.id, consumers: planned.consumers, blobs, log, limits },
        this.layout.cursor,
      );
      await stored.collect(this.cursor.number, this.current);
      while (!signal.aborted && !this.hasEnded) await this.step(signal);
    } finally {
      this.watch?.remove();
    }
  }

  /** Publishes the watermark as it is now, once. Rejects as {@link run} does. */
  async publishOnce(): Promise<void> {
    await this.load();
    if (!this.hasEnded) await this.publish();
  }

  private async step(signal: AbortSignal): Promise<void> {
    const { client, clock } = this.options;
    if (!this.watch) {
      const hear = (notification: WatchNotification): void => this.hear(notification);
      this.watch = await reading(client, () => client.addWatch(this.layout.ids, "persistentRecursive", hear));
      this.hasHeard = true;
    }
    if (this.hasHeard) {
      this.hasHeard = false;
      await this.wakeWaiting();
    }
    const waitMs = this.dueInMs();
    if (waitMs > 0) return this.sleep(waitMs, signal);
    this.triedAtMs = clock.now();
    await this.publish();
  }

  private hear(notification: WatchNotification): void {
    if (notification.type === "ended") this.watch = undefined;
    this.hasHeard = true;
    this.wake();
  }

  private async wakeWaiting(): Promise<void> {
    const { client, planned, wake } = this.options;
    const inboxes = planned.consumers.flatMap((stage) =>
      Array.from({ length: this.current.generation.shards[stage] ?? 1 }, (_, shard) => ({ stage, shard })),
    );
    await Promise.all(
      inboxes.map(async ({ stage, shard }) => {
        const { inbox } = this.current.scope.shard(stage, shard);
        const stat = await reading(client, () => client.exists(inbox));
        if (stat && stat.numChildren > 0) wake(stage, shard, client.lastZxid);
      }),
    );
  }

  private dueInMs(): number {
    const { clock, limits, planned, nextTimerMs } = this.options;
    if (this.current.generation.state === "draining") return 0;
    const sinceMs = clock.now() - this.triedAtMs;
    const idleMs = limits.idleIntervalMs - sinceMs;
    // What holds the watermark back holds it for a while.
    if (!this.hasAdvanced) return Math.min(idleMs, limits.idleIntervalMs);
    const untilTimerMs = nextTimerMs(this.cursor.watermarkMs) + planned.settings.delayMs - clock.now();
    return Math.min(idleMs, Math.max(untilTimerMs, MIN_INTERVAL_MS - sinceMs), limits.idleIntervalMs);
  }

  private async sleep(ms: number, signal: AbortSignal): Promise<void> {
    const woken = new AbortController();
    this.wake = () => woken.abort();
    if (!signal.aborted && !this.hasHeard) await this.options.clock.sleep(ms, woken.signal);
    this.wake = () => undefined;
  }

  /** One multi: check(generation), the cursor with its version. */
  private async publish(): Promise<void> {
    const { client, clock, planned } = this.options;
    const watermarkMs = await this.publishable();
    this.hasAdvanced = watermarkMs > this.cursor.watermarkMs;
    if (!this.hasAdvanced) return;
    const commitId = clock.uniqueId();
    const cursor: Cursor = { ...this.cursor, ...nextCommit(this.cursor, commitId), watermarkMs };
    const { cursor: path } = this.layout;
    const outcome = await sendFenced(client, {
      commitId,
      fence: { path, decode: decodeCursor },
      own: [
        { type: "check", path: this.current.layout.generation, version: this.current.version },
        { type: "setData", path, data: encodeCursor(cursor), version: this.version },
      ],
      user: [],
    }).catch((error: unknown) => {
      if (!(error instanceof CommitLostError)) throw error;
      throw new SourceError(`source "${planned.id}": ${error.message}`, "retryable", { cause: error });
    });
    if (outcome.kind !== "committed" || outcome.overtaken) {
      this.current = await generationAfter(client, this.current);
      await this.load();
      return this.tell(client.lastZxid, clock.now());
    }
    this.cursor = cursor;
    this.version = outcome.version;
    this.tell(outcome.zxid, outcome.mtimeMs);
  }

  private async publishable(): Promise<number> {
    const { client, clock, planned } = this.options;
    if (this.current.generation.state === "draining") return Number.POSITIVE_INFINITY;
    const paths = Array.from({ length: ID_BUCKETS }, (_, bucket) => this.layout.idBucket(bucket));
    const buckets = await Promise.all(
      paths.map(async (path) => decodeBucket((await reading(client, () => client.getData(path))).data, path)),
    );
    const nowMs = clock.now();
    const lagMs = Math.max(...buckets.map((bucket) => recentLag(bucket, nowMs)));
    // Windows end at whole milliseconds: a fraction behind the last one of a window would close it for what comes then.
    return Math.max(this.cursor.watermarkMs, Math.floor(nowMs - lagMs - planned.settings.delayMs));
  }

  private tell(zxid: bigint, mtimeMs: number): void {
    const { number, watermarkMs } = this.cursor;
    const { code } = this.current.generation;
    this.options.onCommit({
      ...{ sourceId: this.options.planned.id, number, zxid, mtimeMs, watermarkMs, fed: [], code },
      ...{ elements: 0, missed: 0, coalesced: 0 },
    });
  }

  private async load(): Promise<void> {
    const { client } = this.options;
    const { cursor: path } = this.layout;
    await reading(client, () => client.sync(path));
    const { data, stat } = await reading(client, () => client.getData(path));
    this.cursor = decodeCursor(data, path);
    this.version = stat.version;
  }
}
