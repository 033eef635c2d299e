import { setMaxListeners } from "node:events";
import type { BlobStore } from "../checkpoint/blobs";
import { type DeployedCode, takeOver } from "../checkpoint/code";
import { completeDrain } from "../checkpoint/control";
import type { PlannedEventSource } from "../checkpoint/event-source";
import type { ShardInvoker, ShardReply } from "../checkpoint/invocation";
import { PipelineLayout } from "../checkpoint/layout";
import { admitsCommits, type GenerationState, type Upstream } from "../checkpoint/records";
import type { RelayReport } from "../checkpoint/relay-report";
import { type CurrentGeneration, openPipeline, readGeneration, type ScopePlan } from "../checkpoint/scope";
import { readRequest } from "../checkpoint/snapshot";
import type { SourceBatching, ZnodeSource } from "../checkpoint/znode-source";
import type { Clock } from "../clock";
import type { Log } from "../log";
import { NoNodeError, type ZooKeeperClient } from "../zookeeper";
import { Dispatcher } from "./dispatcher";
import { nextEpoch, RelayStoppedError } from "./errors";
import { EventSourceRelay } from "./event-source-relay";
import { generationAfter } from "./generation-after";
import { hearZnode } from "./heard-znode";
import { limitsOf } from "./limits";
import type { RelayMetrics } from "./metrics";
import { keepPresence } from "./presence";
import { hearReplays } from "./replays";
import { type RelayCommit, type RelayLimits, SourceRelay } from "./source-relay";
import { awaitTurn, type Elect, lossOf } from "./standby";
import { LAST_COMMIT, sweepRegularly } from "./sweep";
import { TokenBucket } from "./token-bucket";

/** The pipeline as the relay needs it: its graph and its sources, and nothing of the user's code. */
export interface RelayedPipeline {
  readonly name: string;
  readonly plan: ScopePlan;
  readonly stages: readonly { readonly id: string; readonly upstream: readonly Upstream[] }[];
  readonly sources: readonly {
    readonly id: string;
    readonly source: ZnodeSource;
    readonly batching?: SourceBatching;
    readonly consumers: readonly string[];
  }[];
  /** What the events function appends to. Default: none. */
  readonly eventSources?: readonly PlannedEventSource[];
}

export interface RelayOptions {
  readonly client: ZooKeeperClient;
  /** Clients of the other ensembles that sources are on, by name. */
  readonly ensembles?: ReadonlyMap<string, ZooKeeperClient>;
  /** Beamkeeper's root znode. */
  readonly root: string;
  readonly pipeline: RelayedPipeline;
  readonly invoke: ShardInvoker;
  /** The code that takes over from earlier versions; without it, bundles are invoked in no certain version. */
  readonly code?: DeployedCode;
  /** Where values go that are larger than a segment. */
  readonly blobs: BlobStore;
  readonly clock: Clock;
  readonly log: Log;
  readonly limits: RelayLimits;
  readonly maxInFlight: number;
  /** Segments in an inbox above which whoever feeds it waits (default 256). */
  readonly maxBacklog?: number;
  /** How often inboxes, timers and watermarks are swept, in ms (default 60,000). */
  readonly sweepIntervalMs?: number;
  /** Writes to ZooKeeper a second, of this relay and the functions together (default Infinity). */
  readonly writesPerSecond?: number;
  /** Gives up after this many failures of a shard in a row; Infinity for a relay that is always on. */
  readonly maxFailures: number;
  /** Stands for election, so that one relay is active and others stand by. Default: active at once. */
  readonly elect?: Elect;
  /** Ends when it is idle. Default: goes on for what may come. */
  readonly untilIdle?: IdleOptions;
  readonly metrics?: RelayMetrics | undefined;
  readonly onCommit?: (commit: RelayCommit) => void;
  readonly onReply?: (stage: string, shard: number, reply: ShardReply) => void;
}

/** When a relay has nothing to do. */
export interface IdleOptions {
  /** Nothing was under way for so many ms, */
  readonly lingerMs: number;
  /** and no timer is due within so many. */
  readonly aheadMs: number;
}

