import { PipelineLayout, segmentPrefix } from "../../lib/checkpoint/layout";
import { encodeCursor, encodeHead, NEW_CURSOR, NEW_HEAD } from "../../lib/checkpoint/records";
import { type CurrentGeneration, openPipeline } from "../../lib/checkpoint/scope";
import { readShardInput, type WatermarkGraph } from "../../lib/checkpoint/watermark";
import { connect, type ZooKeeper, type ZooKeeperClient } from "../../lib/zookeeper";
import { type LocalZooKeeper, startZooKeeper } from "../support/zookeeper-server";

const GRAPH: WatermarkGraph = {
  stages: [
    { id: "read", upstream: [{ type: "source", id: "znodes" }] },
    { id: "start", upstream: [{ type: "source", id: "impulse" }] },
    { id: "group", upstream: [{ type: "stage", id: "read" }] },
    {
      id: "join",
      upstream: [
        { type: "stage", id: "group" },
        { type: "stage", id: "start" },
      ],
    },
  ],
  cursors: new Set(["znodes"]),
  shards: { read: 2, start: 1, group: 2, join: 1 },
};

let server: LocalZooKeeper;
let client: ZooKeeper;
let current: CurrentGeneration;
let tests = 0;

beforeAll(async () => {
  server = await startZooKeeper();
  client = await connect({ connectString: server.connectString });
});

afterAll(async () => {
  await client?.close();
  await server?.stop();
});

beforeEach(async () => {
  current = await openPipeline(client, new PipelineLayout("/beamkeeper", `p-${++tests}`), {
    fingerprint: "f",
    sources: ["znodes"],
    shards: GRAPH.shards,
    upstream: {},
    impulses: [],
    minTimestampMs: 0,
  });
});

const publish = (watermarkMs: number) =>
  client.setData(current.scope.source("znodes").cursor, encodeCursor({ ...NEW_CURSOR, watermarkMs }));
const hold = (stage: string, shard: number, holdMs: number, nextTimerMs = holdMs) =>
  client.setData(current.scope.shard(stage, shard).head, encodeHead({ ...NEW_HEAD, holdMs, nextTimerMs }));
const append = (stage: string, shard: number, timestampMs: number) =>
  client.create(segmentPrefix(current.scope.shard(stage, shard).inbox, timestampMs), undefined, {
    mode: "persistent-sequential",
  });
const inputOf = (stage: string, shard = 0, through: ZooKeeperClient = client) =>
  readShardInput(through, current.scope, GRAPH, stage, shard);
const watermarkOf = async (stage: string): Promise<number> => (await inputOf(stage)).inputWatermarkMs;

test("the watermark starts at minus infinity, and at infinity below sources that have ended", async () => {
  expect(await watermarkOf("read")).toBe(Number.NEGATIVE_INFINITY);
  expect(await watermarkOf("start")).toBe(Number.POSITIVE_INFINITY);
  expect(await watermarkOf("join")).toBe(Number.NEGATIVE_INFINITY);
});

test("segments and holds upstream keep it back, one's own do not", async () => {
  await publish(1_000);
  expect(await watermarkOf("join")).toBe(1_000);
  await append("join", 0, 5);
  await hold("join", 0, 6);
  expect(await watermarkOf("join")).toBe(1_000);
  await append("group", 1, 900);
  expect(await watermarkOf("join")).toBe(900);
  await hold("group", 0, 800);
  expect(await watermarkOf("join")).toBe(800);
  await hold("read", 1, 700);
  expect(await watermarkOf("join")).toBe(700);
  expect(await watermarkOf("group")).toBe(700);
  expect(await watermarkOf("read")).toBe(1_000);
  await append("start", 0, -50);
  expect(await watermarkOf("join")).toBe(-50);
  expect(await watermarkOf("group")).toBe(700);
});

test("the inbox is listed in the order of appends", async () => {
  for (const timestampMs of [30, -10, 20]) await append("group", 1, timestampMs);
  const { segments } = await inputOf("group", 1);
  expect(segments.map(({ minTimestampMs }) => minTimestampMs)).toEqual([30, -10, 20]);
});

