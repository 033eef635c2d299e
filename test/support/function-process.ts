/**
 * A function's execution environment as a process of its own, which can really be killed. It is forked with the
 * pipeline, the settings and a place to die in its environment, and answers invocations that come as messages.
 */
import { createBundleHandler } from "../../functions/bundle";
import { createEventsHandler } from "../../functions/events";
import { createRelayHandler } from "../../functions/relay";
import type { Handler } from "../../lib/aws/lambda";
import type { PipelineDefinition } from "../../lib/beam/pipeline";
import { DirectoryBlobs } from "../../lib/checkpoint/blobs";
import { DirectoryFiles } from "../../lib/checkpoint/files";
import type { ShardInvoker, ShardReply, ShardRequest } from "../../lib/checkpoint/invocation";
import { systemClock } from "../../lib/clock";
import { silent } from "../../lib/log";
import { readSettings } from "../../lib/settings";
import type { Part } from "../../lib/simulation/steps";
import { connect, type ZooKeeperClient } from "../../lib/zookeeper";
import { arrivals } from "../../pipelines/arrivals/pipeline";
import { type EventPipelineOptions, ordersPipeline } from "./event-pipeline";
import { withFault } from "./faults";
import { type SampleOptions, summaryPipeline, type Witness } from "./sample-pipelines";

/** Ends the process at a commit, an asynchronous call or a finaliser. */
export interface Death {
  /** Default: with SIGKILL. `memory`: it takes all that it may have. */
  readonly by?: "memory";
  readonly kind: Part | Parameters<Witness>[0];
  readonly nth: number;
  readonly point: "before" | "after";
}

/** The pipeline that the process runs. */
export type MortalPipeline =
  | SampleOptions
  | (EventPipelineOptions & { readonly orders: true })
  | { readonly arrivals: Parameters<typeof arrivals> };

export type MortalName = "bundle" | "relay" | "events";

export type ToFunction =
  | { readonly id: number; readonly invoke: MortalName; readonly event: unknown }
  /** The answer to an invocation that the relay made. */
  | { readonly id: number; readonly reply?: ShardReply; readonly failure?: string };

export type FromFunction =
  | {
      readonly id: number;
      readonly result?: unknown;
      readonly error?: { readonly errorType: string; readonly errorMessage: string };
    }
  | { readonly id: number; readonly wanted: ShardRequest };

const settings = readSettings(process.env);
const wanted = JSON.parse(process.env.TEST_PIPELINE!) as MortalPipeline;
const death = process.env.TEST_DEATH ? (JSON.parse(process.env.TEST_DEATH) as Death) : undefined;
const die = (): Promise<void> => {
  if (death?.by !== "memory") process.kill(process.pid, "SIGKILL");
  else for (const hoard: unknown[] = []; ; ) hoard.push(new Array(4_000_000).fill(hoard.length));
  return new Promise(() => undefined);
};
const witnessed = { call: 0, finalizer: 0 };
const witness: Witness = async (kind, point) => {
  if (point === "before") witnessed[kind] += 1;
  if (death?.kind === kind && death.point === point && death.nth === witnessed[kind]) await die();
};
const definition = definitionOf(wanted);

function definitionOf(pipeline: MortalPipeline): PipelineDefinition {
  if ("arrivals" in pipeline) return arrivals(...pipeline.arrivals);
  return "orders" in pipeline ? ordersPipeline(pipeline) : summaryPipeline({ ...pipeline, witness });
}

async function connectMortal(): Promise<ZooKeeperClient> {
  const client = await connect({ ...settings });
  if (!death || death.kind === "call" || death.kind === "finalizer") return client;
  return withFault(client, { kind: death.kind, nth: death.nth, [death.point]: die });
}

const send = (message: FromFunction): void => void process.send!(message);
const blobs = new DirectoryBlobs(settings.blobStore);
const pipelines = [definition];
const shared = { settings, pipelines, connect: connectMortal, blobs, clock: systemClock, log: silent };
const bundle = createBundleHandler({
  ...shared,
  files: new DirectoryFiles(settings.output),
});
const waiting = new Map<number, { resolve: (reply: ShardReply) => void; reject: (error: Error) => void }>();
let lastId = 0;
const invoke: ShardInvoker = (wanted) =>
  new Promise((resolve, reject) => {
    const id = ++lastId;
    waiting.set(id, { resolve, reject });
    send({ id, wanted });
  });
const relay = createRelayHandler({ ...shared, invoke });
// Nobody drives: what was taken waits.
const events = createEventsHandler({ ...shared, startDriver: async () => undefined });
const handlers: Readonly<Record<MortalName, Handler>> = { bundle, relay, events };

process.on("message", (message: ToFunction) => {
  if ("invoke" in message) void answer(message);
  else if (message.reply) waiting.get(message.id)?.resolve(message.reply);
  else waiting.get(message.id)?.reject(new Error(message.failure));
});
process.on("disconnect", () => process.exit());

async function answer({ id, invoke, event }: Extract<ToFunction, { invoke: string }>): Promise<void> {
  try {
    send({ id, result: await handlers[invoke](event, { getRemainingTimeInMillis: () => 900_000 }) });
  } catch (error) {
    const { name, message } = error as Error;
    send({ id, error: { errorType: name, errorMessage: message } });
  }
}
