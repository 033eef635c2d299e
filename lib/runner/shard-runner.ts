import type { CompiledPipeline, CompiledStage, StageShard } from "../beam/api";
import type { InputFiles, ReadContext } from "../beam/splittable";
import { type BlobReferrers, type BlobStore, collectBlobs } from "../checkpoint/blobs";
import { reading } from "../checkpoint/commit";
import { decodeDeadLetter } from "../checkpoint/dead-letter";
import { toJsonTime } from "../checkpoint/encoding";
import type { FileStore } from "../checkpoint/files";
import type { ShardAnswer, ShardReply, ShardRequest } from "../checkpoint/invocation";
import { PipelineLayout, type ShardLayout } from "../checkpoint/layout";
import { admitsCommits, type Head } from "../checkpoint/records";
import { readRunScope } from "../checkpoint/run";
import {
  type CurrentGeneration,
  PipelineMismatchError,
  readGeneration,
  scopeChecks,
} from "../checkpoint/scope";
import { STATE_LIMITS, type StoredState } from "../checkpoint/state";
import { type StateCell, valueBytes } from "../checkpoint/state-record";
import { loadState, type ReadHead, readHead as readHeadOf } from "../checkpoint/stored-state";
import { nextTurn, readShardInput, type ShardInput, type WatermarkGraph } from "../checkpoint/watermark";
import { matchesSource, type ZnodeSource } from "../checkpoint/znode-source";
import type { Clock } from "../clock";
import { LocalFiles } from "../io/local-files";
import type { Log } from "../log";
import { NoNodeError, type ZooKeeperClient } from "../zookeeper";
import { type BundleLimits, type BundleOutcome, removeGarbage } from "./bundle";
import { sourcesWithCursor } from "./deployment";
import { attemptBundle, type TryAgain } from "./failures";
import { finalizeBundle } from "./finalization";
import { FollowedZnodes } from "./followed-znodes";
import { OpenReads } from "./open-reads";
import { RECORDS_PER_UNIT } from "./reading";
import { SegmentReader } from "./segment-reader";
import { FolderSpool } from "./spool";
import { publishLeftOver, removeAbandoned } from "./text-files";
import { ZnodeWrites } from "./znode-writes";

export interface ShardRunnerOptions {
  readonly client: ZooKeeperClient;
  /** Beamkeeper's root znode. */
  readonly root: string;
  readonly pipelines: ReadonlyMap<string, CompiledPipeline>;
  readonly files: FileStore;
  readonly blobs: BlobStore;
  /** What sources read from (default: the files of this machine). */
  readonly inputs?: InputFiles;
  readonly clock: Clock;
  readonly log: Log;
  readonly limits: BundleLimits;
}

/** A pipeline, stage or shard that this deployment does not have. Terminal. */
export class UnknownShardError extends Error {
  override readonly name = "UnknownShardError";
  readonly outcome = "terminal";
}

/** One shard of one stage in one epoch, as an invocation works on it. */
export interface ShardContext {
  readonly client: ZooKeeperClient;
  readonly pipeline: CompiledPipeline;
  readonly stage: CompiledStage;
  readonly shard: number;
  readonly current: CurrentGeneration;
  readonly layout: ShardLayout;
  readonly files: FileStore;
  readonly blobs: BlobStore;
  readonly writes: ZnodeWrites;
  readonly clock: Clock;
  readonly log: Log;
  readonly limits: BundleLimits;
  /** When the invocation begins no more bundles. */
  readonly deadlineMs: number;
  readonly reads: ReadContext;
  readonly openReads: OpenReads;
}

/** The state of a shard as the engine has it, and as it is stored. */
export interface LoadedShard {
  readonly shard: StageShard;
  readonly stored: StoredState;
  /** Where the engine keeps large groups. */
  readonly spool: FolderSpool;
}

// A busy shard that has fed others answers after this long, so that they need not wait until it is idle.
const REPLY_AFTER_MS = 20;

// How long an invocation goes on with shards that it has fed, and with how many at once: the relay calls more at a time.
const CHAIN_MS = 100;
const MAX_CHAINED = 4;

