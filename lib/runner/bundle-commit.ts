import type { BundleResult, StageShard } from "../beam/api";
import { CommitBlobs } from "../checkpoint/blobs";
import {
  CommitLostError,
  type CommitOutcome,
  operationsBytes,
  reading,
  sendFenced,
} from "../checkpoint/commit";
import { type DeadLetter, deadLetterOps } from "../checkpoint/dead-letter";
import { keyGroupOf, type SegmentName } from "../checkpoint/layout";
import { decodeHead, encodeHead, type Head, nextCommit } from "../checkpoint/records";
import { scopeChecks } from "../checkpoint/scope";
import type { StatePlan, StoredState } from "../checkpoint/state";
import { type ReadHead, runReader } from "../checkpoint/stored-state";
import { countedBy, sumOfMetrics, type UserMetrics } from "../checkpoint/user-metrics";
import { MultiError, NoNodeError, type Op } from "../zookeeper";
import { BundleFailedError, CommitTooLargeError, RefusedWriteError } from "./bundle-failure";
import type { Consumption } from "./consumption";
import { type DownstreamSegments, downstreamSegments } from "./downstream";
import { stillFailing } from "./failures";
import { finalizeBundle, keptTokens } from "./finalization";
import type { ShardContext } from "./shard-context";
import { type PendingFiles, publishFiles, writeFiles } from "./text-files";
import type { LoadedShard } from "./warm-shards";
import { ForbiddenWriteError, isStalePlan, ZnodeConflictError } from "./znode-writes";

/** Computed from a znode that was written meanwhile. Nothing was committed; it has to be run again with what is there now. */
export interface OutdatedBundle {
  readonly kind: "outdated";
  readonly path: string;
  readonly units: number;
}

/** What became of a bundle. `too-large`: nothing was committed, and `units` has to be less. */
export type BundleOutcome =
  | {
      readonly kind: "committed";
      readonly commitId: string;
      readonly zxid: bigint;
      readonly overtaken: boolean;
      /** False where the generation moved on before its files had their names and its finalisers had been called. */
      readonly isTidy: boolean;
      readonly shard: StageShard;
      readonly stored: StoredState;
      /** The head as this commit left it; only where nobody has overtaken it. */
      readonly current: ReadHead;
      /** What was listed and is not consumed whole. */
      readonly left: readonly SegmentName[];
      readonly fed: readonly { readonly stage: string; readonly shard: number; readonly segments: number }[];
      /** What user code counted in it; undefined where it counted nothing. */
      readonly metrics: UserMetrics | undefined;
      readonly counters: BundleResult["counters"];
      /** Writes to ZooKeeper, about: parents of the user's znodes are not counted. */
      readonly writes: number;
    }
  | { readonly kind: "rejected"; readonly cause: Error }
  | { readonly kind: "too-large"; readonly units: number }
  | OutdatedBundle;

/** A bundle that has been run, on its way to the commit. */
export interface Work {
  readonly current: ReadHead;
  readonly loaded: LoadedShard;
  readonly consumed: Consumption;
  readonly left: readonly SegmentName[];
  readonly result: BundleResult;
  readonly watermarkMs: number;
  /** Elements and timers in it, at most `limit`. */
  readonly units: number;
  readonly limit: number;
  /** What was listed is consumed, and the watermark has moved on. */
  readonly isTurnOver: boolean;
  /** Nothing that was due is left. */
  readonly isAll: boolean;
  readonly isAsync: boolean;
  readonly letters: readonly DeadLetter[];
}

/** What the next bundle begins with if this commit takes effect, told when it is sent. */
export interface SentCommit {
  readonly head: Head;
  readonly version: number;
  readonly loaded: LoadedShard;
  readonly left: readonly SegmentName[];
  readonly writes: number;
  readonly hasFed: boolean;
  readonly isAsync: boolean;
  /** To be called by whoever goes on with the state before it is known that the commit has succeeded. */
  takeState(): void;
}

// Re-planning against a znode that someone else keeps changing has to end some time; the relay tries again later.
const MAX_PLANS = 8;

/** A commit that only has to be sent: its blobs and temporary files are written, and nothing refers to them yet. */
export class PreparedCommit {
  private isStateTaken = false;

  private constructor(
    private readonly context: ShardContext,
    private readonly work: Work,
    private readonly commitId: string,
    private readonly head: Head,
    private readonly own: readonly Op[],
    private readonly state: StatePlan,
    private readonly segments: DownstreamSegments,
    private readonly written: CommitBlobs,
    private readonly pending: PendingFiles,
    private readonly tokens: ReturnType<typeof keptTokens>,
  ) {}

