import { type BatchDependencies, createBatchHandler } from "../../functions/batch";
import { createBundleHandler } from "../../functions/bundle";
import { createRelayHandler } from "../../functions/relay";
import { ensembleConnector, otherEnsembles } from "../aws/ensemble";
import { LocalLambda, shardInvoker } from "../aws/lambda";
import { openBlobs, openInputs, openOutput } from "../aws/output";
import { compilePipeline, type PipelineDefinition } from "../beam/pipeline";
import { systemClock } from "../clock";
import type { Log } from "../log";
import type { RelayEnd, RelayOptions } from "../relay/relay";
import { checkOutputs } from "../runner/text-files";
import type { Settings } from "../settings";
import type { ZooKeeperClient } from "../zookeeper";

/** A pipeline deployed to this process: the handlers that Lambda runs, called as Lambda calls them. */
export interface LocalDeployment {
  /**
   * Resolves when the pipeline is finished or stopped, with the shards that failed last; rejects when the relay
   * fails in a way that a new invocation does not mend.
   */
  readonly running: Promise<readonly string[]>;
  /** Stops, and waits until nothing is under way. Never rejects. */
  stop(): Promise<void>;
}

export interface LocalDeploymentOptions {
  readonly settings: Settings;
  readonly definition: PipelineDefinition;
  readonly log: Log;
  /** Failures of a shard in a row after which the deployment gives up. */
  readonly maxFailures: number;
  readonly onCommit: NonNullable<RelayOptions["onCommit"]>;
}

const LAMBDA_TIMEOUT_MS = 900_000;
/** What the relay fails with when the ensemble is away: nothing is lost, and it may come back. */
export const OUTAGES: ReadonlySet<string> = new Set([
  "NotConnectedError",
  "ConnectionLossError",
  "SessionExpiredError",
]);
export const ENDED: ReadonlySet<RelayEnd["reason"]> = new Set(["finished", "drained", "cancelled"]);
const OUTAGE_PAUSE_MS = 1_000;
const PAUSE_POLL_MS = 1_000;

export function deployLocally({
  settings,
  definition,
  log,
  maxFailures,
  onCommit,
}: LocalDeploymentOptions): LocalDeployment {
  const stop = new AbortController();
  const { lambda, shared, close } = deployBundle({ settings, definition, log });
  const relay = createRelayHandler({
    ...shared,
    connect: () => ensembleConnector(settings)(),
    connectTo: otherEnsembles(settings),
    invoke: shardInvoker(lambda, "bundle"),
    signal: stop.signal,
    drivesEvents: true,
    maxFailures,
    onCommit,
  });
  lambda.deploy("relay", relay, LAMBDA_TIMEOUT_MS);
  const running = keepRelaying(lambda, log, stop.signal);
  running.catch(() => undefined);
  return {
    running,
    async stop() {
      stop.abort();
      await Promise.allSettled([running]);
      await close();
    },
  };
}

export interface LocalBatchOptions extends Omit<LocalDeploymentOptions, "onCommit"> {
  readonly onProgress: NonNullable<BatchDependencies["onProgress"]>;
  readonly onEnd: NonNullable<BatchDependencies["onEnd"]>;
  readonly signal: AbortSignal;
}

/**
 * A bounded pipeline deployed to this process. Drives the runs that are waiting and, where it has a schedule, those
 * that become due, until the signal. Rejects when the batch function fails in a way that a new invocation does not mend.
 */
export async function runBatchLocally(options: LocalBatchOptions): Promise<void> {
  const { definition, log, maxFailures, onProgress, onEnd, signal } = options;
  const { lambda, shared, close } = deployBundle(options);
  const stays = definition.schedule !== undefined;
  const batch = createBatchHandler({
    ...{ ...shared, stays, maxFailures, onProgress, onEnd, signal },
    connect: () => ensembleConnector(options.settings)(),
    invoke: shardInvoker(lambda, "bundle"),
  });
  try {
    do {
      await batch({}, { getRemainingTimeInMillis: () => LAMBDA_TIMEOUT_MS }).catch(async (error: unknown) => {
        if (!(error instanceof Error) || !OUTAGES.has(error.name)) throw error;
        log("warn", "no server answers; the batch function starts again", { reason: error.message });
        await systemClock.sleep(OUTAGE_PAUSE_MS, signal);
      });
    } while (stays && !signal.aborted);
  } finally {
    await close();
  }
}

/** The bundle function, and what the functions beside it share. */
export function deployBundle({
  settings,
  definition,
  log,
}: Pick<LocalDeploymentOptions, "settings" | "definition" | "log">) {
  const clients: ZooKeeperClient[] = [];
  const lambda = new LocalLambda(systemClock.now);
  const options = { pathStyle: process.env.AWS_ENDPOINT_URL !== undefined };
  const blobs = openBlobs(settings.blobStore, options);
  const shared = { settings, pipelines: [definition], blobs, clock: systemClock, log };
  const connect = async (): Promise<ZooKeeperClient> => {
    const client = await ensembleConnector(settings)();
    clients.push(client);
    return client;
  };
  const files = openOutput(settings.output, options);
  const inputs = openInputs(options);
  checkOutputs(compilePipeline(definition), files);
  const bundle = createBundleHandler({ ...shared, connect, files, inputs });
  lambda.deploy("bundle", bundle, LAMBDA_TIMEOUT_MS);
  const close = async (): Promise<void> => {
    await bundle.close().catch((error: unknown) => log("warn", "a tear-down failed", { error }));
    await Promise.all(clients.map((client) => client.close()));
  };
  return { lambda, shared, close };
}

/** Invokes the relay again when its time is over, as the schedule does on Lambda. */
async function keepRelaying(lambda: LocalLambda, log: Log, signal: AbortSignal): Promise<readonly string[]> {
  for (;;) {
    const answer = await lambda.invoke({ FunctionName: "relay", InvocationType: "RequestResponse" });
    const payload = JSON.parse(Buffer.from(answer.Payload as unknown as Uint8Array).toString("utf8"));
    if (answer.FunctionError) {
      if (!OUTAGES.has(payload.errorType) || signal.aborted)
        throw new RelayFailedError(payload.errorType, payload.errorMessage);
      log("warn", "no server answers; the relay starts again", { reason: payload.errorMessage });
      await systemClock.sleep(OUTAGE_PAUSE_MS, signal);
      continue;
    }
    const ends = Object.values(payload as Record<string, RelayEnd>);
    const stopped = ends.find(({ reason }) => reason === "stopped" || reason === "superseded");
    if (stopped) throw new RelayFailedError("stopped", stopped.message);
    if (ends.some(({ reason }) => reason === "paused") && !signal.aborted) {
      log("info", "paused; the relay looks again in a second", {});
      await systemClock.sleep(PAUSE_POLL_MS, signal);
      continue;
    }
    if (signal.aborted || ends.every(({ reason }) => ENDED.has(reason)))
      return ends.flatMap(({ failing }) => failing);
  }
}

/** The relay function answered with an error, or another relay took its place. */
export class RelayFailedError extends Error {
  override readonly name = "RelayFailedError";
  constructor(
    readonly errorType: string,
    errorMessage: string,
  ) {
    super(`the relay ended: ${errorMessage}`);
  }
}