interface Progress {
  commits: number;
  writes: number;
  readonly fed: Map<string, { stage: string; shard: number; segments: number; zxid: bigint }>;
}

/** The state of a shard after a commit, valid for as long as the head says that this commit is the last. */
interface WarmShard extends LoadedShard {
  readonly commitId: string | undefined;
}

/**
 * Runs bundles of one shard until its inbox is empty and no timer is due, or the deadline is near. It keeps the
 * state of shards between invocations; what it keeps is used only while the head's last commit id is its own.
 */
export class ShardRunner {
  private readonly warm = new Map<string, WarmShard>();
  private readonly writes = new Map<string, ZnodeWrites>();
  private readonly openReads = new OpenReads();
  private readonly reads: ReadContext;
  private readonly followed: FollowedZnodes;

  constructor(private readonly options: ShardRunnerOptions) {
    this.followed = new FollowedZnodes(options.client);
    const { client, root, inputs = new LocalFiles() } = options;
    const znodes: ReadContext["znodes"] = {
      getChildren: (path) => reading(client, () => client.getChildren(path)),
      getData: (path) => reading(client, () => client.getData(path)),
    };
    this.reads = { files: inputs, znodes, root };
  }

  /**
   * Rejects when user code failed, a znode could not be read as what it should be, or no server answered; nothing
   * is consumed then, and the same request can be made again.
   */
  async run(request: ShardRequest, deadlineMs: number): Promise<ShardReply> {
    const { clock } = this.options;
    const chainUntilMs = Math.min(deadlineMs, clock.now() + CHAIN_MS);
    const own = await this.runShard(request, deadlineMs);
    return { ...own, chained: request.chain ? await this.chain(request, own, deadlineMs, chainUntilMs) : [] };
  }

  /**
   * Goes on with the shards that were fed, and with those that they feed. What it does not get to, or what fails, is
   * no loss: the answers tell of everything that was fed, and the relay calls for it.
   */
  private async chain(
    request: ShardRequest,
    first: ShardAnswer,
    deadlineMs: number,
    untilMs: number,
  ): Promise<ShardReply["chained"]> {
    const chained: ShardReply["chained"][number][] = [];
    const isSpent = (): boolean =>
      request.writes !== undefined &&
      [first, ...chained].reduce((sum, { writes }) => sum + writes, 0) >= request.writes;
    for (let answers = [first]; answers.every(({ outcome }) => outcome === "idle"); ) {
      const fed = new Map(answers.flatMap((answer) => answer.fed).map((each) => [shardName(each), each]));
      const isTime = this.options.clock.now() < untilMs && !isSpent();
      if (fed.size === 0 || fed.size > MAX_CHAINED || !isTime) break;
      const runs = [...fed.values()].map(async ({ stage, shard, zxid }) => ({
        stage,
        shard,
        ...(await this.runShard({ ...request, stage, shard, zxid }, deadlineMs)),
      }));
      const ended = await Promise.allSettled(runs);
      const told = ended.flatMap((end) => (end.status === "fulfilled" ? [end.value] : []));
      chained.push(...told);
      if (told.length < ended.length) break;
      answers = told;
    }
    return chained;
  }

  /** Tears down what user code has set up in this process. Nothing may be run any more. */
  async close(): Promise<void> {
    this.followed.close();
    for (const pipeline of this.options.pipelines.values()) await pipeline.tearDown();
  }

  private async runShard(request: ShardRequest, deadlineMs: number): Promise<ShardAnswer> {
    const { client } = this.options;
    await this.catchUp(BigInt(`0x${request.zxid}`));
    const context = await this.open(request, deadlineMs);
    if (!admitsCommits(context.current.generation)) return stoppedAnswer(client);
    await this.tidyOutputs(context);
    await context.pipeline.setUp(context.stage.id);
    try {
      const maxWrites = request.writes ?? Number.POSITIVE_INFINITY;
      const answer = await this.runBundles(context, deadlineMs, maxWrites);
      // A run comes once: what it leaves is kept by nobody.
      if (request.run !== undefined && answer.outcome === "idle") this.warm.delete(context.layout.head);
      return answer;
    } catch (error) {
      // A commit may have taken effect without our hearing of it, or without its files being published.
      this.warm.delete(context.layout.head);
      throw error;
    }
  }

