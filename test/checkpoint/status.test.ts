import { PipelineLayout, segmentPrefix } from "../../lib/checkpoint/layout";
import { encodeCursor, encodeHead, NEW_CURSOR, NEW_HEAD } from "../../lib/checkpoint/records";
import { type CurrentGeneration, openPipeline } from "../../lib/checkpoint/scope";
import { stageStatuses } from "../../lib/checkpoint/stage-status";
import { isSettled, readStatus } from "../../lib/checkpoint/status";
import { connect, type ZooKeeper, type ZooKeeperClient } from "../../lib/zookeeper";
import { type LocalZooKeeper, startZooKeeper } from "../support/zookeeper-server";

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
    shards: { read: 2, start: 1, group: 2, join: 1 },
    upstream: {
      read: [{ type: "source", id: "znodes" }],
      start: [{ type: "source", id: "start" }],
      group: [{ type: "stage", id: "read" }],
      join: [
        { type: "stage", id: "group" },
        { type: "stage", id: "start" },
      ],
    },
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

test("the status of a pipeline that was never started is none", async () => {
  expect(await readStatus(client, new PipelineLayout("/beamkeeper", "never"))).toBeUndefined();
});

test("it tells sources, backlogs and files, and whether all is done up to a time", async () => {
  const settled = async (timeMs: number) => isSettled((await readStatus(client, current.layout))!, timeMs);
  expect(await settled(0)).toBe(false);
  await publish(1_000);
  expect(await settled(999)).toBe(true);
  expect(await settled(1_000)).toBe(false);
  const { path } = await append("group", 1, 5);
  expect(await settled(999)).toBe(false);
  await client.delete(path);
  await hold("join", 0, 600, 600);
  expect(await settled(599)).toBe(false);
  await hold("join", 0, Number.POSITIVE_INFINITY);
  expect(await settled(999)).toBe(true);
  await client.create(`${current.scope.outputs}/a-file`);
  expect(await settled(0)).toBe(false);
  const status = (await readStatus(client, current.layout))!;
  expect(status.waitingFiles).toBe(1);
  expect(status.sources).toEqual([{ id: "znodes", watermarkMs: 1_000, commits: 0 }]);
  expect(status.shards.map(({ stage, shard }) => `${stage}/${shard}`)).toEqual([
    ...["read/0", "read/1", "start/0", "group/0", "group/1", "join/0"],
  ]);
});

test("it is read in the order in which data flows, so that what moves on is seen", async () => {
  await publish(1_000);
  await append("read", 0, 500);
  const { inbox } = current.scope.shard("read", 0);
  const [child] = (await client.getChildren(inbox)).children;
  for (let nth = 0; nth < 16; nth += 1) {
    let count = 0;
    const moved: Promise<unknown>[] = [];
    const interleaving = new Proxy(client as ZooKeeperClient, {
      get(target, name) {
        const value: unknown = Reflect.get(target, name, target);
        if (typeof value !== "function") return value;
        return (...args: unknown[]) => {
          const reply = value.apply(target, args);
          if (count++ === nth)
            moved.push(
              append("group", 0, 500),
              client.delete(`${inbox}/${child}`).catch(() => undefined),
            );
          return reply;
        };
      },
    });
    const status = (await readStatus(interleaving, current.layout))!;
    expect(status.shards.reduce((sum, { backlog }) => sum + backlog, 0)).toBeGreaterThan(0);
    await Promise.all(moved);
    const group = current.scope.shard("group", 0).inbox;
    for (const each of (await client.getChildren(group)).children) await client.delete(`${group}/${each}`);
    if (!(await client.exists(`${inbox}/${child}`))) await client.create(`${inbox}/${child}`);
  }
});

test("watermarks of stages are derived from what is upstream, what waits and what is held", async () => {
  const stages = async () => {
    const status = (await readStatus(client, current.layout))!;
    return Object.fromEntries(
      stageStatuses(status).map((each) => [each.stage, [each.inputWatermarkMs, each.outputWatermarkMs]]),
    );
  };
  const never = Number.NEGATIVE_INFINITY;
  const ended = Number.POSITIVE_INFINITY;
  expect(await stages()).toEqual({
    read: [never, never],
    start: [ended, ended],
    group: [never, never],
    join: [never, never],
  });
  await publish(1_000);
  await append("group", 1, 700);
  await hold("group", 0, 600);
  expect(await stages()).toMatchObject({ read: [1_000, 1_000], group: [700, 600], join: [600, 600] });
});
