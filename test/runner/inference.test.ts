import {
  type ModelHandler,
  type PipelineOptions,
  readZnodeChanges,
  runInference,
  writeToZnodes,
} from "beamkeeper";
import { connect, type ZooKeeper } from "../../lib/zookeeper";
import { ShardLab } from "../support/shard-lab";
import { type LocalZooKeeper, startZooKeeper } from "../support/zookeeper-server";

let server: LocalZooKeeper;
let client: ZooKeeper;
let lab: ShardLab;
let results: string;
let model: string;
let tests = 0;
let loaded: string[];
let unloaded: string[];

beforeAll(async () => {
  server = await startZooKeeper();
  client = await connect({ connectString: server.connectString });
});

afterAll(async () => {
  await client?.close();
  await server?.stop();
});

beforeEach(async () => {
  results = `/results-${++tests}`;
  model = `/model-${tests}`;
  loaded = [];
  unloaded = [];
  await client.create(results);
});

afterEach(() => lab?.close());

/** A model that is a name, which it writes before what it is given. */
const prefixing: ModelHandler<string, string, { readonly name: string }> = {
  load: async ({ text }) => {
    if (text === "broken") throw new Error("no model in it");
    loaded.push(text);
    return { name: text };
  },
  predict: async ({ name }, batch) => {
    if (unloaded.includes(name)) throw new Error(`${name} was unloaded`);
    return batch.map((text) => `${name}-${text}`);
  },
  unload: ({ name }) => void unloaded.push(name),
};

const predicting = (): PipelineOptions => ({
  name: `p-${tests}`,
  failures: { maxAttempts: 1 },
  build: (root) =>
    root
      .apply(readZnodeChanges("/watched"))
      .map(({ text }) => text!)
      .apply(runInference(prefixing, { model, maxElements: 3 }))
      .apply(writeToZnodes((name) => ({ path: `${results}/${name}`, data: "" }), { mode: "create" })),
});
const written = async (): Promise<string[]> => (await lab.created(results)).map(({ name }) => name).sort();

test("a changed model is taken up between bundles, loaded once, and the old one is unloaded", async () => {
  await client.create(model, Buffer.from("one"));
  lab = await ShardLab.open(client, predicting());
  const runner = lab.newRunner({ maxUnits: 2 });
  await lab.append(..."abcde");
  expect(await lab.drain(0, runner)).toEqual([]);
  expect([await written(), loaded, unloaded]).toEqual([
    ["one-a", "one-b", "one-c", "one-d", "one-e"],
    ["one"],
    [],
  ]);
  await client.setData(model, Buffer.from("two"));
  await lab.append("f");
  expect(await lab.drain(0, runner)).toEqual([]);
  expect((await written()).at(-1)).toBe("two-f");
  expect([loaded, unloaded]).toEqual([["one", "two"], ["one"]]);
  await runner.close();
  expect(unloaded).toEqual(["one", "two"]);
});

test("without a model, or with one that can't be loaded, nothing is processed, and no element is to blame", async () => {
  lab = await ShardLab.open(client, predicting());
  const runner = lab.newRunner();
  await lab.append("a");
  await expect(lab.invoke(0, runner)).rejects.toThrow(`the model's znode ${model} does not exist`);
  await client.create(model, Buffer.from("broken"));
  await expect(lab.invoke(0, runner)).rejects.toThrow(/"runInference": Error: no model in it/);
  expect([(await lab.head()).failing, await lab.letters(), await written()]).toEqual([null, [], []]);
  await client.setData(model, Buffer.from("mended"));
  expect(await lab.drain(0, runner)).toEqual([]);
  expect(await written()).toEqual(["mended-a"]);
});

test("the bundles of one process use what they began with", async () => {
  await client.create(model, Buffer.from("one"));
  lab = await ShardLab.open(client, predicting());
  const runner = lab.newRunner();
  await lab.append("a");
  const both = await Promise.allSettled([lab.invoke(0, runner), lab.invoke(0, runner)]);
  expect(both.map(({ status }) => status)).toEqual(["fulfilled", "fulfilled"]);
  expect([await written(), loaded]).toEqual([["one-a"], ["one"]]);
});