  private async runBundles(
    context: ShardContext,
    deadlineMs: number,
    maxWrites: number,
  ): Promise<ShardAnswer> {
    const progress: Progress = { commits: 0, writes: 0, fed: new Map() };
    const graph = watermarkGraph(context);
    const { clock } = this.options;
    const replyAtMs = clock.now() + REPLY_AFTER_MS;
    const segments = new SegmentReader(context);
    let known: { readonly current: ReadHead; readonly input: ShardInput } | undefined;
    for (let limit = context.limits.maxUnits; ; ) {
      const current = known?.current ?? (await readHead(context));
      const { head } = current;
      const input = nextTurn(head, known?.input ?? (await this.input(context, graph)));
      known = undefined;
      const reply = (outcome: ShardAnswer["outcome"]): ShardAnswer =>
        toAnswer(outcome, progress, head, input);
      const { watermarkMs } = input;
      // At the end of a source the watermark is infinite, as a timer that is not set.
      const isWindowDue = head.nextTimerMs <= watermarkMs && head.nextTimerMs < Number.POSITIVE_INFINITY;
      const isTimerDue = isWindowDue || head.nextProcessingTimerMs <= clock.now();
      if (input.segments.length === 0 && !isTimerDue && !input.isInherited) {
        // Another invocation may have emptied the inbox since the head was read; then its timers are news to us.
        if ((await readHead(context)).version !== current.version) continue;
        return reply("idle");
      }
      const hasNews = progress.fed.size > 0 && clock.now() >= replyAtMs;
      if (clock.now() >= deadlineMs || hasNews || progress.writes >= maxWrites) return reply("more");
      let outcome: BundleOutcome | TryAgain;
      let loaded: WarmShard | undefined;
      try {
        await this.refresh(context);
        loaded = await this.load(context, current);
        if (loaded === undefined) return reply("superseded");
        outcome = await attemptBundle(context, current, { loaded, input, watermarkMs, segments }, limit);
        if (isUndone(outcome)) this.warm.set(context.layout.head, loaded);
      } catch (error) {
        loaded?.spool.close();
        if (progress.commits === 0) throw error;
        // The shards that this invocation fed have to hear of it; the error comes again when it is called again.
        this.options.log("warn", "a bundle failed after others were committed", { ...names(context), error });
        return reply("interrupted");
      }
      if (isUndone(outcome)) {
        if (outcome.kind === "outdated") this.followed.forget(outcome.path);
        // A smaller bundle is sooner done, so that a znode that is written all the time does not stop the shard.
        limit = outcome.kind === "again" ? outcome.limit : Math.max(1, Math.floor(outcome.units / 2));
        continue;
      }
      if (!this.settle(context, loaded, outcome, progress)) return reply("superseded");
      // What was listed is still to be done, and nobody else has committed: neither need be asked for again.
      if (outcome.kind === "committed" && outcome.left.length > 0)
        known = { current: outcome.current, input: { ...input, segments: outcome.left } };
      limit = Math.min(context.limits.maxUnits, limit * 2);
    }
  }

  /** Takes note of what became of a bundle; false when this invocation has to end. */
  private settle(
    context: ShardContext,
    loaded: LoadedShard,
    outcome: BundleOutcome,
    progress: Progress,
  ): boolean {
    const key = context.layout.head;
    if (outcome.kind !== "committed") {
      this.warm.delete(key);
      this.options.log("info", "bundle rejected", {
        ...names(context),
        cause: outcome.kind === "rejected" ? outcome.cause.message : "",
      });
      loaded.spool.close();
      return false;
    }
    progress.commits += 1;
    progress.writes += outcome.writes;
    const { commitId, counters, metrics } = outcome;
    // Each bundle that counted something is told of once, with what it alone counted.
    if (metrics) this.options.log("info", "bundle", { ...names(context), commitId, ...counters, ...metrics });
    for (const fed of outcome.fed) {
      const segments = fed.segments + (progress.fed.get(shardName(fed))?.segments ?? 0);
      progress.fed.set(shardName(fed), { ...fed, segments, zxid: outcome.zxid });
    }
    if (outcome.overtaken) loaded.spool.close();
    else {
      outcome.shard.accept();
      this.warm.set(key, { ...outcome, spool: loaded.spool });
    }
    return !outcome.overtaken;
  }

