import * as z from "zod/mini";
import type { Handler } from "../lib/aws/lambda";
import { compilePipeline, type PipelineDefinition } from "../lib/beam/pipeline";
import type { BlobStore } from "../lib/checkpoint/blobs";
import type { DeployedCode } from "../lib/checkpoint/code";
import type { ShardInvoker } from "../lib/checkpoint/invocation";
import type { Clock } from "../lib/clock";
import { type DriveEnd, driveEvents } from "../lib/ingest/driver";
import type { Log } from "../lib/log";
import { readsOnlyEvents } from "../lib/runner/deployment";
import type { Settings } from "../lib/settings";
import type { ZooKeeperClient } from "../lib/zookeeper";
import { choosePipelines, deployedBundles, deployedHandler, eventText } from "./environment";
import { relayOptions } from "./relay";

export interface DriverDependencies {
  readonly settings: Settings;
  readonly pipelines: readonly PipelineDefinition[];
  /** A new ZooKeeper client for each invocation; it is closed before the handler returns. */
  readonly connect: () => Promise<ZooKeeperClient>;
  readonly invoke: ShardInvoker;
  /** Takes over from earlier versions. Default: the code has no versions. */
  readonly code?: DeployedCode;
  readonly blobs: BlobStore;
  readonly clock: Clock;
  readonly log: Log;
}

const eventSchema = z.object({ pipeline: z.optional(eventText) });

/**
 * The driver function: event {pipeline?} (all pipelines that read nothing but events where none is named) -> how each
 * drive ended. It publishes the watermarks and calls the shards until nothing is left to do, or shortly before the
 * invocation's end; what is left then the schedule's next invocation finds, or one that something appended starts.
 */
export function createDriverHandler(dependencies: DriverDependencies): Handler {
  return async (event, context): Promise<Record<string, DriveEnd>> => {
    const { pipeline } = eventSchema.parse(event ?? {});
    const { settings, clock, pipelines } = dependencies;
    const chosen = choosePipelines(pipelines, pipeline).filter((definition) =>
      readsOnlyEvents(compilePipeline(definition)),
    );
    if (chosen.length === 0) return {};
    const stop = new AbortController();
    const runMs = context.getRemainingTimeInMillis() - settings.deadlineMarginMs;
    void clock.sleep(runMs, stop.signal).then(() => stop.abort());
    const client = await dependencies.connect();
    try {
      const ends = chosen.map(async (definition) => [
        definition.name,
        await driveEvents(relayOptions(dependencies, client, definition), stop.signal),
      ]);
      await Promise.allSettled(ends);
      return Object.fromEntries(await Promise.all(ends));
    } finally {
      stop.abort();
      await client.close();
    }
  };
}

/** Lambda's entry point. */
export const handler: Handler = deployedHandler(async (environment) =>
  createDriverHandler({ ...environment, ...(await deployedBundles(environment.settings)) }),
);