/**
 * Why the relay ended: the signal, the end of a bounded pipeline, because it is not the one to go on (`superseded`
 * where another relay does), because the
 * pipeline is paused (the next relay goes on once it is resumed), or because it was drained or cancelled.
 */
export interface RelayEnd {
  readonly reason: "signal" | "finished" | "stopped" | "superseded" | "paused" | "drained" | "cancelled";
  readonly message: string;
  /** The shards whose last invocation failed, with the reason; their work waits in their inboxes. */
  readonly failing: readonly string[];
}

/** The relay's share of the budget of writes; the functions have the rest, so that neither starves the other. */
const RELAY_SHARE = 0.25;
const FINISHED_POLL_MS = 50;
const SWEEP_INTERVAL_MS = 60_000;
const LAST_FINISHED_POLL_MS = 1_000;
/** How long the end waits for invocations under way, in ms; less than what is left of a function's time then. */
const SHUTDOWN_MS = 3_000;

/**
 * Watches the sources of one pipeline and calls the bundle function for what happens, until the signal aborts.
 * Creates the pipeline's znodes where it was never started.
 * Rejects with PipelineMismatchError, SourceError, ShardFailedError, EncodingError, or the client's error.
 */
export async function runRelay(options: RelayOptions, signal: AbortSignal): Promise<RelayEnd> {
  const { client, root, pipeline, clock, log } = options;
  const opened = await openPipeline(client, new PipelineLayout(root, pipeline.name), pipeline.plan);
  const current = await takeOver(client, opened, options.code);
  const { state } = current.generation;
  if (!admitsCommits(current.generation))
    return { reason: endFor(state), message: `the pipeline is ${state}`, failing: [] };
  const stop = new AbortController();
  // Everything of the relay listens to it, each source several times.
  setMaxListeners(0, stop.signal);
  const abort = (): void => stop.abort();
  signal.addEventListener("abort", abort, { once: true });
  if (signal.aborted) stop.abort();
  warnOfShards(options, current);
  const named = { version: current.generation.code?.version };
  const dispatcher = newDispatcher(options, current, named);
  const budget = new TokenBucket(clock, (options.writesPerSecond ?? Number.POSITIVE_INFINITY) * RELAY_SHARE);
  const heardCommits = new Map<string, number>();
  const sources = newSources(options, current, dispatcher, budget, heardCommits, named);
  const turn = await awaitTurn(options, current.layout.election, sources, stop.signal);
  if (!turn) return { reason: "signal", message: "", failing: [] };
  const changed = options.elect && (await changedMeanwhile(options, current));
  if (changed) {
    await turn.leave();
    return changed;
  }
  dispatcher.wakeAll(client.lastZxid);
  const work = sources.map(async ({ id, source }) => {
    await source.run(stop.signal);
    if (!source.hasEnded) return;
    heardCommits.set(id, LAST_COMMIT);
    endOfSource(dispatcher, id, client.lastZxid);
  });
  if (sources.length === 0) work.push(hearDrain(client, current, dispatcher, named, stop.signal));
  void untilIdle(options, dispatcher, stop.signal).then(abort);
  const company = accompany(options, current, dispatcher, heardCommits, sources, stop.signal);
  log("info", "the relay is active", {
    pipeline: pipeline.name,
    epoch: current.generation.epoch,
    sources: sources.length,
  });
  let stopped: RelayStoppedError | undefined;
  try {
    const finished = Promise.all(work).then(() => untilDrained(options, dispatcher, stop.signal));
    work.push(finished);
    await Promise.race([finished, dispatcher.failure, company.failure, lossOf(turn)]);
  } catch (error) {
    stopped = error instanceof RelayStoppedError ? error : await movedOn(error, options, current);
    if (!stopped) throw error;
    log(stopped.state === "drained" ? "info" : "warn", "the relay stops", {
      pipeline: pipeline.name,
      reason: stopped.message,
    });
  } finally {
    stop.abort();
    signal.removeEventListener("abort", abort);
    await Promise.allSettled(work);
    // Nothing is appended any more: the next relay need not wait for the invocations that are under way.
    await waitFor(turn.leave(), clock);
    await dispatcher.stop(SHUTDOWN_MS);
    await waitFor(company.presence, clock);
  }
  const failing = dispatcher.failures.map(
    ({ stage, shard, error }) => `shard ${shard} of stage "${stage}": ${error.message}`,
  );
  if (stopped?.isSuperseded) return { reason: "superseded", message: stopped.message, failing };
  if (stopped) return { reason: endFor(stopped.state), message: stopped.message, failing };
  return { reason: signal.aborted ? "signal" : "finished", message: "", failing };
}

