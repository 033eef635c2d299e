import { fromJsonTime } from "../checkpoint/encoding";
import type { AnnouncedCommit, ShardAnswer, ShardInvoker, ShardReply } from "../checkpoint/invocation";
import type { Upstream } from "../checkpoint/records";
import type { Clock } from "../clock";
import type { Log } from "../log";
import { Backlogs } from "./backlogs";
import { ShardFailedError } from "./errors";
import { TokenBucket } from "./token-bucket";

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
  /** Segments in an inbox above which the stages before it wait (default 256). */
  readonly maxBacklog?: number;
  /** Writes to ZooKeeper that all functions together may make in a second (default Infinity). */
  readonly writesPerSecond?: number;
  /** Called after each reply. */
  readonly onReply: (stage: string, shard: number, reply: ShardReply) => void;
}

interface ShardState {
  readonly stage: string;
  readonly shard: number;
  /** There is work that the function has to see at this zxid; undefined: none known. */
  wantedZxid: bigint | undefined;
  /** Nothing was left of what had been appended up to here. */
  doneZxid: bigint;
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
  /** The latest commit of the shard that an answer told of; -1 before the first. */
  commitNumber: number;
  /** How often it was called, or its answer came in another's. */
  looks: number;
}

const FIRST_RETRY_MS = 100;
const LAST_RETRY_MS = 30_000;
// Someone else is at work on the shard, or there was no time for a bundle: ask again soon, without competing.
const RETRY_SOON_MS = 50;
export const MAX_BACKLOG = 256;

/**
 * Calls the bundle function for each shard that has work, at most once at a time for a shard. No wake-up is lost:
 * work is wanted up to a zxid, and only a reply that listed the inbox at or after that zxid settles it.
 */
export class Dispatcher {
  private readonly states = new Map<string, ShardState>();
  private readonly byStage = new Map<string, readonly ShardState[]>();
  private readonly sourceWatermarks = new Map<string, number>();
  private readonly inFlight = new Set<Promise<void>>();
  private lastZxid = 0n;
  private changes = 0;
  private stopped = false;
  private retryTimer = new AbortController();
  private retryAtMs = Number.POSITIVE_INFINITY;
  private readonly backlogs: Backlogs;
  private readonly budget: TokenBucket;
  /** Those that end a bundle's way first: what waits longest gets on. */
  private readonly lastFirst: readonly ShardState[];
  private failed: (error: ShardFailedError) => void = () => undefined;
  /** Rejects when a shard is given up. */
  readonly failure: Promise<never>;

  constructor(private readonly options: DispatcherOptions) {
    for (const { id } of options.stages) {
      const ofStage = Array.from({ length: options.shards[id] ?? 0 }, (_, shard) => newState(id, shard));
      this.byStage.set(id, ofStage);
      for (const state of ofStage) this.states.set(`${id}/${state.shard}`, state);
    }
    this.lastFirst = [...this.states.values()].reverse();
    this.backlogs = new Backlogs(options.stages, options.maxBacklog ?? MAX_BACKLOG);
    this.budget = new TokenBucket(options.clock, options.writesPerSecond ?? Number.POSITIVE_INFINITY);
    for (const id of options.sources) this.sourceWatermarks.set(id, Number.NEGATIVE_INFINITY);
    this.failure = new Promise((_, reject) => {
      this.failed = reject;
    });
    this.failure.catch(() => undefined);
  }

  /** A shard got so many segments in the transaction `zxid`. */
  wake(stage: string, shard: number, zxid: bigint, segments = 1): void {
    this.wantFed(stage, shard, zxid, segments);
    this.schedule();
  }

  /**
   * A commit is being sent that appends to these shards: those that could be called at this moment are called, so that the
   * call is on its way while the commit is. {@link wake} tells of it once it has taken effect, and what an answer has not
   * listed by then is called for again; so nothing depends on what becomes of the commit.
   */
  announce(
    commit: AnnouncedCommit,
    fed: readonly { readonly stage: string; readonly shard: number }[],
  ): void {
    const now = this.options.clock.now();
    for (const { stage, shard } of fed) {
      const state = this.states.get(`${stage}/${shard}`);
      if (this.stopped || !state || state.running || state.notBeforeMs > now) continue;
      if (this.inFlight.size >= this.options.maxInFlight || this.budget.waitMs > 0) continue;
      if (this.backlogs.holdsStage(stage)) continue;
      this.want(state, this.lastZxid);
      this.start(state, commit);
    }
  }

