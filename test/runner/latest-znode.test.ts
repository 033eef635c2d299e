import * as beam from "apache-beam";
import {
  json,
  mapAsync,
  mapBatches,
  type PipelineOptions,
  readZnodeChanges,
  readZnodeLatest,
  statefulParDo,
  text,
  valueState,
  writeToZnodes,
} from "beamkeeper";
import { connect, type ZooKeeper, type ZooKeeperClient } from "../../lib/zookeeper";
import { ShardLab, useLabServer } from "../support/shard-lab";
import { TcpProxy } from "../support/tcp-proxy";

let client: ZooKeeper;
let connectString: string;
let lab: ShardLab;
let results: string;
let config: string;
let tests = 0;

useLabServer((test) => {
  ({ client, connectString, results, number: tests } = test);
  config = `/config-${tests}`;
});

afterEach(() => lab?.close());

const written = async (): Promise<string[]> => (await lab.created(results)).map(({ name }) => name).sort();

/** The texts of the znodes through a transform; each result becomes a znode of its name. */
function pipeline(transform: (texts: beam.PCollection<string>) => beam.PCollection<string>): PipelineOptions {
  return {
    name: `p-${tests}`,
    failures: { maxAttempts: 1 },
    build: (root) =>
      transform(root.apply(readZnodeChanges("/watched")).map(({ text }) => text!)).apply(
        writeToZnodes((name) => ({ path: `${results}/${name}`, data: "" }), { mode: "create" }),
      ),
  };
}

const prefixed = (options?: Parameters<typeof readZnodeLatest<string>>[1]) =>
  pipeline((texts) =>
    texts.map((name, { prefix }) => `${prefix.lookup()}-${name}`, {
      prefix: readZnodeLatest(config, options),
    }),
  );

/** The same client, which counts the reads of the followed znode. */
function counting(): { readonly client: ZooKeeperClient; reads: number } {
  const counter = { reads: 0, client: undefined as unknown as ZooKeeperClient };
  counter.client = new Proxy(client, {
    get(target, name) {
      if (name === "getData")
        return (path: string, ...rest: []) => {
          if (path === config) counter.reads += 1;
          return target.getData(path, ...rest);
        };
      const member = Reflect.get(target, name, target) as unknown;
      return typeof member === "function" ? member.bind(target) : member;
    },
  });
  return counter;
}

test("a write is taken up between bundles, and a znode that is not written is read once", async () => {
  await client.create(config, Buffer.from("one"));
  lab = await ShardLab.open(client, prefixed());
  const counter = counting();
  const runner = lab.newRunner({ maxUnits: 2 }, counter.client);
  await lab.append(..."abcde");
  expect(await lab.drain(0, runner)).toEqual([]);
  await lab.append("f");
  expect(await lab.drain(0, runner)).toEqual([]);
  expect([await written(), counter.reads]).toEqual([
    ["one-a", "one-b", "one-c", "one-d", "one-e", "one-f"],
    1,
  ]);
  // A child is no write of the value.
  await client.create(`${config}/child`);
  await lab.append("g");
  expect(await lab.drain(0, runner)).toEqual([]);
  expect(counter.reads).toBe(1);
  await client.setData(config, Buffer.from("two"));
  await lab.append("h");
  expect(await lab.drain(0, runner)).toEqual([]);
  expect([(await written()).slice(-2), counter.reads]).toEqual([["one-g", "two-h"], 2]);
  await runner.close();
});

test("without the znode bundles wait, with a default they have that, and a deletion is a write", async () => {
  lab = await ShardLab.open(client, prefixed());
  const runner = lab.newRunner();
  await lab.append("a");
  await expect(lab.invoke(0, runner)).rejects.toThrow(
    `transform "map-2": Error: the znode ${config} does not exist; create it, or give readZnodeLatest a default`,
  );
  expect([(await lab.head()).failing, await lab.letters(), await written()]).toEqual([null, [], []]);
  await client.create(config, Buffer.from("one"));
  expect(await lab.drain(0, runner)).toEqual([]);
  lab.redeploy(prefixed({ default: "none" }));
  const other = lab.newRunner();
  await lab.append("b");
  expect(await lab.drain(0, other)).toEqual([]);
  await client.delete(config);
  await lab.append("c");
  expect(await lab.drain(0, other)).toEqual([]);
  expect(await written()).toEqual(["none-c", "one-a", "one-b"]);
});

