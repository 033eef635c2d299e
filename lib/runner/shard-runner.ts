import type { CompiledPipeline } from "../beam/api";
import type { InputFiles, ReadContext } from "../beam/splittable";
import type { BlobStore } from "../checkpoint/blobs";
import { reading } from "../checkpoint/commit";
import type { FileStore } from "../checkpoint/files";
import type { AnnouncedCommit, ShardAnswer, ShardReply, ShardRequest } from "../checkpoint/invocation";
import { PipelineLayout } from "../checkpoint/layout";
import { admitsCommits, type Head } from "../checkpoint/records";
import { readRunScope } from "../checkpoint/run";
import {
  type CurrentGeneration,
  PipelineMismatchError,
  readGeneration,
  scopeChecks,
} from "../checkpoint/scope";
import { matchesSource, type ZnodeSource } from "../checkpoint/znode-source";
import type { Clock } from "../clock";
import { LocalFiles } from "../io/local-files";
import type { Log } from "../log";
import type { ZooKeeperClient } from "../zookeeper";
import type { BundleLimits } from "./bundle";
import { removeGarbage } from "./bundle-commit";
import { finalizeBundle } from "./finalization";
import { FollowedZnodes } from "./followed-znodes";
import { OpenReads } from "./open-reads";
import { RECORDS_PER_UNIT } from "./reading";
import { readHead, type ShardContext, shardName, UnknownShardError } from "./shard-context";
import { type Look, lookAtShard, ShardLoop } from "./shard-loop";
import { publishLeftOver, removeAbandoned } from "./text-files";
import { WarmShards } from "./warm-shards";
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

/** A shard as an invocation finds it; without a look where nothing may be committed. */
interface OpenedShard {
  readonly context: ShardContext;
  readonly look: Look | undefined;
}

// How long an invocation goes on with shards that it has fed, and with how many at once: the relay calls more at a time.
const CHAIN_MS = 100;
const MAX_CHAINED = 4;
// A busy shard that has fed others answers after this long, so that they need not wait until it is idle; each time that
// it was not, after twice as long: those that it feeds have been called by then.
const REPLY_AFTER_MS = 20;
const REPLY_AT_LAST_AFTER_MS = 160;
// How soon an invocation looks again for the commit that it was called ahead of; each time twice as late, up to the last.
const FIRST_LOOK_MS = 1;
const LAST_LOOK_MS = 64;

/**
 * Runs bundles of one shard until its inbox is empty and no timer is due, or the deadline is near. It keeps the
 * state of shards between invocations; what it keeps is used only while the head's last commit id is its own.
 */
