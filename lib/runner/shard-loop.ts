import { reading } from "../checkpoint/commit";
import { toJsonTime } from "../checkpoint/encoding";
import type { ShardAnswer } from "../checkpoint/invocation";
import type { ReadHead } from "../checkpoint/stored-state";
import {
  nextTurn,
  readShardInput,
  type ShardInput,
  type ShardTurn,
  type WatermarkGraph,
} from "../checkpoint/watermark";
import { type PreparedBundle, prepareBundle } from "./bundle";
import type { BundleOutcome, SentCommit } from "./bundle-commit";
import { isUnboundedRead, sourcesWithCursor } from "./deployment";
import { attemptBundle } from "./failures";
import { readHead, type ShardContext, shardName } from "./shard-context";
import type { LoadedShard, WarmShards } from "./warm-shards";

/** What a shard is found to be, by reads that were sent together. */
export interface Look {
  readonly current: ReadHead;
  readonly input: ShardInput;
  /** The head's version behind all that; undefined where it was not asked for. */
  readonly versionAfter: number | undefined;
}

/**
 * Looks at the head and at what waits, and with `isLast` at the head once more, in this order and in one round trip.
 * Rejects with UnknownShardError where there is no such shard any more, or with the client's error.
 */
export async function lookAtShard(context: ShardContext, isLast = false): Promise<Look> {
  const { client, current, stage, shard } = context;
  const head = readHead(context);
  const graph = watermarkGraph(context);
  const input = reading(client, () => readShardInput(client, current.scope, graph, stage.id, shard));
  const after = isLast ? readHead(context) : undefined;
  // Whichever fails, none is left without someone who hears of it.
  await Promise.allSettled([head, input, after]);
  return { current: await head, input: await input, versionAfter: (await after)?.version };
}

/** Where a bundle begins. */
interface Place {
  readonly current: ReadHead;
  readonly input: ShardTurn;
  /** Of a bundle that was run while the commit before it was under way. */
  readonly ahead?: { readonly loaded: LoadedShard; readonly prepared: PreparedBundle };
}

type End = "superseded" | "interrupted";
type Committed = Extract<BundleOutcome, { kind: "committed" }>;

/** What the log says of a bundle that was run for nothing. */
export const GIVEN_UP = "a bundle that had run ahead was given up";

/**
 * Runs bundles of one shard, one commit after the other, until there is nothing left to do or the invocation has to end.
 *
 * While a commit is under way, the next bundle is run on the state that this commit will leave, up to its own multi.
 * That is sent when the commit before it has succeeded and nobody has committed on top of it. Otherwise it is given up,
 * and with it the state in memory, so that the shard begins again at its stored head. Nobody sees anything of a bundle
 * that was given up; its temporary files and blobs are removed.
 */
export class ShardLoop {
  private readonly fed = new Map<string, { stage: string; shard: number; segments: number; zxid: bigint }>();
  private commits = 0;
  private writes = 0;
  private limit: number;
  private readonly replyAtMs: number;
  /** Transforms of the stage take up what znodes hold before each bundle. */
  private isFollowing = false;
  /** Where the bundle stands that is run ahead; undefined where it failed. Never rejects. */
  private running: Promise<Place | undefined> | undefined;

  constructor(
    private readonly context: ShardContext,
    private readonly warm: WarmShards,
    replyAfterMs: number,
    private readonly maxWrites = Number.POSITIVE_INFINITY,
  ) {
    this.limit = context.limits.maxUnits;
    this.replyAtMs = context.clock.now() + replyAfterMs;
  }

  /**
   * Begins with what is known of the shard already.
   * Rejects with what user code threw while nothing had been committed, or with the client's error.
   */
  async run(first: Look): Promise<ShardAnswer> {
    const { context } = this;
    let look: Look | undefined = first;
    for (let known: Place | undefined; ; look = undefined) {
      if (known === undefined) look ??= await lookAtShard(context, true);
      const place: Place = known ?? placeOf(look!.current, look!.input);
      if (place.ahead === undefined) {
        if (!hasWork(context, place)) {
          known = undefined;
          // Another invocation may have emptied the inbox since the head was read; then its timers are news to us.
          const after = look?.versionAfter ?? (await readHead(context)).version;
          if (after !== place.current.version) continue;
          return this.answer((await this.endsElsewhere()) ? "superseded" : "idle", place);
        }
        if (this.hasToEnd(this.fed.size > 0, this.writes)) return this.answer("more", place);
      }
      const next = await this.step(place);
      if (next === "superseded" || next === "interrupted") return this.answer(next, place);
      known = next;
    }
  }

