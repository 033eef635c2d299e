import { fromJsonTime } from "../checkpoint/encoding";
import type { ShardInvoker, ShardReply } from "../checkpoint/invocation";
import type { Upstream } from "../checkpoint/records";
import type { Clock } from "../clock";
import type { Log } from "../log";
import { ShardFailedError } from "./errors";

export interface DispatcherOptions {
  readonly pipeline: string;
  /** In the order in which data flows. */
  readonly stages: readonly { readonly id: string; readonly upstream: readonly Upstream[] }[];
  /** Ids of the sources that have a cursor; others have ended. */
  readonly sources: readonly string[];
  readonly shards: Readonly<Record<string, number>>;
  readonly invoke: ShardInvoker;
  readonly clock: Clock;
  readonly log: Log;
  /** Invocations under way at once, over all shards (default 16). */
  readonly maxInFlight: number;
  /** Gives up on a shard after this many failures in a row (default Infinity: tries for ever). */
  readonly maxFailures: number;
  /** Called after each reply. */
  readonly onReply: (stage: string, shard: number, reply: ShardReply) => void;
}

interface ShardState {
  readonly stage: string;
  readonly shard: number;
  /** There is work that the function has to see at this zxid; undefined: none known. */
  wantedZxid: bigint | undefined;
  running: boolean;
  /** An invocation ended without telling whom it fed: downstream has to be looked after. */
  untold: boolean;
  failures: number;
  lastError: Error | undefined;
  notBeforeMs: number;
  holdMs: number;
  nextTimerMs: number;
  nextProcessingTimerMs: number;
  /** The output watermark that the last reply amounted to. */
  outputMs: number;
  /** The dispatcher's count of changes when this shard was last invoked for a timer. */
  checkedAt: number;
}

const FIRST_RETRY_MS = 100;
const LAST_RETRY_MS = 30_000;
// Someone else is at work on the shard, or there was no time for a bundle: ask again soon, without competing.
const RETRY_SOON_MS = 50;

/**
 * Calls the bundle function for each shard that has work, at most once at a time for a shard. No wake-up is lost:
 * work is wanted up to a zxid, and only a reply that listed the inbox at or after that zxid settles it.
 */
export class Dispatcher {
  private readonly states = new Map<string, ShardState>();
  private readonly sourceWatermarks = new Map<string, number>();
  private readonly inFlight = new Set<Promise<void>>();
  private lastZxid = 0n;
  private changes = 0;
  private stopped = false;
  private retryTimer = new AbortController();
  private failed: (error: ShardFailedError) => void = () => undefined;
  /** Rejects when a shard is given up. */
  readonly failure: Promise<never>;

  constructor(private readonly options: DispatcherOptions) {
    for (const { id } of options.stages) {
      for (let shard = 0; shard < (options.shards[id] ?? 0); shard++)
        this.states.set(`${id}/${shard}`, newState(id, shard));
    }
    for (const id of options.sources) this.sourceWatermarks.set(id, Number.NEGATIVE_INFINITY);
    this.failure = new Promise((_, reject) => {
      this.failed = reject;
    });
    this.failure.catch(() => undefined);
  }

  /** A shard got segments in the transaction `zxid`. */
  wake(stage: string, shard: number, zxid: bigint): void {
    const state = this.states.get(`${stage}/${shard}`);
    if (state) this.want(state, zxid);
    this.schedule();
  }

  /** Every shard is looked after once: what an earlier relay left is found, and the timers become known. */
  wakeAll(zxid: bigint): void {
    for (const state of this.states.values()) this.want(state, zxid);
    this.schedule();
  }

  /** A source's watermark was published in the transaction `zxid`. */
  published(source: string, watermarkMs: number, zxid: bigint): void {
    this.lastZxid = zxid > this.lastZxid ? zxid : this.lastZxid;
    if (this.sourceWatermarks.get(source) === watermarkMs) return;
    this.sourceWatermarks.set(source, watermarkMs);
    this.changes += 1;
    this.schedule();
  }

  /** The next timer above the watermark; Infinity if none is known. */
  nextTimerMs(watermarkMs: number): number {
    let next = Number.POSITIVE_INFINITY;
    for (const state of this.states.values()) {
      if (state.nextTimerMs > watermarkMs && state.nextTimerMs < next) next = state.nextTimerMs;
    }
    return next;
  }

