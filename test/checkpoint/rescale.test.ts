import fc from "fast-check";
import { blobPrefix, CommitBlobs, DirectoryBlobs } from "../../lib/checkpoint/blobs";
import { SEGMENT_SIZE_BYTES } from "../../lib/checkpoint/commit";
import { cancelPipeline, pausePipeline, resumePipeline } from "../../lib/checkpoint/control";
import { deadLetterOps, letterElement, listDeadLetters } from "../../lib/checkpoint/dead-letter";
import { PipelineLayout, segmentNames, segmentPrefix, shardOf } from "../../lib/checkpoint/layout";
import { decodeHead, encodeHead, encodeOutput, NEW_HEAD } from "../../lib/checkpoint/records";
import { type KeyKnowledge, sourcesOf } from "../../lib/checkpoint/redistribution";
import { rescalePipeline } from "../../lib/checkpoint/rescale";
import { openPipeline, readGeneration } from "../../lib/checkpoint/scope";
import { decodeSegment, encodeSegment } from "../../lib/checkpoint/segment";
import { loadState, readHead, runReader } from "../../lib/checkpoint/stored-state";
import { nextTurn } from "../../lib/checkpoint/watermark";
import { connect, type ZooKeeper, type ZooKeeperClient } from "../../lib/zookeeper";
import { temporaryFolder } from "../support/deployment";
import { type LocalZooKeeper, startZooKeeper } from "../support/zookeeper-server";

let server: LocalZooKeeper;
let client: ZooKeeper;
let folder: ReturnType<typeof temporaryFolder>;
let layout: PipelineLayout;
let blobs: DirectoryBlobs;
let tests = 0;

/** An element is its key, as a text; the key is its own hash. */
const keys: KeyKnowledge = {
  keyHashOf: (_stage, element) => Number(Buffer.from(element).toString("utf8").split(":")[0]),
  mergeShared: (all) =>
    all.length === 0
      ? undefined
      : Buffer.from(all.map((shared) => (shared ? String(shared) : "-")).join("+")),
};
const PLAN = {
  fingerprint: "f",
  sources: ["znodes"],
  shards: { read: 1, group: 2 },
  upstream: { read: [{ type: "source", id: "znodes" }], group: [{ type: "stage", id: "read" }] },
  impulses: [],
  minTimestampMs: 0,
} as const;

beforeAll(async () => {
  folder = temporaryFolder();
  blobs = new DirectoryBlobs(folder.path);
  server = await startZooKeeper();
  client = await connect({ connectString: server.connectString });
});

afterAll(async () => {
  await client?.close();
  await server?.stop();
  folder?.remove();
});

beforeEach(async () => {
  layout = new PipelineLayout("/beamkeeper", `p-${++tests}`);
  await openPipeline(client, layout, PLAN);
});

const one = (element: string): Buffer =>
  encodeSegment([{ bytes: Buffer.from(element), timestampMs: 5 }]).data;
const rescale = (shards: Record<string, number>) => rescalePipeline({ client, blobs, layout, shards, keys });

async function append(shard: number, elements: readonly string[], timestampMs: number): Promise<string> {
  const { inbox } = layout.epoch(1).shard("group", shard);
  const { data } = encodeSegment(elements.map((text) => ({ bytes: Buffer.from(text), timestampMs })));
  const mode = "persistent-sequential";
  const { path } = await client.create(segmentPrefix(inbox, timestampMs), data, { mode });
  return path.slice(inbox.length + 1);
}

/** Every element that waits in an epoch, by shard. */
async function waiting(epoch: number, shards: number): Promise<string[][]> {
  const all: string[][] = [];
  for (let shard = 0; shard < shards; shard++) {
    const { inbox } = layout.epoch(epoch).shard("group", shard);
    const names = segmentNames((await client.getChildren(inbox)).children);
    const elements: string[] = [];
    for (const { name } of names) {
      const { data } = await client.getData(`${inbox}/${name}`);
      elements.push(...decodeSegment(data, name).map(String));
    }
    all.push(elements);
  }
  return all;
}

test("what waits goes where its key goes, in order for each key, without what was consumed", async () => {
  const oldest = await append(0, ["1:a", "40:a", "1:b"], 700);
  await append(0, ["40:b", "1:c"], 500);
  await append(1, ["100:a", "70:a", "100:b"], 900);
  const { head } = layout.epoch(1).shard("group", 0);
  await client.setData(
    head,
    encodeHead({ ...NEW_HEAD, number: 3, ids: ["x"], position: { segment: oldest, elements: 1 } }),
  );
  expect(await rescale({ group: 4 })).toMatchObject({ epoch: 2, state: "running", shards: { group: 4 } });
  expect(await waiting(2, 4)).toEqual([["1:b", "1:c"], ["40:a", "40:b"], ["70:a"], ["100:a", "100:b"]]);
  const { inbox } = layout.epoch(2).shard("group", 1);
  const [first] = segmentNames((await client.getChildren(inbox)).children);
  expect(first!.minTimestampMs).toBe(700);
  const { path } = await client.create(segmentPrefix(inbox, 1), undefined, { mode: "persistent-sequential" });
  expect(segmentNames((await client.getChildren(inbox)).children).at(-1)!.name).toBe(
    path.slice(inbox.length + 1),
  );
  await client.delete(path);
  expect(await client.exists(layout.epoch(1).path)).toBeNull();
  expect(await rescale({ group: 1 })).toMatchObject({ epoch: 3, shards: { group: 1 } });
  const [all] = await waiting(3, 1);
  for (const key of ["1", "40", "70", "100"]) {
    const letters = all!.filter((text) => text.startsWith(`${key}:`)).map((text) => text.split(":")[1]);
    expect(letters).toEqual([...letters].sort());
  }
  expect(all).toHaveLength(7);
});

