import type { CompiledPipeline, SetAsidePane } from "../beam/api";
import { UserCodeError } from "../beam/errors";
import { describeInboxElement } from "../beam/operators/set-aside";
import { reading } from "../checkpoint/commit";
import type { DeadLetter, KeptError } from "../checkpoint/dead-letter";
import { decodeEventRecord, type EventRecord, isEventRecord } from "../checkpoint/event-record";
import { encodeHead, type FailingBundle, type Head } from "../checkpoint/records";
import { scopeChecks } from "../checkpoint/scope";
import { encodeSegment } from "../checkpoint/segment";
import type { ReadHead } from "../checkpoint/stored-state";
import { decodeZnodeChange } from "../checkpoint/znode-change";
import { MultiError } from "../zookeeper";
import { type BundleInput, type PreparedBundle, prepareBundle, runBundle, sendBundle } from "./bundle";
import type { BundleOutcome, SentCommit } from "./bundle-commit";
import { type AsideElement, type BundleAside, BundleFailedError } from "./bundle-failure";
import { isUnboundedRead } from "./deployment";
import type { ShardContext } from "./shard-context";
import { ZnodeConflictError } from "./znode-writes";

/** What fails cannot be put aside, so the shard stands still before it until someone acts. Terminal. */
export class DeadLetterError extends Error {
  override readonly name = "DeadLetterError";
  readonly outcome = "terminal";
}

/** Nothing was committed; the next bundle is to have at most `limit` elements and timers. */
export interface TryAgain {
  readonly kind: "again";
  readonly limit: number;
}

/**
 * Runs a bundle of at most `limit` units and commits it, unless user code fails. A failure is noted in the head and
 * thrown, so that the relay comes again after a pause, until the policy's attempts or time are used up. From then on
 * the failing units are run in smaller and smaller bundles: what comes before the fault is committed in its place,
 * and what fails alone goes to dead-letter in a commit of its own. Being noted in the head, all that goes on where it
 * stood when the process dies.
 * Rejects with the user's error, {@link DeadLetterError}, an EncodingError, or the client's error.
 *
 * @param ahead the same bundle where it has been run already.
 * @param onSent called once, as soon as the commit is on its way.
 */
export async function attemptBundle(
  context: ShardContext,
  current: ReadHead,
  work: BundleInput,
  limit: number,
  ahead?: PreparedBundle,
  onSent?: (sent: SentCommit) => void,
): Promise<BundleOutcome | TryAgain> {
  const { failing } = current.head;
  const isSearching = failing?.isExhausted ?? false;
  const most = isSearching ? Math.min(limit, failing!.units) : limit;
  try {
    return await sendBundle(ahead ?? (await prepareBundle(context, current, work, most)), onSent);
  } catch (error) {
    if (!(error instanceof BundleFailedError)) throw error;
    if (!isSearching) return noteFailure(context, current, error, most);
    if (most > 1) return { kind: "again", limit: smaller(error, most) };
    return isolate(context, current, work, error);
  }
}

/** What is left of a failing bundle after a commit of so many units of it. */
export function stillFailing(failing: FailingBundle | null, units: number): FailingBundle | null {
  if (!failing?.isExhausted || failing.units <= units) return null;
  return { ...failing, units: failing.units - units };
}

/** What comes before the element or pane that failed, or half of what failed as a whole; always less than the limit. */
function smaller({ element, units, panes }: BundleFailedError, limit: number): number {
  const most = Math.min(units, limit);
  return Math.max(1, element ?? (panes.failed === undefined ? Math.floor(most / 2) : most - 1));
}

/**
 * One multi: check(generation), setData(head) with its version. It only counts, so it is sent once: a reply that is
 * lost may cost or save an attempt. Returns where the search is to begin; throws what user code threw otherwise.
 */