  /**
   * Whether the generation has changed meanwhile, which changes what is due of reads without an end. It is asked for after
   * the inbox was listed: who settles a wake-up of a drain by that listing has seen the drain.
   */
  private async endsElsewhere(): Promise<boolean> {
    const { client, current, stage } = this.context;
    if (!isUnboundedRead(stage)) return false;
    const now = await reading(client, () => client.exists(current.layout.generation));
    return now?.version !== current.version;
  }

  /** One bundle and its commit. The place of the next one, where it need not be read. */
  private async step(place: Place): Promise<Place | End | undefined> {
    const { context, limit } = this;
    let loaded = place.ahead?.loaded;
    let isSpent = false;
    try {
      loaded ??= await this.load(place);
      if (loaded === undefined) return "superseded";
      const { current, input, ahead } = place;
      const work = { loaded, input, watermarkMs: input.watermarkMs };
      const onSent = (sent: SentCommit): void => {
        if (!this.mayRunAhead(sent)) return;
        isSpent = true;
        sent.takeState();
        this.running = this.runAhead(sent, input);
      };
      const outcome = await attemptBundle(context, current, work, limit, ahead?.prepared, onSent);
      const next = await this.takeRunning();
      if (outcome.kind === "committed") return await this.settle(place, loaded, outcome, isSpent, next);
      await this.giveUp(next);
      if (outcome.kind === "rejected") {
        context.log("info", "bundle rejected", { ...names(context), cause: outcome.cause.message });
        loaded.spool.close();
        return "superseded";
      }
      if (isSpent) loaded.spool.close();
      else this.warm.put(context.layout, { ...loaded, commitId: current.head.ids[0] });
      if (outcome.kind === "outdated") context.followed.forget(outcome.path);
      // A smaller bundle is sooner done, so that a znode that is written all the time does not stop the shard.
      this.limit = outcome.kind === "again" ? outcome.limit : Math.max(1, Math.floor(outcome.units / 2));
      return undefined;
    } catch (error) {
      await this.giveUp(await this.takeRunning());
      loaded?.spool.close();
      if (this.commits === 0) throw error;
      // The shards that this invocation fed have to hear of it; the error comes again when it is called again.
      context.log("warn", "a bundle failed after others were committed", { ...names(context), error });
      return "interrupted";
    }
  }

  private async load({ current }: Place): Promise<LoadedShard | undefined> {
    const { pipeline, stage, followed, log } = this.context;
    const refreshing = pipeline.refresh(stage.id, followed.read, (error) =>
      log("warn", "a znode's value can't be used; the one before stays", { ...names(this.context), error }),
    );
    this.isFollowing = refreshing !== undefined;
    if (refreshing !== undefined) await refreshing;
    return this.warm.load(this.context, current);
  }

  /** Takes note of a commit, and of where the next bundle begins. */
  private async settle(
    { input }: Place,
    loaded: LoadedShard,
    outcome: Committed,
    isSpent: boolean,
    next: Place | undefined,
  ): Promise<Place | End | undefined> {
    const { context } = this;
    this.count(outcome);
    // What is not tidy is left to the next invocation, which looks for it where it finds no state in memory.
    if (outcome.overtaken || !outcome.isTidy) {
      await this.giveUp(next);
      loaded.spool.close();
      return "superseded";
    }
    outcome.shard.accept();
    this.limit = this.nextLimit;
    if (next !== undefined && next.current.version === outcome.current.version) return next;
    await this.giveUp(next);
    const { shard, stored, commitId } = outcome;
    if (isSpent) loaded.spool.close();
    else {
      const { spool, segments } = loaded;
      this.warm.put(context.layout, { shard, stored, commitId, spool, segments });
    }
    // What was listed is still to be done, and nobody else has committed: neither need be asked for again.
    if (outcome.left.length === 0) return undefined;
    return placeOf(outcome.current, { ...input, segments: outcome.left });
  }

