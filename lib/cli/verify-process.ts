/**
 * An execution environment of `beamkeeper verify`: a process that can really be killed. It is forked with the settings
 * in its environment, answers invocations that come as messages, and tells what became of each commit that it sent.
 */
import { createBundleHandler } from "../../functions/bundle";
import { createRelayHandler } from "../../functions/relay";
import { DirectoryBlobs } from "../checkpoint/blobs";
import { DirectoryFiles } from "../checkpoint/files";
import type { ShardReply } from "../checkpoint/invocation";
import { systemClock } from "../clock";
import { silent } from "../log";
import { readSettings } from "../settings";
import { PoisonError, summaryPipeline } from "../simulation/summary-pipeline";
import { tellingCommits } from "../verify/commit-fates";
import { type FromProcess, SHARDS, type ToProcess } from "../verify/hosted-process";
import { connect } from "../zookeeper";

const DEADLINE_MS = 60_000;
const settings = readSettings(process.env);
const send = (message: FromProcess): void => void (process.connected && process.send!(message));

const startedMs = systemClock.now();
let lastArrival = 0;
const definition = summaryPipeline(SHARDS, {
  arrive({ text }) {
    if (text?.startsWith("poison")) throw new PoisonError(`${text} is poison`);
    // The machine's monotonic clock, in microseconds: it orders what different processes see.
    lastArrival = Math.max(lastArrival + 1, Number(process.hrtime.bigint() / 1_000n));
    return lastArrival;
  },
  emit: () => undefined,
  answer: () => systemClock.sleep(systemClock.random() * 20),
  elapsedMs: () => systemClock.now() - startedMs,
  finalize: async () => undefined,
});

const shared = {
  settings,
  pipelines: [definition],
  connect: async () => tellingCommits(await connect({ ...settings }), (fate) => send({ fate })),
  blobs: new DirectoryBlobs(settings.blobStore),
  clock: systemClock,
  log: silent,
};
const waiting = new Map<number, { resolve: (reply: ShardReply) => void; reject: (error: Error) => void }>();
let lastId = 0;
const handlers = {
  bundle: createBundleHandler({
    ...shared,
    files: new DirectoryFiles(settings.output),
  }),
  relay: createRelayHandler({
    ...shared,
    invoke: (wanted) =>
      new Promise((resolve, reject) => {
        lastId += 1;
        waiting.set(lastId, { resolve, reject });
        send({ id: lastId, wanted });
      }),
  }),
};

process.on("message", (message: ToProcess) => {
  if ("invoke" in message) {
    void answer(message);
    return;
  }
  const waiter = waiting.get(message.id);
  waiting.delete(message.id);
  if (message.reply) waiter?.resolve(message.reply);
  else waiter?.reject(new Error(message.failure));
});
process.on("disconnect", () => process.exit());

async function answer({ id, invoke, event }: Extract<ToProcess, { invoke: string }>): Promise<void> {
  try {
    const result = await handlers[invoke](event, { getRemainingTimeInMillis: () => DEADLINE_MS });
    send({ id, result });
  } catch (error) {
    send({ id, error: error instanceof Error ? `${error.name}: ${error.message}` : String(error) });
  }
}