test("a value that can't be decoded stops the bundles, or leaves the last one where that is asked", async () => {
  await client.create(config, Buffer.from('"one"'));
  lab = await ShardLab.open(client, prefixed({ decode: json<string>() }));
  const runner = lab.newRunner();
  await lab.append("a");
  expect(await lab.drain(0, runner)).toEqual([]);
  await client.setData(config, Buffer.from("{"));
  await lab.append("b");
  const failure = `Error: ${config}: the value of version 1 (1 bytes, mzxid 0x`;
  await expect(lab.invoke(0, runner)).rejects.toThrow(failure);
  expect([(await lab.head()).failing, await lab.letters()]).toEqual([null, []]);
  await client.setData(config, Buffer.from('"two"'));
  expect(await lab.drain(0, runner)).toEqual([]);

  lab.redeploy(prefixed({ decode: json<string>(), onUndecodable: "keep", checkVersion: true }));
  const warnings: string[] = [];
  const keeping = lab.newRunner({}, client, (level, _, fields) => {
    if (level === "warn") warnings.push(String(fields?.error));
  });
  await lab.append("c");
  expect(await lab.drain(0, keeping)).toEqual([]);
  await client.setData(config, Buffer.from("{"));
  await lab.append("d");
  await lab.append("e");
  expect(await lab.drain(0, keeping)).toEqual([]);
  expect(await written()).toEqual(["one-a", "two-b", "two-c", "two-d", "two-e"]);
  expect(warnings).toEqual([expect.stringContaining(`${config}: the value of version 3`)]);
  await lab.append("f");
  await expect(lab.invoke(0, lab.newRunner())).rejects.toThrow(`${config}: the value of version 3`);
});

test("with checkVersion nothing is committed that was computed from an older value", async () => {
  for (const [checkVersion, expected] of [
    [false, ["one-a", "one-b"]],
    [true, ["two-c", "two-d"]],
  ] as const) {
    await client.create(config, Buffer.from("one"));
    let calls = 0;
    const changing = pipeline((texts) =>
      texts.apply(
        mapAsync(
          async (name: string, { context }) => {
            const prefix = context.prefix.lookup();
            if (++calls === 1) await client.setData(config, Buffer.from("two"));
            return `${prefix}-${name}`;
          },
          { context: { prefix: readZnodeLatest(config, { checkVersion }) } },
        ),
      ),
    );
    lab = await ShardLab.open(client, { ...changing, name: `p-${tests}-${checkVersion}` });
    await lab.append(...expected.map((name) => name.at(-1)!));
    expect(await lab.drain()).toEqual([]);
    expect(
      (await written()).filter((name) => expected.some((each) => each.endsWith(name.slice(-1)))),
    ).toEqual(expected);
    const { counters } = await lab.head();
    expect([counters.elementsIn, counters.failures, await lab.letters()]).toEqual([2, 0, []]);
    await client.delete(config);
  }
});

test("a znode that is written again and again delays the bundles, and nothing is lost or doubled", async () => {
  await client.create(config, Buffer.from("0"));
  let writes = 0;
  const restless = pipeline((texts) =>
    texts.apply(
      mapAsync(
        async (name: string, { context }) => {
          const value = context.value.lookup();
          if (writes < 20 && "aei".includes(name)) await client.setData(config, Buffer.from(`${++writes}`));
          return `${name}-${value.length}`;
        },
        { context: { value: readZnodeLatest(config, { checkVersion: true }) } },
      ),
    ),
  );
  lab = await ShardLab.open(client, restless);
  await lab.append(..."abcdefghij");
  expect(await lab.drain(0, lab.newRunner({ maxUnits: 8 }))).toEqual([]);
  expect((await written()).map((name) => name[0]).join("")).toBe("abcdefghij");
  expect(writes).toBe(20);
});