test("the reads are sent in the order in which data flows, each inbox before its head, the own inbox last", async () => {
  const sent: string[] = [];
  const recording = new Proxy(client as ZooKeeperClient, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name, target);
      if (typeof value !== "function") return value;
      return (path: string) => {
        sent.push(path.slice(current.scope.path.length + 1));
        return value.call(target, path);
      };
    },
  });
  await inputOf("join", 0, recording);
  const shard = (stage: string, each: number) => `stages/${stage}/${each}`;
  expect(sent).toEqual([
    "sources/znodes",
    ...[`${shard("read", 0)}/inbox`, `${shard("read", 1)}/inbox`, shard("read", 0), shard("read", 1)],
    ...[`${shard("start", 0)}/inbox`, shard("start", 0)],
    ...[`${shard("group", 0)}/inbox`, `${shard("group", 1)}/inbox`, shard("group", 0), shard("group", 1)],
    `${shard("join", 0)}/inbox`,
  ]);
});

test("an element that moves on between any two reads is seen on its way", async () => {
  // The element at time 500 goes from the source into read's inbox, group's inbox, group's state, join's inbox.
  await publish(400);
  const moves: (() => Promise<unknown>)[] = [
    async () => {
      const { path } = await append("read", 0, 500);
      await publish(1_000);
      return path;
    },
    () => move("read", 0, () => append("group", 0, 500)),
    () => move("group", 0, () => hold("group", 0, 500)),
    () => Promise.all([append("join", 0, 500), hold("group", 0, Number.POSITIVE_INFINITY)]),
  ];
  const reads = 14;
  for (let first = 0; first <= reads; first += 1) {
    await reset();
    let count = 0;
    let next = 0;
    const interleaving = new Proxy(client as ZooKeeperClient, {
      get(target, name) {
        const value: unknown = Reflect.get(target, name, target);
        if (typeof value !== "function") return value;
        // Sending is synchronous; what is sent behind the read goes to the server behind it.
        return (path: string) => {
          const reply = value.call(target, path);
          if (count++ >= first && next < moves.length) moved.push(moves[next++]!());
          return reply;
        };
      },
    });
    const moved: Promise<unknown>[] = [];
    const { inputWatermarkMs, segments } = await inputOf("join", 0, interleaving);
    await Promise.all(moved);
    const isThere = segments.some(({ minTimestampMs }) => minTimestampMs === 500);
    expect(isThere || inputWatermarkMs <= 500).toBe(true);
  }

  async function move(stage: string, shard: number, to: () => Promise<unknown>): Promise<void> {
    const { inbox } = current.scope.shard(stage, shard);
    const listed = client.getChildren(inbox);
    const arrived = to();
    const { children } = await listed;
    await arrived;
    await Promise.all(children.map((child) => client.delete(`${inbox}/${child}`)));
  }

  async function reset(): Promise<void> {
    await publish(400);
    for (const { id } of GRAPH.stages) {
      for (let shard = 0; shard < GRAPH.shards[id]!; shard += 1) {
        await hold(id, shard, Number.POSITIVE_INFINITY);
        const { inbox } = current.scope.shard(id, shard);
        for (const child of (await client.getChildren(inbox)).children)
          await client.delete(`${inbox}/${child}`);
      }
    }
  }
});

test("the zxid that is told was surely seen by the listing, whatever happens on the client meanwhile", async () => {
  const { inbox } = current.scope.shard("read", 0);
  // The listing's reply is held back until an append that it has not seen was answered to the same client.
  let appendedAt = 0n;
  const busy = new Proxy(client as ZooKeeperClient, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name, target);
      if (name !== "getChildren") return typeof value === "function" ? value.bind(target) : value;
      return async (path: string) => {
        const listed = await target.getChildren(path);
        const mode = { mode: "persistent-sequential" } as const;
        if (path === inbox)
          appendedAt = (await target.create(segmentPrefix(inbox, 1), undefined, mode)).stat.czxid;
        return listed;
      };
    },
  });
  const { segments, listedZxid } = await inputOf("read", 0, busy);
  expect(segments).toEqual([]);
  expect(client.lastZxid >= appendedAt).toBe(true);
  expect(listedZxid < appendedAt).toBe(true);
  const again = await inputOf("read");
  expect(again.segments).toHaveLength(1);
  expect(again.listedZxid >= appendedAt).toBe(true);
});

test("a missing part is an error, without a rejection that nobody handles", async () => {
  await client.delete(current.scope.source("znodes").manifest);
  await client.delete(current.scope.source("znodes").cursor);
  await expect(inputOf("join")).rejects.toMatchObject({ name: "NoNodeError" });
  await expect(inputOf("nowhere")).rejects.toThrow("stages/nowhere/0/inbox");
});
