import { claim, release } from "../checkpoint/claim";
import type { DeployedCode } from "../checkpoint/code";
import { reading } from "../checkpoint/commit";
import type { ShardInvoker } from "../checkpoint/invocation";
import type { PipelineLayout } from "../checkpoint/layout";
import { admitsCommits } from "../checkpoint/records";
import { encodeRun, type RunCounters, readRun, readRunScope } from "../checkpoint/run";
import { type CurrentGeneration, readGeneration, type ScopePlan, scopeChecks } from "../checkpoint/scope";
import { countersOf, isDrained, readScopeStatus } from "../checkpoint/status";
import type { Clock } from "../clock";
import type { Log } from "../log";
import { Dispatcher } from "../relay/dispatcher";
import { ShardFailedError } from "../relay/errors";
import { MultiError, type ZooKeeperClient } from "../zookeeper";
import { endRun, forgetScope, type RunEnd } from "./ledger";

/** A bounded pipeline as the batch function needs it: its graph, and nothing of the user's code. */
export interface BatchPipeline {
  readonly name: string;
  readonly plan: ScopePlan;
}

export interface DriverOptions {
  readonly client: ZooKeeperClient;
  readonly layout: PipelineLayout;
  readonly pipeline: BatchPipeline;
  readonly invoke: ShardInvoker;
  /** The code that takes over from earlier versions; without it, bundles are invoked in no certain version. */
  readonly code?: DeployedCode;
  readonly clock: Clock;
  readonly log: Log;
  readonly maxInFlight: number;
  /** Of one shard in a row, after which an attempt of the run has failed. */
  readonly maxFailures: number;
  readonly retries: number;
  /** Called from time to time with what the run has done. */
  readonly onProgress?: (run: string, counters: RunCounters) => void;
}

/** `elsewhere`: another driver is at work, or the run is over. `interrupted`: it waits for the next driver. */
export type DriveEnd = RunEnd["state"] | "elsewhere" | "interrupted";

const POLL_MS = 25;
const CONTROL_POLL_MS = 250;
const SHUTDOWN_MS = 3_000;
const FIRST_RETRY_MS = 500;
const LAST_RETRY_MS = 60_000;

/**
 * Drives a run to its end: calls the bundle function for its shards until nothing is left to do. One driver at a time
 * in the normal case (an ephemeral znode), correct in every case: what a bundle does is decided by its commit, and how
 * the run ends by the multi that ends it. A driver that dies leaves nothing but work for the next one.
 * Rejects with the client's error.
 */
export async function driveRun(options: DriverOptions, id: string, signal: AbortSignal): Promise<DriveEnd> {
  const { client, layout, clock, log } = options;
  const path = layout.run(id).driver;
  const me = Buffer.from(clock.uniqueId());
  if (!(await claim(client, path, me))) return "elsewhere";
  try {
    for (;;) {
      const end = await attempt(options, id, signal);
      if (end === "again") continue;
      log("info", "the driver of a run ends", { pipeline: layout.pipeline, run: id, end });
      return end;
    }
  } finally {
    await release(client, path, me).catch((error: unknown) =>
      log("debug", "the driver's znode goes with its session", { run: id, error }),
    );
  }
}

async function attempt(options: DriverOptions, id: string, signal: AbortSignal): Promise<DriveEnd | "again"> {
  const { client, layout, pipeline, clock } = options;
  if (signal.aborted) return "interrupted";
  const now = await readGeneration(client, layout);
  const current = now && (await readRunScope(client, now, id));
  if (!now || !current) return "elsewhere";
  if (!admitsCommits(now.generation))
    return now.generation.state === "cancelled" ? "cancelled" : "interrupted";
  if (!admitsCommits(current.generation)) return "elsewhere";
  const code = await codeOf(options, now, current);
  if (!code) {
    const error = `the run was started by code with another graph; start it again with the code of now ("beamkeeper runs start ${pipeline.name}")`;
    return finish(options, id, { state: "failed", endedMs: clock.now(), counters: null, error });
  }
  const dispatcher = newDispatcher(options, current, id, code.version);
  dispatcher.wakeAll(client.lastZxid);
  const stop = new AbortController();
  try {
    const end = untilEnd(options, current, dispatcher, id, AbortSignal.any([signal, stop.signal]));
    end.catch(() => undefined);
    return await Promise.race([end, dispatcher.failure]);
  } catch (error) {
    stop.abort();
    if (!(error instanceof ShardFailedError)) throw error;
    return await failed(options, current, id, error, signal);
  } finally {
    await dispatcher.stop(SHUTDOWN_MS);
  }
}

