/**
 * The relay alone: from writes of another process to committed segments and the call of a handler, against a bare
 * recursive watch with a read for each event, which commits nothing and counts nothing; a walk against bare pipelined
 * reads; and the memory of the manifest.
 */
import { fork } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { startZooKeeper } from "../infra/zookeeper/server";
import { PipelineLayout, segmentNames } from "../lib/checkpoint/layout";
import { openPipeline } from "../lib/checkpoint/scope";
import { decodeSegment } from "../lib/checkpoint/segment";
import { decodeZnodeChange } from "../lib/checkpoint/znode-change";
import { SourcePaths, wantedKinds } from "../lib/checkpoint/znode-source";
import { systemClock } from "../lib/clock";
import { silent } from "../lib/log";
import { Manifest } from "../lib/relay/manifest";
import { SourceRelay } from "../lib/relay/source-relay";
import { walk } from "../lib/relay/walk";
import { MemoryBlobs } from "../lib/simulation/memory-files";
import { connect, type ZooKeeper } from "../lib/zookeeper";
import { type Benchmark, type Case, type Metric, quantile, type Sample } from "./frame";
import { monotonicMs, type WriteOrder, type WriteReport } from "./relay-writer";

const ZNODES = 2_000;
const BURST = { writes: 20_000, inFlight: 200, spreadMs: 0 };
const STEADY = { writes: 2_000, inFlight: 50, spreadMs: 4_000 };
const WALKED = Number(process.env.RELAY_WALK_ZNODES ?? 100_000);
const REMEMBERED = Number(process.env.RELAY_MEMORY_ZNODES ?? 1_000_000);

const CHANGES: readonly Metric[] = [
  { name: "changes/s", better: "higher" },
  { name: "elements/s", better: "higher" },
  { name: "CPU µs a change", better: "lower" },
  { name: "CPU µs an element", better: "lower" },
];
const LATENCY: readonly Metric[] = [
  { name: "p50 ms to handler", better: "lower" },
  { name: "p99 ms to handler", better: "lower" },
];
const WALK: readonly Metric[] = [{ name: "znodes/s", better: "higher" }];
const MEMORY: readonly Metric[] = [{ name: "bytes a znode", better: "lower" }];

/** What sees the changes of the znodes below a root; `saw` is told the value of each, when its handler would start. */
interface Contestant {
  start(): Promise<void>;
  stop(): Promise<void>;
}

let runs = 0;

/** The relay with one shard; what its commits appended is read back by a client of its own, outside of its CPU time. */
async function relayContestant(
  client: ZooKeeper,
  root: string,
  committed: (elements: number, atMs: number) => void,
): Promise<Contestant & { values(): Promise<string[]> }> {
  const layout = new PipelineLayout("/beamkeeper", `relay-${++runs}`);
  const plan = {
    fingerprint: "f",
    sources: ["s"],
    shards: { read: 1 },
    upstream: {},
    impulses: [],
    minTimestampMs: 0,
  };
  const current = await openPipeline(client, layout, plan);
  const stop = new AbortController();
  let running: Promise<void> | undefined;
  let hasBegun = (): void => undefined;
  const relay = new SourceRelay({
    ...{ client, sourceId: "s", consumers: ["read"], root: "/beamkeeper", current, blobs: new MemoryBlobs() },
    source: { paths: [root], recursive: true, start: "now", allowFeedback: false },
    ...{ clock: systemClock, log: silent, nextTimerMs: () => Number.POSITIVE_INFINITY },
    limits: {
      ...{ commitSizeBytes: 512 * 1024, segmentSizeBytes: 128 * 1024, maxBatchPaths: 500 },
      ...{ idleIntervalMs: 1_000, lingerMs: 0 },
    },
    onCommit: ({ elements, watermarkMs }) => {
      if (watermarkMs > Number.NEGATIVE_INFINITY) hasBegun();
      committed(elements, monotonicMs());
    },
  });
  return {
    async start() {
      const began = new Promise<void>((done) => {
        hasBegun = done;
      });
      running = relay.run(stop.signal);
      await Promise.race([began, running]);
    },
    async stop() {
      stop.abort();
      await running;
    },
    async values() {
      const { inbox } = current.scope.shard("read", 0);
      const values: string[] = [];
      for (const { name } of segmentNames((await client.getChildren(inbox)).children)) {
        const { data } = await client.getData(`${inbox}/${name}`);
        for (const element of decodeSegment(data, name)) values.push(decodeZnodeChange(element).change.text!);
      }
      return values;
    },
  };
}

