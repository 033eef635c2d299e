import * as z from "zod";
import { awsLambda, type Handler, shardInvoker } from "../lib/aws/lambda";
import { type BatchOptions, runBatch } from "../lib/batch/batch";
import type { DriveEnd } from "../lib/batch/driver";
import { compilePipeline, type PipelineDefinition } from "../lib/beam/pipeline";
import type { ShardInvoker } from "../lib/checkpoint/invocation";
import { PipelineLayout } from "../lib/checkpoint/layout";
import type { Clock } from "../lib/clock";
import type { Log } from "../lib/log";
import { isBounded, planPipeline } from "../lib/runner/deployment";
import { type Settings, SettingsError } from "../lib/settings";
import type { ZooKeeperClient } from "../lib/zookeeper";
import { InvalidEventError } from "./bundle";
import { readEnvironment } from "./environment";

export interface BatchDependencies {
  readonly settings: Settings;
  readonly pipelines: readonly PipelineDefinition[];
  /** A new ZooKeeper client for each invocation; it is closed before the handler returns. */
  readonly connect: () => Promise<ZooKeeperClient>;
  readonly invoke: ShardInvoker;
  readonly clock: Clock;
  readonly log: Log;
  /** Ends the invocation early, where something other than Lambda's time limit decides. */
  readonly signal?: AbortSignal;
  /** Waits for ticks until the signal instead of returning when nothing is to be driven. Default: false. */
  readonly stays?: boolean;
  /** Of one shard in a row, after which an attempt of a run has failed (default 10: about a minute). */
  readonly maxFailures?: number;
  readonly onProgress?: BatchOptions["onProgress"];
  readonly onEnd?: BatchOptions["onEnd"];
}

const MAX_FAILURES = 10;

const eventSchema = z.object({
  pipeline: z.string().min(1).optional(),
  /** The scheduled time, as EventBridge Scheduler puts it in. */
  tick: z.iso.datetime({ offset: true }).optional(),
});

/**
 * The batch function: event {pipeline?, tick?} (all bounded pipelines where none is named) -> how the runs ended that it
 * drove, by pipeline. What it has not finished shortly before the invocation's end is adopted by the next invocation.
 */
export function createBatchHandler(dependencies: BatchDependencies): Handler {
  return async (event, context): Promise<Record<string, Record<string, DriveEnd>>> => {
    const { pipeline, tick } = parseEvent(event);
    const { settings, clock, signal } = dependencies;
    const chosen = choose(dependencies.pipelines, pipeline);
    const stop = new AbortController();
    signal?.addEventListener("abort", () => stop.abort(), { once: true, signal: stop.signal });
    if (signal?.aborted) stop.abort();
    const runMs = context.getRemainingTimeInMillis() - settings.deadlineMarginMs;
    void clock.sleep(runMs, stop.signal).then(() => stop.abort());
    const client = await dependencies.connect();
    try {
      const tickMs = tick === undefined ? undefined : Date.parse(tick);
      const runs = chosen.map(async (definition) => {
        const options = optionsFor(dependencies, client, definition, tickMs);
        return options ? [[definition.name, await runBatch(options, stop.signal)] as const] : [];
      });
      await Promise.allSettled(runs.map((run) => run.catch(() => stop.abort())));
      return Object.fromEntries((await Promise.all(runs)).flat());
    } finally {
      stop.abort();
      await client.close();
    }
  };
}

function optionsFor(
  {
    settings,
    invoke,
    clock,
    log,
    stays = false,
    maxFailures = MAX_FAILURES,
    onProgress,
    onEnd,
  }: BatchDependencies,
  client: ZooKeeperClient,
  definition: PipelineDefinition,
  tickMs: number | undefined,
): BatchOptions | undefined {
  const compiled = compilePipeline(definition);
  if (!isBounded(compiled)) return undefined;
  return {
    client,
    layout: new PipelineLayout(settings.root, definition.name),
    pipeline: planPipeline(compiled),
    schedule: definition.schedule,
    ...{ invoke, clock, log, maxFailures, tickMs, stays, maxInFlight: settings.maxInFlight },
    ...(onProgress ? { onProgress } : {}),
    ...(onEnd ? { onEnd } : {}),
  };
}

function parseEvent(event: unknown): z.infer<typeof eventSchema> {
  const parsed = eventSchema.safeParse(event ?? {});
  if (parsed.success) return parsed.data;
  const problems = parsed.error.issues.map(({ path, message }) => `${path.join(".")}: ${message}`).join("; ");
  throw new InvalidEventError(`the event must be {pipeline?, tick?}: ${problems}`);
}

function choose(
  definitions: readonly PipelineDefinition[],
  name: string | undefined,
): readonly PipelineDefinition[] {
  if (name === undefined) return definitions;
  const chosen = definitions.filter((definition) => definition.name === name);
  if (chosen.length > 0) return chosen;
  throw new SettingsError(
    `there is no pipeline "${name}" in this deployment; it has ${definitions.map((each) => each.name).join(", ")}`,
  );
}

let deployed: Promise<Handler> | undefined;

/** Lambda's entry point. */
export const handler: Handler = async (event, context) => {
  deployed ??= createDeployed().catch((error: unknown) => {
    deployed = undefined;
    throw error;
  });
  return (await deployed)(event, context);
};

async function createDeployed(): Promise<Handler> {
  const environment = await readEnvironment();
  const { bundleFunction } = environment.settings;
  if (!bundleFunction) {
    throw new SettingsError(
      "BEAMKEEPER_BUNDLE_FUNCTION is missing: set it to the name of the bundle function, which the batch function invokes",
    );
  }
  return createBatchHandler({ ...environment, invoke: shardInvoker(await awsLambda(), bundleFunction) });
}
