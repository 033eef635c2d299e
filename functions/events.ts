import * as z from "zod/mini";
import { awsLambda, type Handler, startInvocation } from "../lib/aws/lambda";
import { compilePipeline, type PipelineDefinition } from "../lib/beam/pipeline";
import type { BlobStore } from "../lib/checkpoint/blobs";
import type { DeployedCode } from "../lib/checkpoint/code";
import { reading } from "../lib/checkpoint/commit";
import type { ShardInvoker } from "../lib/checkpoint/invocation";
import { PipelineLayout } from "../lib/checkpoint/layout";
import type { Clock } from "../lib/clock";
import { type DriveEnd, driveEvents } from "../lib/ingest/driver";
import { type DeployedSource, ingest } from "../lib/ingest/ingestion";
import { EventIntake } from "../lib/ingest/intake";
import type { Log } from "../lib/log";
import { planPipeline, watchesZnodes } from "../lib/runner/deployment";
import { type Settings, SettingsError } from "../lib/settings";
import type { ZooKeeperClient } from "../lib/zookeeper";
import { choosePipelines, deployedBundles, deployedHandler, eventText } from "./environment";
import { relayOptions } from "./relay";

export interface EventsDependencies {
  readonly settings: Settings;
  readonly pipelines: readonly PipelineDefinition[];
  /** The ZooKeeper client, connected at the first invocation and kept while the environment lives. */
  readonly connect: () => Promise<ZooKeeperClient>;
  readonly invoke: ShardInvoker;
  /** Takes over from earlier versions. Default: the code has no versions. */
  readonly code?: DeployedCode;
  readonly blobs: BlobStore;
  /** Starts another invocation of this function, which drives the pipeline. */
  readonly startDriver: (pipeline: string) => Promise<void>;
  readonly clock: Clock;
  readonly log: Log;
}

/** To be sent by a schedule, or by an invocation that has appended something. */
const driveSchema = z.object({ drive: z.union([eventText, z.literal(true)]) });

/** What one invocation works with. */
interface Deployed {
  readonly client: ZooKeeperClient;
  readonly sources: readonly DeployedSource[];
  /** Pipelines that read nothing but events, by name. */
  readonly driven: ReadonlyMap<string, PipelineDefinition>;
}

/**
 * The events function: an event of SQS, Kinesis, S3 or EventBridge, or direct events {pipeline?, source, events}, into the
 * sources that read it -> what the service expects, see {@link ingest}. {drive: pipeline}, or true for all that no relay
 * serves: publishes the watermarks, and calls the shards until nothing is left to do -> how that ended, by pipeline.
 */
export function createEventsHandler(dependencies: EventsDependencies): Handler {
  let deployed: Promise<Deployed> | undefined;
  return async (event, context) => {
    deployed ??= deploy(dependencies).catch((error: unknown) => {
      deployed = undefined;
      throw error;
    });
    const { clock, log, settings } = dependencies;
    const { client, sources, driven } = await deployed;
    const drive = driveSchema.safeParse(event);
    if (drive.success) {
      const chosen = drive.data.drive === true ? [...driven.keys()] : [drive.data.drive];
      const runMs = context.getRemainingTimeInMillis() - settings.deadlineMarginMs;
      return driveAll(dependencies, client, driven, chosen, runMs);
    }
    const wake = (pipeline: string): Promise<void> => wakeDriver(dependencies, client, driven, pipeline);
    return ingest({ sources, stage: settings.stage, wake, clock, log }, event);
  };
}

async function deploy({ pipelines, connect, settings, ...shared }: EventsDependencies): Promise<Deployed> {
  const client = await connect();
  const compiled = pipelines.map((definition) => ({ definition, pipeline: compilePipeline(definition) }));
  const sources = compiled.flatMap(({ pipeline }): DeployedSource[] => {
    const { name, plan, eventSources } = planPipeline(pipeline);
    const layout = new PipelineLayout(settings.root, name);
    const intake = new EventIntake({ ...shared, client, layout, plan, limits: settings });
    return eventSources.map((planned) => ({ pipeline: name, planned, intake }));
  });
  const driven = compiled.filter(
    ({ pipeline }) => !watchesZnodes(pipeline) && sources.some((source) => source.pipeline === pipeline.name),
  );
  return {
    client,
    sources,
    driven: new Map(driven.map(({ definition }) => [definition.name, definition])),
  };
}

async function driveAll(
  dependencies: EventsDependencies,
  client: ZooKeeperClient,
  driven: ReadonlyMap<string, PipelineDefinition>,
  names: readonly string[],
  runMs: number,
): Promise<Record<string, DriveEnd>> {
  const { clock } = dependencies;
  const definitions = names.flatMap(
    (name) => driven.get(name) ?? choosePipelines(dependencies.pipelines, name),
  );
  const stop = new AbortController();
  void clock.sleep(runMs, stop.signal).then(() => stop.abort());
  try {
    const ends = definitions.map(async (definition) => {
      const end = await driveEvents(relayOptions(dependencies, client, definition), stop.signal);
      if (end === "interrupted") await startDriver(dependencies, definition.name);
      return [definition.name, end] as const;
    });
    await Promise.allSettled(ends);
    return Object.fromEntries(await Promise.all(ends));
  } finally {
    stop.abort();
  }
}

/** Starts a driver where neither one nor a relay is at work: these have heard of the append. */
async function wakeDriver(
  dependencies: EventsDependencies,
  client: ZooKeeperClient,
  driven: ReadonlyMap<string, PipelineDefinition>,
  pipeline: string,
): Promise<void> {
  if (!driven.has(pipeline)) return;
  const { settings, log } = dependencies;
  const { relays } = new PipelineLayout(settings.root, pipeline);
  const atWork = reading(client, () => client.exists(relays)).catch((error: unknown) => {
    log("debug", "whether a driver is at work is not known; one more does no harm", { pipeline, error });
    return null;
  });
  if (((await atWork)?.numChildren ?? 0) === 0) await startDriver(dependencies, pipeline);
}

/** What is not started now, the schedule starts. */
async function startDriver(dependencies: EventsDependencies, pipeline: string): Promise<void> {
  await dependencies.startDriver(pipeline).catch((error: unknown) => {
    dependencies.log("warn", "no driver was started; the schedule starts one within a minute", {
      pipeline,
      error,
    });
  });
}

/** Lambda's entry point. */
export const handler: Handler = deployedHandler(async (environment) => {
  const name = environment.settings.eventsFunction;
  if (!name)
    throw new SettingsError(
      "BEAMKEEPER_EVENTS_FUNCTION is missing: set it to the name of the events function, which invokes itself",
    );
  const lambda = await awsLambda();
  return createEventsHandler({
    ...environment,
    ...(await deployedBundles(environment.settings)),
    startDriver: (pipeline) => startInvocation(lambda, name, { drive: pipeline }),
  });
});