  /** Whether nothing is under way, nothing is wanted, and no shard is in failure. */
  get quiet(): boolean {
    return (
      this.inFlight.size === 0 && [...this.states.values()].every((state) => state.wantedZxid === undefined)
    );
  }

  /** The shards that failed last time, with their errors. */
  get failures(): { stage: string; shard: number; failures: number; error: Error }[] {
    return [...this.states.values()].flatMap(({ stage, shard, failures, lastError }) =>
      lastError ? [{ stage, shard, failures, error: lastError }] : [],
    );
  }

  /**
   * Starts nothing more and waits for what is under way, at most `maxWaitMs` (default: without a bound). An
   * invocation that is not waited for goes on by itself; whoever relays next looks after what it did.
   */
  async stop(maxWaitMs = Number.POSITIVE_INFINITY): Promise<void> {
    this.stopped = true;
    this.retryTimer.abort();
    const ended = new AbortController();
    const all = Promise.allSettled(this.inFlight).then(() => ended.abort());
    const isBounded = Number.isFinite(maxWaitMs);
    await (isBounded ? Promise.race([all, this.options.clock.sleep(maxWaitMs, ended.signal)]) : all);
  }

  private want(state: ShardState, zxid: bigint): void {
    this.lastZxid = zxid > this.lastZxid ? zxid : this.lastZxid;
    if (state.wantedZxid === undefined || zxid > state.wantedZxid) state.wantedZxid = zxid;
  }

  private schedule(): void {
    if (this.stopped) return;
    this.wantDueTimers();
    const now = this.options.clock.now();
    let retryAtMs = Number.POSITIVE_INFINITY;
    for (const state of this.states.values()) {
      if (state.running) continue;
      if (state.nextProcessingTimerMs <= now) this.want(state, this.lastZxid);
      if (state.wantedZxid === undefined) {
        retryAtMs = Math.min(retryAtMs, state.nextProcessingTimerMs);
        continue;
      }
      if (state.notBeforeMs > now) retryAtMs = Math.min(retryAtMs, state.notBeforeMs);
      else if (this.inFlight.size < this.options.maxInFlight) this.start(state);
    }
    if (retryAtMs < Number.POSITIVE_INFINITY) this.scheduleRetry(retryAtMs - now);
  }

  private scheduleRetry(ms: number): void {
    this.retryTimer.abort();
    const timer = new AbortController();
    this.retryTimer = timer;
    void this.options.clock.sleep(ms, timer.signal).then(() => {
      if (!timer.signal.aborted) this.schedule();
    });
  }

  /** Wants the shards whose next timer their input watermark has reached, as far as the replies tell. */
  private wantDueTimers(): void {
    const outputs = new Map<string, number>();
    for (const { id, upstream } of this.options.stages) {
      const inputs = upstream.map((from) =>
        (from.type === "source" ? this.sourceWatermarks : outputs).get(from.id),
      );
      const input = Math.min(...inputs.map((each) => each ?? Number.POSITIVE_INFINITY));
      let output = input;
      for (const state of this.shardsOf(id)) {
        const isDue = state.nextTimerMs <= input && state.nextTimerMs < Number.POSITIVE_INFINITY;
        if (isDue && state.wantedZxid === undefined && state.checkedAt < this.changes) {
          this.want(state, this.lastZxid);
        }
        const busy = state.running || state.wantedZxid !== undefined;
        output = Math.min(output, busy ? state.outputMs : state.holdMs);
      }
      outputs.set(id, output);
    }
  }

  private shardsOf(stage: string): ShardState[] {
    return Array.from(
      { length: this.options.shards[stage] ?? 0 },
      (_, shard) => this.states.get(`${stage}/${shard}`)!,
    );
  }

  private start(state: ShardState): void {
    state.running = true;
    state.checkedAt = this.changes;
    const invocation = this.invoke(state).finally(() => {
      this.inFlight.delete(invocation);
      this.schedule();
    });
    this.inFlight.add(invocation);
  }