  /** Takes up what the znodes hold that the stage's transforms follow. */
  private refresh(context: ShardContext): Promise<void> | undefined {
    const { pipeline, stage, log } = context;
    return pipeline.refresh(stage.id, this.followed.read, (error) =>
      log("warn", "a znode's value can't be used; the one before stays", { ...names(context), error }),
    );
  }

  /** Waits until the server has seen the append that this invocation was called for. */
  private async catchUp(zxid: bigint): Promise<void> {
    const { client, root } = this.options;
    if (client.lastZxid < zxid) await reading(client, () => client.sync(root));
  }

  private async open(
    { pipeline: name, stage: stageId, shard, run }: ShardRequest,
    deadlineMs: number,
  ): Promise<ShardContext> {
    const { client, root, files, blobs, clock, log, limits, pipelines } = this.options;
    const pipeline = pipelines.get(name);
    if (!pipeline)
      throw new UnknownShardError(
        `there is no pipeline "${name}" here; this function has ${[...pipelines.keys()].join(", ")}`,
      );
    const pipelineNow = await readGeneration(client, new PipelineLayout(root, name));
    if (!pipelineNow)
      throw new UnknownShardError(`${root} holds no pipeline "${name}"; start its relay first`);
    const current = run === undefined ? pipelineNow : await readRunScope(client, pipelineNow, run);
    if (!current) throw new UnknownShardError(`pipeline "${name}" has no run "${run}" any more`);
    if (current.generation.fingerprint !== pipeline.fingerprint) {
      throw new PipelineMismatchError(
        `${current.layout.path} belongs to code with another graph than this function's; deploy both from one build`,
      );
    }
    const stage = pipeline.stages.find(({ id }) => id === stageId);
    const shards = current.generation.shards[stageId];
    if (!stage || shards === undefined || shard >= shards) {
      throw new UnknownShardError(`pipeline "${name}" has no shard ${shard} of a stage "${stageId}"`);
    }
    const layout = current.scope.shard(stageId, shard);
    return {
      client,
      pipeline,
      stage,
      shard,
      current,
      layout,
      files,
      blobs,
      writes: this.writesOf(pipeline),
      clock,
      log,
      // Records of a source cost less than elements that wait in an inbox.
      limits: stage.splitting ? { ...limits, maxUnits: limits.maxUnits * RECORDS_PER_UNIT } : limits,
      deadlineMs,
      reads: this.reads,
      openReads: this.openReads,
    };
  }

  private writesOf(pipeline: CompiledPipeline): ZnodeWrites {
    const known = this.writes.get(pipeline.name);
    if (known) return known;
    const watched = pipeline.sources
      .filter(({ kind }) => kind === "znode-changes")
      .map(({ config }) => config as ZnodeSource);
    const isWatched = (path: string): boolean =>
      watched.some(
        (source) => !source.allowFeedback && source.ensemble === undefined && matchesSource(source, path),
      );
    const writes = new ZnodeWrites(this.options.client, { root: this.options.root, isWatched });
    this.writes.set(pipeline.name, writes);
    return writes;
  }

  /**
   * Where the last commit is our own, its files are published; else another invocation may have left some. The
   * head is read before the entries: what was committed up to then is either among the entries or published.
   */
  private async tidyOutputs(context: ShardContext): Promise<void> {
    const { client, files, current, shard } = context;
    const owner = { stage: context.stage.id, shard };
    const { head } = await readHead(context);
    const warm = this.warm.get(context.layout.head);
    if (warm && warm.commitId === head.ids[0]) return;
    const tokens = await publishLeftOver(client, files, current.scope, scopeChecks(current), owner);
    await finalizeBundle(context, tokens);
    await removeAbandoned(files, current.scope, owner, head.number);
    await removeGarbage(context, head);
  }