export class ShardRunner {
  private readonly warm = new WarmShards();
  private readonly writes = new Map<string, ZnodeWrites>();
  private readonly openReads = new OpenReads();
  private readonly reads: ReadContext;
  private readonly followed: FollowedZnodes;
  /** The generation of each pipeline as it was read last. */
  private readonly generations = new Map<string, CurrentGeneration>();
  /** After how long shards answer that were busy when they did so last, by head. */
  private readonly replyAfterMs = new Map<string, number>();

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
    const { context, look } = await this.openCaughtUp(request, deadlineMs);
    if (look === undefined) return stoppedAnswer(client);
    const { head } = look.current;
    // Where the last commit is our own, its files are published.
    if (!this.warm.has(context.layout, head)) await this.tidyOutputs(context, head);
    await context.pipeline.setUp(context.stage.id);
    try {
      const answer = await this.runBundles(context, look, request.writes);
      // Who committed meanwhile may have died since, and the next invocation takes the state in memory for its own.
      const isKept = answer.outcome === "idle" || answer.outcome === "more";
      const hasOthers = answer.commitNumber !== head.number + answer.commits;
      if (isKept && hasOthers) await this.tidyOutputs(context, (await readHead(context)).head);
      // A run comes once: what it leaves is kept by nobody.
      if (request.run !== undefined && answer.outcome === "idle") this.warm.forget(context.layout);
      return answer;
    } catch (error) {
      // A commit may have taken effect without our hearing of it, or without its files being published.
      this.warm.forget(context.layout);
      throw error;
    }
  }

  private async runBundles(
    context: ShardContext,
    look: Look,
    writes: number | undefined,
  ): Promise<ShardAnswer> {
    const { replyAfterMs } = this;
    const { head } = context.layout;
    const afterMs = replyAfterMs.get(head) ?? REPLY_AFTER_MS;
    replyAfterMs.delete(head);
    const answer = await new ShardLoop(context, this.warm, afterMs, writes).run(look);
    if (answer.outcome === "more") replyAfterMs.set(head, Math.min(2 * afterMs, REPLY_AT_LAST_AFTER_MS));
    return answer;
  }

  /** From a server that has seen the append which this invocation was called for. */
  private async openCaughtUp(request: ShardRequest, deadlineMs: number): Promise<OpenedShard> {
    const { client, root } = this.options;
    const opened = await this.openAndLook(request, deadlineMs);
    const seenZxid = opened.look?.input.listedZxid ?? client.lastZxid;
    if (seenZxid >= BigInt(`0x${request.zxid}`) && hasCommit(opened, request.announced)) return opened;
    await reading(client, () => client.sync(root));
    return this.awaitAnnounced(request, deadlineMs);
  }

  /**
   * The relay calls when it sends a commit, which has taken effect a moment later, or never: then the invocation was for
   * nothing. A sync is answered behind what the leader is about to decide, so mostly one look after it is enough.
   */
  private async awaitAnnounced(request: ShardRequest, deadlineMs: number): Promise<OpenedShard> {
    const { clock } = this.options;
    for (let waitMs = FIRST_LOOK_MS; ; waitMs *= 2) {
      const opened = await this.openAndLook(request, deadlineMs);
      const isTime = waitMs <= LAST_LOOK_MS && clock.now() + waitMs < deadlineMs;
      if (hasCommit(opened, request.announced) || !isTime) return opened;
      await clock.sleep(waitMs);
    }
  }

  /**
   * Opens the shard and looks at it. The reads of the shard are sent with that of the generation, on the assumption that
   * this is still what it was; where it is another one, they are done again.
   */
  private async openAndLook(request: ShardRequest, deadlineMs: number): Promise<OpenedShard> {
    const { client, root } = this.options;
    const { pipeline: name, stage, shard, run } = request;
    const pipeline = this.pipelineOf(name);
    const before = run === undefined ? this.generations.get(name) : undefined;
    const isThere = before !== undefined && shard < (before.generation.shards[stage] ?? 0);
    const asked = readGeneration(client, new PipelineLayout(root, name));
    const assumed = isThere ? this.lookAt(request, pipeline, before, deadlineMs) : undefined;
    assumed?.look?.catch(() => undefined);
    const now = await asked;
    if (now) this.generations.set(name, now);
    const { context, look } =
      assumed && before && now && isSame(before, now)
        ? assumed
        : this.lookAt(request, pipeline, await this.scopeOf(request, now), deadlineMs);
    return { context, look: await look };
  }

  /** The look is undefined where nothing may be committed. */
  private lookAt(
    request: ShardRequest,
    pipeline: CompiledPipeline,
    current: CurrentGeneration,
    deadlineMs: number,
  ): { readonly context: ShardContext; readonly look: Promise<Look> | undefined } {
    const context = this.contextOf(request, pipeline, current, deadlineMs);
    return { context, look: admitsCommits(current.generation) ? lookAtShard(context) : undefined };
  }

  private async scopeOf(
    { pipeline: name, run }: ShardRequest,
    pipelineNow: CurrentGeneration | undefined,
  ): Promise<CurrentGeneration> {
    const { client, root } = this.options;
    if (!pipelineNow)
      throw new UnknownShardError(`${root} holds no pipeline "${name}"; start its relay first`);
    const current = run === undefined ? pipelineNow : await readRunScope(client, pipelineNow, run);
    if (!current) throw new UnknownShardError(`pipeline "${name}" has no run "${run}" any more`);
    return current;
  }

  private pipelineOf(name: string): CompiledPipeline {
    const { pipelines } = this.options;
    const pipeline = pipelines.get(name);
    if (pipeline) return pipeline;
    throw new UnknownShardError(
      `there is no pipeline "${name}" here; this function has ${[...pipelines.keys()].join(", ")}`,
    );
  }

  private contextOf(
    { pipeline: name, stage: stageId, shard }: ShardRequest,
    pipeline: CompiledPipeline,
    current: CurrentGeneration,
    deadlineMs: number,
  ): ShardContext {
    const { client, files, blobs, clock, log, limits } = this.options;
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
      followed: this.followed,
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
   * Does what another invocation may have left to do behind its commits. The head is read before the entries: what was
   * committed up to then is either among the entries or published.
   */
  private async tidyOutputs(context: ShardContext, head: Head): Promise<void> {
    const { client, files, current, shard } = context;
    const owner = { stage: context.stage.id, shard };
    const tokens = await publishLeftOver(client, files, current.scope, scopeChecks(current), owner);
    await finalizeBundle(context, tokens);
    await removeAbandoned(files, current.scope, owner, head.number);
    await removeGarbage(context, head);
  }
}

/** Whether there is nothing to wait for: the announced commit is there, or other work is. */
function hasCommit({ look }: OpenedShard, announced: AnnouncedCommit | undefined): boolean {
  if (look === undefined || announced === undefined || look.input.segments.length > 0) return true;
  const { source, number } = announced;
  return (look.input.sourceCommits.get(source) ?? Number.POSITIVE_INFINITY) >= number;
}

/** A pipeline that was deleted and begun again may have the same version. */
function isSame(one: CurrentGeneration, other: CurrentGeneration): boolean {
  return one.version === other.version && JSON.stringify(one.generation) === JSON.stringify(other.generation);
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
