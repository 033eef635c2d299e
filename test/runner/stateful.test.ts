import * as beam from "apache-beam";
import {
  bagState,
  eventTimer,
  mapState,
  type PipelineOptions,
  readZnodeChanges,
  statefulParDo,
  valueState,
  writeToZnodes,
} from "beamkeeper";
import type { ZooKeeper, ZooKeeperClient } from "../../lib/zookeeper";
import { ShardLab, useLabServer } from "../support/shard-lab";

let client: ZooKeeper;
let lab: ShardLab;
let results: string;
let tests = 0;

useLabServer((test) => {
  ({ client, results, number: tests } = test);
});

afterEach(() => lab?.close());

const written = async (): Promise<string[]> => (await client.getChildren(results)).children.sort();

/** Texts "a1", "a2", "b1" under the key "a", "b"; what timer and expiry give becomes a znode that must be new. */
function gathering(poison?: string): PipelineOptions {
  return {
    name: `stateful-${tests}`,
    failures: { maxAttempts: 1 },
    build: (root) =>
      root
        .apply(readZnodeChanges("/watched"))
        .map(({ text }) => text!)
        .apply(beam.windowInto<string, beam.IntervalWindow>(beam.fixedWindows(1)))
        .apply(
          statefulParDo((text: string) => text.slice(0, 1), {
            state: { all: bagState<string>(), count: valueState(0), seen: mapState<string, boolean>() },
            timers: { half: eventTimer() },
            process(text: string, { state, timers }) {
              state.all.add(text);
              state.count.write(state.count.read() + 1);
              state.seen.set(text, true);
              timers.half.set(700);
            },
            onTimer: {
              half({ key, state }) {
                if (key === poison) throw new RangeError("poison");
                return [`${key}-half-${[...state.all.read()].join("")}`];
              },
            },
            onWindowExpiration: ({ key, state }) => [
              `${key}-end-${state.count.read()}-${state.seen.keys().join("")}`,
            ],
          }),
        )
        .apply(writeToZnodes((name) => ({ path: `${results}/${name}`, data: "" }), { mode: "create" })),
  };
}

/** Each call a cold start: what the shard knows it has read from its znodes. */
const drain = async (index: number): Promise<void> => expect(await lab.drain(index)).toEqual([]);

test("state and timers go from commit to commit through their znodes, and are gone at the end", async () => {
  lab = await ShardLab.open(client, gathering());
  for (const text of ["a1", "b1", "a2"]) {
    await lab.append(text);
    await drain(0);
    await drain(1);
  }
  expect((await lab.head(1)).nextTimerMs).toBe(701);
  await lab.publish(701);
  await drain(1);
  expect(await written()).toEqual(["a-half-a1a2", "b-half-b1"]);
  await lab.append("b2");
  await drain(0);
  await drain(1);
  await lab.publish(1_000);
  await drain(1);
  expect(await written()).toEqual([
    "a-end-2-a1a2",
    "a-half-a1a2",
    "b-end-2-b1b2",
    "b-half-b1",
    "b-half-b1b2",
  ]);
  const head = await lab.head(1);
  expect([head.state.bytes, head.holdMs, head.nextTimerMs]).toEqual([
    0,
    Number.POSITIVE_INFINITY,
    Number.POSITIVE_INFINITY,
  ]);
});

test.each([
  ["before the commit is sent", async (): Promise<never> => Promise.reject(new Error("died"))],
  [
    "after the commit, before anyone hears of it",
    async (send: () => Promise<unknown>): Promise<never> => {
      await send();
      throw new Error("died");
    },
  ],
])("a process that dies %s loses and doubles nothing", async (_when, die) => {
  lab = await ShardLab.open(client, gathering());
  const mortal = new Proxy(client as ZooKeeperClient, {
    get(target, name) {
      if (name === "multi")
        return (ops: Parameters<ZooKeeperClient["multi"]>[0]) => die(() => target.multi(ops));
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
  const dying = async (index: number): Promise<void> => {
    await expect(lab.invoke(index, lab.newRunner({}, mortal))).rejects.toThrow("died");
    await drain(index);
  };
  for (const text of ["a1", "b1", "a2"]) {
    await lab.append(text);
    await drain(0);
    await dying(1);
  }
  await lab.publish(800);
  await dying(1);
  await lab.publish(1_000);
  await dying(1);
  expect(await written()).toEqual(["a-end-2-a1a2", "a-half-a1a2", "b-end-1-b1", "b-half-b1"]);
});

test("a timer that fails alone goes to dead-letter in its place, and the others go on", async () => {
  lab = await ShardLab.open(client, gathering("a"));
  await lab.append("a1", "b1", "c1");
  await drain(0);
  await drain(1);
  await lab.publish(1_000);
  await lab.drain(1);
  expect(await written()).toEqual(["a-end-1-a1", "b-end-1-b1", "b-half-b1", "c-end-1-c1", "c-half-c1"]);
  const letters = (await lab.letters()).map(({ letter }) => letter);
  expect(letters.map(({ kind, error, position }) => [kind, error.name, position])).toEqual([
    ["timer", "RangeError", expect.objectContaining({ key: "'a'", timestampMs: 700 })],
  ]);
  expect(letters[0]!.text).toContain("timer: 'half'");
});
