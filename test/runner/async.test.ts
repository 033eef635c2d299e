import { setImmediate as turn } from "node:timers/promises";
import * as beam from "apache-beam";
import {
  bundleFinalizer,
  mapAsync,
  mapBatches,
  type PipelineOptions,
  parDoAsync,
  readZnodeChanges,
  writeToZnodes,
} from "beamkeeper";
import { pausePipeline, resumePipeline } from "../../lib/checkpoint/control";
import type { Op, ZooKeeper, ZooKeeperClient } from "../../lib/zookeeper";
import { ShardLab, useLabServer } from "../support/shard-lab";

let client: ZooKeeper;
let lab: ShardLab;
let results: string;
let tests = 0;

useLabServer((test) => {
  ({ client, results, number: tests } = test);
});

afterEach(() => lab?.close());

const written = async (): Promise<string[]> => (await lab.created(results)).map(({ name }) => name).sort();
const waiting = async (): Promise<string[]> =>
  (await client.getChildren(lab.current.scope.outputs)).children.sort();

/** The texts of the znodes through a transform; each result becomes a znode of its name. One stage. */
function pipeline<O extends string>(
  transform: beam.PTransform<beam.PCollection<string>, beam.PCollection<O>>,
): PipelineOptions {
  return {
    name: `p-${tests}`,
    failures: { maxAttempts: 1 },
    build: (root) =>
      root
        .apply(readZnodeChanges("/watched"))
        .map(({ text }) => text!)
        .apply(transform)
        .apply(writeToZnodes((name) => ({ path: `${results}/${name}`, data: "" }), { mode: "create" })),
  };
}

const slowly = async (text: string): Promise<string> => {
  for (let turns = text.charCodeAt(0) % 5; turns > 0; turns--) await turn();
  return text;
};
const poisonedBy = (poison: string) => async (text: string) => {
  if (text === poison) throw new RangeError(`${poison} is poison`);
  return slowly(text);
};

test.each([1, 3, 100])("in bundles of up to %d, each result is committed once", async (maxUnits) => {
  lab = await ShardLab.open(client, pipeline(mapAsync(slowly, { ordered: maxUnits !== 3, concurrency: 4 })));
  await lab.append("a", "b", "c");
  await lab.append("d", "e", "f", "g");
  const runner = lab.newRunner({ maxUnits });
  expect(await lab.drain(0, runner)).toEqual([]);
  // A znode that is created twice would be a conflict.
  expect(await written()).toEqual([..."abcdefg"]);
  expect((await lab.head()).counters).toMatchObject({ elementsIn: 7, elementsOut: 7, failures: 0 });
});

describe.each([
  ["a call", (poison: string) => mapAsync(poisonedBy(poison), { concurrency: 3 })],
  ["an unordered call", (poison: string) => mapAsync(poisonedBy(poison), { ordered: false })],
  [
    "a batch",
    (poison: string) =>
      mapBatches(async (all: readonly string[]) => Promise.all(all.map(poisonedBy(poison))), {
        maxElements: 4,
      }),
  ],
])("%s that fails", (_name, poisoned) => {
  test.each(["a", "d", "g"])("on %s: the element alone goes to dead-letter", async (poison) => {
    lab = await ShardLab.open(client, pipeline(poisoned(poison)));
    await lab.append(..."abcdefg");
    expect(await lab.drain()).toEqual([]);
    expect(await written()).toEqual([..."abcdefg"].filter((text) => text !== poison));
    const letters = await lab.letters();
    expect(letters.map(({ letter }) => letter.error)).toEqual([
      expect.objectContaining({ name: "RangeError" }),
    ]);
    expect(letters[0]!.letter.text).toContain(`/watched/${"abcdefg".indexOf(poison) + 1} `);
    expect((await lab.head()).failing).toBe(null);
  });
});

test("a pane whose call fails goes to dead-letter alone, and the state moves on", async () => {
  const sums = (text: string): PipelineOptions => ({
    name: `p-${tests}`,
    failures: { maxAttempts: 1 },
    build: (root) =>
      root
        .apply(readZnodeChanges("/watched"))
        .map((change) => ({ key: change.text!, n: 1 }))
        .apply(beam.windowInto(beam.fixedWindows(1)))
        .apply(beam.groupBy("key").combining("n", (a, b) => a + b, "sum"))
        .apply(
          mapAsync(async ({ key, sum }) => {
            await poisonedBy(text)(key);
            return `${key}-${sum}`;
          }),
        )
        .apply(writeToZnodes((name) => ({ path: `${results}/${name}`, data: "" }), { mode: "create" })),
  });
  lab = await ShardLab.open(client, sums("b"));
  await lab.append(..."abcab");
  await lab.drain(0);
  await lab.publish(5_000);
  expect(await lab.drain(1)).toEqual([]);
  expect(await written()).toEqual(["a-2", "c-1"]);
  expect((await lab.letters()).map(({ letter }) => [letter.kind, letter.position])).toEqual([
    ["pane", expect.objectContaining({ key: "'b'" })],
  ]);
  expect(await lab.head(1)).toMatchObject({ holdMs: Infinity, nextTimerMs: Infinity, failing: null });
});

test("a call that never answers is a failure like any other once its time is up", async () => {
  const transform = mapAsync(
    (text: string) => {
      if (text !== "b") return slowly(text);
      lab.nowMs += 1_000;
      return new Promise<string>(() => undefined);
    },
    { timeoutMs: 50 },
  );
  lab = await ShardLab.open(client, pipeline(transform));
  await lab.append(..."abc");
  expect(await lab.drain()).toEqual([]);
  expect(await written()).toEqual(["a", "c"]);
  expect((await lab.letters())[0]!.letter.error.name).toBe("CallTimeoutError");
});