test("what waits keeps the watermark of its shard, and those behind it come after it", async () => {
  const heads = [
    { watermarkMs: 500, element: "1:a" },
    { watermarkMs: 200, element: "100:a" },
  ];
  for (const [shard, { watermarkMs, element }] of heads.entries()) {
    const { head } = layout.epoch(1).shard("group", shard);
    await append(shard, [element], 400);
    await client.setData(head, encodeHead({ ...NEW_HEAD, number: 1, ids: ["x"], watermarkMs }));
  }
  const headOf = async (epoch: number, shard: number) =>
    (await readHead(client, layout.epoch(epoch).shard("group", shard))).head;
  await rescale({ group: 1 });
  expect(await waiting(2, 1)).toEqual([["100:a", "1:a"]]);
  const { inbox } = layout.epoch(2).shard("group", 0);
  const [late, far] = segmentNames((await client.getChildren(inbox)).children).map(({ name }) => name);
  const inherited = [{ through: late, watermarkMs: 500 }];
  expect(await headOf(2, 0)).toMatchObject({ watermarkMs: 200, inherited });
  const input = {
    inputWatermarkMs: 450,
    segments: segmentNames([late!, far!]),
    listedZxid: 0n,
    sourceCommits: new Map(),
  };
  const head = await headOf(2, 0);
  expect(nextTurn(head, input)).toMatchObject({ watermarkMs: 500, segments: [{ name: late }] });
  const done = { ...head, watermarkMs: 500, inherited: [] };
  expect(nextTurn(done, { ...input, segments: segmentNames([far!]) })).toMatchObject({
    watermarkMs: 500,
    segments: [{ name: far }],
  });
  // What is inherited is handed on, and a shard without anything that waits is as far as the furthest.
  await rescale({ group: 2 });
  expect(await waiting(3, 2)).toEqual([["1:a"], ["100:a"]]);
  expect(await headOf(3, 0)).toMatchObject({ watermarkMs: 500, inherited: [] });
  expect(await headOf(3, 1)).toMatchObject({ watermarkMs: 200, inherited: [{ watermarkMs: 500 }] });
});

test("state, holds, timers, totals, dead letters and files go along; what is not said stays", async () => {
  const scope = layout.epoch(1);
  const cells = Array.from({ length: 300 }, (_, n) => ({
    group: n % 128,
    id: `id-${n}`,
    value: Buffer.alloc(700, n % 256),
  }));
  for (const shard of [0, 1]) {
    const own = scope.shard("group", shard);
    const current = await readHead(client, own);
    const stored = (await loadState(client, blobs, own, current, () => undefined))!;
    const mine = cells.filter(({ group }) => shardOf(group, 2) === shard);
    const plan = await stored.plan(1, mine, Buffer.from(`s${shard}`), 1e6, runReader(client, blobs));
    const head = {
      ...NEW_HEAD,
      number: 1,
      ids: [`c${shard}`],
      watermarkMs: 100 + shard,
      state: plan.summary,
    };
    const times = { holdMs: 200 - shard, nextTimerMs: 300 - shard, nextProcessingTimerMs: 400 - shard };
    const counters = { ...NEW_HEAD.counters, elementsIn: 10, elementsOut: 20 + shard };
    await client.multi([
      ...plan.ops,
      { type: "setData", path: own.head, data: encodeHead({ ...head, ...times, counters }) },
    ]);
  }
  const letter = {
    kind: "element",
    position: { segment: "s", index: 1 },
    text: "t",
    minTimestampMs: 5,
  } as const;
  const error = { name: "E", message: "m", stack: "" };
  const dead = { ...letter, error, attempts: 3, firstFailedMs: 1, deadMs: 2, segment: one("127:z") };
  const huge = { ...dead, text: "large", segment: one(`127:${"z".repeat(SEGMENT_SIZE_BYTES)}`) };
  const from = scope.shard("group", 1);
  const written = new CommitBlobs(blobs, from.head, 1, "c1");
  await client.multi(await deadLetterOps(from, 1, [dead, huge], written, SEGMENT_SIZE_BYTES));
  const entry = encodeOutput({ temporary: "temporary", final: "final" });
  await client.create(`${scope.outputs}/${blobPrefix(scope.shard("group", 1).head)}1.id.0`, entry);

  await rescale({ group: 1 });
  const to = layout.epoch(2);
  const own = to.shard("group", 0);
  const found = new Map<string, string>();
  const current = await readHead(client, own);
  await loadState(
    client,
    blobs,
    own,
    current,
    ({ id, value }) => void found.set(Buffer.from(id).toString(), Buffer.from(value!).toString("hex")),
  );
  expect(found.size).toBe(300);
  for (const { id, value } of cells) expect(found.get(id.toString())).toBe(value.toString("hex"));
  expect(current.head).toMatchObject({
    // Nothing waits in the one that is behind, so it is as far as the other.
    ...{
      watermarkMs: 101,
      inherited: [],
      holdMs: 199,
      nextTimerMs: 299,
      nextProcessingTimerMs: 399,
      position: null,
    },
    counters: { elementsIn: 20, elementsOut: 41 },
  });
  expect(Buffer.from(current.head.state.shared!, "base64").toString()).toBe("s0+s1");
  const [kept, large] = await listDeadLetters(client, layout, "group");
  expect(kept!.letter).toEqual(dead);
  const bytes = decodeSegment(huge.segment, "large")[0]!;
  expect(await letterElement(blobs, large!.letter, large!.path)).toEqual(bytes);
  expect((await blobs.list(blobPrefix(own.head))).length).toBe(1);
  expect(await blobs.list(blobPrefix(from.head))).toEqual([]);
  const outputs = (await client.getChildren(to.outputs)).children;
  expect(outputs).toHaveLength(1);
  expect(outputs[0]!.startsWith(blobPrefix(own.head))).toBe(true);
  const read = to.shard("read", 0);
  expect(decodeHead((await client.getData(read.head)).data, read.head)).toEqual({ ...NEW_HEAD, number: 1 });
});

