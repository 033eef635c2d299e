import { EncodingError } from "../../lib/checkpoint/encoding";
import { PipelineLayout, segmentNames } from "../../lib/checkpoint/layout";
import { decodeCursor, decodeHead, NEW_CURSOR, NEW_HEAD } from "../../lib/checkpoint/records";
import {
  createPath,
  openPipeline,
  PipelineMismatchError,
  readGeneration,
  type ScopePlan,
} from "../../lib/checkpoint/scope";
import { decodeSegment } from "../../lib/checkpoint/segment";
import { rescale } from "../../lib/runner/rescale";
import { MemoryBlobs } from "../../lib/simulation/memory-files";
import { connect, type Op, type ZooKeeper, type ZooKeeperClient } from "../../lib/zookeeper";
import { TcpProxy } from "../support/tcp-proxy";
import { type LocalZooKeeper, startZooKeeper } from "../support/zookeeper-server";

const PLAN: ScopePlan = {
  fingerprint: "f".repeat(64),
  sources: ["readZnodeChanges"],
  shards: { readZnodeChanges: 2, "group/by": 3, impulse: 1 },
  upstream: {},
  impulses: ["impulse"],
  minTimestampMs: -1_000,
};

let server: LocalZooKeeper;
let client: ZooKeeper;
let layout: PipelineLayout;
let tests = 0;

beforeAll(async () => {
  server = await startZooKeeper();
  client = await connect({ connectString: server.connectString });
});

afterAll(async () => {
  await client?.close();
  await server?.stop();
});

beforeEach(() => {
  layout = new PipelineLayout(`/root-${++tests}/of/it`, "a pipeline");
});

test("a pipeline is created whole, running, with its first epoch", async () => {
  expect(await readGeneration(client, layout)).toBeUndefined();
  const { generation, version, scope } = await openPipeline(client, layout, PLAN);
  expect(generation).toEqual({
    state: "running",
    epoch: 1,
    fingerprint: PLAN.fingerprint,
    shards: PLAN.shards,
    upstream: PLAN.upstream,
    sideInputStages: [],
    keylessStages: [],
  });
  expect(version).toBe(0);
  const { cursor, manifest } = scope.source("readZnodeChanges");
  expect(decodeCursor((await client.getData(cursor)).data, cursor)).toEqual(NEW_CURSOR);
  expect(await client.exists(manifest)).not.toBeNull();
  for (const [stage, shards] of Object.entries(PLAN.shards)) {
    for (let shard = 0; shard < shards; shard += 1) {
      const { head, inbox, state } = scope.shard(stage, shard);
      expect(decodeHead((await client.getData(head)).data, head)).toEqual(NEW_HEAD);
      expect((await client.getData(state)).data).toHaveLength(0);
      const names = segmentNames((await client.getChildren(inbox)).children);
      expect(names.map(({ minTimestampMs }) => minTimestampMs)).toEqual(stage === "impulse" ? [-1_000] : []);
      for (const { name } of names) {
        const path = `${inbox}/${name}`;
        expect(decodeSegment((await client.getData(path)).data, path)).toEqual([Buffer.alloc(0)]);
      }
    }
  }
});

test("many starters at once make one pipeline, and all of them get it", async () => {
  const opened = await Promise.all(Array.from({ length: 5 }, () => openPipeline(client, layout, PLAN)));
  expect(new Set(opened.map(({ version }) => version))).toEqual(new Set([0]));
  expect((await client.getChildren(layout.epochs)).children).toEqual(["1"]);
  const { inbox } = layout.epoch(1).shard("impulse", 0);
  expect((await client.getChildren(inbox)).children).toHaveLength(1);
});

test("a start whose reply is lost finds what it made", async () => {
  const proxy = await TcpProxy.start(server.connectString);
  const other = await connect({ connectString: proxy.address });
  try {
    let multis = 0;
    const faulty = new Proxy(other as ZooKeeperClient, {
      get(target, name) {
        const value: unknown = Reflect.get(target, name, target);
        if (name !== "multi") return typeof value === "function" ? value.bind(target) : value;
        return async (ops: readonly Op[]) => {
          multis += 1;
          proxy.dropReplies();
          const reply = target.multi(ops);
          reply.catch(() => undefined);
          while (!(await client.exists(layout.generation))) await client.sync("/");
          proxy.cut();
          return reply;
        };
      },
    });
    expect((await openPipeline(faulty, layout, PLAN)).version).toBe(0);
    expect(multis).toBe(1);
  } finally {
    await other.close();
    await proxy.stop();
  }
});

test("another graph is refused, with both fingerprints and what to do, and nothing is changed", async () => {
  await openPipeline(client, layout, PLAN);
  const other = openPipeline(client, layout, { ...PLAN, fingerprint: "0123456789abcdef" });
  await expect(other).rejects.toThrow(PipelineMismatchError);
  await expect(other).rejects.toThrow(/ffffffffffff.*0123456789ab\b.*another name/);
  expect((await readGeneration(client, layout))!.version).toBe(0);
});

test("other numbers of shards are not the definition's to say, once the pipeline is there", async () => {
  await openPipeline(client, layout, PLAN);
  const shards = { ...PLAN.shards, "group/by": 4 };
  expect((await openPipeline(client, layout, { ...PLAN, shards })).generation.shards).toEqual(PLAN.shards);
});

test("a pipeline whose generation was deleted is named, instead of being started over its remains", async () => {
  await openPipeline(client, layout, PLAN);
  await client.delete(layout.generation);
  await expect(openPipeline(client, layout, PLAN)).rejects.toThrow(
    /holds an epoch and no "generation".*Restore/,
  );
});

test("a generation that is none is an error that names the znode", async () => {
  await createPath(client, layout.path);
  await client.create(layout.generation, Buffer.from("{}"));
  const opened = openPipeline(client, layout, PLAN);
  await expect(opened).rejects.toThrow(EncodingError);
  await expect(opened).rejects.toThrow(layout.generation);
});

test("a path is created with its parents, by several at once, and may be there", async () => {
  const path = `/paths-${tests}/a/b/c`;
  await Promise.all([createPath(client, path), createPath(client, path), createPath(client, path)]);
  await createPath(client, path);
  expect((await client.getData(path)).data).toHaveLength(0);
});

test("other code that finds the epoch gone, because it was replaced meanwhile, is told that the graphs differ", async () => {
  await openPipeline(client, layout, PLAN);
  let isReplaced = false;
  const getData: ZooKeeper["getData"] = async (path, options) => {
    if (path === layout.epoch(1).path && !isReplaced) {
      isReplaced = true;
      await rescale(client, new MemoryBlobs(), layout, { readZnodeChanges: 3 });
    }
    return client.getData(path, options);
  };
  const late = new Proxy(client, {
    get: (target, name) => {
      const value: unknown = name === "getData" ? getData : Reflect.get(target, name, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
  const other = { ...PLAN, fingerprint: "e".repeat(64) };
  await expect(openPipeline(late, layout, other)).rejects.toBeInstanceOf(PipelineMismatchError);
  expect(isReplaced).toBe(true);
});
