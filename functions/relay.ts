import * as z from "zod/mini";
import type { Handler } from "../lib/aws/lambda";
import type { CompiledPipeline } from "../lib/beam/api";
import { compilePipeline, type PipelineDefinition } from "../lib/beam/pipeline";
import type { BlobStore } from "../lib/checkpoint/blobs";
import type { DeployedCode } from "../lib/checkpoint/code";
import type { ShardInvoker } from "../lib/checkpoint/invocation";
import type { Clock } from "../lib/clock";
import type { Log } from "../lib/log";
import { embeddedMetrics } from "../lib/relay/metric-formats";
import { type RelayFigures, RelayMetrics } from "../lib/relay/metrics";
import { type RelayEnd, type RelayOptions, runRelay } from "../lib/relay/relay";
import type { Elect } from "../lib/relay/standby";
import { relayInTurns, standingForElection } from "../lib/relay/turns";
import { isBounded, isRelayed, type PipelinePlan, planPipeline } from "../lib/runner/deployment";
import { type Settings, SettingsError } from "../lib/settings";
import type { ZooKeeperClient } from "../lib/zookeeper";
import { choosePipelines, deployedBundles, deployedHandler, eventText } from "./environment";

export interface RelayDependencies<Client extends ZooKeeperClient = ZooKeeperClient> {
  readonly settings: Settings;
  readonly pipelines: readonly PipelineDefinition[];
  /** A new ZooKeeper client for each invocation; it is closed before the handler returns. */
  readonly connect: () => Promise<Client>;
  /** A new client for another ensemble, by its name in the settings (default: there is none). */
  readonly connectTo?: (ensemble: string) => Promise<ZooKeeperClient & { close(): Promise<void> }>;
  readonly invoke: ShardInvoker;
  /** Takes over from earlier versions. Default: the code has no versions. */
  readonly code?: DeployedCode;
  readonly blobs: BlobStore;
  readonly clock: Clock;
  readonly log: Log;
  /** Ends the invocation early, where something other than Lambda's time limit decides. */
  readonly signal?: AbortSignal;
  /** Relay also what reads nothing but events, which the events function drives otherwise. Default: false. */
  readonly drivesEvents?: boolean;
  /** Stand for election, so that of several relays one is active and the others take over. Default: active at once. */
  readonly elect?: (client: Client) => Elect;
  /** Gives up after this many failures of a shard in a row (default: never). */
  readonly maxFailures?: number;
  readonly onCommit?: RelayOptions["onCommit"];
  /** What counts the relay of a pipeline (default: nothing does). */
  readonly metrics?: (pipeline: string) => RelayMetrics;
  /** Logs the metrics in CloudWatch's embedded metric format, once a minute and at the end (default: false). */
  readonly logsMetrics?: boolean;
}

const eventSchema = z.object({ pipeline: z.optional(eventText) });

/**
 * The relay function: event {pipeline?} (all pipelines where none is named) -> how each relay ended. It works
 * until shortly before the invocation's end, hands nothing over that is not committed, and closes its session.
 */
export function createRelayHandler<Client extends ZooKeeperClient>(
  dependencies: RelayDependencies<Client>,
): Handler {
  return async (event, context): Promise<Record<string, RelayEnd>> => {
    const { pipeline } = eventSchema.parse(event ?? {});
    const { settings, clock } = dependencies;
    // Bounded pipelines are the batch function's.
    const isOurs = dependencies.drivesEvents ? (each: CompiledPipeline) => !isBounded(each) : isRelayed;
    const chosen = choosePipelines(dependencies.pipelines, pipeline).filter((definition) =>
      isOurs(compilePipeline(definition)),
    );
    const client = await dependencies.connect();
    const stop = new AbortController();
    dependencies.signal?.addEventListener("abort", () => stop.abort(), { once: true, signal: stop.signal });
    if (dependencies.signal?.aborted) stop.abort();
    const runMs = Math.min(settings.relayRunMs, context.getRemainingTimeInMillis() - settings.relayMarginMs);
    // A process that is no function has all the time.
    if (Number.isFinite(runMs)) void clock.sleep(runMs, stop.signal).then(() => stop.abort());
    try {
      const ends = chosen.map(async (definition) => [
        definition.name,
        await relayOne(dependencies, client, definition, stop.signal),
      ]);
      await Promise.allSettled(ends.map((end) => end.catch(() => stop.abort())));
      return Object.fromEntries(await Promise.all(ends));
    } finally {
      stop.abort();
      await client.close();
    }
  };
}

