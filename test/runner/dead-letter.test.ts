import * as beam from "apache-beam";
import {
  type PipelineOptions,
  readZnodeChanges,
  trigger,
  windowingStrategy,
  writeToZnodes,
  type ZnodeWriteMode,
} from "beamkeeper";
import { pausePipeline, resumePipeline } from "../../lib/checkpoint/control";
import {
  discardDeadLetter,
  letterElement,
  readDeadLetter,
  replayDeadLetter,
} from "../../lib/checkpoint/dead-letter";
import {
  ConnectionLossError,
  connect,
  type Op,
  type ZooKeeper,
  type ZooKeeperClient,
} from "../../lib/zookeeper";
import { ShardLab, useLabServer } from "../support/shard-lab";

let client: ZooKeeper;
let connectString: string;
let lab: ShardLab;
let results: string;
let tests = 0;

useLabServer((test) => {
  ({ client, connectString, results, number: tests } = test);
});

afterEach(() => lab?.close());

interface Sum {
  readonly key: string;
  readonly sum: number;
}

interface SumOptions {
  /** Runs on each pane. */
  readonly work?: (sum: Sum) => Sum;
  readonly combine?: beam.CombineFn<number, number, unknown>;
  readonly strategy?: ReturnType<typeof windowingStrategy>;
}

const adding: beam.CombineFn<number, number, unknown> = {
  createAccumulator: () => 0,
  addInput: (sum, n) => sum + n,
  mergeAccumulators: (sums) => [...sums].reduce((a, b) => a + b, 0),
  extractOutput: (sum) => sum,
};

/** Values "key:n" summed for each key in windows of a second; each pane becomes a znode `<key>-<sum>`. Two stages. */
function sums({ work = (sum) => sum, combine = adding, strategy }: SumOptions): PipelineOptions {
  return {
    name: `p-${tests}`,
    failures: { maxAttempts: 1 },
    build: (root) =>
      root
        .apply(readZnodeChanges("/watched"))
        .map(({ text }) => ({ key: text!.split(":")[0]!, n: Number(text!.split(":")[1]) }))
        .apply(beam.windowInto(beam.fixedWindows(1), strategy))
        .apply(beam.groupBy("key").combining("n", combine, "sum"))
        .map((sum) => work(sum as unknown as Sum))
        .apply(writeToZnodes(({ key, sum }) => ({ path: `${results}/${key}-${sum}`, data: key }))),
  };
}

function failingAt(poison: string): (sum: Sum) => Sum {
  return (sum) => {
    if (sum.key === poison) throw new RangeError(`${poison} is poison`);
    return sum;
  };
}

const written = async (): Promise<string[]> => (await lab.created(results)).map(({ name }) => name).sort();
const onlyLetter = async () => {
  const letters = await lab.letters();
  expect(letters).toHaveLength(1);
  return letters[0]!;
};

/** Values through both stages, with the watermark behind all windows. */
async function flow(...values: string[]): Promise<void> {
  await lab.append(...values);
  await lab.drain(0);
  await lab.publish(5_000);
  expect(await lab.drain(1)).toEqual([]);
}