/** A recursive watch, and a read for each path that an event names and that is not being read. */
function bareContestant(client: ZooKeeper, root: string, saw: (value: string) => void): Contestant {
  const dirty = new Map<string, boolean>();
  const read = async (path: string): Promise<void> => {
    for (dirty.set(path, true); dirty.get(path); ) {
      dirty.set(path, false);
      saw((await client.getData(path)).data.toString("utf8"));
    }
    dirty.delete(path);
  };
  return {
    async start() {
      await client.addWatch(root, "persistentRecursive", (notification) => {
        if (notification.type !== "event") return;
        const { path } = notification.event;
        if (dirty.has(path)) dirty.set(path, true);
        else void read(path);
      });
    },
    stop: () => Promise.resolve(),
  };
}

async function ordered(order: WriteOrder): Promise<WriteReport> {
  const writer = fork(join(__dirname, "relay-writer.ts"), { execArgv: ["--import", "tsx"] });
  writer.send(order);
  const [report] = (await once(writer, "message")) as [WriteReport];
  return report;
}

async function prepared(client: ZooKeeper): Promise<string> {
  const root = `/load-${++runs}`;
  await client.create(root);
  await Promise.all(Array.from({ length: ZNODES }, (_, index) => client.create(`${root}/z${index}`)));
  return root;
}

/** Runs one contestant under a load; the last value of each znode ends it. */
async function contest(
  connectString: string,
  load: typeof BURST,
  isOurs: boolean,
): Promise<{ elements: number; tookMs: number; cpuUs: number; delaysMs: number[] }> {
  const client = await connect({ connectString });
  const root = await prepared(client);
  const seenAtMs: number[] = [];
  const commits: { elements: number; atMs: number }[] = [];
  const finals = new Set(Array.from({ length: ZNODES }, (_, index) => `${load.writes - ZNODES + index}`));
  const saw = (value: string): void => {
    seenAtMs[Number(value)] ??= monotonicMs();
    finals.delete(value);
  };
  const relay = isOurs
    ? await relayContestant(client, root, (elements, atMs) => void commits.push({ elements, atMs }))
    : undefined;
  const contestant = relay ?? bareContestant(client, root, saw);
  await contestant.start();
  commits.length = 0;
  const cpu = process.cpuUsage();
  const order = { connectString, root, znodes: ZNODES, ...load };
  const { acknowledgedMs } = await ordered(order);
  // Two idle rounds without an element: all is appended.
  const isQuiet = (): boolean =>
    relay ? commits.slice(-2).every(({ elements }) => elements === 0) : finals.size === 0;
  while (!isQuiet()) await new Promise((done) => setTimeout(done, 20));
  const { user, system } = process.cpuUsage(cpu);
  if (relay) {
    const values = await relay.values();
    for (const { elements, atMs } of commits)
      for (const value of values.splice(0, elements)) seenAtMs[Number(value)] = atMs;
  }
  await contestant.stop();
  await client.close();
  const seen = Object.keys(seenAtMs).map(Number);
  const delaysMs = seen.map((index) => seenAtMs[index]! - acknowledgedMs[index]!);
  const lastMs = seen.reduce((last, index) => Math.max(last, seenAtMs[index]!), 0);
  const firstMs = acknowledgedMs.reduce((first, each) => Math.min(first, each), Number.POSITIVE_INFINITY);
  return { elements: seen.length, tookMs: lastMs - firstMs, cpuUs: user + system, delaysMs };
}

async function throughput(connectString: string, isOurs: boolean): Promise<Sample> {
  const { elements, tookMs, cpuUs } = await contest(connectString, BURST, isOurs);
  return {
    "changes/s": (BURST.writes / tookMs) * 1000,
    "elements/s": (elements / tookMs) * 1000,
    "CPU µs a change": cpuUs / BURST.writes,
    "CPU µs an element": cpuUs / elements,
  };
}