async function relayOne<Client extends ZooKeeperClient>(
  dependencies: RelayDependencies<Client>,
  client: Client,
  definition: PipelineDefinition,
  signal: AbortSignal,
): Promise<RelayEnd> {
  const { clock, log, onCommit } = dependencies;
  const options = relayOptions(dependencies, client, definition);
  const ensembles = await connectOthers(dependencies, options.pipeline);
  const elect = dependencies.elect?.(client);
  const metrics = dependencies.metrics?.(definition.name);
  const chosen = {
    ...options,
    ensembles,
    metrics,
    ...(onCommit ? { onCommit } : {}),
    ...(elect ? { elect } : {}),
  };
  const ended = new AbortController();
  const logged =
    metrics && dependencies.logsMetrics ? logMetrics(metrics, log, clock, ended.signal) : undefined;
  try {
    return await (elect ? relayInTurns(chosen, signal) : runRelay(chosen, signal));
  } finally {
    metrics?.enter("ended");
    ended.abort();
    await Promise.all([...ensembles.values()].map((other) => other.close()));
    await logged;
  }
}

/** How a pipeline is relayed, by this function and by others that drive one. */
export function relayOptions(
  {
    settings,
    invoke,
    blobs,
    code,
    clock,
    log,
    maxFailures,
  }: Pick<RelayDependencies, "settings" | "invoke" | "blobs" | "code" | "clock" | "log" | "maxFailures">,
  client: ZooKeeperClient,
  definition: PipelineDefinition,
): RelayOptions {
  return {
    client,
    root: settings.root,
    pipeline: planPipeline(compilePipeline(definition)),
    invoke,
    blobs,
    ...(code ? { code } : {}),
    clock,
    log,
    limits: {
      commitSizeBytes: settings.commitSizeBytes,
      segmentSizeBytes: settings.segmentSizeBytes,
      maxBatchPaths: MAX_BATCH_PATHS,
      idleIntervalMs: settings.idleIntervalMs,
      lingerMs: settings.lingerMs,
    },
    maxInFlight: settings.maxInFlight,
    maxBacklog: settings.maxBacklog,
    writesPerSecond: definition.writesPerSecond ?? settings.writesPerSecond,
    maxFailures: maxFailures ?? Number.POSITIVE_INFINITY,
  };
}

type OtherClient = Awaited<ReturnType<NonNullable<RelayDependencies["connectTo"]>>>;

/** A session at each of the other ensembles that the pipeline's sources are on. */
async function connectOthers(
  { connectTo }: Pick<RelayDependencies, "connectTo">,
  { sources }: Pick<PipelinePlan, "sources">,
): Promise<Map<string, OtherClient>> {
  const names = new Set(
    sources.flatMap(({ source: { ensemble } }) => (ensemble === undefined ? [] : [ensemble])),
  );
  const clients = new Map<string, OtherClient>();
  try {
    for (const name of names) {
      if (!connectTo) throw new SettingsError(`nothing connects to the ensemble "${name}" here`);
      clients.set(name, await connectTo(name));
    }
  } catch (error) {
    await Promise.all([...clients.values()].map((client) => client.close()));
    throw error;
  }
  return clients;
}

const METRICS_INTERVAL_MS = 60_000;

/** What Lambda calls the function, which tells the metrics of deployments apart. */
const FUNCTION_NAME = process.env.AWS_LAMBDA_FUNCTION_NAME ?? "relay";

/** Logs the metrics each minute, and once more when the signal aborts. */
async function logMetrics(metrics: RelayMetrics, log: Log, clock: Clock, signal: AbortSignal): Promise<void> {
  let before: RelayFigures | undefined;
  do {
    await clock.sleep(METRICS_INTERVAL_MS, signal);
    const now = metrics.figures();
    log("info", "relay metrics", embeddedMetrics(now, FUNCTION_NAME, clock.now(), before));
    before = now;
  } while (!signal.aborted);
}

const MAX_BATCH_PATHS = 500;

/** Lambda's entry point. */
export const handler: Handler = deployedHandler(async (environment) =>
  createRelayHandler({
    ...environment,
    ...(await deployedBundles(environment.settings)),
    ...(environment.settings.relayStandsBy ? { elect: standingForElection } : {}),
    metrics: (name) => new RelayMetrics(name, environment.clock.now),
    logsMetrics: true,
  }),
);
