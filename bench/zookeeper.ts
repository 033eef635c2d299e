/** Our ZooKeeper client against node-zookeeper-client, on one real server of this machine. */
import { createClient, type PeerClient } from "node-zookeeper-client";
import { startZooKeeper } from "../infra/zookeeper/server";
import { connect, type ZooKeeperClient } from "../lib/zookeeper";
import type { Benchmark, Case, Metric, Sample } from "./frame";

const IN_FLIGHT = [1, 100, 1_000];
const MULTI_IN_FLIGHT = 100;
const MULTI_SIZE = 12;
const ROUND_MS = 250;
const ZNODES = 100;
const VALUE = Buffer.alloc(100, "x");

const METRICS: readonly Metric[] = [
  { name: "operations/s", better: "higher" },
  { name: "CPU µs each", better: "lower" },
];

type Done = (error?: unknown) => void;
/** Begins one operation; `number` differs from call to call. */
type Operation = (number: number, done: Done) => void;

/** Keeps so many operations in flight for the time, and waits for the last of them. */
function drive(inFlight: number, operation: Operation): Promise<Sample> {
  return new Promise((resolve, reject) => {
    const startedAt = performance.now();
    const cpuBefore = process.cpuUsage();
    let begun = 0;
    let completed = 0;
    const next = (): void => {
      begun += 1;
      operation(begun, finish);
    };
    const finish: Done = (error) => {
      if (error) reject(error as Error);
      completed += 1;
      const elapsedMs = performance.now() - startedAt;
      if (elapsedMs < ROUND_MS) return next();
      if (completed < begun) return;
      const { user, system } = process.cpuUsage(cpuBefore);
      resolve({
        "operations/s": (completed / elapsedMs) * 1000,
        "CPU µs each": (user + system) / completed,
      });
    };
    for (let index = 0; index < inFlight; index++) next();
  });
}

function znode(number: number): string {
  return `/znode-${number % ZNODES}`;
}

let rounds = 0;

/** A case per operation and number in flight; creates go below a name of their own in every round. */
function operations(ours: ZooKeeperClient, peer: PeerClient): Case[] {
  const settle = (promise: Promise<unknown>, done: Done): void => void promise.then(() => done(), done);
  const pairs: Record<string, readonly [Operation, Operation]> = {
    getData: [
      (number, done) => settle(ours.getData(znode(number)), done),
      (number, done) => peer.getData(znode(number), done),
    ],
    exists: [
      (number, done) => settle(ours.exists(znode(number)), done),
      (number, done) => peer.exists(znode(number), done),
    ],
    setData: [
      (number, done) => settle(ours.setData(znode(number), VALUE), done),
      (number, done) => peer.setData(znode(number), VALUE, -1, done),
    ],
    create: [
      (number, done) => settle(ours.create(`/created/${rounds}-${number}`, VALUE), done),
      (number, done) => peer.create(`/created/${rounds}-${number}`, VALUE, done),
    ],
  };
  const cases = Object.entries(pairs).flatMap(([name, pair]) =>
    IN_FLIGHT.map((inFlight) => newCase(`${name}, ${inFlight} in flight`, inFlight, pair)),
  );
  return [...cases, multiCase(ours, peer)];
}

function multiCase(ours: ZooKeeperClient, peer: PeerClient): Case {
  const paths = (number: number): string[] =>
    Array.from({ length: MULTI_SIZE }, (_, index) => znode(number * MULTI_SIZE + index));
  return newCase(`multi of ${MULTI_SIZE}, ${MULTI_IN_FLIGHT} in flight`, MULTI_IN_FLIGHT, [
    (number, done) => {
      const ops = paths(number).map((path) => ({ type: "setData", path, data: VALUE }) as const);
      void ours.multi(ops).then(() => done(), done);
    },
    (number, done) => {
      const transaction = peer.transaction();
      for (const path of paths(number)) transaction.setData(path, VALUE, -1);
      transaction.commit(done);
    },
  ]);
}

function newCase(name: string, inFlight: number, [ours, peer]: readonly [Operation, Operation]): Case {
  const run = (operation: Operation) => (): Promise<Sample> => {
    rounds += 1;
    return drive(inFlight, operation);
  };
  return { name, metrics: METRICS, ours: run(ours), peer: run(peer) };
}

async function connectPeer(connectString: string): Promise<PeerClient> {
  const peer = createClient(connectString);
  await new Promise<void>((done) => {
    peer.once("connected", done);
    peer.connect();
  });
  return peer;
}

export const zookeeper: Benchmark = {
  name: "zookeeper",
  description: "our ZooKeeper client and node-zookeeper-client on the same server",
  conditions: `Values of ${VALUE.length} bytes; a server on loopback that does not wait for its disk (forceSync=no); CPU is the client's.`,
  rounds: 5,
  warmUp: true,
  async prepare() {
    const server = await startZooKeeper({ properties: { "zookeeper.forceSync": "no" } });
    const { connectString } = server;
    const [ours, peer] = await Promise.all([connect({ connectString }), connectPeer(connectString)]);
    await ours.create("/created");
    for (let index = 0; index < ZNODES; index++) await ours.create(znode(index), VALUE);
    return {
      cases: operations(ours, peer),
      async end() {
        peer.close();
        await ours.close();
        await server.stop();
      },
    };
  },
};