/** Waits for what needs a server, as long as an end may take. */
async function waitFor(work: Promise<void>, clock: Clock): Promise<void> {
  const done = new AbortController();
  await Promise.race([work.finally(() => done.abort()), clock.sleep(SHUTDOWN_MS, done.signal)]);
}

/** A znode is gone because the pipeline was rescaled: its epoch was replaced and removed under this relay. */
async function movedOn(
  error: unknown,
  { client }: RelayOptions,
  { layout, generation: { epoch } }: CurrentGeneration,
): Promise<RelayStoppedError | undefined> {
  const now = error instanceof NoNodeError ? await readGeneration(client, layout) : undefined;
  if (!now || now.generation.epoch === epoch) return undefined;
  return nextEpoch(now.generation.epoch);
}

/** What ends a relay whose turn came when the pipeline was no longer what it had opened. */
async function changedMeanwhile(
  { client }: RelayOptions,
  { layout, generation: { epoch } }: CurrentGeneration,
): Promise<RelayEnd | undefined> {
  const now = await readGeneration(client, layout);
  if (!now) return { reason: "stopped", message: "the pipeline was deleted", failing: [] };
  const { state } = now.generation;
  if (!admitsCommits(now.generation))
    return { reason: endFor(state), message: `the pipeline is ${state}`, failing: [] };
  if (now.generation.epoch === epoch) return undefined;
  return { reason: "superseded", message: `the pipeline is in epoch ${now.generation.epoch}`, failing: [] };
}

/** The number of shards is the pipeline's, not the code's, once it has been started. */
function warnOfShards({ pipeline, log }: RelayOptions, { generation }: CurrentGeneration): void {
  const { shards } = generation;
  const wanted = Object.entries(pipeline.plan.shards).filter(([stage, count]) => shards[stage] !== count);
  if (wanted.length === 0) return;
  const remedy = `beamkeeper rescale ${pipeline.name} ${wanted.map(([stage, count]) => `${stage}=${count}`).join(" ")}`;
  const has = Object.fromEntries(wanted.map(([stage]) => [stage, shards[stage]]));
  log(
    "warn",
    "the definition has other numbers of shards than the pipeline; those of the pipeline are used",
    {
      pipeline: pipeline.name,
      has: JSON.stringify(has),
      remedy,
    },
  );
}

function endFor(state: GenerationState | undefined): RelayEnd["reason"] {
  return state === "paused" || state === "drained" || state === "cancelled" ? state : "stopped";
}

/** Nothing comes any more: every timer is due, and what the relay before this one appended last is looked after. */
function endOfSource(dispatcher: Dispatcher, source: string, zxid: bigint): void {
  dispatcher.published(source, Number.POSITIVE_INFINITY, zxid);
  dispatcher.wakeAll(zxid);
}

/**
 * What the sources of other pipelines hear of with their commits: resolves when the pipeline is drained, or when the
 * signal aborts. Rejects with RelayStoppedError where it goes on without this relay.
 */
async function hearDrain(
  client: ZooKeeperClient,
  opened: CurrentGeneration,
  dispatcher: Dispatcher,
  named: NamedVersion,
  signal: AbortSignal,
): Promise<void> {
  const heard = new AbortController();
  const end = (): void => heard.abort();
  signal.addEventListener("abort", end, { once: true });
  if (signal.aborted) end();
  await hearZnode(
    client,
    opened.layout.generation,
    async () => {
      const { generation } = await generationAfter(client, opened);
      named.version = generation.code?.version;
      if (generation.state !== "draining") return;
      // Reads without an end are to end now, whatever they wait for.
      dispatcher.wakeAll(client.lastZxid);
      end();
    },
    heard.signal,
  );
}

