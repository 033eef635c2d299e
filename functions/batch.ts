import * as z from "zod/mini";
import type { Handler } from "../lib/aws/lambda";
import { type BatchOptions, runBatch } from "../lib/batch/batch";
import type { DriveEnd } from "../lib/batch/driver";
import type { CompiledPipeline } from "../lib/beam/api";
import { compilePipeline, type PipelineDefinition } from "../lib/beam/pipeline";
import { type DeployedCode, takeOver } from "../lib/checkpoint/code";
import type { ShardInvoker } from "../lib/checkpoint/invocation";
import { PipelineLayout } from "../lib/checkpoint/layout";
import { admitsCommits } from "../lib/checkpoint/records";
import { readGeneration } from "../lib/checkpoint/scope";
import type { Clock } from "../lib/clock";
import type { Log } from "../lib/log";
import { isBounded, planPipeline } from "../lib/runner/deployment";
import type { Settings } from "../lib/settings";
import type { ZooKeeperClient } from "../lib/zookeeper";
import { InvalidEventError } from "./bundle";
import { choosePipelines, deployedBundles, deployedHandler, eventText } from "./environment";

export interface BatchDependencies {
  readonly settings: Settings;
  readonly pipelines: readonly PipelineDefinition[];
  /** A new ZooKeeper client for each invocation; it is closed before the handler returns. */
  readonly connect: () => Promise<ZooKeeperClient>;
  readonly invoke: ShardInvoker;
  /** Takes over from earlier versions, of pipelines that a relay reads as well. Default: the code has no versions. */
  readonly code?: DeployedCode;
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
  pipeline: z.optional(eventText),
  /** The scheduled time, as EventBridge Scheduler puts it in; an emulator may leave its place as it is. */
  tick: z.optional(
    z.union([
      z.iso.datetime({ offset: true, error: "must be a time with its zone" }),
      z.literal("<aws.scheduler.scheduled-time>"),
    ]),
  ),
});

/**
 * The batch function: event {pipeline?, tick?} (all bounded pipelines where none is named) -> how the runs ended that it
 * drove, by pipeline. What it has not finished shortly before the invocation's end is adopted by the next invocation.
 */
export function createBatchHandler(dependencies: BatchDependencies): Handler {
  const tookOver = new Set<string>();
  return async (event, context): Promise<Record<string, Record<string, DriveEnd>>> => {
    const { pipeline, tick = "" } = parseEvent(event);
    const { settings, clock, log, signal } = dependencies;
    const all = choosePipelines(dependencies.pipelines, pipeline).map((definition) => ({
      definition,
      compiled: compilePipeline(definition),
    }));
    const chosen = all.filter(({ compiled }) => isBounded(compiled));
    const relayed = all.filter(({ compiled }) => !isBounded(compiled) && !tookOver.has(compiled.name));
    if (chosen.length + (dependencies.code ? relayed.length : 0) === 0) return {};
    if (tick !== "") log("info", "a schedule fires", { pipeline, tick });
    const stop = new AbortController();
    signal?.addEventListener("abort", () => stop.abort(), { once: true, signal: stop.signal });
    if (signal?.aborted) stop.abort();
    const runMs = context.getRemainingTimeInMillis() - settings.deadlineMarginMs;
    void clock.sleep(runMs, stop.signal).then(() => stop.abort());
    const client = await dependencies.connect();
    try {
      for (const { compiled } of relayed) {
        const isDone = await takeOverRelayed(dependencies, client, compiled);
        if (isDone) tookOver.add(compiled.name);
      }
      const tickMs = Number.isNaN(Date.parse(tick)) ? undefined : Date.parse(tick);
      const runs = chosen.map(async ({ definition, compiled }) => {
        const options = optionsFor(dependencies, client, definition, compiled, tickMs);
        return [definition.name, await runBatch(options, stop.signal)] as const;
      });
      await Promise.allSettled(runs.map((run) => run.catch(() => stop.abort())));
      return Object.fromEntries(await Promise.all(runs));
    } finally {
      stop.abort();
      await client.close();
    }
  };
}

/**
 * Relays begin seldom, so a deployment's code takes over from here. True once there is nothing left to do, also where the
 * graph is another one: then the relay says so.
 */
async function takeOverRelayed(
  { settings, code, log }: BatchDependencies,
  client: ZooKeeperClient,
  { name, fingerprint }: CompiledPipeline,
): Promise<boolean> {
  const current = code && (await readGeneration(client, new PipelineLayout(settings.root, name)));
  if (!current) return code === undefined;
  if (current.generation.fingerprint !== fingerprint) return true;
  const { generation } = await takeOver(client, current, code);
  if (generation.code?.version !== current.generation.code?.version)
    log("info", "the code of this deployment takes over", { pipeline: name, version: code.code.version });
  return admitsCommits(generation);
}

function optionsFor(
  {
    settings,
    invoke,
    code,
    clock,
    log,
    stays = false,
    maxFailures = MAX_FAILURES,
    onProgress,
    onEnd,
  }: BatchDependencies,
  client: ZooKeeperClient,
  definition: PipelineDefinition,
  compiled: CompiledPipeline,
  tickMs: number | undefined,
): BatchOptions {
  return {
    client,
    layout: new PipelineLayout(settings.root, definition.name),
    pipeline: planPipeline(compiled),
    schedule: definition.schedule,
    ...{ invoke, clock, log, maxFailures, tickMs, stays, maxInFlight: settings.maxInFlight },
    ...(code ? { code } : {}),
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

/** Lambda's entry point. */
export const handler: Handler = deployedHandler(async (environment) =>
  createBatchHandler({ ...environment, ...(await deployedBundles(environment.settings)) }),
);
