import { awsLambda, type Handler, startInvocation } from "../lib/aws/lambda";
import { compilePipeline, type PipelineDefinition } from "../lib/beam/pipeline";
import type { BlobStore } from "../lib/checkpoint/blobs";
import { reading } from "../lib/checkpoint/commit";
import { PipelineLayout } from "../lib/checkpoint/layout";
import type { Clock } from "../lib/clock";
import { LINGER_MS } from "../lib/ingest/driver";
import { type DeployedSource, ingest } from "../lib/ingest/ingestion";
import { EventIntake } from "../lib/ingest/intake";
import type { Log } from "../lib/log";
import { planPipeline, readsOnlyEvents } from "../lib/runner/deployment";
import { type Settings, SettingsError } from "../lib/settings";
import type { ZooKeeperClient } from "../lib/zookeeper";
import { deployedHandler } from "./environment";

export interface EventsDependencies {
  readonly settings: Settings;
  readonly pipelines: readonly PipelineDefinition[];
  /** The ZooKeeper client, connected at the first invocation and kept while the environment lives. */
  readonly connect: () => Promise<ZooKeeperClient>;
  readonly blobs: BlobStore;
  /** Starts an invocation of the driver function, for a pipeline that no relay serves. */
  readonly startDriver: (pipeline: string) => Promise<void>;
  readonly clock: Clock;
  readonly log: Log;
}

/**
 * How long records wait for room in an inbox, in ms: a third of the function's time. While a few invocations wait, Lambda
 * receives nothing more, so that what is left in a queue does not come nearer to its dead-letter queue.
 */
const ROOM_WAIT_MS = 10_000;

/** What one invocation works with. */
interface Deployed {
  readonly client: ZooKeeperClient;
  readonly sources: readonly DeployedSource[];
  /** The pipelines that no relay serves. */
  readonly driven: ReadonlySet<string>;
}

/**
 * The events function: a batch of SQS or of Kinesis, a notification of S3, or direct events {pipeline?, source, events},
 * into the sources that read it -> what the service expects, see {@link ingest}.
 */
export function createEventsHandler(dependencies: EventsDependencies): Handler {
  let deployed: Promise<Deployed> | undefined;
  // A driver that was started just now is about to begin, or still lingers.
  const started = new Map<string, number>();
  return async (event) => {
    deployed ??= deploy(dependencies).catch((error: unknown) => {
      deployed = undefined;
      throw error;
    });
    const { clock, log, settings } = dependencies;
    const { client, sources, driven } = await deployed;
    const wake = async (pipeline: string): Promise<void> => {
      const startedMs = started.get(pipeline) ?? Number.NEGATIVE_INFINITY;
      if (!driven.has(pipeline) || clock.now() - startedMs < LINGER_MS) return;
      if (await wakeDriver(dependencies, client, pipeline)) started.set(pipeline, clock.now());
    };
    return ingest({ sources, stage: settings.stage, wake, clock, log }, event);
  };
}

async function deploy({ pipelines, connect, settings, ...shared }: EventsDependencies): Promise<Deployed> {
  const client = await connect();
  const compiled = pipelines.map((definition) => compilePipeline(definition));
  const sources = compiled.flatMap((pipeline): DeployedSource[] => {
    const { name, plan, eventSources } = planPipeline(pipeline);
    const layout = new PipelineLayout(settings.root, name);
    const intake = new EventIntake({
      ...shared,
      client,
      layout,
      plan,
      limits: { ...settings, roomWaitMs: ROOM_WAIT_MS },
    });
    return eventSources.map((planned) => ({ pipeline: name, planned, intake }));
  });
  const driven = compiled.filter(readsOnlyEvents).map(({ name }) => name);
  return { client, sources, driven: new Set(driven) };
}

/** Starts a driver where neither one nor a relay is at work: these have heard of the append. Whether it started one. */
async function wakeDriver(
  { settings, log, startDriver }: EventsDependencies,
  client: ZooKeeperClient,
  pipeline: string,
): Promise<boolean> {
  const { relays } = new PipelineLayout(settings.root, pipeline);
  const atWork = reading(client, () => client.exists(relays)).catch((error: unknown) => {
    log("debug", "whether a driver is at work is not known; one more does no harm", { pipeline, error });
    return null;
  });
  if (((await atWork)?.numChildren ?? 0) > 0) return false;
  try {
    await startDriver(pipeline);
    return true;
  } catch (error) {
    log("warn", "no driver was started; the schedule starts one within a minute", { pipeline, error });
    return false;
  }
}

/** Lambda's entry point. */
export const handler: Handler = deployedHandler(async (environment) => {
  const name = environment.settings.driverFunction;
  if (!name)
    throw new SettingsError(
      "BEAMKEEPER_DRIVER_FUNCTION is missing: set it to the name of the driver function, which this function invokes",
    );
  const lambda = await awsLambda();
  return createEventsHandler({
    ...environment,
    startDriver: (pipeline) => startInvocation(lambda, name, { pipeline }),
  });
});
