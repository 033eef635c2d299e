/**
 * A relay as a process of its own, which stands for election as the deployed function does, and which can be stopped
 * and killed. It tells of its commits and logs as messages, and ends by itself on SIGTERM.
 */
import { createRelayHandler } from "../../functions/relay";
import { DirectoryBlobs } from "../../lib/checkpoint/blobs";
import type { ShardReply } from "../../lib/checkpoint/invocation";
import { systemClock } from "../../lib/clock";
import { standingForElection } from "../../lib/relay/turns";
import { readSettings } from "../../lib/settings";
import { connect } from "../../lib/zookeeper";
import { type SampleOptions, summaryPipeline } from "./sample-pipelines";

export type FromRelay =
  | { readonly log: string }
  | { readonly commit: { readonly elements: number; readonly watermarkMs: number } }
  | { readonly end: unknown };

const send = (message: FromRelay): void => void process.send?.(message);
const settings = readSettings(process.env);
const stop = new AbortController();
process.on("SIGTERM", () => stop.abort());
process.on("disconnect", () => process.exit());

const relay = createRelayHandler({
  settings,
  pipelines: [summaryPipeline(JSON.parse(process.env.TEST_PIPELINE!) as SampleOptions)],
  connect: () => connect({ ...settings }),
  elect: standingForElection,
  // What is appended is what these tests look at; nothing consumes it.
  invoke: async ({ zxid }): Promise<ShardReply> => ({
    ...{ commitNumber: 0, writes: 0, backlog: 0, chained: [] },
    ...{ outcome: "idle", commits: 0, fed: [], listedZxid: zxid, inputWatermarkMs: "-inf" },
    ...{ holdMs: "+inf", nextTimerMs: "+inf", nextProcessingTimerMs: "+inf" },
  }),
  blobs: new DirectoryBlobs(settings.blobStore),
  clock: systemClock,
  log: (_level, message) => send({ log: message }),
  signal: stop.signal,
  onCommit: ({ elements, watermarkMs }) => send({ commit: { elements, watermarkMs } }),
});

void relay({}, { getRemainingTimeInMillis: () => 900_000 })
  .catch((error: Error) => ({ error: `${error.name}: ${error.message}` }))
  .then((end) => {
    send({ end });
    process.disconnect?.();
  });