describe("a poison pane", () => {
  test.each(["a", "b", "c"])(
    "of key %s: it alone goes to dead-letter, and the state moves on",
    async (poison) => {
      lab = await ShardLab.open(client, sums({ work: failingAt(poison) }));
      await flow("a:1", "b:2", "c:3", "a:4");
      const all = { a: "a-5", b: "b-2", c: "c-3" };
      expect(await written()).toEqual(Object.values(all).filter((name) => !name.startsWith(poison)));
      const { letter } = await onlyLetter();
      expect(letter).toMatchObject({
        kind: "pane",
        position: {
          key: `'${poison}'`,
          window: { kind: "interval", startMs: 0, endMs: 1_000 },
          pane: { timing: "ON_TIME", index: 0, isFirst: true, isLast: true },
          timestampMs: 999,
        },
        error: { name: "RangeError" },
      });
      const infinite = Number.POSITIVE_INFINITY;
      expect(await lab.head(1)).toMatchObject({ holdMs: infinite, nextTimerMs: infinite, failing: null });
      lab.redeploy(sums({}));
      expect(await replayDeadLetter(client, lab.layout, (await onlyLetter()).id)).toBe("done");
      expect(await lab.drain(1)).toEqual([]);
      expect([await written(), await lab.letters()]).toEqual([Object.values(all), []]);
    },
  );

  test("every pane: all of them, and the shard is empty", async () => {
    lab = await ShardLab.open(
      client,
      sums({
        work: () => {
          throw new Error("never");
        },
      }),
    );
    await flow("a:1", "b:2", "c:3");
    expect([(await lab.letters()).length, await written(), await lab.backlog(1)]).toEqual([3, [], 0]);
  });

  test("one that an element fires: the pane goes, not the elements in it, and later panes come", async () => {
    const strategy = windowingStrategy({
      trigger: trigger.repeatedly(trigger.afterCount(2)),
      accumulation: "discarding",
    });
    const work = (sum: Sum): Sum => {
      if (sum.sum === 3) throw new RangeError("3 is poison");
      return sum;
    };
    lab = await ShardLab.open(client, sums({ work, strategy }));
    await flow("a:1", "a:2", "b:5", "a:10", "b:6", "a:20");
    expect(await written()).toEqual(["a-30", "b-11"]);
    expect((await onlyLetter()).letter).toMatchObject({
      kind: "pane",
      position: { pane: { timing: "EARLY", index: 0 } },
    });
    lab.redeploy(sums({ strategy }));
    await replayDeadLetter(client, lab.layout, (await onlyLetter()).id);
    await lab.drain(1);
    expect(await written()).toEqual(["a-3", "a-30", "b-11"]);
  });

  test("one that fails again when it is replayed comes back as what it was", async () => {
    lab = await ShardLab.open(client, sums({ work: failingAt("b") }));
    await flow("a:1", "b:2");
    const first = await onlyLetter();
    await replayDeadLetter(client, lab.layout, first.id);
    await lab.drain(1);
    const again = await onlyLetter();
    expect(again.letter.segment).toEqual(first.letter.segment);
    expect(again.letter).toMatchObject({ kind: "pane", text: "'b': [ 2 ] at 999 ms" });
    lab.redeploy(sums({}));
    await replayDeadLetter(client, lab.layout, again.id);
    await lab.drain(1);
    expect(await written()).toEqual(["a-1", "b-2"]);
  });

  test("one that fails at the end of the bundle, found among the others", async () => {
    const seen: string[] = [];
    const gathering = {
      startBundle: () => void seen.splice(0),
      process: (sum: Sum) => {
        seen.push(sum.key);
        return [sum];
      },
      finishBundle: () => {
        if (seen.includes("b")) throw new RangeError("b is poison at the end");
        return [];
      },
    };
    lab = await ShardLab.open(client, {
      ...sums({}),
      build: (root) =>
        root
          .apply(readZnodeChanges("/watched"))
          .map(({ text }) => ({ key: text!.split(":")[0]!, n: Number(text!.split(":")[1]) }))
          .apply(beam.windowInto(beam.fixedWindows(1)))
          .apply(beam.groupBy("key").combining("n", adding, "sum"))
          .apply(beam.parDo(gathering as never))
          .map((sum) => sum as Sum)
          .apply(writeToZnodes(({ key, sum }) => ({ path: `${results}/${key}-${sum}`, data: key }))),
    });
    await flow("a:1", "b:2", "c:3");
    expect(await written()).toEqual(["a-1", "c-3"]);
    expect((await onlyLetter()).letter).toMatchObject({ kind: "pane", position: { key: "'b'" } });
  });
});

test("a poison timer: what can't be extracted is kept as its accumulator, and extracted when it is replayed", async () => {
  const failing = (isPoison: boolean): PipelineOptions =>
    sums({
      combine: {
        ...adding,
        extractOutput: (sum) => {
          if (isPoison && sum === 2) throw new RangeError("2 can't be extracted");
          return sum;
        },
      },
    });
  lab = await ShardLab.open(client, failing(true));
  await flow("a:1", "b:2", "c:3");
  expect(await written()).toEqual(["a-1", "c-3"]);
  const { id, letter } = await onlyLetter();
  expect(letter).toMatchObject({ kind: "timer", position: { key: "'b'" }, text: "[ 2 ]" });
  lab.redeploy(failing(false));
  await replayDeadLetter(client, lab.layout, id);
  await lab.drain(1);
  expect(await written()).toEqual(["a-1", "b-2", "c-3"]);
});