/**
 * The version of the bundle function that goes on with the run: the newest, where the graph is the same; else the one
 * that the run was started with, so that it ends as it began. Undefined where nothing can go on with it.
 */
async function codeOf(
  { pipeline, code }: DriverOptions,
  { generation: { code: named } }: CurrentGeneration,
  { generation: { code: first, fingerprint } }: CurrentGeneration,
): Promise<{ readonly version: string | undefined } | undefined> {
  if (fingerprint === pipeline.plan.fingerprint) return { version: code && named?.version };
  return code && first && (await code.isThere(first)) ? first : undefined;
}

function newDispatcher(
  options: DriverOptions,
  current: CurrentGeneration,
  run: string,
  version: string | undefined,
): Dispatcher {
  const { pipeline, invoke, clock, log, maxInFlight, maxFailures } = options;
  return new Dispatcher({
    pipeline: pipeline.name,
    // The run's own, which another deployment may have started.
    stages: Object.entries(current.generation.upstream).map(([stage, upstream]) => ({ id: stage, upstream })),
    sources: [],
    shards: current.generation.shards,
    invoke: (request) => invoke({ ...request, run }, version),
    clock,
    log,
    maxInFlight,
    maxFailures,
    onReply: () => undefined,
  });
}

async function untilEnd(
  options: DriverOptions,
  current: CurrentGeneration,
  dispatcher: Dispatcher,
  id: string,
  signal: AbortSignal,
): Promise<DriveEnd | "again"> {
  const { client, clock, onProgress } = options;
  let lookAtMs = clock.now() + CONTROL_POLL_MS;
  while (!signal.aborted) {
    await clock.sleep(POLL_MS, signal);
    const isTime = clock.now() >= lookAtMs;
    if (isTime) {
      lookAtMs = clock.now() + CONTROL_POLL_MS;
      if (!(await isUnchanged(client, current))) return "again";
    }
    if (!dispatcher.quiet && !(isTime && onProgress)) continue;
    const status = await readScopeStatus(client, current);
    const counters = countersOf(status);
    onProgress?.(id, counters);
    if (dispatcher.quiet && isDrained(status))
      return finish(options, id, { state: "succeeded", endedMs: clock.now(), counters, error: null });
  }
  return "interrupted";
}

/** Whether neither the pipeline nor the run was paused or stopped since. */
async function isUnchanged(
  client: ZooKeeperClient,
  { layout, version, control }: CurrentGeneration,
): Promise<boolean> {
  const [generation, own] = await reading(client, () =>
    Promise.all([client.exists(layout.generation), client.exists(control!.path)]),
  );
  return generation?.version === version && own?.version === control!.version;
}

/** An attempt has failed: the next one goes on from where it stood, or the run has failed. */
async function failed(
  options: DriverOptions,
  current: CurrentGeneration,
  id: string,
  error: ShardFailedError,
  signal: AbortSignal,
): Promise<DriveEnd | "again"> {
  const { client, layout, clock, log, retries } = options;
  const run = await readRun(client, layout, id);
  if (!run) return "elsewhere";
  if (run.attempt > retries) {
    const counters = countersOf(await readScopeStatus(client, current));
    return finish(options, id, { state: "failed", endedMs: clock.now(), counters, error: error.message });
  }
  const waitMs = Math.min(LAST_RETRY_MS, FIRST_RETRY_MS * 2 ** (run.attempt - 1));
  log("warn", "an attempt of a run failed; the next one goes on from where it stood", {
    ...{ pipeline: layout.pipeline, run: id, attempt: run.attempt, retryInMs: waitMs, error },
  });
  const data = encodeRun({ ...run, attempt: run.attempt + 1, error: error.message });
  try {
    await client.multi([...scopeChecks(current), { type: "setData", path: layout.run(id).path, data }]);
  } catch (refusal) {
    // Stopped meanwhile: the next look tells. A reply that is lost may cost or spare an attempt.
    if (!(refusal instanceof MultiError)) await client.connected();
  }
  await clock.sleep(waitMs, signal);
  return "again";
}

async function finish(options: DriverOptions, id: string, end: RunEnd): Promise<DriveEnd> {
  const { client, layout } = options;
  await endRun(client, layout, id, end);
  const now = await readRun(client, layout, id);
  // Paused before the end was written: whoever drives next writes it.
  if (!now || now.state === "running") return "interrupted";
  if (now.state === "succeeded" && (now.counters?.deadLettered ?? 0) === 0)
    await forgetScope(client, layout, id);
  return now.state;
}