  /** Undefined where another commit has merged a part of the state that this one was to merge. */
  static async of(context: ShardContext, work: Work): Promise<PreparedCommit | undefined> {
    const { clock, current: generation, files, layout, stage, shard } = context;
    const { current, consumed, result, letters } = work;
    const commitId = clock.uniqueId();
    const written = new CommitBlobs(context.blobs, layout.head, current.head.number + 1, commitId);
    const segments = await downstreamSegments(context, result, written);
    const state = await planState(context, work, operationsBytes(segments.ops));
    if (state === undefined) return undefined;
    const stateOps = await written.keep(state.ops, context.limits.segmentSizeBytes);
    const head = nextHead(work, commitId, state);
    const own: Op[] = [
      ...scopeChecks(generation),
      { type: "setData", path: layout.head, data: encodeHead(head), version: current.version },
      ...stateOps,
      ...consumed.whole.map(({ name }): Op => ({ type: "delete", path: `${layout.inbox}/${name}` })),
      ...segments.ops,
      ...(await deadLetterOps(layout, head.number, letters, written, context.limits.segmentSizeBytes)),
    ];
    const texts = result.effects.filter(({ sink }) => sink === "text-files");
    const commitName = { stage: stage.id, shard, number: head.number, id: commitId };
    const pending = await writeFiles(files, generation.scope, commitName, texts, generation.run);
    const tokens = keptTokens(generation.scope, commitName, result.finalizations);
    own.push(...pending.ops, ...tokens.ops);
    return new PreparedCommit(context, work, commitId, head, own, state, segments, written, pending, tokens);
  }

  /**
   * Sends the multi, and does what comes after it.
   *
   * @param onSent called once, as soon as the multi is on its way.
   */
  async send(onSent: (sent: SentCommit) => void): Promise<BundleOutcome> {
    const { context, work, commitId, head, own, pending, tokens, segments } = this;
    const { client, files, current: generation } = context;
    const { result } = work;
    const outcome = await commitPlanned(context, commitId, own, work, () => onSent(this.sent())).catch(
      async (error: unknown) => {
        if (isUncommitted(error)) await this.discard();
        throw error;
      },
    );
    // Files and blobs of a rejected commit are left to a later invocation, which first looks at what was committed.
    if (outcome.kind === "too-large" || outcome.kind === "outdated") await this.discard();
    if (outcome.kind !== "committed") return outcome;
    this.takeState();
    await removeGarbage(context, head);
    const checks = scopeChecks(generation);
    const isTidy =
      (await publishFiles(client, files, generation.scope, checks, pending.entries)) &&
      (await finalizeBundle(context, tokens.entries));
    return {
      kind: "committed",
      commitId,
      zxid: outcome.zxid,
      overtaken: outcome.overtaken,
      isTidy,
      shard: result.shard,
      stored: work.loaded.stored,
      current: { head, version: outcome.version, zxid: outcome.zxid },
      left: work.left,
      fed: segments.fed,
      metrics: countedBy(result.metrics),
      counters: result.counters,
      writes: this.writes,
    };
  }

  /** Removes what was written for it. To be called only when it is sure that it was not, and will not be, committed. */
  async discard(): Promise<void> {
    for (const { name } of this.pending.entries) await this.context.files.removeTemporary(name);
    await this.written.discard();
  }

  private get writes(): number {
    const { own, work, pending, tokens } = this;
    return own.length - 1 + work.result.effects.length + pending.entries.length + tokens.entries.length;
  }

  private sent(): SentCommit {
    const { head, work } = this;
    const { stored, spool, segments } = work.loaded;
    return {
      head,
      version: work.current.version + 1,
      loaded: { shard: work.result.shard, stored, spool, segments },
      left: work.left,
      writes: this.writes,
      hasFed: this.segments.fed.length > 0,
      isAsync: work.isAsync,
      takeState: () => this.takeState(),
    };
  }

  private takeState(): void {
    if (!this.isStateTaken) this.state.accept(this.written.byPath);
    this.isStateTaken = true;
  }
}

/** What the commit writes of the state; undefined where another commit has merged what was to be merged. */
async function planState(
  { client, limits, blobs }: ShardContext,
  { current: { head }, loaded: { stored }, result: { stateChanges, sharedState, isStateEmpty } }: Work,
  otherBytes: number,
): Promise<StatePlan | undefined> {
  const changes = stateChanges.map(({ keyHash, id, value }) => ({ group: keyGroupOf(keyHash), id, value }));
  const room = (limits.commitSizeBytes - otherBytes) / 2;
  try {
    return await stored.plan(
      head.number + 1,
      changes,
      sharedState,
      room,
      runReader(client, blobs),
      isStateEmpty,
    );
  } catch (error) {
    if (error instanceof NoNodeError) return undefined;
    throw error;
  }
}

/** Plans the user's writes and sends; plans again while the user's znodes change under it. */
async function commitPlanned(
  context: ShardContext,
  commitId: string,
  own: readonly Op[],
  { result, units, limit }: Work,
  onSent: () => void,
): Promise<
  Exclude<CommitOutcome, { kind: "conflict" }> | { kind: "too-large"; units: number } | OutdatedBundle
