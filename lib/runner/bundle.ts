import type { SetAsidePane, TentativeBundle } from "../beam/api";
import type { DeadLetter } from "../checkpoint/dead-letter";
import type { Head } from "../checkpoint/records";
import type { ReadHead } from "../checkpoint/stored-state";
import type { ShardInput } from "../checkpoint/watermark";
import { type BundleOutcome, PreparedCommit, type SentCommit, type Work } from "./bundle-commit";
import { type AsideElement, type BundleAside, BundleTrace, NOTHING_ASIDE } from "./bundle-failure";
import { consume, feedingTime } from "./consumption";
import { consumeReads } from "./reading";
import type { ShardContext } from "./shard-context";
import type { LoadedShard } from "./warm-shards";

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
}

/** Makes dead letters of what a bundle kept out. */
export type WriteLetters = (aside: {
  readonly element: AsideElement | undefined;
  readonly panes: readonly SetAsidePane[];
}) => readonly DeadLetter[];

const TIMERS_AT_ONCE = 64;
const GONE: BundleOutcome = {
  kind: "rejected",
  cause: new Error("another invocation has consumed a segment, or merged a part of the state"),
};

/** A bundle that has been run, and whose commit only has to be sent. */
export class PreparedBundle {
  constructor(
    private readonly bundle: TentativeBundle,
    private readonly trace: BundleTrace,
    private readonly commit: PreparedCommit,
  ) {}

  /** Commits it, once. Rejects as {@link runBundle} does. */
  async send(onSent: (sent: SentCommit) => void): Promise<BundleOutcome> {
    try {
      return await this.commit.send(onSent);
    } catch (error) {
      throw this.trace.failedCommit(error);
    } finally {
      this.bundle.dispose();
    }
  }

  /** Gives up one that was never sent. */
  async discard(): Promise<void> {
    this.bundle.dispose();
    await this.commit.discard();
  }
}

/**
 * Runs one bundle of at most `limit` elements and timers, with dead letters of what `aside` keeps out, up to its commit.
 * Undefined where another invocation has consumed or merged what it needs.
 * Rejects with {@link BundleFailedError} where it lies in the bundle, with an EncodingError, or the client's error.
 */
export async function prepareBundle(
  context: ShardContext,
  current: ReadHead,
  work: BundleInput,
  limit: number,
  aside: BundleAside = NOTHING_ASIDE,
  writeLetters: WriteLetters = () => [],
): Promise<PreparedBundle | undefined> {
  const trace = new BundleTrace();
  const nowMs = context.clock.now();
  const bundle = trace.begin(() =>
    work.loaded.shard.beginBundle(current.head.watermarkMs, nowMs, aside.panes, context.clock),
  );
  let prepared: PreparedBundle | undefined;
  try {
    const begun = { bundle, trace, nowMs };
    const filled = await fillBundle(context, begun, current, work, limit, aside, writeLetters);
    const commit = filled && (await PreparedCommit.of(context, filled));
    prepared = commit && new PreparedBundle(bundle, trace, commit);
    return prepared;
  } catch (error) {
    throw trace.failedCommit(error);
  } finally {
    if (prepared === undefined) bundle.dispose();
  }
}

/** Runs a bundle as {@link prepareBundle} does, and commits it. */
export async function runBundle(...bundle: Parameters<typeof prepareBundle>): Promise<BundleOutcome> {
  return sendBundle(await prepareBundle(...bundle));
}

/** @param onSent called once, as soon as the commit is on its way. */
export async function sendBundle(
  prepared: PreparedBundle | undefined,
  onSent: (sent: SentCommit) => void = () => undefined,
): Promise<BundleOutcome> {
  return prepared === undefined ? GONE : prepared.send(onSent);
}

async function fillBundle(
  context: ShardContext,
  { bundle, trace, nowMs }: { bundle: TentativeBundle; trace: BundleTrace; nowMs: number },
  current: ReadHead,
  { loaded, input, watermarkMs }: BundleInput,
  limit: number,
  aside: BundleAside,
  writeLetters: WriteLetters,
): Promise<Work | undefined> {
  const { segments } = loaded;
  const take = context.stage.splitting ? consumeReads : consume;
  const consumed = await take(context, bundle, trace, current.head, input.segments, segments, limit, aside);
  if (consumed === undefined) return undefined;
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
  return {
    current,
    loaded,
    consumed,
    left,
    result,
    limit,
    letters,
    watermarkMs: timers > 0 ? watermarkMs : current.head.watermarkMs,
    units: timers > 0 ? limit : consumed.elements,
    // Reads without an end may fill every bundle, and know of no watermark.
    isTurnOver: all && (timers > 0 || bundle.reads !== undefined),
    isAll: timers > 0 && !isMoreDue && !consumed.isMoreDue,
    isAsync: bundle.isAsync,
  };
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
