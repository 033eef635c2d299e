import * as z from "zod/mini";
import type { Handler, InvocationContext } from "../lib/aws/lambda";
import { compilePipeline, type PipelineDefinition } from "../lib/beam/pipeline";
import type { InputFiles } from "../lib/beam/splittable";
import type { BlobStore } from "../lib/checkpoint/blobs";
import type { FileStore } from "../lib/checkpoint/files";
import type { ShardReply } from "../lib/checkpoint/invocation";
import type { Clock } from "../lib/clock";
import type { Log } from "../lib/log";
import { ShardRunner } from "../lib/runner/shard-runner";
import { checkOutputs } from "../lib/runner/text-files";
import type { Settings } from "../lib/settings";
import type { ZooKeeperClient } from "../lib/zookeeper";
import { deployedHandler, eventText } from "./environment";

export interface BundleDependencies {
  readonly settings: Settings;
  readonly pipelines: readonly PipelineDefinition[];
  /** The ZooKeeper client, connected at the first invocation and kept while the environment lives. */
  readonly connect: () => Promise<ZooKeeperClient>;
  readonly files: FileStore;
  readonly blobs: BlobStore;
  /** What pipelines read files from. Default: this machine's. */
  readonly inputs?: InputFiles;
  readonly clock: Clock;
  readonly log: Log;
}

const requestSchema = z.object({
  pipeline: eventText,
  stage: eventText,
  shard: z.int("must be a whole number").check(z.gte(0, "must not be negative")),
  run: z.optional(eventText),
  zxid: eventText.check(z.regex(/^[0-9a-f]{1,16}$/, "must be a hexadecimal number")),
  writes: z.optional(z.number("must be a number").check(z.gte(1, "must be at least 1"))),
  chain: z.optional(z.boolean("must be true or false")),
  announced: z.optional(
    z.object({
      source: eventText,
      number: z.int("must be a whole number").check(z.gte(1, "must be at least 1")),
    }),
  ),
});

export interface BundleHandler {
  (event: unknown, context: InvocationContext): Promise<ShardReply>;
  /** Tears down what user code has set up. Lambda ends its environments without a word. */
  close(): Promise<void>;
}

/** The event is not a request for a shard. Terminal. */
export class InvalidEventError extends Error {
  override readonly name = "InvalidEventError";
}

/**
 * The bundle function: event {pipeline, stage, shard, zxid} -> ShardReply. It stops beginning bundles
 * `deadlineMarginMs` before the invocation's end.
 */
export function createBundleHandler(dependencies: BundleDependencies): BundleHandler {
  let runner: Promise<ShardRunner> | undefined;
  const handle = async (event: unknown, context: InvocationContext): Promise<ShardReply> => {
    const request = requestSchema.safeParse(event);
    if (!request.success) {
      const problems = request.error.issues
        .map(({ path, message }) => `${path.join(".")}: ${message}`)
        .join("; ");
      throw new InvalidEventError(`the event must be {pipeline, stage, shard, zxid}: ${problems}`);
    }
    const { clock, settings } = dependencies;
    const deadlineMs = clock.now() + context.getRemainingTimeInMillis() - settings.deadlineMarginMs;
    runner ??= createRunner(dependencies).catch((error: unknown) => {
      runner = undefined;
      throw error;
    });
    return (await runner).run(request.data, deadlineMs);
  };
  return Object.assign(handle, { close: async () => (await runner)?.close() });
}

async function createRunner(dependencies: BundleDependencies): Promise<ShardRunner> {
  const { settings, pipelines: definitions, files, blobs, inputs, clock, log } = dependencies;
  const compiled = definitions.map((definition) => compilePipeline(definition));
  for (const pipeline of compiled) checkOutputs(pipeline, files);
  return new ShardRunner({
    client: await dependencies.connect(),
    root: settings.root,
    pipelines: new Map(compiled.map((pipeline) => [pipeline.name, pipeline])),
    files,
    blobs,
    ...(inputs ? { inputs } : {}),
    clock,
    log,
    limits: {
      maxUnits: settings.bundleUnits,
      commitSizeBytes: settings.commitSizeBytes,
      segmentSizeBytes: settings.segmentSizeBytes,
    },
  });
}

/** Lambda's entry point. */
export const handler: Handler = deployedHandler(createBundleHandler);