  private count({ commitId, counters, metrics, writes, zxid, fed: shards }: Committed): void {
    this.commits += 1;
    this.writes += writes;
    // Each bundle that counted something is told of once, with what it alone counted.
    if (metrics)
      this.context.log("info", "bundle", { ...names(this.context), commitId, ...counters, ...metrics });
    for (const fed of shards) {
      const { stage, shard } = fed;
      const name = shardName(fed);
      const segments = fed.segments + (this.fed.get(name)?.segments ?? 0);
      this.fed.set(name, { stage, shard, segments, zxid });
    }
  }

  /** Whether the next bundle may be run before it is known what became of this commit. */
  private mayRunAhead({ left, isAsync, head, hasFed, writes }: SentCommit): boolean {
    // Calls that are under way are not doubled; reads of a source, models and searches for faults go step by step.
    const isPlain = !isAsync && !this.isFollowing && !this.context.stage.splitting && head.failing === null;
    return isPlain && left.length > 0 && !this.hasToEnd(hasFed || this.fed.size > 0, this.writes + writes);
  }

  private async runAhead(
    { head, version, loaded, left }: SentCommit,
    before: ShardInput,
  ): Promise<Place | undefined> {
    const { context } = this;
    await flushed();
    // It is asked for nothing that the zxid of the commit is needed for.
    const { current, input } = placeOf({ head, version, zxid: 0n }, { ...before, segments: left });
    const work = { loaded, input, watermarkMs: input.watermarkMs };
    try {
      const prepared = await prepareBundle(context, current, work, this.nextLimit);
      return prepared && { current, input, ahead: { loaded, prepared } };
    } catch {
      // It is run again from what is stored, and what fails then is noted.
      return undefined;
    }
  }

  private async takeRunning(): Promise<Place | undefined> {
    const { running } = this;
    this.running = undefined;
    return running;
  }

  private async giveUp(place: Place | undefined): Promise<void> {
    if (place?.ahead === undefined) return;
    this.context.log("info", GIVEN_UP, names(this.context));
    await place.ahead.prepared.discard();
  }

  private get nextLimit(): number {
    return Math.min(this.context.limits.maxUnits, this.limit * 2);
  }

  private hasToEnd(hasFed: boolean, writes: number): boolean {
    const { clock, deadlineMs } = this.context;
    const nowMs = clock.now();
    return nowMs >= deadlineMs || (hasFed && nowMs >= this.replyAtMs) || writes >= this.maxWrites;
  }

  private answer(outcome: ShardAnswer["outcome"], { current: { head }, input }: Place): ShardAnswer {
    return {
      outcome,
      commits: this.commits,
      commitNumber: head.number,
      writes: this.writes,
      backlog: input.segments.length,
      fed: [...this.fed.values()].map((fed) => ({ ...fed, zxid: fed.zxid.toString(16) })),
      listedZxid: input.listedZxid.toString(16),
      inputWatermarkMs: toJsonTime(input.inputWatermarkMs),
      holdMs: toJsonTime(head.holdMs),
      nextTimerMs: toJsonTime(head.nextTimerMs),
      nextProcessingTimerMs: toJsonTime(head.nextProcessingTimerMs),
    };
  }
}

/** Resolves when what was just sent has left this process: the client writes at the end of the tick. */
function flushed(): Promise<void> {
  return new Promise((resolve) => {
    process.nextTick(resolve);
  });
}

function placeOf(current: ReadHead, input: ShardInput): Place {
  return { current, input: nextTurn(current.head, input) };
}

function hasWork(
  { stage, clock, current: { generation } }: ShardContext,
  { current: { head }, input }: Place,
): boolean {
  // At the end of a source the watermark is infinite, as a timer that is not set.
  const isWindowDue = head.nextTimerMs <= input.watermarkMs && head.nextTimerMs < Number.POSITIVE_INFINITY;
  // A drain waits for no source.
  const isEnding = generation.state === "draining" && isUnboundedRead(stage);
  const clockMs = isEnding ? Number.MAX_VALUE : clock.now();
  const isTimerDue = isWindowDue || head.nextProcessingTimerMs <= clockMs;
  return input.segments.length > 0 || input.isInherited || isTimerDue;
}

function watermarkGraph({ pipeline, current }: ShardContext): WatermarkGraph {
  return {
    stages: pipeline.stages,
    cursors: sourcesWithCursor(pipeline),
    shards: current.generation.shards,
  };
}

function names({ pipeline, stage, shard }: ShardContext): Record<string, unknown> {
  return { pipeline: pipeline.name, stage: stage.id, shard };
}