> {
  const { client, layout, limits } = context;
  const znodes = result.effects.filter(({ sink }) => sink === "znodes");
  const checks = result.znodeChecks.map((check): Op => ({ type: "check", ...check }));
  for (let plans = 0; plans < MAX_PLANS; plans++) {
    const writes = await planWrites(context, own, znodes);
    if (!Array.isArray(writes)) return writes;
    // Checked first, so before what the bundle itself may write to the same znodes.
    const user = [...checks, ...writes];
    const bytes = operationsBytes(own) + operationsBytes(user);
    if (bytes > limits.commitSizeBytes) {
      if (limit > 1) return { kind: "too-large", units };
      throw tooLarge(context, own, user, bytes);
    }
    try {
      const fence = { path: layout.head, decode: decodeHead };
      const sending = sendFenced(client, { commitId, fence, own, user });
      if (plans === 0) onSent();
      const outcome = await sending;
      if (outcome.kind !== "conflict") return outcome;
      const outdated = checks[outcome.index];
      if (outdated) return { kind: "outdated", path: outdated.path, units };
      if (!isStalePlan(outcome.cause.cause))
        throw new RefusedWriteError(context.stage.id, user[outcome.index]!.path, outcome.cause);
      context.writes.forget();
    } catch (error) {
      if (error instanceof CommitLostError && limit > 1) return { kind: "too-large", units };
      throw error;
    }
  }
  throw new ZnodeConflictError(
    layout.head,
    context.stage.id,
    `could not commit: the znodes it writes changed ${MAX_PLANS} times in a row`,
  );
}

/** The user's operations; rejected where what they conflict with is another invocation's commit of the same elements. */
async function planWrites(
  { client, layout, writes }: ShardContext,
  own: readonly Op[],
  effects: BundleResult["effects"],
): Promise<Op[] | { readonly kind: "rejected"; readonly cause: Error }> {
  try {
    return await writes.plan(effects);
  } catch (error) {
    if (!(error instanceof ZnodeConflictError)) throw error;
    const head = await reading(client, () => client.exists(layout.head));
    const isCurrent = own.some(
      (op) => op.type === "setData" && op.path === layout.head && op.version === head?.version,
    );
    if (isCurrent) throw error;
    return { kind: "rejected", cause: error };
  }
}

function tooLarge(
  { layout, stage, shard, limits }: ShardContext,
  own: readonly Op[],
  user: readonly Op[],
  bytes: number,
): CommitTooLargeError {
  const stateBytes = operationsBytes(own.filter((op) => op.path.startsWith(`${layout.state}/`)));
  return new CommitTooLargeError(
    `shard ${shard} of stage "${stage.id}" (${layout.head}): a commit of a single element or timer takes ${bytes} bytes, the limit is ` +
      `${limits.commitSizeBytes} (state ${stateBytes}, znode writes ${operationsBytes(user)}). Nothing was consumed. Use more shards or ` +
      "smaller windows and values, or raise BEAMKEEPER_COMMIT_SIZE_BYTES, below the servers' jute.maxbuffer.",
  );
}

function nextHead(
  { current: { head }, watermarkMs, consumed, result, units, isTurnOver, isAll, letters }: Work,
  commitId: string,
  state: StatePlan,
): Head {
  const { counters } = result;
  const counted = countedBy(result.metrics);
  const { number, ids } = nextCommit(head, commitId);
  return {
    number,
    ids,
    watermarkMs: Math.max(head.watermarkMs, watermarkMs),
    holdMs: result.holdMs,
    nextTimerMs: result.nextTimerMs,
    nextProcessingTimerMs: result.nextProcessingTimerMs,
    position: consumed.position,
    inherited: isTurnOver ? head.inherited.slice(1) : head.inherited,
    state: state.summary,
    garbage: [...state.garbage, ...consumed.blobs],
    failing: isAll ? null : stillFailing(head.failing, units),
    counters: {
      elementsIn: head.counters.elementsIn + counters.elementsIn,
      elementsOut: head.counters.elementsOut + counters.elementsOut,
      droppedLate: head.counters.droppedLate + counters.droppedLate,
      failures: head.counters.failures,
      deadLettered: head.counters.deadLettered + letters.length,
      totalBytes: head.counters.totalBytes + (consumed.totalBytes ?? 0),
      readBytes: head.counters.readBytes + (consumed.readBytes ?? 0),
    },
    metrics: counted ? sumOfMetrics([head.metrics, counted]) : head.metrics,
  };
}

/** Whether the error says for sure that nothing was committed; a lost connection does not. */
function isUncommitted(error: unknown): boolean {
  return (
    error instanceof BundleFailedError ||
    error instanceof RefusedWriteError ||
    error instanceof CommitTooLargeError ||
    error instanceof CommitLostError ||
    error instanceof ZnodeConflictError ||
    error instanceof ForbiddenWriteError ||
    error instanceof MultiError
  );
}

/** Deletes the blobs that the commit of this head needed no longer. What is left undone the next invocation does. */
export async function removeGarbage({ blobs }: Pick<ShardContext, "blobs">, head: Head): Promise<void> {
  for (const name of head.garbage) await blobs.delete(name);
}