  private async invoke(state: ShardState): Promise<void> {
    const { pipeline, invoke, onReply } = this.options;
    const { stage, shard } = state;
    try {
      const reply = await invoke({ pipeline, stage, shard, zxid: (state.wantedZxid ?? 0n).toString(16) });
      onReply(stage, shard, reply);
      this.settle(state, reply);
    } catch (error) {
      this.failedInvocation(state, error instanceof Error ? error : new Error(String(error)));
    } finally {
      state.running = false;
    }
  }

  private settle(state: ShardState, reply: ShardReply): void {
    // First of all: an answer that is none is a failure, and changes nothing.
    const listed = BigInt(`0x${reply.listedZxid}`);
    state.failures = 0;
    state.lastError = undefined;
    state.holdMs = fromJsonTime(reply.holdMs);
    state.nextTimerMs = fromJsonTime(reply.nextTimerMs);
    state.nextProcessingTimerMs = fromJsonTime(reply.nextProcessingTimerMs);
    const outputMs = Math.min(fromJsonTime(reply.inputWatermarkMs), state.holdMs);
    // The output may have moved by commits of others, too: then timers downstream may be due.
    if (reply.commits > 0 || outputMs !== state.outputMs) this.changes += 1;
    state.outputMs = outputMs;
    this.lastZxid = listed > this.lastZxid ? listed : this.lastZxid;
    if (reply.outcome === "idle" && state.wantedZxid !== undefined && listed >= state.wantedZxid)
      state.wantedZxid = undefined;
    const isStuck = reply.outcome === "more" && reply.commits === 0;
    // The function's clock may be behind this one: what is due here is not due there yet.
    const isEarly = state.nextProcessingTimerMs <= this.options.clock.now();
    if (isCutShort(reply) || isStuck || isEarly) state.notBeforeMs = this.options.clock.now() + RETRY_SOON_MS;
    for (const fed of reply.fed) this.wake(fed.stage, fed.shard, BigInt(`0x${fed.zxid}`));
    this.sweepDownstream(state, reply, listed);
  }

  /**
   * An invocation that died may have committed and fed others, and nobody heard of it, an earlier relay's included;
   * one that was cut short tells only of the commits that it knows of. The next answer of the shard comes from a
   * server that has seen what they did.
   */
  private sweepDownstream(state: ShardState, reply: ShardReply, listed: bigint): void {
    if (isCutShort(reply)) state.untold = true;
    else if (state.untold) {
      state.untold = false;
      const fedBy = (upstream: readonly Upstream[]): boolean =>
        upstream.some(({ type, id }) => type === "stage" && id === state.stage);
      const downstream = this.options.stages.filter((stage) => fedBy(stage.upstream));
      for (const { id } of downstream) for (const each of this.shardsOf(id)) this.want(each, listed);
    }
  }

  private failedInvocation(state: ShardState, error: Error): void {
    const { clock, log, maxFailures, pipeline } = this.options;
    state.failures += 1;
    state.untold = true;
    state.lastError = error;
    const backOff = Math.min(LAST_RETRY_MS, FIRST_RETRY_MS * 2 ** (state.failures - 1));
    // Full jitter on the upper half, so that shards that failed together do not come back together.
    const delayMs = backOff * (0.5 + clock.random() / 2);
    state.notBeforeMs = clock.now() + delayMs;
    const { stage, shard, failures } = state;
    log("error", "a shard failed; nothing of the bundle was committed", {
      pipeline,
      stage,
      shard,
      failures,
      retryInMs: Math.round(delayMs),
      error,
    });
    if (failures >= maxFailures) this.failed(new ShardFailedError(stage, shard, failures, error));
  }
}

/** `stopped` too: a pause may be over before this relay hears of it, and then the work is still to be done. */
function isCutShort({ outcome }: ShardReply): boolean {
  return outcome === "superseded" || outcome === "interrupted" || outcome === "stopped";
}

function newState(stage: string, shard: number): ShardState {
  return {
    stage,
    shard,
    wantedZxid: undefined,
    running: false,
    untold: true,
    failures: 0,
    lastError: undefined,
    notBeforeMs: 0,
    holdMs: Number.POSITIVE_INFINITY,
    nextTimerMs: Number.POSITIVE_INFINITY,
    nextProcessingTimerMs: Number.POSITIVE_INFINITY,
    outputMs: Number.NEGATIVE_INFINITY,
    checkedAt: -1,
  };
}