test("an element that a CombineFn fails on: it alone, and the rest of its key is summed", async () => {
  const addInput = (sum: number, n: number): number => {
    if (n === 2) throw new RangeError("2 is poison");
    return sum + n;
  };
  lab = await ShardLab.open(client, sums({ combine: { ...adding, addInput } }));
  await flow("a:1", "a:2", "a:4", "b:3");
  expect(await written()).toEqual(["a-5", "b-3"]);
  expect((await onlyLetter()).letter).toMatchObject({
    kind: "element",
    position: { index: 1 },
    text: expect.stringContaining("/watched/2 created"),
    error: { message: expect.stringContaining("combine") },
  });
});

/** Values through one stage into znodes; what the function gives for each. */
function writes(
  toWrite: (text: string) => { path: string; data?: string; version?: number },
  options: { mode?: ZnodeWriteMode; onConflict?: "fail" | "skip" | "dead-letter" } = {},
  maxAttempts = 1,
): PipelineOptions {
  return {
    name: `p-${tests}`,
    failures: { maxAttempts },
    build: (root) =>
      root.apply(readZnodeChanges("/watched")).apply(writeToZnodes(({ text }) => toWrite(text!), options)),
  };
}

describe("what fails behind the functions", () => {
  test("a finishBundle that always fails: every element, one by one", async () => {
    lab = await ShardLab.open(client, {
      ...writes(() => ({ path: "/" })),
      build: (root) => {
        const failing = {
          *process(value: unknown) {
            yield value;
          },
          finishBundle() {
            throw new Error("the connection of the user's is closed");
          },
        };
        root.apply(readZnodeChanges("/watched")).apply(beam.parDo(failing as never));
      },
    });
    await lab.append("a", "b", "c");
    await lab.drain();
    const letters = await lab.letters();
    expect(letters.map(({ letter }) => (letter.position as { index: number }).index)).toEqual([0, 1, 2]);
    expect(letters[0]!.letter.error.message).toContain("user's is closed");
  });

  test("a value that has no encoding", async () => {
    lab = await ShardLab.open(client, {
      ...sums({}),
      build: (root) => {
        const odd = (text: string | null) => (text === "b" ? () => 1 : text);
        root
          .apply(readZnodeChanges("/watched"))
          .map(({ text }) => ({ key: "k", value: odd(text) }))
          .apply(beam.windowInto(beam.fixedWindows(1)))
          .apply(beam.groupBy("key"));
      },
    });
    await lab.append("a", "b", "c");
    await lab.drain();
    expect((await onlyLetter()).letter).toMatchObject({
      position: { index: 1 },
      error: { name: "UserCodeError" },
    });
    expect((await lab.head()).counters).toMatchObject({ elementsIn: 2, elementsOut: 2 });
  });

  test.each([
    [
      "is larger than a commit",
      (text: string) => (text === "b" ? { path: `${results}/b`, data: "x".repeat(200_000) } : undefined),
      "CommitTooLargeError",
    ],
    [
      "lies below a watched path",
      (text: string) => (text === "b" ? { path: "/watched/x", data: "" } : undefined),
      "ForbiddenWriteError",
    ],
    [
      "has no path",
      (text: string) => (text === "b" ? { path: "no/slash", data: "" } : undefined),
      "TypeError",
    ],
    [
      "throws",
      (text: string) => {
        if (text === "b") throw new Error("no path for b");
        return undefined;
      },
      "Error",
    ],
  ])("a write that %s", async (_name, special, error) => {
    lab = await ShardLab.open(
      client,
      writes((text) => special(text) ?? { path: `${results}/${text}`, data: text }),
    );
    await lab.append("a", "b", "c");
    await lab.drain();
    expect(await written()).toEqual(["a", "c"]);
    expect((await onlyLetter()).letter).toMatchObject({ position: { index: 1 }, error: { name: error } });
  });

  test("a write that the ensemble refuses", async () => {
    for (const name of ["a", "b", "c"]) await client.create(`${results}/${name}`);
    await client.create(`${results}/b/child`);
    lab = await ShardLab.open(
      client,
      writes((text) => ({ path: `${results}/${text}` }), { mode: "delete" }),
    );
    await lab.append("a", "b", "c");
    await lab.drain();
    expect(await written()).toEqual(["b"]);
    const { error } = (await onlyLetter()).letter;
    expect(error.message).toMatch(/refused to write \/results-\d+\/b .*rights and children/);
  });

  test.each([
    ["fail", 2, 1],
    ["dead-letter", 0, 1],
    ["skip", 0, 0],
  ] as const)("a version that is not the expected one, %s", async (onConflict, failures, letters) => {
    await client.create(`${results}/b`, Buffer.from("old"));
    const options = writes(
      (text) => ({ path: `${results}/${text}`, data: text, ...(text === "b" ? { version: 7 } : {}) }),
      { onConflict },
      3,
    );
    lab = await ShardLab.open(client, options);
    await lab.append("a", "b", "c");
    const thrown = await lab.drain();
    expect(thrown.map(({ name }) => name)).toEqual(Array(failures).fill("ZnodeConflictError"));
    expect(await written()).toEqual(["a", "b", "c"]);
    expect((await client.getData(`${results}/b`)).data.toString()).toBe("old");
    expect(await lab.letters()).toHaveLength(letters);
  });

  test("a commit that a server drops whenever one element is in it", async () => {
    lab = await ShardLab.open(
      client,
      writes((text) => ({ path: `${results}/${text}`, data: text })),
    );
    const dropping = new Proxy(client as ZooKeeperClient, {
      get(target, name) {
        if (name !== "multi") return bound(target, name);
        return (ops: readonly Op[]) =>
          ops.some(({ path }) => path === `${results}/b`)
            ? Promise.reject(new ConnectionLossError("dropped", "ambiguous", -4))
            : target.multi(ops);
      },
    });
    await lab.append("a", "b", "c");
    await lab.drain(0, lab.newRunner({}, dropping));
    expect(await written()).toEqual(["a", "c"]);
    expect((await onlyLetter()).letter.error.name).toBe("CommitLostError");
  });
});