test("what was not looked up is not checked", async () => {
  await client.create(config, Buffer.from("one"));
  let calls = 0;
  const indifferent = pipeline((texts) =>
    texts.apply(
      mapAsync(
        async (name: string, { context }) => {
          if (++calls === 1) await client.setData(config, Buffer.from("two"));
          return name === "z" ? context.prefix.lookup() : name;
        },
        { context: { prefix: readZnodeLatest(config, { checkVersion: true }) } },
      ),
    ),
  );
  lab = await ShardLab.open(client, indifferent);
  await lab.append("a", "b");
  expect(await lab.drain()).toEqual([]);
  expect([await written(), calls]).toEqual([["a", "b"], 2]);
});

test("every kind of transform can look it up, and all of a bundle see one value", async () => {
  await client.create(config, Buffer.from("v"));
  lab = await ShardLab.open(
    client,
    pipeline((texts) => {
      const latest = readZnodeLatest(config);
      const flat = texts.flatMap((name, { latest }) => [`flat-${latest.lookup()}-${name}`], { latest });
      const batch = texts.apply(
        mapBatches(
          (names: readonly string[], { context }) =>
            names.map((name) => `batch-${context.latest.lookup()}-${name}`),
          {
            context: { latest },
          },
        ),
      );
      const keyed = texts.apply(
        statefulParDo((name: string) => name, {
          state: { count: valueState(0) },
          params: { latest },
          process: (name: string, { params }) => [`keyed-${params.latest.lookup()}-${name}`],
        }),
      );
      return beam.P([flat, batch, keyed]).apply(beam.flatten()) as beam.PCollection<string>;
    }),
  );
  await lab.append("a");
  expect(await lab.drain(0)).toEqual([]);
  expect(await lab.drain(1)).toEqual([]);
  expect(await written()).toEqual(["batch-v-a", "flat-v-a", "keyed-v-a"]);
});

test("a write during an outage is not missed", async () => {
  await client.create(config, Buffer.from("one"));
  const proxy = await TcpProxy.start(connectString);
  const own = await connect({ connectString: proxy.address });
  try {
    lab = await ShardLab.open(client, prefixed());
    const runner = lab.newRunner({}, own);
    await lab.append("a");
    expect(await lab.drain(0, runner)).toEqual([]);
    proxy.cut();
    await client.setData(config, Buffer.from("two"));
    await lab.append("b");
    expect(await lab.drain(0, runner)).toEqual([]);
    expect(await written()).toEqual(["one-a", "two-b"]);
  } finally {
    await own.close();
    await proxy.stop();
  }
});

test("a znode that may not be read is the client's error, and no element is to blame", async () => {
  await client.create(config, Buffer.from("one"), { acl: [{ perms: 4, scheme: "world", id: "anyone" }] });
  lab = await ShardLab.open(client, prefixed());
  await lab.append("a");
  await expect(lab.invoke()).rejects.toThrow(expect.objectContaining({ name: "NoAuthError" }));
  expect([(await lab.head()).failing, await lab.letters()]).toEqual([null, []]);
});

test.each([
  ["", {}, 'readZnodeLatest needs the path of a znode, as in "/config/limits"; it was given '],
  ["/a", { default: "", checkVersion: true }, "has no version to check"],
  ["/a", { onUndecodable: "skip" as never }, 'onUndecodable must be "fail" or "keep"; it is "skip"'],
  ["/a", { decode: text(), onUndecodable: null as never }, "it is null"],
])("readZnodeLatest(%j, %j) is refused", (path, options, message) => {
  expect(() => readZnodeLatest(path, options)).toThrow(message);
});