  /** The shard is looked after, whatever is known of it. */
  ask(stage: string, shard: number, zxid: bigint): void {
    const state = this.states.get(`${stage}/${shard}`);
    if (state) this.want(state, zxid);
    this.schedule();
  }

  /** Whether a stage that the source's data gets to is so far behind that the source should wait. */
  holdsSource(source: string): boolean {
    return this.backlogs.holdsSource(source);
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

  /** The next processing time that would fire something; Infinity if none is known. */
  get nextProcessingTimerMs(): number {
    return Math.min(...[...this.states.values()].map((state) => state.nextProcessingTimerMs));
  }

  /** Whether nothing is under way, nothing is wanted, and no shard is in failure. */
  get quiet(): boolean {
    return (
      this.inFlight.size === 0 && [...this.states.values()].every((state) => state.wantedZxid === undefined)
    );
  }

  /**
   * How often a shard was looked at, if nobody is going to call it and none of the stages before it has anything under
   * way or to tell that could change that; else undefined.
   */
  looksOfAbandoned(stage: string, shard: number): number | undefined {
    const state = this.states.get(`${stage}/${shard}`);
    if (!state || isBusy(state)) return undefined;
    const seen = new Set<string>();
    const isMoving = (id: string): boolean => {
      if (seen.has(id)) return false;
      seen.add(id);
      const upstream = this.options.stages.find((each) => each.id === id)?.upstream ?? [];
      return upstream.some(
        (from) =>
          from.type === "stage" &&
          (this.shardsOf(from.id).some((each) => isBusy(each) || each.untold) || isMoving(from.id)),
      );
    };
    return isMoving(stage) ? undefined : state.looks;
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

  private wantFed(stage: string, shard: number, zxid: bigint, segments: number): void {
    const state = this.states.get(`${stage}/${shard}`);
    // The answer may be here before that of the commit it was called ahead of.
    if (!state || zxid <= state.doneZxid) return;
    this.want(state, zxid);
    this.backlogs.appended(stage, shard, segments);
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
    for (const state of this.lastFirst) {
      if (state.running) continue;
      if (state.nextProcessingTimerMs <= now) this.want(state, this.lastZxid);
      if (state.wantedZxid === undefined) {
        retryAtMs = Math.min(retryAtMs, state.nextProcessingTimerMs);
        continue;
      }
      const { waitMs } = this.budget;
      if (state.notBeforeMs > now) retryAtMs = Math.min(retryAtMs, state.notBeforeMs);
      else if (this.backlogs.holdsStage(state.stage)) continue;
      else if (waitMs > 0) retryAtMs = Math.min(retryAtMs, now + waitMs);
      else if (this.inFlight.size < this.options.maxInFlight) this.start(state);
    }
    if (retryAtMs < Number.POSITIVE_INFINITY) this.scheduleRetry(retryAtMs);
  }

  /** Looks again then. A look that comes before it does no harm, so it is left as it is. */
  private scheduleRetry(atMs: number): void {
    const { clock } = this.options;
    const nowMs = clock.now();
    if (this.retryAtMs <= atMs && this.retryAtMs > nowMs) return;
    this.retryTimer.abort();
    const timer = new AbortController();
    this.retryTimer = timer;
    this.retryAtMs = atMs;
    void clock.sleep(atMs - nowMs, timer.signal).then(() => {
      if (timer.signal.aborted) return;
      this.retryAtMs = Number.POSITIVE_INFINITY;
      this.schedule();
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

  private shardsOf(stage: string): readonly ShardState[] {
    return this.byStage.get(stage) ?? [];
  }

  private start(state: ShardState, announced?: AnnouncedCommit): void {
    state.running = true;
    state.checkedAt = this.changes;
    const invocation = this.invoke(state, announced).finally(() => {
      this.inFlight.delete(invocation);
      this.schedule();
    });
    this.inFlight.add(invocation);
  }

  private async invoke(state: ShardState, announced: AnnouncedCommit | undefined): Promise<void> {
    const { pipeline, invoke, onReply } = this.options;
    const { stage, shard } = state;
    const zxid = (state.wantedZxid ?? 0n).toString(16);
    const waiting = this.lastFirst.filter((each) => !each.running && each.wantedZxid !== undefined).length;
    // Alone under way: whoever is fed need not be called.
    const chain = this.inFlight.size === 0 && waiting === 0;
    const writes = this.budget.share(waiting + 1);
    // Taken before they are made, so that all who are under way together keep to the budget.
    this.budget.take(writes ?? 0);
    try {
      const bounds = writes ? { writes } : {};
      const reply = await invoke({
        pipeline,
        stage,
        shard,
        zxid,
        chain,
        ...bounds,
        ...(announced && { announced }),
      });
      this.settleAll(state, reply, writes ?? 0);
      onReply(stage, shard, reply);
    } catch (error) {
      this.failedInvocation(state, error instanceof Error ? error : new Error(String(error)));
    } finally {
      state.running = false;
    }
  }

  private settleAll(state: ShardState, reply: ShardReply, granted: number): void {
    // First of all: an answer that is none is a failure, and changes nothing.
    const answers = [{ ...reply, stage: state.stage, shard: state.shard }, ...reply.chained];
    const listed = answers.map(({ listedZxid }) => BigInt(`0x${listedZxid}`));
    state.failures = 0;
    state.lastError = undefined;
    this.budget.take(answers.reduce((sum, { writes }) => sum + writes, 0) - granted);
    // All that was fed is wanted before any answer says that it is done.
    for (const { fed } of answers)
      for (const { stage, shard, zxid, segments } of fed)
        this.wantFed(stage, shard, BigInt(`0x${zxid}`), segments);
    answers.forEach((answer, index) => {
      const answering = this.states.get(`${answer.stage}/${answer.shard}`);
      if (answering) this.settle(answering, answer, listed[index]!);
    });
  }

  private settle(state: ShardState, answer: ShardAnswer, listed: bigint): void {
    state.looks += 1;
    const isNews = answer.commitNumber >= state.commitNumber;
    // Commits that nobody has told of may have fed others; answers overtake each other, so an older one tells nothing.
    const hasOthers = isNews && answer.commitNumber > state.commitNumber + answer.commits;
    if (isNews) this.learn(state, answer);
    this.lastZxid = listed > this.lastZxid ? listed : this.lastZxid;
    if (answer.outcome === "idle" && listed > state.doneZxid) state.doneZxid = listed;
    if (answer.outcome === "idle" && state.wantedZxid !== undefined && listed >= state.wantedZxid)
      state.wantedZxid = undefined;
    // What holds others back has to be wanted, or they would wait for ever.
    this.backlogs.set(
      state.stage,
      state.shard,
      state.wantedZxid === undefined ? 0 : Math.max(1, answer.backlog),
    );
    const isStuck = answer.outcome === "more" && answer.commits === 0;
    // The function's clock may be behind this one: what is due here is not due there yet.
    const isEarly = state.nextProcessingTimerMs <= this.options.clock.now();
    if (isCutShort(answer) || isStuck || isEarly)
      state.notBeforeMs = this.options.clock.now() + RETRY_SOON_MS;
    this.sweepDownstream(state, answer, listed, hasOthers);
  }

  /** Takes over what the shard's latest commit says about holds and timers. */
  private learn(state: ShardState, answer: ShardAnswer): void {
    state.commitNumber = answer.commitNumber;
    state.holdMs = fromJsonTime(answer.holdMs);
    state.nextTimerMs = fromJsonTime(answer.nextTimerMs);
    state.nextProcessingTimerMs = fromJsonTime(answer.nextProcessingTimerMs);
    const outputMs = Math.min(fromJsonTime(answer.inputWatermarkMs), state.holdMs);
    // The output may have moved by commits of others, too: then timers downstream may be due.
    if (answer.commits > 0 || outputMs !== state.outputMs) this.changes += 1;
    state.outputMs = outputMs;
  }

  /**
   * An invocation that died may have committed and fed others, and nobody heard of it, an earlier relay's included;
   * one that was cut short tells only of the commits that it knows of; and one that Lambda started twice tells once.
   * The next answer of the shard comes from a server that has seen what they did.
   */
  private sweepDownstream(state: ShardState, answer: ShardAnswer, listed: bigint, hasOthers: boolean): void {
    if (isCutShort(answer)) state.untold = true;
    else if (state.untold || hasOthers) {
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

function isBusy({ running, wantedZxid }: ShardState): boolean {
  return running || wantedZxid !== undefined;
}

/** `stopped` too: a pause may be over before this relay hears of it, and then the work is still to be done. */
function isCutShort({ outcome }: ShardAnswer): boolean {
  return outcome === "superseded" || outcome === "interrupted" || outcome === "stopped";
}

function newState(stage: string, shard: number): ShardState {
  return {
    stage,
    shard,
    wantedZxid: undefined,
    doneZxid: 0n,
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
    commitNumber: -1,
    looks: 0,
  };
}