function bound(target: ZooKeeperClient, name: string | symbol): unknown {
  const value: unknown = Reflect.get(target, name, target);
  return typeof value === "function" ? value.bind(target) : value;
}

describe("what is larger than a commit", () => {
  /** Values are grouped by their first letter; a group with a value of `poison` fails when it is emitted. */
  function grouped(poison?: string): PipelineOptions {
    const limits = { name: `p-${tests}`, failures: { maxAttempts: 1 } };
    return {
      ...limits,
      build: (root) =>
        root
          .apply(readZnodeChanges("/watched"))
          .map(({ text }) => ({ key: text![0]!, value: text! }))
          .apply(beam.windowInto(beam.fixedWindows(1)))
          .apply(beam.groupBy("key").combining("value", joining, "all"))
          .map(({ key, all }) => {
            if (key === poison) throw new RangeError(`${key} is poison`);
            return { key, length: all.length };
          })
          .apply(writeToZnodes(({ key, length }) => ({ path: `${results}/${key}-${length}`, data: key }))),
    };
  }
  const joining: beam.CombineFn<string, string, string> = {
    createAccumulator: () => "",
    addInput: (all, value) => all + value,
    mergeAccumulators: (all) => [...all].join(""),
    extractOutput: (all) => all,
  };
  const large = (key: string): string => key.repeat(30_000);

  test("a pane: it goes to a blob, stays there over a collection, comes back by a replay, and leaves nothing", async () => {
    lab = await ShardLab.open(client, grouped("b"));
    for (let times = 0; times < 6; times++) await lab.append(large("a"), large("b"));
    await lab.drain(0);
    await lab.publish(5_000);
    expect(await lab.drain(1)).toEqual([]);
    expect(await written()).toEqual(["a-180000"]);
    const { id, letter, path } = await onlyLetter();
    expect(letter).toMatchObject({ kind: "pane", error: { name: "RangeError" } });
    expect((await client.exists(path))!.dataLength).toBeLessThan(4_000);
    // Another environment loads the shard, and looks for blobs that nobody needs.
    await lab.append("c");
    await lab.drain(0);
    expect(await lab.drain(1)).toEqual([]);
    expect((await letterElement(lab.blobs, letter, path)).length).toBeGreaterThan(180_000);
    lab.redeploy(grouped());
    expect(await replayDeadLetter(client, lab.layout, id)).toBe("done");
    expect(await lab.drain(1)).toEqual([]);
    expect(await written()).toEqual(["a-180000", "b-180000"]);
    expect(await lab.blobs.list("")).toEqual([]);
  });

  test("one that is discarded: the blob goes with the next environment", async () => {
    lab = await ShardLab.open(client, grouped("b"));
    for (let times = 0; times < 6; times++) await lab.append(large("b"));
    await lab.drain(0);
    await lab.publish(5_000);
    await lab.drain(1);
    expect(await lab.blobs.list("")).toHaveLength(1);
    expect(await discardDeadLetter(client, lab.layout, (await onlyLetter()).id)).toBe("done");
    await lab.append("a");
    await lab.drain(0);
    await lab.drain(1);
    expect(await lab.blobs.list("")).toEqual([]);
  });
});

