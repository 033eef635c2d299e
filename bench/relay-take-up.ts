/**
 * What a relay takes for a source of so many znodes, in a process of its own, so that the memory is the relay's.
 * `relay-take-up.ts relay|map CONNECT ROOT PIPELINE`: the relay from its start until all is walked, remembered and
 * committed, or a walk that keeps the stats in a Map and commits nothing. Prints the figures as JSON.
 */
import { PipelineLayout } from "../lib/checkpoint/layout";
import { openPipeline } from "../lib/checkpoint/scope";
import { systemClock } from "../lib/clock";
import { silent } from "../lib/log";
import { SourceRelay, type SourceRelayOptions } from "../lib/relay/source-relay";
import { MemoryBlobs } from "../lib/simulation/memory-files";
import { connect, type Stat, type ZooKeeper } from "../lib/zookeeper";

const READS = 256;

/** Options of a relay of one source with one shard, as the benchmarks run it. */
export async function relayOptions(
  client: ZooKeeper,
  root: string,
  pipeline: string,
  onCommit: SourceRelayOptions["onCommit"],
  idleIntervalMs = 1_000,
): Promise<SourceRelayOptions> {
  const current = await openPipeline(client, new PipelineLayout("/beamkeeper", pipeline), {
    ...{
      fingerprint: "f",
      sources: ["s"],
      shards: { read: 1 },
      upstream: {},
      impulses: [],
      minTimestampMs: 0,
    },
  });
  return {
    ...{ client, sourceId: "s", consumers: ["read"], root: "/beamkeeper", current, blobs: new MemoryBlobs() },
    source: { paths: [root], recursive: true, start: "now", allowFeedback: false },
    ...{ clock: systemClock, log: silent, nextTimerMs: () => Number.POSITIVE_INFINITY },
    limits: {
      ...{ commitSizeBytes: 512 * 1024, segmentSizeBytes: 128 * 1024, maxBatchPaths: 500 },
      ...{ idleIntervalMs, lingerMs: 0 },
    },
    onCommit,
  };
}

async function relay(client: ZooKeeper, root: string, pipeline: string): Promise<void> {
  const stop = new AbortController();
  const options = await relayOptions(client, root, pipeline, ({ watermarkMs }) => {
    if (watermarkMs > Number.NEGATIVE_INFINITY) stop.abort();
  });
  await new SourceRelay(options).run(stop.signal);
}

async function map(client: ZooKeeper, root: string): Promise<void> {
  const stats = new Map<string, Stat>();
  const waiting = [root];
  let reading = 0;
  await new Promise<void>((done, fail) => {
    const more = (): void => {
      while (waiting.length > 0 && reading < READS) {
        const path = waiting.pop()!;
        reading += 1;
        client.getChildren(path).then(({ children, stat }) => {
          reading -= 1;
          stats.set(path, stat);
          for (const child of children) waiting.push(`${path}/${child}`);
          more();
        }, fail);
      }
      if (reading === 0) done();
    };
    more();
  });
}

async function main(who: string, connectString: string, root: string, pipeline: string): Promise<void> {
  const client = await connect({ connectString });
  const before = process.cpuUsage();
  const beganMs = performance.now();
  await (who === "relay" ? relay(client, root, pipeline) : map(client, root));
  const { user, system } = process.cpuUsage(before);
  const seconds = (performance.now() - beganMs) / 1_000;
  const megabytes = process.resourceUsage().maxRSS / 1_024;
  await client.close();
  process.stdout.write(JSON.stringify({ seconds, cpuMs: (user + system) / 1_000, megabytes }));
}

if (process.argv[1] === __filename) {
  const [, , who = "", connectString = "", root = "", pipeline = ""] = process.argv;
  main(who, connectString, root, pipeline).then(
    () => process.exit(),
    (error: unknown) => {
      console.error(error);
      process.exit(1);
    },
  );
}
