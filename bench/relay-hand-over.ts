/** How long nothing is delivered when one relay hands over to another that stands by, with so many znodes watched. */
import { setTimeout as delay } from "node:timers/promises";
import type { Upstream } from "../lib/checkpoint/records";
import type { ScopePlan } from "../lib/checkpoint/scope";
import { systemClock } from "../lib/clock";
import type { Log } from "../lib/log";
import { runRelay } from "../lib/relay/relay";
import { MemoryBlobs } from "../lib/simulation/memory-files";
import { connect } from "../lib/zookeeper";
import { campaign } from "../lib/zookeeper/recipes";
import type { Sample } from "./frame";
import { monotonicMs } from "./relay-writer";

const UPSTREAM: readonly Upstream[] = [{ type: "source", id: "s" }];
const PLAN: ScopePlan = {
  ...{ fingerprint: "f", sources: ["s"], shards: { read: 1 }, upstream: { read: UPSTREAM } },
  ...{ impulses: [], minTimestampMs: 0 },
};
const WRITE_EVERY_MS = 5;
const SETTLED_MS = 500;
let runs = 0;

interface Relay {
  /** When commits with elements came. */
  readonly deliveredAtMs: number[];
  /** Resolves when it has heard all that was there. */
  readonly walked: Promise<void>;
  /** Hands over, and resolves when it has ended. */
  leave(): Promise<void>;
}

/** A relay with a session of its own, whose calls nobody answers with work. */
async function start(connectString: string, root: string, name: string, blobs: MemoryBlobs): Promise<Relay> {
  const client = await connect({ connectString });
  const stop = new AbortController();
  const deliveredAtMs: number[] = [];
  let hasWalked = (): void => undefined;
  const walked = new Promise<void>((done) => {
    hasWalked = done;
  });
  const log: Log = (_level, message) => {
    if (message === "walked the source") hasWalked();
  };
  const running = runRelay(
    {
      ...{ client, root: "/beamkeeper", blobs, clock: systemClock, log, maxInFlight: 1, maxFailures: 1 },
      pipeline: {
        name,
        plan: PLAN,
        stages: [{ id: "read", upstream: UPSTREAM }],
        sources: [
          {
            id: "s",
            source: { paths: [root], recursive: true, start: "now", allowFeedback: false },
            consumers: ["read"],
          },
        ],
      },
      invoke: async ({ zxid }) => ({
        ...{ outcome: "idle", commits: 0, commitNumber: 0, writes: 0, backlog: 0, fed: [], chained: [] },
        ...{ listedZxid: zxid, inputWatermarkMs: "-inf", holdMs: "+inf" },
        ...{ nextTimerMs: "+inf", nextProcessingTimerMs: "+inf" },
      }),
      // What is appended stays, as in a pipeline that is paused by its backlog; here nothing waits for it.
      maxBacklog: Number.POSITIVE_INFINITY,
      limits: {
        ...{ commitSizeBytes: 512 * 1024, segmentSizeBytes: 128 * 1024, maxBatchPaths: 500 },
        ...{ idleIntervalMs: 1_000, lingerMs: 0 },
      },
      elect: (path, signal) => campaign(client, path, { signal, whenSuspended: "keep" }),
      onCommit: ({ elements }) => {
        if (elements > 0) deliveredAtMs.push(monotonicMs());
      },
    },
    stop.signal,
  );
  await Promise.race([walked, running.then(({ message }) => Promise.reject(new Error(message)))]);
  return {
    deliveredAtMs,
    walked,
    async leave() {
      stop.abort();
      await running;
      await client.close();
    },
  };
}

/** Two relays of the source, the second of which stands by; a znode is written to all the time, and the first is told to end. */
export async function handOver(connectString: string, root: string): Promise<Sample> {
  const blobs = new MemoryBlobs();
  const name = `hand-over-${++runs}`;
  const first = await start(connectString, root, name, blobs);
  const second = await start(connectString, root, name, blobs);
  const writer = await connect({ connectString });
  const { path } = await writer.create(`${root}/written-`, undefined, { mode: "persistent-sequential" });
  let isWriting = true;
  const writes = (async () => {
    for (let number = 0; isWriting; number++) {
      await writer.setData(path, Buffer.from(String(number)));
      await delay(WRITE_EVERY_MS);
    }
  })();
  await delay(SETTLED_MS);
  await first.leave();
  while (second.deliveredAtMs.length === 0) await delay(WRITE_EVERY_MS);
  isWriting = false;
  await writes;
  await second.leave();
  await writer.delete(path);
  await writer.close();
  return { "ms without a commit": second.deliveredAtMs[0]! - first.deliveredAtMs.at(-1)! };
}
