/**
 * The relay alone: from writes of another process to committed segments and the call of a handler, against a bare
 * recursive watch with a read for each event, which commits nothing and counts nothing; a walk against bare pipelined
 * reads; and the memory of the manifest.
 */
import { fork } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { startZooKeeper } from "../infra/zookeeper/server";
import { segmentNames } from "../lib/checkpoint/layout";
import { decodeSegment } from "../lib/checkpoint/segment";
import { decodeZnodeChange } from "../lib/checkpoint/znode-change";
import { Manifest } from "../lib/relay/manifest";
import { SourceRelay } from "../lib/relay/source-relay";
import { connect, type ZooKeeper } from "../lib/zookeeper";
import { type Benchmark, type Case, type Metric, quantile, type Sample } from "./frame";
import { relayOptions } from "./relay-take-up";
import { walkCases } from "./relay-walks";
import { monotonicMs, type WriteOrder, type WriteReport } from "./relay-writer";

const ZNODES = 2_000;
const BURST = { writes: 20_000, inFlight: 200, spreadMs: 0 };
const STEADY = { writes: 2_000, inFlight: 50, spreadMs: 4_000 };
const REMEMBERED = 1_000_000;
/** RELAY_ZNODES=1000,5000 walks smaller trees: to try the benchmark itself. */
const WALKED = (process.env.RELAY_ZNODES ?? "10000,100000,1000000").split(",").map(Number);
const SERVER_HEAP_MB = 2_048;

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
  const stop = new AbortController();
  let running: Promise<void> | undefined;
  let hasBegun = (): void => undefined;
  const options = await relayOptions(client, root, `relay-${++runs}`, ({ elements, watermarkMs }) => {
    if (watermarkMs > Number.NEGATIVE_INFINITY) hasBegun();
    committed(elements, monotonicMs());
  });
  const relay = new SourceRelay(options);
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
      const { inbox } = options.current.scope.shard("read", 0);
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
    "Peer: a recursive watch and getData with the same client, which commits nothing; bare pipelined reads of the same znodes;\n" +
    "a process that walks and keeps the stats in a Map; a Map of objects with a million entries. One server, the writer in a\n" +
    "process of its own; relays that take up a source, too, and once for all rounds. To reach: p50 1.5 times the peer's, 60 µs of\n" +
    "CPU a change, walks in 1.2 times the peer's time, a million znodes in 500 MB.",
  rounds: 3,
  warmUp: true,
  async prepare() {
    const server = await startZooKeeper({ heapMb: SERVER_HEAP_MB });
    const { connectString } = server;
    const client = await connect({ connectString });
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
        name: "manifest",
        metrics: MEMORY,
        ours: () => Promise.resolve(memory(REMEMBERED, true)),
        peer: () => Promise.resolve(memory(REMEMBERED, false)),
      },
      ...(await walkCases(client, connectString, WALKED)),
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
