/**
 * The classic pipeline from end to end in this process: writes to znodes, sums for each znode and second, results
 * in ZooKeeper; against a watcher written by hand that does the same sums without the guarantees.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import * as beam from "apache-beam";
import { definePipeline, readZnodeChanges, writeToZnodes } from "beamkeeper";
import { startZooKeeper } from "../infra/zookeeper/server";
import { PipelineLayout } from "../lib/checkpoint/layout";
import { isSettled, type PipelineStatus, readStatus } from "../lib/checkpoint/status";
import { deployLocally } from "../lib/cli/local-deployment";
import { silent } from "../lib/log";
import { readSettings } from "../lib/settings";
import { connect, type ZooKeeperClient } from "../lib/zookeeper";
import { type Benchmark, type Case, type Metric, quantile, type Sample } from "./frame";
import { HandWrittenWatcher } from "./hand-written-watcher";

const WINDOW_MS = 1000;
const POLL_MS = 10;
const ROOT = "/beamkeeper";
const RESULTS = "/sums";

const sums = definePipeline({
  name: "sums",
  build: (root) => {
    root
      .apply(readZnodeChanges("/load", { start: "now" }))
      .map(({ path, text }) => ({ path, value: Number(text) }))
      .apply(beam.windowInto(beam.fixedWindows(WINDOW_MS / 1000)))
      .apply(beam.groupBy("path").combining("value", (a: number, b: number) => a + b, "sum"))
      .map(
        ({ path, sum }, { window }) => {
          const start = (window.lookup() as beam.IntervalWindow).start.toNumber();
          return { path, start, sum };
        },
        { window: beam.windowParam() },
      )
      .apply(
        writeToZnodes((result) => ({
          path: `${RESULTS}/${result.start}-${encodeURIComponent(result.path)}`,
          data: JSON.stringify(result),
        })),
      );
  },
});

interface Load {
  readonly znodes: number;
  readonly writes: number;
  /** Writes under way at once. */
  readonly inFlight: number;
  /** Over how long the writes are spread; 0 is as fast as they go. */
  readonly spreadMs: number;
}

const BURST: Load = { znodes: 2_000, writes: 20_000, inFlight: 200, spreadMs: 0 };
const STEADY: Load = { znodes: 300, writes: 2_000, inFlight: 200, spreadMs: 2_000 };

const THROUGHPUT: readonly Metric[] = [
  { name: "writes/s to results", better: "higher" },
  { name: "elements/s", better: "higher" },
  { name: "commits/s" },
  { name: "CPU µs a write", better: "lower" },
];
const DELAY: readonly Metric[] = [
  { name: "p50 ms to result", better: "lower" },
  { name: "p99 ms to result", better: "lower" },
  { name: "elements/s", better: "higher" },
  { name: "commits/s" },
  { name: "CPU µs a write", better: "lower" },
];

/** What sums the changes of the znodes below /load into znodes below /sums. */
interface Contestant {
  /** Resolves when it watches. */
  start(paths: readonly string[]): Promise<void>;
  /** Resolves when everything written up to `timeMs` has its results. */
  finish(timeMs: number): Promise<void>;
  stop(): Promise<void>;
  readonly counts: { readonly elements: number; readonly commits: number };
}

function ours(connectString: string, client: ZooKeeperClient): Contestant {
  const output = mkdtempSync(join(tmpdir(), "beamkeeper-bench-"));
  const settings = readSettings({ ZOOKEEPER_CONNECT: connectString, BEAMKEEPER_OUTPUT: output });
  const layout = new PipelineLayout(ROOT, sums.name);
  const counts = { elements: 0, commits: 0 };
  let deployment: ReturnType<typeof deployLocally>;
  const until = async (holds: (status: PipelineStatus) => boolean): Promise<PipelineStatus> => {
    const failed = deployment.running.then(() => Promise.reject(new Error("the pipeline ended by itself")));
    for (;;) {
      const status = await Promise.race([readStatus(client, layout), failed]);
      if (status && holds(status)) return status;
      await delay(POLL_MS);
    }
  };
  return {
    counts,
    async start() {
      const onCommit = ({ elements }: { elements: number }): void => {
        counts.elements += elements;
      };
      deployment = deployLocally({ settings, definition: sums, log: silent, maxFailures: 5, onCommit });
      await until(({ sources }) =>
        sources.every(({ watermarkMs }) => watermarkMs > Number.NEGATIVE_INFINITY),
      );
    },
    async finish(timeMs) {
      const { sources, shards } = await until((status) => isSettled(status, timeMs));
      counts.commits = [...sources, ...shards].reduce((total, { commits }) => total + commits, 0);
    },
    async stop() {
      await deployment?.stop();
      rmSync(output, { recursive: true, force: true });
    },
  };
}

function peer(connectString: string): Contestant {
  const watcher = new HandWrittenWatcher(connectString, RESULTS, "/offset");
  return {
    counts: watcher,
    start: (paths) => watcher.start(paths),
    async finish() {
      while (!watcher.isIdle) await delay(POLL_MS);
    },
    stop: () => watcher.stop(),
  };
}