async function noteFailure(
  context: ShardContext,
  { head, version }: ReadHead,
  failure: BundleFailedError,
  limit: number,
): Promise<BundleOutcome | TryAgain> {
  const { client, layout, pipeline, clock, current } = context;
  const { maxAttempts, maxAgeMs } = pipeline.failures;
  const attempts = (head.failing?.attempts ?? 0) + 1;
  const sinceMs = head.failing?.sinceMs ?? clock.now();
  const isFinal = failure.cause instanceof ZnodeConflictError && failure.cause.onConflict === "dead-letter";
  const isExhausted =
    isFinal ||
    attempts >= maxAttempts ||
    clock.now() - sinceMs >= maxAgeMs ||
    (head.failing?.isExhausted ?? false);
  const failing: FailingBundle = { attempts, sinceMs, units: failure.units, isExhausted };
  const counters = { ...head.counters, failures: head.counters.failures + 1 };
  const data = encodeHead({ ...head, failing, counters });
  try {
    await client.multi([...scopeChecks(current), { type: "setData", path: layout.head, data, version }]);
  } catch (error) {
    if (error instanceof MultiError) return { kind: "rejected", cause: error };
  }
  if (isExhausted && !(head.failing?.isExhausted ?? false))
    return { kind: "again", limit: smaller(failure, limit) };
  throw failure.cause;
}

/** One element or timer that fails alone: it, or the panes that it brings about, go to dead-letter. */
async function isolate(
  context: ShardContext,
  current: ReadHead,
  work: BundleInput,
  first: BundleFailedError,
): Promise<BundleOutcome | TryAgain> {
  if (context.pipeline.failures.onExhausted === "stop") return noteFailure(context, current, first, 1);
  await requireRoom(context, first);
  const errors = new Map<number, Error>();
  let failure = first;
  // What is read without end waits in the state, and is no timer.
  const isElement = work.input.segments.length > 0 || isUnboundedRead(context.stage);
  const asides = waysToSetAside(first, isElement);
  for (let way = asides.next(); !way.done; way = asides.next(failure)) {
    if (failure.panes.failed !== undefined) errors.set(failure.panes.failed, failure.cause);
    const errorOf = (pane?: number): Error => errors.get(pane ?? -1) ?? failure.cause;
    try {
      const outcome = await runBundle(context, current, work, 1, way.value, (kept) =>
        lettersOf(context, current.head, kept, errorOf),
      );
      if (outcome.kind === "committed") report(context, current.head, failure.cause);
      return outcome;
    } catch (error) {
      if (!(error instanceof BundleFailedError)) throw error;
      failure = error;
    }
  }
  throw new DeadLetterError(
    `${context.layout.head}: what fails cannot be put aside: ${failure.cause.message} (It fails with: ${first.cause.message})`,
    { cause: first.cause },
  );
}

/**
 * What to keep out of the bundle, one way after the other, from the least on. Panes that fail when they are emitted
 * are known by that. What fails later, at the end of the bundle or in the commit, is found by leaving out one pane at
 * a time. Where there is no pane, it is the element.
 */
function* waysToSetAside(
  first: BundleFailedError,
  isElement: boolean,
): Generator<BundleAside, void, BundleFailedError> {
  let failure = first;
  const panes = new Set<number>();
  while (failure.panes.failed !== undefined && !panes.has(failure.panes.failed)) {
    panes.add(failure.panes.failed);
    failure = yield { element: false, panes: new Set(panes) };
  }
  const left = Array.from({ length: failure.panes.begun }, (_, pane) => pane).filter(
    (pane) => !panes.has(pane),
  );
  if (left.length > 1) for (const pane of left) yield { element: false, panes: new Set([...panes, pane]) };
  if (failure.panes.begun > 0 || !isElement) yield { element: false, panes: "all" };
  if (isElement) yield { element: true, panes: "all" };
}

async function requireRoom(
  { client, layout, pipeline }: ShardContext,
  { cause }: BundleFailedError,
): Promise<void> {
  const { maxDeadLetters } = pipeline.failures;
  const stat = await reading(client, () => client.exists(layout.deadLetters));
  if (stat && stat.numChildren < maxDeadLetters) return;
  throw new DeadLetterError(
    `${layout.deadLetters} holds ${stat?.numChildren ?? "no"} dead letters, the limit is ${maxDeadLetters} ` +
      `(failures.maxDeadLetters). The shard stands still until some are replayed or discarded. What fails now: ${cause.message}`,
    { cause },
  );
}