test.each(["before", "after"])(
  "a process that dies %s the dead-letter commit: the next one goes on where it stood",
  async (point) => {
    lab = await ShardLab.open(client, { ...sums({ work: failingAt("b") }), failures: { maxAttempts: 3 } });
    // In a window each, so that every process fires them in the same order.
    for (const value of ["a:1", "b:2", "c:3"]) {
      await lab.append(value);
      lab.eventMs += 1_000;
    }
    await lab.drain(0);
    await lab.publish(5_000);
    for (let attempt = 0; attempt < 2; attempt++) await expect(lab.invoke(1)).rejects.toThrow("b is poison");
    const dying = new Proxy(client as ZooKeeperClient, {
      get(target, name) {
        if (name !== "multi") return bound(target, name);
        return async (ops: readonly Op[]) => {
          const isLast = ops.some(({ path }) => path.includes("/dead-letter/"));
          if (isLast && point === "before") throw new Error("died");
          const result = await target.multi(ops);
          if (isLast) throw new Error("died");
          return result;
        };
      },
    });
    expect(await lab.invoke(1, lab.newRunner({}, dying))).toMatchObject({
      outcome: "interrupted",
      commits: 1,
    });
    expect(await written()).toEqual(["a-1"]);
    // No further attempts: that they are used up is written down.
    expect(await lab.drain(1)).toEqual([]);
    expect(await written()).toEqual(["a-1", "c-3"]);
    expect((await onlyLetter()).letter).toMatchObject({ attempts: 3, position: { key: "'b'" } });
    expect((await lab.head(1)).counters).toMatchObject({ failures: 3, deadLettered: 1 });
  },
);

describe("replay and discard", () => {
  const open = async (): Promise<string> => {
    lab = await ShardLab.open(client, sums({ work: failingAt("b") }));
    await flow("a:1", "b:2");
    return (await onlyLetter()).id;
  };

  test("two at once: one wins, and the pane is emitted once", async () => {
    const id = await open();
    const other = await connect({ connectString });
    const both = [replayDeadLetter(client, lab.layout, id), replayDeadLetter(other, lab.layout, id)];
    expect((await Promise.all(both)).sort()).toEqual(["done", "gone"]);
    await other.close();
    expect(await lab.backlog(1)).toBe(1);
    expect((await client.exists(lab.current.scope.replays))!.version).toBe(1);
  });

  test.each(["before", "after"])("a connection that breaks %s it took effect", async (point) => {
    const id = await open();
    let losses = 0;
    const losing = new Proxy(client as ZooKeeperClient, {
      get(target, name) {
        if (name !== "multi") return bound(target, name);
        return async (ops: readonly Op[]) => {
          if (++losses > 1) return target.multi(ops);
          if (point === "after") await target.multi(ops);
          throw new ConnectionLossError("lost", "ambiguous", -4);
        };
      },
    });
    expect(await replayDeadLetter(losing, lab.layout, id)).toBe("done");
    expect([await lab.backlog(1), await lab.letters()]).toEqual([1, []]);
  });

  test("not while the pipeline is paused", async () => {
    const id = await open();
    await pausePipeline(client, lab.layout);
    await expect(replayDeadLetter(client, lab.layout, id)).rejects.toThrow(/is paused.*Resume it first/);
    await expect(discardDeadLetter(client, lab.layout, id)).rejects.toThrow(/is paused/);
    expect([await lab.backlog(1), (await lab.letters()).length]).toEqual([0, 1]);
    await resumePipeline(client, lab.layout);
    expect(await discardDeadLetter(client, lab.layout, id)).toBe("done");
    expect([await lab.backlog(1), await lab.letters()]).toEqual([0, []]);
  });

  test.each(["nothing", "a/b/c", "a/0/1-0", "a/0/../1-0", "a/0/1-0/x"])(
    "an id that is none: %s",
    async (id) => {
      const real = await open();
      const wrong = id.replace(/^a/, real.split("/")[0]!).replace("1-0", "99-0");
      expect(await readDeadLetter(client, lab.layout, wrong)).toBeUndefined();
      expect(await replayDeadLetter(client, lab.layout, wrong)).toBe("gone");
    },
  );
});