/** The server's time of the last write of a znode in a window, by result. */
type LastWrites = Map<string, number>;

function resultKey(start: number, path: string): string {
  return `${start} ${path}`;
}

/** Writes at the load's pace; the times are the server's. */
async function write(
  client: ZooKeeperClient,
  paths: readonly string[],
  { writes, inFlight, spreadMs }: Load,
): Promise<{ readonly firstMs: number; readonly lastMs: number; readonly lastWrites: LastWrites }> {
  const lastWrites: LastWrites = new Map();
  const startedAt = performance.now();
  let firstMs = Number.POSITIVE_INFINITY;
  let lastMs = 0;
  let begun = 0;
  const writer = async (): Promise<void> => {
    while (begun < writes) {
      const number = begun++;
      const path = paths[number % paths.length]!;
      const earlyMs = (number / writes) * spreadMs - (performance.now() - startedAt);
      if (earlyMs > 1) await delay(earlyMs);
      const { mtime } = await client.setData(path, Buffer.from(String(number)));
      firstMs = Math.min(firstMs, mtime);
      lastMs = Math.max(lastMs, mtime);
      const key = resultKey(Math.floor(mtime / WINDOW_MS) * WINDOW_MS, path);
      lastWrites.set(key, Math.max(lastWrites.get(key) ?? 0, mtime));
    }
  };
  await Promise.all(Array.from({ length: inFlight }, writer));
  return { firstMs, lastMs, lastWrites };
}

interface Result {
  readonly key: string;
  readonly windowEndMs: number;
  readonly committedMs: number;
}

async function readResults(client: ZooKeeperClient): Promise<Result[]> {
  const { children } = await client.getChildren(RESULTS);
  return Promise.all(
    children.map(async (child) => {
      const { data, stat } = await client.getData(`${RESULTS}/${child}`);
      const { path, start } = JSON.parse(data.toString("utf8")) as { path: string; start: number };
      return { key: resultKey(start, path), windowEndMs: start + WINDOW_MS, committedMs: stat.mtime };
    }),
  );
}

/** One round below a path of its own. */
async function round(
  whole: ZooKeeperClient,
  address: string,
  load: Load,
  create: (connectString: string, client: ZooKeeperClient) => Contestant,
): Promise<Sample> {
  const { path: place } = await whole.create("/round-", undefined, { mode: "persistent-sequential" });
  const connectString = `${address}${place}`;
  const client = await connect({ connectString });
  const contestant = create(connectString, client);
  try {
    await client.create("/load");
    const paths = Array.from({ length: load.znodes }, (_, index) => `/load/znode-${index}`);
    await Promise.all(paths.map((path) => client.create(path)));
    await contestant.start(paths);
    // Every round begins with a window, so that no round waits longer than another for the last one's end.
    await delay(WINDOW_MS - (Date.now() % WINDOW_MS));
    const cpuBefore = process.cpuUsage();
    const written = await write(client, paths, load);
    await contestant.finish(written.lastMs + WINDOW_MS);
    const { user, system } = process.cpuUsage(cpuBefore);
    await contestant.stop();
    const results = await readResults(client);
    return figures(load, written, results, contestant.counts, user + system);
  } finally {
    await contestant.stop();
    await client.close();
  }
}

function figures(
  { writes }: Load,
  { firstMs, lastWrites }: { firstMs: number; lastWrites: LastWrites },
  results: readonly Result[],
  { elements, commits }: Contestant["counts"],
  cpuMicros: number,
): Sample {
  const seconds = (Math.max(...results.map(({ committedMs }) => committedMs)) - firstMs) / 1000;
  const delays = results.map(
    ({ key, windowEndMs, committedMs }) => committedMs - Math.max(windowEndMs, lastWrites.get(key) ?? 0),
  );
  return {
    "writes/s to results": writes / seconds,
    "elements/s": elements / seconds,
    "commits/s": commits / seconds,
    "CPU µs a write": cpuMicros / writes,
    "p50 ms to result": quantile(delays, 0.5),
    "p99 ms to result": quantile(delays, 0.99),
  };
}

export const pipeline: Benchmark = {
  name: "pipeline",
  description: "writes to znodes until their committed sums, and a hand-written watcher that does the same",
  conditions:
    "Both in one process with the writer, which the CPU includes, and on a server on loopback that waits for its disk.\n" +
    "A delay runs from the later of a znode's last write and the window's end; throughput includes the last window's wait.",
  rounds: 3,
  warmUpRounds: 0,
  async prepare() {
    const server = await startZooKeeper();
    const client = await connect({ connectString: server.connectString });
    const newCase = (name: string, metrics: readonly Metric[], load: Load): Case => ({
      name: `${name}: ${load.writes} writes to ${load.znodes} znodes`,
      metrics,
      ours: () => round(client, server.connectString, load, ours),
      peer: () => round(client, server.connectString, load, peer),
    });
    return {
      cases: [newCase("burst", THROUGHPUT, BURST), newCase("steady, 1,000/s", DELAY, STEADY)],
      async end() {
        await client.close();
        await server.stop();
      },
    };
  },
};