/**
 * While the pipeline is draining: waits until all that was read is finished, and writes that it is drained. Rejects
 * with RelayStoppedError once it is, or when the pipeline was stopped in another way.
 */
async function untilDrained(
  options: RelayOptions,
  dispatcher: Dispatcher,
  signal: AbortSignal,
): Promise<void> {
  const { client, root, pipeline, clock } = options;
  const layout = new PipelineLayout(root, pipeline.name);
  for (let waitMs = FINISHED_POLL_MS; !signal.aborted; ) {
    const { state } = await completeDrain(client, layout);
    if (state === "running") return;
    if (state !== "draining") throw new RelayStoppedError(`the pipeline is ${state}`, state);
    await clock.sleep(waitMs, signal);
    waitMs = dispatcher.quiet ? Math.min(waitMs * 2, LAST_FINISHED_POLL_MS) : FINISHED_POLL_MS;
  }
}

/** What goes on beside the sources: hearing of replays and of snapshots that are asked for, sweeping, and telling people that this relay is there. */
function accompany(
  options: RelayOptions,
  current: CurrentGeneration,
  dispatcher: Dispatcher,
  heardCommits: ReadonlyMap<string, number>,
  sources: ReturnType<typeof newSources>,
  signal: AbortSignal,
): { readonly presence: Promise<void>; readonly failure: Promise<void> } {
  const { client, clock, log } = options;
  const startedMs = clock.now();
  let lostWork = 0;
  const report = (): RelayReport => ({
    startedMs,
    epoch: current.generation.epoch,
    lostWork,
    failing: dispatcher.failures.map(({ error, ...shard }) => ({ ...shard, error: error.message })),
  });
  const onLost = (): void => {
    lostWork += 1;
  };
  const intervalMs = options.sweepIntervalMs ?? SWEEP_INTERVAL_MS;
  const swept = sweepRegularly(
    { client, current, dispatcher, heardCommits, clock, log, intervalMs, onLost },
    signal,
  );
  const wake = (zxid: bigint): void => dispatcher.wakeAll(zxid);
  const replays = hearReplays(client, current.scope.replays, wake, signal);
  const snapshots = sources.map(async ({ id, source }) => {
    if (!(source instanceof SourceRelay)) return;
    const path = current.layout.snapshot(id);
    const ask = async (): Promise<void> => {
      const asked = await readRequest(client, path);
      if (asked) source.askForSnapshot(asked.request);
    };
    await hearZnode(client, path, ask, signal);
  });
  const failure = Promise.all([swept, replays, ...snapshots]).then(() => undefined);
  failure.catch(() => undefined);
  return { presence: keepPresence(client, current.layout, report, options, signal), failure };
}

/** The version of the bundle function that `generation` named when a source looked last. */
interface NamedVersion {
  version: string | undefined;
}

function newDispatcher(options: RelayOptions, current: CurrentGeneration, named: NamedVersion): Dispatcher {
  const { pipeline, code, clock, log, maxInFlight, maxFailures, metrics } = options;
  const call: ShardInvoker = (request) => options.invoke(request, code && named.version);
  const invoke: ShardInvoker = metrics ? (request) => metrics.invocation(() => call(request)) : call;
  return new Dispatcher({
    pipeline: pipeline.name,
    stages: pipeline.stages,
    sources: [...pipeline.sources, ...(pipeline.eventSources ?? [])].map(({ id }) => id),
    shards: current.generation.shards,
    invoke,
    clock,
    log,
    maxInFlight,
    maxFailures,
    ...(options.maxBacklog === undefined ? {} : { maxBacklog: options.maxBacklog }),
    writesPerSecond: (options.writesPerSecond ?? Number.POSITIVE_INFINITY) * (1 - RELAY_SHARE),
    onReply: options.onReply ?? (() => undefined),
  });
}

function newSources(
  options: RelayOptions,
  current: CurrentGeneration,
  dispatcher: Dispatcher,
  budget: TokenBucket,
  heardCommits: Map<string, number>,
  named: NamedVersion,
): (ReturnType<typeof newSource> | ReturnType<typeof newEventSource>)[] {
  const { sources, eventSources = [] } = options.pipeline;
  return [
    ...sources.map((source) => newSource(options, current, dispatcher, budget, heardCommits, named, source)),
    ...eventSources.map((source) =>
      newEventSource(options, current, dispatcher, heardCommits, named, source),
    ),
  ];
}