async function latency(connectString: string, isOurs: boolean): Promise<Sample> {
  const { delaysMs } = await contest(connectString, STEADY, isOurs);
  return {
    "p50 ms to handler": quantile(delaysMs, 0.5),
    "p99 ms to handler": quantile(delaysMs, 0.99),
  };
}

async function createMany(client: ZooKeeper, root: string, count: number): Promise<string[]> {
  await client.create(root);
  const paths: string[] = [root];
  for (let folder = 0; paths.length <= count; folder++) {
    const parent = `${root}/folder-${folder}`;
    const children = Array.from({ length: 999 }, (_, index) => `${parent}/znode-${index}`);
    await client.create(parent);
    await Promise.all(children.map((path) => client.create(path)));
    paths.push(parent, ...children);
  }
  return paths;
}

/** The same znodes, 256 requests under way, nothing compared. */
async function bareReads(client: ZooKeeper, paths: readonly string[]): Promise<number> {
  let next = 0;
  const work = async (): Promise<void> => {
    while (next < paths.length) await client.getChildren(paths[next++]!);
  };
  await Promise.all(Array.from({ length: 256 }, work));
  return paths.length;
}

async function walked(client: ZooKeeper, root: string, manifest: Manifest): Promise<number> {
  const source = {
    paths: new SourcePaths({ paths: [root], recursive: true }),
    ...{ wanted: wantedKinds({}), isExcluded: () => false },
  };
  let znodes = 0;
  for await (const portion of walk(client, source, manifest)) znodes += portion.znodes;
  return znodes;
}

async function perSecond(work: () => Promise<number>): Promise<Sample> {
  const beganMs = monotonicMs();
  const znodes = await work();
  return { "znodes/s": (znodes / (monotonicMs() - beganMs)) * 1000 };
}

function memory(count: number, isOurs: boolean): Sample {
  const one = { czxid: 1n, mzxid: 2n, version: 3, cversion: 0, aversion: 0 };
  const path = (index: number): string => `/some/where/folder-${index % 1_000}/znode-${index}`;
  if (isOurs) {
    const manifest = new Manifest();
    for (let index = 0; index < count; index++) manifest.apply([[path(index), one]]);
    return { "bytes a znode": manifest.memoryBytes / count };
  }
  const before = process.memoryUsage().heapUsed;
  const map = new Map<string, object>();
  for (let index = 0; index < count; index++)
    map.set(Buffer.from(path(index)).toString(), { ...one, czxid: BigInt(index), mzxid: BigInt(index) });
  return { "bytes a znode": (process.memoryUsage().heapUsed - before) / map.size };
}

export const relay: Benchmark = {
  name: "relay",
  description: "the relay: changes, latency, walks, memory",
  conditions:
    `Peer: a recursive watch and getData with the same client, which commits nothing; bare pipelined reads of the same ` +
    `${WALKED} znodes; a Map of objects with ${REMEMBERED} entries. One server, the writer in a process of its own.`,
  rounds: 3,
  warmUp: true,
  async prepare() {
    const server = await startZooKeeper();
    const { connectString } = server;
    const client = await connect({ connectString });
    const paths = await createMany(client, "/walked", WALKED);
    const known = new Manifest();
    for (const path of paths) {
      const stat = await client.exists(path);
      if (stat) known.apply([[path, stat]]);
    }
    const cases: Case[] = [
      {
        name: "burst",
        metrics: CHANGES,
        ours: () => throughput(connectString, true),
        peer: () => throughput(connectString, false),
      },
      {
        name: "500 writes/s",
        metrics: LATENCY,
        ours: () => latency(connectString, true),
        peer: () => latency(connectString, false),
      },
      {
        name: "walk",
        metrics: WALK,
        ours: () => perSecond(() => walked(client, "/walked", known)),
        peer: () => perSecond(() => bareReads(client, paths)),
      },
      {
        name: "manifest",
        metrics: MEMORY,
        ours: () => Promise.resolve(memory(REMEMBERED, true)),
        peer: () => Promise.resolve(memory(REMEMBERED, false)),
      },
    ];
    return {
      cases,
      async end() {
        await client.close();
        await server.stop();
      },
    };
  },
};