test("a pipeline that was paused stays so, one that ended is refused, and wrong numbers are named", async () => {
  const { version } = (await readGeneration(client, layout))!;
  const wrong = async (shards: Record<string, number>, message: RegExp) =>
    expect(rescale(shards)).rejects.toThrow(message);
  await wrong({ nope: 2 }, /no stage "nope"; its stages are read, group/);
  await wrong({ group: 0 }, /can have 1 to 128 shards/);
  await wrong({ group: 129 }, /not 129/);
  expect((await readGeneration(client, layout))!.version).toBe(version);
  expect(await rescale({ group: 2 })).toMatchObject({ epoch: 1, state: "running" });
  await pausePipeline(client, layout);
  expect(await rescale({ group: 3 })).toMatchObject({ epoch: 2, state: "paused" });
  await cancelPipeline(client, layout);
  await wrong({ group: 4 }, /is cancelled; only a running or paused pipeline can be rescaled/);
});

test("what fails before the switch leaves the pipeline as it was", async () => {
  await append(0, ["1:a"], 5);
  const failing = {
    ...keys,
    keyHashOf: () => {
      throw new RangeError("no such key");
    },
  };
  const failed = rescalePipeline({ client, blobs, layout, shards: { group: 3 }, keys: failing });
  await expect(failed).rejects.toThrow("no such key");
  const { generation } = (await readGeneration(client, layout))!;
  expect(generation).toMatchObject({ state: "running", epoch: 1 });
  expect((await client.getChildren(layout.epochs)).children).toEqual(["1"]);
});

test("whoever makes the pipeline go on meanwhile has the last word, and the one who rescales is told so", async () => {
  const { inbox } = layout.epoch(1).shard("group", 0);
  const first = await append(0, ["1:a"], 5);
  const interrupted = new Proxy<ZooKeeperClient>(client, {
    get: (target, name) => {
      const value: unknown = Reflect.get(target, name, target);
      if (name !== "getData") return typeof value === "function" ? value.bind(target) : value;
      return async (path: string) => {
        if (path === `${inbox}/${first}`) {
          await resumePipeline(client, layout);
          await client.delete(path);
        }
        return target.getData(path);
      };
    },
  });
  const failed = rescalePipeline({ client: interrupted, blobs, layout, shards: { group: 4 }, keys });
  await expect(failed).rejects.toMatchObject({
    name: "ControlError",
    message: expect.stringContaining("was changed while it was rescaled: it is running in epoch 1"),
  });
  const current = await readGeneration(client, layout);
  expect(current?.generation).toMatchObject({ epoch: 1, state: "running", shards: { group: 2 } });
  expect((await client.getChildren(layout.epochs)).children).toEqual(["1"]);
});

test("the shards of a number take from those of another whose keys they get, and from no others", () => {
  const number = fc.integer({ min: 1, max: 128 });
  fc.assert(
    fc.property(number, number, (shards, before) => {
      const hashes = Array.from({ length: 128 }, (_, hash) => hash);
      const isComplete = hashes.every((hash) =>
        sourcesOf(shardOf(hash, shards), shards, before).includes(shardOf(hash, before)),
      );
      return isComplete && sourcesOf(0, shards, shards).join() === "0";
    }),
    { numRuns: 50 },
  );
});