function newSource(
  options: RelayOptions,
  current: CurrentGeneration,
  dispatcher: Dispatcher,
  budget: TokenBucket,
  heardCommits: Map<string, number>,
  named: NamedVersion,
  { id, source, batching, consumers }: RelayedPipeline["sources"][number],
): { id: string; source: SourceRelay } {
  const { client, root, blobs, clock, log } = options;
  const limits = limitsOf(options.limits, batching);
  const relay = new SourceRelay({
    client,
    elsewhere: source.ensemble === undefined ? undefined : options.ensembles?.get(source.ensemble),
    sourceId: id,
    source,
    consumers,
    root,
    current,
    blobs,
    clock,
    log,
    limits,
    metrics: options.metrics?.source(id),
    budget,
    isHeld: () => dispatcher.holdsSource(id),
    nextTimerMs: (watermarkMs) => dispatcher.nextTimerMs(watermarkMs),
    onAhead: ({ number, fed }) => dispatcher.announce({ source: id, number }, fed),
    onCommit: hearCommits(options, dispatcher, heardCommits, named, id),
  });
  return { id, source: relay };
}

function newEventSource(
  options: RelayOptions,
  current: CurrentGeneration,
  dispatcher: Dispatcher,
  heardCommits: Map<string, number>,
  named: NamedVersion,
  planned: PlannedEventSource,
): { id: string; source: EventSourceRelay } {
  const { client, blobs, clock, log, limits } = options;
  const relay = new EventSourceRelay({
    ...{ client, planned, current, blobs, clock, log, limits },
    nextTimerMs: (watermarkMs) => dispatcher.nextTimerMs(watermarkMs),
    onCommit: hearCommits(options, dispatcher, heardCommits, named, planned.id),
    wake: (stage, shard, zxid) => dispatcher.wake(stage, shard, zxid),
  });
  return { id: planned.id, source: relay };
}

/** What a source's commits set going. */
function hearCommits(
  { metrics, onCommit }: RelayOptions,
  dispatcher: Dispatcher,
  heardCommits: Map<string, number>,
  named: NamedVersion,
  id: string,
): (commit: RelayCommit) => void {
  const ofSource = metrics?.source(id);
  let isFirst = true;
  return (commit) => {
    // From its first commit on this relay is the only one: what an earlier one appended up to now is looked after.
    if (isFirst) dispatcher.wakeAll(commit.zxid);
    isFirst = false;
    heardCommits.set(id, commit.number);
    named.version = commit.code?.version;
    for (const { stage, shard, segments } of commit.fed) dispatcher.wake(stage, shard, commit.zxid, segments);
    dispatcher.published(id, commit.watermarkMs, commit.zxid);
    ofSource?.committed({ ...commit, zxid: commit.sourceZxid ?? commit.zxid });
    onCommit?.(commit);
  };
}

/** Without an end where none is asked for. */
async function untilIdle(
  { clock, pipeline, untilIdle: idle }: RelayOptions,
  dispatcher: Dispatcher,
  signal: AbortSignal,
): Promise<void> {
  if (!idle) return new Promise(() => undefined);
  const delayMs = longestDelay(pipeline.eventSources ?? []);
  const nextMs = (): number =>
    Math.min(dispatcher.nextTimerMs(Number.NEGATIVE_INFINITY) + delayMs, dispatcher.nextProcessingTimerMs);
  for (let quietMs = 0; !signal.aborted && quietMs < idle.lingerMs; ) {
    await clock.sleep(FINISHED_POLL_MS, signal);
    const isQuiet = dispatcher.quiet && nextMs() > clock.now() + idle.aheadMs;
    quietMs = isQuiet ? quietMs + FINISHED_POLL_MS : 0;
  }
}

/** How long after its time a timer of a pipeline is due at most, as long as no source is behind. */
export function longestDelay(sources: readonly PlannedEventSource[]): number {
  return Math.max(0, ...sources.map(({ settings }) => settings.delayMs));
}
