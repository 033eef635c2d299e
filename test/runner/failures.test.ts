import { type FailureOptions, type PipelineOptions, readZnodeChanges, writeToZnodes } from "beamkeeper";
import { discardDeadLetter, letterElement } from "../../lib/checkpoint/dead-letter";
import { encodeSegment } from "../../lib/checkpoint/segment";
import type { ZooKeeper } from "../../lib/zookeeper";
import { ShardLab, useLabServer } from "../support/shard-lab";

const AT_ONCE: FailureOptions = { maxAttempts: 1 };

let client: ZooKeeper;
let lab: ShardLab;
let results: string;
let tests = 0;

useLabServer((test) => {
  ({ client, results, number: tests } = test);
});

afterEach(() => lab?.close());

/** Each value becomes a znode of its name, unless it is poison; one stage. */
function copies(isPoison: (value: string) => boolean, failures: FailureOptions = AT_ONCE): PipelineOptions {
  return {
    name: `p-${tests}`,
    failures,
    build: (root) =>
      root
        .apply(readZnodeChanges("/watched"))
        .map(({ text }) => {
          if (isPoison(text!)) throw new RangeError(`${text} is poison`);
          return text!;
        })
        .apply(writeToZnodes((text) => ({ path: `${results}/${text}`, data: text }), { mode: "create" })),
  };
}

const isPoison = (value: string): boolean => value.startsWith("poison");
const copied = async (): Promise<string[]> => (await lab.created(results)).map(({ name }) => name).sort();