function report({ log, pipeline, stage, shard }: ShardContext, head: Head, error: Error): void {
  const place = { pipeline: pipeline.name, stage: stage.id, shard, commit: head.number + 1 };
  log("warn", "what failed alone went to dead-letter", { ...place, error });
}

function lettersOf(
  context: ShardContext,
  { failing }: Head,
  kept: { readonly element: AsideElement | undefined; readonly panes: readonly SetAsidePane[] },
  errorOf: (pane?: number) => Error,
): DeadLetter[] {
  const deadMs = context.clock.now();
  const times = { attempts: failing?.attempts ?? 1, firstFailedMs: failing?.sinceMs ?? deadMs, deadMs };
  const letters: DeadLetter[] = kept.panes.map(({ kind, number, position, text, bytes }) => ({
    ...{ kind, position, text, ...times },
    error: keptError(errorOf(number)),
    minTimestampMs: position.timestampMs,
    segment: encodeSegment([{ bytes, timestampMs: position.timestampMs }]).data,
  }));
  if (kept.element) {
    const { position, minTimestampMs, bytes } = kept.element;
    letters.push({
      ...describeElement(context, bytes),
      ...times,
      error: keptError(errorOf()),
      ...{ position, minTimestampMs },
      segment: encodeSegment([{ bytes, timestampMs: minTimestampMs }]).data,
    });
  }
  return letters;
}

function describeElement(
  { stage, pipeline }: ShardContext,
  bytes: Buffer,
): Pick<DeadLetter, "kind" | "text"> {
  const from = stage.upstream[0];
  // What was read of a restriction has the form of a pane, since it goes past the reading.
  if (stage.splitting) return { ...describeInboxElement(bytes), kind: "element" };
  if (from?.type !== "source") return describeInboxElement(bytes);
  if (isImpulse(pipeline, from.id)) return { kind: "element", text: "the impulse" };
  if (sourceKind(pipeline, from.id) === "run") return { kind: "element", text: "the start of the run" };
  try {
    if (isEventRecord(bytes)) return { kind: "element", text: eventText(decodeEventRecord(bytes).record) };
    const { path, kind, version, mzxid } = decodeZnodeChange(bytes).change;
    return { kind: "element", text: `${path} ${kind}, version ${version}, mzxid 0x${mzxid.toString(16)}` };
  } catch (error) {
    return {
      kind: "element",
      text: `${bytes.length} bytes that are no change of a znode: ${(error as Error).message}`,
    };
  }
}

const EVENT_TEXT_LENGTH = 200;

function eventText({ from, id, text }: EventRecord): string {
  return `${from} ${id}: ${text.length <= EVENT_TEXT_LENGTH ? text : `${text.slice(0, EVENT_TEXT_LENGTH)}…`}`;
}

function isImpulse(pipeline: CompiledPipeline, source: string): boolean {
  return sourceKind(pipeline, source) === "impulse";
}

export function sourceKind(pipeline: CompiledPipeline, source: string): string | undefined {
  return pipeline.sources.find(({ id }) => id === source)?.kind;
}

const MESSAGE_LENGTH = 2_000;
const STACK_LINES = 10;

/** The user's own error where there is one behind ours; text without a bound is cut. */
function keptError(error: Error): KeptError {
  const user = error instanceof UserCodeError && error.cause instanceof Error ? error.cause : error;
  const stack = (user.stack ?? "").split("\n").slice(0, STACK_LINES).join("\n");
  return { name: user.name, message: shortened(error.message), stack: shortened(stack) };
}

function shortened(text: string): string {
  return text.length <= MESSAGE_LENGTH ? text : `${text.slice(0, MESSAGE_LENGTH - 1)}…`;
}