  private input(context: ShardContext, graph: WatermarkGraph): Promise<ShardInput> {
    const { client, current, stage, shard } = context;
    return reading(client, () => readShardInput(client, current.scope, graph, stage.id, shard));
  }

  /**
   * The shard as of this head; undefined where another commit came while it was read. What is kept is lent to one
   * bundle at a time, since that changes it: who commits gives it back.
   */
  private async load(context: ShardContext, current: ReadHead): Promise<WarmShard | undefined> {
    const { client, blobs, layout, pipeline, stage } = context;
    const { head } = current;
    const warm = this.warm.get(layout.head);
    this.warm.delete(layout.head);
    if (warm && warm.commitId === head.ids[0]) return warm;
    warm?.spool.close();
    const spool = new FolderSpool();
    const loader = pipeline.loadShard(stage.id, spool);
    const take = (cell: StateCell): void => loader.add(cell.id, valueBytes(cell));
    const limits = { ...STATE_LIMITS, inlineBytes: context.limits.segmentSizeBytes };
    const stored = await loadState(client, blobs, layout, current, take, limits);
    if (stored === undefined) {
      spool.close();
      return undefined;
    }
    await collectBlobs(client, blobs, layout.head, head.number, stored.blobs.values(), referrersOf(context));
    const { shared } = head.state;
    const shard = loader.open(shared === null ? undefined : Buffer.from(shared, "base64"));
    return { commitId: head.ids[0], shard, stored, spool };
  }
}

/**
 * Where the shard's commits put references to blobs, beside its state: its dead letters, its own inbox, where a replay
 * and a rescaling put them, and the inboxes that the stage's segments go to.
 */
function referrersOf({ stage, layout, current }: ShardContext): BlobReferrers[] {
  const downstream = stage.downstream.flatMap((id) =>
    Array.from({ length: current.generation.shards[id] ?? 0 }, (_, shard) => current.scope.shard(id, shard)),
  );
  return [
    { path: layout.deadLetters, recordIn: (data, path) => decodeDeadLetter(data, path).segment },
    { path: layout.inbox },
    ...downstream.map(({ inbox }) => ({ path: inbox })),
  ];
}

async function readHead({ client, layout, stage, shard }: ShardContext): Promise<ReadHead> {
  try {
    return await readHeadOf(client, layout);
  } catch (error) {
    if (error instanceof NoNodeError)
      throw new UnknownShardError(`the head of shard ${shard} of "${stage.id}" is gone: ${layout.head}`);
    throw error;
  }
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

/** Whether nothing was committed, and the same shard is to try again. */
function isUndone(
  outcome: BundleOutcome | TryAgain,
): outcome is Exclude<BundleOutcome | TryAgain, { kind: "committed" | "rejected" }> {
  return outcome.kind === "too-large" || outcome.kind === "again" || outcome.kind === "outdated";
}

function shardName({ stage, shard }: { readonly stage: string; readonly shard: number }): string {
  return `${stage}/${shard}`;
}

function toAnswer(
  outcome: ShardAnswer["outcome"],
  progress: Progress,
  head: Head,
  input: ShardInput,
): ShardAnswer {
  return {
    outcome,
    commits: progress.commits,
    commitNumber: head.number,
    writes: progress.writes,
    backlog: input.segments.length,
    fed: [...progress.fed.values()].map((fed) => ({ ...fed, zxid: fed.zxid.toString(16) })),
    listedZxid: input.listedZxid.toString(16),
    inputWatermarkMs: toJsonTime(input.inputWatermarkMs),
    holdMs: toJsonTime(head.holdMs),
    nextTimerMs: toJsonTime(head.nextTimerMs),
    nextProcessingTimerMs: toJsonTime(head.nextProcessingTimerMs),
  };
}

function stoppedAnswer(client: ZooKeeperClient): ShardAnswer {
  return {
    outcome: "stopped",
    commits: 0,
    commitNumber: -1,
    writes: 0,
    backlog: 0,
    fed: [],
    listedZxid: client.lastZxid.toString(16),
    inputWatermarkMs: "-inf",
    holdMs: "+inf",
    nextTimerMs: "+inf",
    nextProcessingTimerMs: "+inf",
  };
}
