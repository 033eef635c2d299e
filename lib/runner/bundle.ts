import type { BundleResult, SetAsidePane, StageShard, TentativeBundle } from "../beam/api";
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
import type { ShardInput } from "../checkpoint/watermark";
import { MultiError, NoNodeError, type Op } from "../zookeeper";
import {
  type AsideElement,
  type BundleAside,
  BundleFailedError,
  BundleTrace,
  CommitTooLargeError,
  NOTHING_ASIDE,
  RefusedWriteError,
} from "./bundle-failure";
import { type Consumption, consume, feedingTime } from "./consumption";
import { downstreamSegments } from "./downstream";
import { stillFailing } from "./failures";
import { finalizeBundle, keptTokens } from "./finalization";
import { consumeReads } from "./reading";
import type { SegmentReader } from "./segment-reader";
import type { LoadedShard, ShardContext } from "./shard-runner";
import { type PendingFiles, publishFiles, writeFiles } from "./text-files";
import { ForbiddenWriteError, isStalePlan, ZnodeConflictError } from "./znode-writes";

/** The sizes that bundles are cut to. */
export interface BundleLimits {
  /** Elements and timers in one bundle. */
  readonly maxUnits: number;
  /** Bytes of one commit's multi; below the servers' jute.maxbuffer. */
  readonly commitSizeBytes: number;
  /** Bytes of one inline segment. */
  readonly segmentSizeBytes: number;
}

/** What to run, and on what. */
export interface BundleInput {
  readonly loaded: LoadedShard;
  readonly input: ShardInput;
  readonly watermarkMs: number;
  readonly segments: SegmentReader;
}

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

/** A bundle on its way to the commit. */
interface Work {
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
  readonly letters: readonly DeadLetter[];
}

/** Makes dead letters of what a bundle kept out. */
export type WriteLetters = (aside: {
  readonly element: AsideElement | undefined;
  readonly panes: readonly SetAsidePane[];
}) => readonly DeadLetter[];

// Re-planning against a znode that someone else keeps changing has to end some time; the relay tries again later.
const MAX_PLANS = 8;
const TIMERS_AT_ONCE = 64;
const GONE: BundleOutcome = {
  kind: "rejected",
  cause: new Error("another invocation has consumed a segment, or merged a part of the state"),
};

/**
 * Runs one bundle of at most `limit` elements and timers and commits it, with dead letters of what `aside` keeps out.
 * Rejects with {@link BundleFailedError} where it lies in the bundle, with an EncodingError, or the client's error.
 */
export async function runBundle(
  context: ShardContext,
  current: ReadHead,
  work: BundleInput,
  limit: number,
  aside: BundleAside = NOTHING_ASIDE,
  writeLetters: WriteLetters = () => [],
): Promise<BundleOutcome> {
  const trace = new BundleTrace();
  const nowMs = context.clock.now();
  const bundle = trace.begin(() =>
    work.loaded.shard.beginBundle(current.head.watermarkMs, nowMs, aside.panes, context.clock),
  );
  try {
    return await fillBundle(context, { bundle, trace, nowMs }, current, work, limit, aside, writeLetters);
  } finally {
    bundle.dispose();
  }
}

async function fillBundle(
  context: ShardContext,
  { bundle, trace, nowMs }: { bundle: TentativeBundle; trace: BundleTrace; nowMs: number },
  current: ReadHead,
  { loaded, input, watermarkMs, segments }: BundleInput,
  limit: number,
  aside: BundleAside,
  writeLetters: WriteLetters,
): Promise<BundleOutcome> {
  const take = context.stage.splitting ? consumeReads : consume;
  const consumed = await take(context, bundle, trace, current.head, input.segments, segments, limit, aside);
  if (consumed === undefined) return GONE;
  const all = consumed.whole.length === input.segments.length;
  const timers = all ? limit - consumed.elements : 0;
  const fire = (most: number) => fireTimers(bundle, current.head, watermarkMs, nowMs, most);
  const isMoreDue =
    timers > 0 &&
    (bundle.isAsync
      ? await fireAsync(context, bundle, trace, timers, fire)
      : trace.guard(() => fire(timers)));
  if (bundle.isAsync) await trace.settle(() => bundle.drain());
  const result = trace.guard(() => bundle.finish());
  const left = input.segments.slice(consumed.whole.length);
  segments.readAhead(left, 0);
  const letters = writeLetters({ element: consumed.aside, panes: result.setAside });
  const work: Work = {
    ...{ current, loaded, consumed, left, result, limit, letters },
    watermarkMs: timers > 0 ? watermarkMs : current.head.watermarkMs,
    units: timers > 0 ? limit : consumed.elements,
    isTurnOver: timers > 0,
    isAll: timers > 0 && !isMoreDue,
  };
  return await commitBundle(context, work).catch((error: unknown) => {
    throw trace.failedCommit(error);
  });
}

