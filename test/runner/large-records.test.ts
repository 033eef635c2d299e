import * as beam from "apache-beam";
import { type PipelineOptions, readZnodeChanges, writeToZnodes } from "beamkeeper";
import { connect, type ZooKeeper, type ZooKeeperClient } from "../../lib/zookeeper";
import { ShardLab } from "../support/shard-lab";
import { type LocalZooKeeper, startZooKeeper } from "../support/zookeeper-server";

const MIB = 1024 * 1024;

let server: LocalZooKeeper;
let client: ZooKeeper;
let lab: ShardLab;
let tests = 0;

beforeAll(async () => {
  server = await startZooKeeper();
  client = await connect({ connectString: server.connectString });
});

afterAll(async () => {
  await client?.close();
  await server?.stop();
});

afterEach(() => lab?.close());

/** Each value becomes one element of so many bytes, which is grouped; the lengths in each group become a znode. */
function grown(bytes: number): PipelineOptions {
  const name = `large-${++tests}`;
  return {
    name,
    build: (root) =>
      root
        .apply(readZnodeChanges("/watched"))
        .map(({ text }) => ({ name: text!, content: text!.repeat(bytes) }))
        .apply(beam.windowInto(beam.fixedWindows(1)))
        .apply(beam.groupBy("name"))
        .map(({ key, value }) => `${key}: ${value.map(({ content }) => content.length).sort()}`)
        .apply(
          writeToZnodes((text) => ({ path: `/${name}-${text.slice(0, 1)}`, data: text }), { mode: "create" }),
        ),
  };
}

const result = async (key: string): Promise<string> =>
  (await client.getData(`/large-${tests}-${key}`)).data.toString();

test("an element of five megabytes goes from stage to stage, through state, and out; nothing of it is left behind", async () => {
  lab = await ShardLab.open(client, grown(5 * MIB));
  await lab.append("a", "b", "a");
  expect(await lab.drain(0)).toEqual([]);
  expect((await lab.blobs.list("")).length).toBeGreaterThan(0);
  expect(await lab.drain(1)).toEqual([]);
  await lab.publish(2_000);
  expect(await lab.drain(1)).toEqual([]);
  expect([await result("a"), await result("b")]).toEqual([`a: ${5 * MIB},${5 * MIB}`, `b: ${5 * MIB}`]);
  expect(await lab.blobs.list("")).toEqual([]);
});

test("state in blobs is loaded cold at each commit", async () => {
  lab = await ShardLab.open(client, grown(40 * 1024));
  for (let round = 0; round < 15; round++) {
    await lab.append("a", "b", "c");
    expect(await lab.drain(0)).toEqual([]);
    expect(await lab.drain(1)).toEqual([]);
  }
  expect((await lab.head(1)).state.bytes).toBeGreaterThan(45 * 40 * 1024);
  await lab.publish(2_000);
  expect(await lab.drain(1)).toEqual([]);
  expect(await result("b")).toBe(`b: ${Array.from({ length: 15 }, () => 40 * 1024)}`);
  expect(await lab.blobs.list("")).toEqual([]);
});

test.each([
  ["before the commit is sent", (): Promise<never> => Promise.reject(new Error("died"))],
  [
    "after the commit, before what it replaced is deleted",
    async (send: () => Promise<unknown>): Promise<never> => {
      await send();
      throw new Error("died");
    },
  ],
])("a process that dies %s leaves nothing lost or doubled, and its blobs are collected", async (_, die) => {
  lab = await ShardLab.open(client, grown(MIB));
  await lab.append("a", "b");
  expect(await lab.drain(0)).toEqual([]);
  let deaths = 0;
  const dying = new Proxy(client as ZooKeeperClient, {
    get(target, name) {
      if (name === "multi")
        return (ops: Parameters<ZooKeeperClient["multi"]>[0]) => {
          deaths += 1;
          return die(() => target.multi(ops));
        };
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
  await expect(lab.invoke(1, lab.newRunner({}, dying))).rejects.toThrow("died");
  expect(deaths).toBe(1);
  expect(await lab.drain(1)).toEqual([]);
  await lab.publish(2_000);
  expect(await lab.drain(1)).toEqual([]);
  expect([await result("a"), await result("b")]).toEqual([`a: ${MIB}`, `b: ${MIB}`]);
  // The last commits' own garbage is gone, and so is what the dead process left.
  await lab.invoke(0, lab.newRunner());
  expect(await lab.blobs.list("")).toEqual([]);
});

test("a blob that someone took away is an error that says so, and nothing is consumed", async () => {
  lab = await ShardLab.open(client, grown(MIB));
  await lab.append("a");
  expect(await lab.drain(0)).toEqual([]);
  const [name] = (await lab.blobs.list("")) as [string];
  const blob = (await lab.blobs.get(name))!;
  await lab.blobs.delete(name);
  await expect(lab.invoke(1)).rejects.toThrow("the blob that it refers to is not in the blob store");
  expect(await lab.backlog(1)).toBe(1);
  await lab.blobs.put(name, blob);
  expect(await lab.drain(1)).toEqual([]);
  expect(await lab.backlog(1)).toBe(0);
});