describe("a poison element", () => {
  test.each([
    ["first", ["poison", "a", "b", "c", "d"]],
    ["in the middle", ["a", "b", "poison", "c", "d"]],
    ["last", ["a", "b", "c", "d", "poison"]],
    ["alone", ["poison"]],
    ["beside another", ["a", "poison-1", "poison-2", "b"]],
    ["everywhere", ["poison-1", "poison-2", "poison-3"]],
  ])(
    "%s: it goes to dead-letter in its place, and everything else is processed once",
    async (_name, values) => {
      lab = await ShardLab.open(client, copies(isPoison));
      await lab.append(...values);
      expect(await lab.drain()).toEqual([]);
      expect(await copied()).toEqual(values.filter((value) => !isPoison(value)).sort());
      const letters = await lab.letters();
      expect(letters.map(({ letter }) => letter.error.message.match(/poison\S*(?= is)/)?.[0])).toEqual(
        values.filter(isPoison),
      );
      expect(letters.map(({ letter }) => (letter.position as { index: number }).index)).toEqual(
        values.flatMap((value, index) => (isPoison(value) ? [index] : [])),
      );
      // What comes before it was committed before it or with it, and what comes after it after it.
      const zxids = new Map((await lab.created(results)).map(({ name, czxid }) => [name, czxid]));
      for (const [nth, value] of values.filter(isPoison).entries())
        zxids.set(value, (await client.exists(letters[nth]!.path))!.czxid);
      const order = values.map((value) => zxids.get(value)!);
      for (const [index, zxid] of order.entries()) {
        const mayBeEqual = index === 0 || !(isPoison(values[index]!) || isPoison(values[index - 1]!));
        if (index > 0) expect(mayBeEqual ? zxid >= order[index - 1]! : zxid > order[index - 1]!).toBe(true);
      }
      const { counters, failing } = await lab.head();
      const dead = values.filter(isPoison).length;
      expect(counters).toMatchObject({ elementsIn: values.length - dead, deadLettered: dead });
      expect([failing, await lab.backlog()]).toEqual([null, 0]);
    },
  );

  test("over many segments and bundles, with several among them", async () => {
    lab = await ShardLab.open(client, copies(isPoison));
    const values = Array.from({ length: 120 }, (_, n) => (n % 17 === 5 ? `poison-${n}` : `v-${n}`));
    for (let from = 0; from < values.length; from += 7) await lab.append(...values.slice(from, from + 7));
    await lab.drain(0, lab.newRunner({ maxUnits: 25 }));
    expect(await copied()).toEqual(values.filter((value) => !isPoison(value)).sort());
    expect(await lab.letters()).toHaveLength(values.filter(isPoison).length);
  });

  test("it is told with its error, the user's stack, its place, attempts and times", async () => {
    lab = await ShardLab.open(client, copies(isPoison, { maxAttempts: 3 }));
    await lab.append("a", "poison");
    for (let attempt = 0; attempt < 2; attempt++) {
      await expect(lab.invoke()).rejects.toMatchObject({ name: "UserCodeError" });
      lab.nowMs += 1_000;
    }
    expect(await lab.head()).toMatchObject({
      failing: { attempts: 2, sinceMs: 1_000_000, units: 2, isExhausted: false },
      counters: { failures: 2, deadLettered: 0 },
    });
    expect(await lab.invoke()).toMatchObject({ outcome: "idle", commits: 2 });
    const [stored] = await lab.letters();
    expect(stored!.letter).toMatchObject({
      kind: "element",
      error: {
        name: "RangeError",
        stack: expect.stringMatching(/RangeError: poison is poison\n +at .*failures\.test/),
      },
      position: { segment: expect.stringMatching(/^\d{17}-\d{10}$/), index: 1 },
      text: expect.stringContaining("/watched/2 created"),
      ...{ attempts: 3, firstFailedMs: 1_000_000, deadMs: 1_002_000, minTimestampMs: 500 },
    });
    expect(stored!.id).toBe(`${lab.stage(0)}/0/2-0`);
  });

  test("a fault that passes is only a retry", async () => {
    let isDown = true;
    lab = await ShardLab.open(
      client,
      copies((value) => isDown && value === "b", { maxAttempts: 5 }),
    );
    await lab.append("a", "b", "c");
    const runner = lab.newRunner();
    for (let attempt = 0; attempt < 3; attempt++)
      await expect(lab.invoke(0, runner)).rejects.toThrow("b is poison");
    isDown = false;
    expect(await lab.invoke(0, runner)).toMatchObject({ outcome: "idle", commits: 1 });
    expect([await copied(), await lab.letters()]).toEqual([["a", "b", "c"], []]);
    expect(await lab.head()).toMatchObject({ failing: null, counters: { failures: 3 } });
  });

  test("the age ends the attempts as well", async () => {
    lab = await ShardLab.open(
      client,
      copies(isPoison, { maxAttempts: Number.POSITIVE_INFINITY, maxAgeMs: 60_000 }),
    );
    await lab.append("poison");
    await expect(lab.invoke()).rejects.toThrow("poison");
    lab.nowMs += 59_999;
    await expect(lab.invoke()).rejects.toThrow("poison");
    lab.nowMs += 1;
    expect(await lab.invoke()).toMatchObject({ outcome: "idle", commits: 1 });
    expect(await lab.letters()).toHaveLength(1);
  });

  test("stop: what comes before it is processed, it stands, and goes on when the code is mended", async () => {
    lab = await ShardLab.open(client, copies(isPoison, { maxAttempts: 1, onExhausted: "stop" }));
    await lab.append("a", "poison", "b");
    const failures = await lab.drain(0, lab.newRunner(), 3);
    expect(failures.map(({ message }) => message)).toEqual(Array(3).fill(expect.stringContaining("poison")));
    expect([await copied(), await lab.letters()]).toEqual([["a"], []]);
    lab.redeploy(copies(() => false));
    expect(await lab.drain()).toEqual([]);
    expect(await copied()).toEqual(["a", "b", "poison"]);
  });

  test("no room: the shard stands still and says so, until one is discarded", async () => {
    lab = await ShardLab.open(client, copies(isPoison, { maxAttempts: 1, maxDeadLetters: 2 }));
    await lab.append("poison-1", "poison-2", "poison-3", "a");
    const [failure] = await lab.drain(0, lab.newRunner(), 1);
    expect(failure).toMatchObject({
      name: "DeadLetterError",
      message: expect.stringMatching(/limit is 2.*poison-3/s),
    });
    expect(await copied()).toEqual([]);
    await discardDeadLetter(client, lab.layout, (await lab.letters())[0]!.id);
    expect(await lab.drain()).toEqual([]);
    expect([await copied(), (await lab.letters()).length]).toEqual([["a"], 2]);
  });

  test("bytes that are no element", async () => {
    lab = await ShardLab.open(client, copies(isPoison));
    await lab.append("a");
    await lab.appendBytes(encodeSegment([{ bytes: Buffer.from("garbage"), timestampMs: 500 }]).data);
    await lab.append("b");
    await lab.drain();
    const [{ letter, path }] = (await lab.letters()) as [Awaited<ReturnType<ShardLab["letters"]>>[number]];
    const element = await letterElement(lab.blobs, letter, path);
    expect([await copied(), element.toString(), letter.text]).toEqual([
      ["a", "b"],
      "garbage",
      expect.stringContaining("7 bytes that are no change of a znode"),
    ]);
  });
});
