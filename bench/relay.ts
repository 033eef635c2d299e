/**
 * The relay alone: from writes of another process to committed segments and the call of a handler, against a bare
 * recursive watch with a read for each event, which commits nothing and counts nothing; a walk against bare pipelined
 * reads; and the memory of the manifest.
 */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { setImmediate as immediately } from "node:timers/promises";
import { startZooKeeper } from "../infra/zookeeper/server";
import { Manifest } from "../lib/relay/manifest";
import { connect, type ZooKeeper } from "../lib/zookeeper";
import { CuratorCache } from "./curator-cache";
import { type Benchmark, type Case, type Metric, quantile, type Sample } from "./frame";
import { type Contestant, relayContestant, watchContestant } from "./relay-contestants";
import { walkCases } from "./relay-walks";
import type { WriteOrder, WriteReport } from "./relay-writer";

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
  { name: "p50 ms to commit", better: "lower" },
  { name: "p99 ms to commit", better: "lower" },
];
const MEMORY: readonly Metric[] = [{ name: "bytes a znode", better: "lower" }];

let runs = 0;

async function ordered(writer: ChildProcess, order: WriteOrder): Promise<WriteReport> {
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

/** Where contests take place: a server, and a process that writes to it. */
interface Field {
  readonly connectString: string;
  readonly writer: ChildProcess;
}

interface Outcome {
  readonly elements: number;
  readonly tookMs: number;
  readonly cpuUs: number;
  /** From each write's acknowledgement to the start of its handler, and until it is committed, where it is. */
  readonly delaysMs: { readonly handler: readonly number[]; readonly commit: readonly number[] };
}

/** Runs one contestant under a load; the last value of each znode ends it. */
async function contest(
  { connectString, writer }: Field,
  load: typeof BURST,
  contestant: Contestant,
): Promise<Outcome> {
  const client = await connect({ connectString });
  const root = await prepared(client);
  await client.close();
  const order = { connectString, root, znodes: ZNODES, ...load };
  await contestant.watch(order);
  const { acknowledgedMs } = await ordered(writer, order);
  const { seenAtMs, calledAtMs = seenAtMs, cpuUs } = await contestant.results();
  const seen = Object.keys(seenAtMs).map(Number);
  const delays = (atMs: readonly number[]): number[] =>
    seen.map((index) => atMs[index]! - acknowledgedMs[index]!);
  const lastMs = seen.reduce((last, index) => Math.max(last, seenAtMs[index]!), 0);
  const firstMs = acknowledgedMs.reduce((first, each) => Math.min(first, each), Number.POSITIVE_INFINITY);
  const delaysMs = { handler: delays(calledAtMs), commit: delays(seenAtMs) };
  return { elements: seen.length, tookMs: lastMs - firstMs, cpuUs, delaysMs };
}

async function throughput(field: Field, contestant: Contestant): Promise<Sample> {
  const { elements, tookMs, cpuUs } = await contest(field, BURST, contestant);
  return {
    "changes/s": (BURST.writes / tookMs) * 1000,
    "elements/s": (elements / tookMs) * 1000,
    "CPU µs a change": cpuUs / BURST.writes,
    "CPU µs an element": cpuUs / elements,
  };
}

async function latency(field: Field, contestant: Contestant): Promise<Sample> {
  const { handler, commit } = (await contest(field, STEADY, contestant)).delaysMs;
  return {
    "p50 ms to handler": quantile(handler, 0.5),
    "p99 ms to handler": quantile(handler, 0.99),
    "p50 ms to commit": quantile(commit, 0.5),
    "p99 ms to commit": quantile(commit, 0.99),
  };
}

async function memory(count: number, isOurs: boolean): Promise<Sample> {
  // It takes seconds, and between two of them the sessions have to be kept alive.
  await immediately();
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
    "Peers: a recursive watch and getData with the same client, which commits nothing; the same that saves what it read in a\n" +
    "multi before its handler, while the relay calls its handler once it has read a change; Curator's cache in a warm JVM, which saves\n" +
    "nothing; bare pipelined reads of the same znodes; a process that walks and keeps the stats in a Map; a Map of objects with a\n" +
    "million entries. One server, the writer in a process of its own; relays that take up a source, too, and once for all rounds.\n" +
    "To reach: p50 1.5 times the peer's, 60 µs of CPU a change, walks in 1.2 times the peer's time, a million znodes in 500 MB,\n" +
    "and 300 ms without a commit where one relay hands over to another that stands by.",
  rounds: 3,
  warmUpRounds: 1,
  async prepare() {
    const server = await startZooKeeper({ heapMb: SERVER_HEAP_MB });
    const { connectString } = server;
    const client = await connect({ connectString });
    const curator = CuratorCache.start(connectString);
    const writer = fork(join(__dirname, "relay-writer.ts"), { execArgv: ["--import", "tsx"] });
    const field = { connectString, writer };
    const peers: Readonly<Record<string, () => Contestant>> = {
      "watch, getData": () => watchContestant(connectString, false),
      "watch, getData, multi": () => watchContestant(connectString, true),
      ...(typeof curator === "string" ? {} : { CuratorCache: () => curator.contestant() }),
    };
    const contestCase = (
      name: string,
      metrics: readonly Metric[],
      run: (field: Field, contestant: Contestant) => Promise<Sample>,
    ): Case => ({
      name,
      metrics,
      ours: () => run(field, relayContestant(connectString)),
      peer: Object.fromEntries(Object.entries(peers).map(([peer, make]) => [peer, () => run(field, make())])),
    });
    if (typeof curator === "string") process.stderr.write(`without CuratorCache: ${curator}\n`);
    const cases: Case[] = [
      contestCase("burst", CHANGES, throughput),
      contestCase("500 writes/s", LATENCY, latency),
      {
        name: "manifest",
        metrics: MEMORY,
        ours: () => memory(REMEMBERED, true),
        peer: () => memory(REMEMBERED, false),
      },
      ...walkCases(client, connectString, WALKED),
    ];
    return {
      cases,
      async end() {
        writer.kill();
        if (typeof curator !== "string") curator.stop();
        await client.close();
        await server.stop();
      },
    };
  },
};