test("a bundle whose calls take their time is cut, and committed before the invocation ends", async () => {
  const sizes: number[] = [];
  let calls = 0;
  const transform = parDoAsync<string, string>(
    {
      startBundle: () => {
        calls = 0;
      },
      process: async (text) => {
        calls += 1;
        lab.nowMs += 700;
        await turn();
        return [text];
      },
      finishBundle: () => {
        sizes.push(calls);
      },
    },
    { concurrency: 1 },
  );
  lab = await ShardLab.open(client, pipeline(transform));
  await lab.append(..."abcdefgh");
  expect(await lab.drain()).toEqual([]);
  expect(await written()).toEqual([..."abcdefgh"]);
  expect(sizes.reduce((a, b) => a + b)).toBe(8);
  expect(Math.max(...sizes)).toBeLessThan(6);
});

test("a set-up that fails is no failure of an element", async () => {
  let isThere = false;
  const setup = async () => {
    if (!isThere) throw new Error("no model yet");
  };
  lab = await ShardLab.open(client, pipeline(parDoAsync({ setup, process: async (text: string) => [text] })));
  await lab.append("a");
  const runner = lab.newRunner();
  await expect(lab.invoke(0, runner)).rejects.toThrow(/no model yet/);
  expect((await lab.head()).failing).toBe(null);
  isThere = true;
  expect(await lab.drain(0, runner)).toEqual([]);
  expect(await written()).toEqual(["a"]);
});

describe("finalisation", () => {
  /** What the finaliser was given, with what had been committed by then. */
  let heard: { readonly tokens: readonly string[]; readonly committed: readonly string[] }[];
  let problem: Error | undefined;
  let afterwards: (() => Promise<void>) | undefined;

  const finalizing = (): PipelineOptions => {
    const done = bundleFinalizer<string>(async (tokens) => {
      heard.push({ tokens, committed: await written() });
      await afterwards?.();
      if (problem) throw problem;
    });
    return {
      name: `p-${tests}`,
      build: (root) => {
        const names = root.apply(readZnodeChanges("/watched")).map(
          ({ text }, { done }) => {
            done.afterCommit(text!);
            return text!;
          },
          { done },
        );
        names.apply(writeToZnodes((name) => ({ path: `${results}/${name}`, data: "" }), { mode: "create" }));
      },
    };
  };

  beforeEach(() => {
    heard = [];
    problem = undefined;
    afterwards = undefined;
  });

  test("comes after the commit, and leaves nothing behind", async () => {
    lab = await ShardLab.open(client, finalizing());
    await lab.append("a", "b");
    expect(await lab.drain()).toEqual([]);
    expect(heard).toEqual([{ tokens: ["a", "b"], committed: ["a", "b"] }]);
    expect(await waiting()).toEqual([]);
  });

  test("comes again where it failed, by any other process, and the bundle does not", async () => {
    lab = await ShardLab.open(client, finalizing());
    await lab.append("a");
    problem = new Error("the queue is away");
    await expect(lab.invoke()).rejects.toThrow(/map:done": Error: the queue is away/);
    expect([await written(), await lab.backlog(), (await waiting()).length]).toEqual([["a"], 0, 1]);
    problem = undefined;
    expect(await lab.drain(0, lab.newRunner())).toEqual([]);
    expect(heard.map(({ tokens }) => tokens)).toEqual([["a"], ["a"]]);
    expect(await waiting()).toEqual([]);
  });

  test("never comes for a bundle that was not committed", async () => {
    lab = await ShardLab.open(client, finalizing());
    await lab.append("a");
    const refusing = failingCommits(client);
    await expect(lab.invoke(0, lab.newRunner({}, refusing))).rejects.toThrow("the server is away");
    expect([heard, await written()]).toEqual([[], []]);
    expect(await lab.drain()).toEqual([]);
    expect(heard).toEqual([{ tokens: ["a"], committed: ["a"] }]);
  });

  test("comes again, from the same process too, where the pipeline was paused behind the commit", async () => {
    lab = await ShardLab.open(client, finalizing());
    await lab.append("a");
    const runner = lab.newRunner();
    afterwards = async () => {
      await pausePipeline(client, lab.layout);
      await resumePipeline(client, lab.layout);
    };
    expect(await lab.invoke(0, runner)).toMatchObject({ outcome: "superseded", commits: 1 });
    expect([await written(), (await waiting()).length]).toEqual([["a"], 1]);
    afterwards = undefined;
    expect(await lab.invoke(0, runner)).toMatchObject({ outcome: "idle", commits: 0 });
    expect(heard.map(({ tokens }) => tokens)).toEqual([["a"], ["a"]]);
    expect(await waiting()).toEqual([]);
  });

  test("comes for a commit whose process died at once", async () => {
    lab = await ShardLab.open(client, finalizing());
    await lab.append("a");
    const dying = failingCommits(client, true);
    await expect(lab.invoke(0, lab.newRunner({}, dying))).rejects.toThrow("the server is away");
    expect([heard, await written()]).toEqual([[], ["a"]]);
    expect(await lab.drain()).toEqual([]);
    expect(heard).toEqual([{ tokens: ["a"], committed: ["a"] }]);
    expect(await waiting()).toEqual([]);
  });
});

/** A client whose commits fail: before they are sent, or once they have taken effect. */
function failingCommits(real: ZooKeeper, isSent = false): ZooKeeperClient {
  const multi = async (ops: readonly Op[]) => {
    if (ops.some(({ type }) => type === "setData")) {
      if (isSent) await real.multi(ops);
      throw new Error("the server is away");
    }
    return real.multi(ops);
  };
  return new Proxy(real, {
    get: (target, name) => {
      if (name === "multi") return multi;
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}