/**
 * Event time first, then processing time when nothing more is due in event time; one kind only where one timer is
 * all. True while more is due.
 */
function fireTimers(
  bundle: TentativeBundle,
  head: Head,
  watermarkMs: number,
  nowMs: number,
  timers: number,
): boolean {
  if (bundle.advanceWatermark(watermarkMs, timers)) return true;
  if (timers === 1 && head.nextTimerMs <= watermarkMs) return true;
  return bundle.advanceProcessingTime(nowMs, timers);
}

/** A few timers at a time, so that calls keep up with what fires. True while more is due. */
async function fireAsync(
  context: ShardContext,
  bundle: TentativeBundle,
  trace: BundleTrace,
  timers: number,
  fire: (most: number) => boolean,
): Promise<boolean> {
  const isLate = feedingTime(context, bundle);
  for (let left = timers; left > 0; left -= TIMERS_AT_ONCE) {
    const most = Math.min(left, TIMERS_AT_ONCE);
    if (!trace.guard(() => fire(most))) return false;
    if (bundle.isBusy) await trace.settle(() => bundle.room());
    if (isLate()) return true;
  }
  return true;
}

async function commitBundle(context: ShardContext, work: Work): Promise<BundleOutcome> {
  const { client, clock, current: generation, files, layout, stage, shard } = context;
  const { current, consumed, result, letters } = work;
  const commitId = clock.uniqueId();
  const written = new CommitBlobs(context.blobs, layout.head, current.head.number + 1, commitId);
  const segments = await downstreamSegments(context, result, written);
  const state = await planState(context, work, operationsBytes(segments.ops));
  if (state === undefined) return GONE;
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
  const outcome = await commitPlanned(context, commitId, own, work).catch(async (error: unknown) => {
    if (isUncommitted(error)) await discard(context, pending, written);
    throw error;
  });
  // Files and blobs of a rejected commit are left to a later invocation, which first looks at what was committed.
  if (outcome.kind === "too-large" || outcome.kind === "outdated") await discard(context, pending, written);
  if (outcome.kind !== "committed") return outcome;
  state.accept(written.byPath);
  await removeGarbage(context, head);
  await publishFiles(client, files, generation.scope, scopeChecks(generation), pending.entries);
  await finalizeBundle(context, tokens.entries);
  return {
    kind: "committed",
    commitId,
    zxid: outcome.zxid,
    overtaken: outcome.overtaken,
    shard: result.shard,
    stored: work.loaded.stored,
    current: { head, version: outcome.version, zxid: outcome.zxid },
    left: work.left,
    fed: segments.fed,
    metrics: countedBy(result.metrics),
    counters: result.counters,
    writes: own.length - 1 + result.effects.length + pending.entries.length + tokens.entries.length,
  };
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
      const outcome = await sendFenced(client, {
        commitId,
        fence: { path: layout.head, decode: decodeHead },
        own,
        user,
      });
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
  return {
    ...nextCommit(head, commitId),
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

async function discard({ files }: ShardContext, pending: PendingFiles, blobs: CommitBlobs): Promise<void> {
  for (const { name } of pending.entries) await files.removeTemporary(name);
  await blobs.discard();
}

/** Deletes the blobs that the commit of this head needed no longer. What is left undone the next invocation does. */
export async function removeGarbage({ blobs }: Pick<ShardContext, "blobs">, head: Head): Promise<void> {
  for (const name of head.garbage) await blobs.delete(name);
}
