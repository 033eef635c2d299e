import * as beam from "apache-beam";
import { type PipelineOptions, splittableRead, writeToZnodes } from "beamkeeper";
import { stateRowText } from "../../lib/beam/state-text";
import { completeDrain, drainPipeline, pausePipeline, resumePipeline } from "../../lib/checkpoint/control";
import { replayDeadLetter } from "../../lib/checkpoint/dead-letter";
import { inspectState } from "../../lib/checkpoint/inspection";
import { rescale } from "../../lib/runner/rescale";
import { withFault } from "../support/faults";
import { type FeedOptions, type FeedRecord, feedOf, feedSource } from "../support/feed-source";
import { type LabTest, ShardLab, useLabServer } from "../support/shard-lab";

let place: LabTest;
let lab: ShardLab;

useLabServer((test) => {
  place = test;
});

afterEach(() => lab?.close());

const [SPLIT, READ] = [1, 2];
const EVERY_MS = 1_000;
const BEGIN_MS = 1_000_000;

interface Sample extends Omit<FeedOptions, "now"> {
  readonly feeds?: Readonly<Record<string, readonly FeedRecord[]>>;
  readonly visit?: (value: string) => void;
  readonly pipeline?: Partial<PipelineOptions>;
}

/** Each record becomes a znode, once: a second creation would be a conflict. */
async function openLab({ feeds = { a: feed("a", 30) }, visit, pipeline, ...options }: Sample = {}) {
  const source = feedSource(feeds, { now: () => lab.nowMs, everyMs: EVERY_MS, ...options });
  const definition: PipelineOptions = {
    name: `p-${place.number}`,
    failures: { maxAttempts: 2 },
    build: (root) =>
      root
        .apply(beam.create([Object.keys(feeds).join()]))
        .apply(splittableRead(source))
        .map((value) => {
          visit?.(value);
          return value;
        })
        .apply(
          writeToZnodes((value) => ({ path: `${place.results}/${value}`, data: "" }), { mode: "create" }),
        ),
    ...pipeline,
  };
  lab = await ShardLab.open(place.client, definition);
  await lab.drain(0);
  await lab.drain(SPLIT);
  return { definition };
}

/** Invokes some shards of the stage that reads, until each is idle. */
async function readShards(shards: readonly number[]): Promise<void> {
  const runner = lab.newRunner();
  for (const shard of shards) {
    const request = { pipeline: lab.layout.pipeline, stage: lab.stage(READ), shard, zxid: "0" };
    while ((await runner.run(request, Number.POSITIVE_INFINITY)).outcome !== "idle");
  }
}

/** A record every 250 ms, from the lab's beginning on. */
function feed(name: string, count: number): FeedRecord[] {
  return feedOf(name, count, 250).map((each) => ({ ...each, atMs: BEGIN_MS + each.atMs }));
}

const names = (count: number, name = "a"): string[] =>
  Array.from({ length: count }, (_, index) => `${name}${index}`).sort();
const written = async (): Promise<string[]> =>
  (await place.client.getChildren(place.results)).children.sort();

test("what is left waits in the state, the head says until when, and nothing is committed before", async () => {
  await openLab();
  await lab.drain(READ);
  expect(await written()).toEqual(names(1));
  const head = await lab.head(READ);
  expect(head).toMatchObject({ nextProcessingTimerMs: BEGIN_MS + EVERY_MS, position: null });
  expect(await lab.backlog(READ)).toBe(0);
  lab.nowMs += EVERY_MS - 1;
  expect(await lab.invoke(READ)).toMatchObject({
    outcome: "idle",
    commits: 0,
    nextProcessingTimerMs: BEGIN_MS + EVERY_MS,
  });
  lab.nowMs += 1;
  expect(await lab.invoke(READ)).toMatchObject({ outcome: "idle", commits: 1 });
  expect(await written()).toEqual(names(5));
});

test("a process that dies before or after a commit loses nothing and doubles nothing", async () => {
  await openLab({ feeds: { a: feed("a", 60), b: feed("b", 12) } });
  for (let nth = 1; lab.nowMs < BEGIN_MS + 20_000; nth++) {
    const died = (): never => {
      throw new RangeError("died");
    };
    const point = nth % 2 === 0 ? { before: died } : { after: died };
    const mortal = withFault(place.client, { kind: "bundle", nth: 1 + (nth % 3), ...point });
    await lab.drain(READ, lab.newRunner({ maxUnits: 1 }, mortal), 1);
    if (nth % 2 === 0) lab.nowMs += EVERY_MS;
  }
  await lab.drain(READ);
  expect(await written()).toEqual([...names(60), ...names(12, "b")].sort());
  expect((await lab.head(READ)).counters).toMatchObject({ failures: 0, deadLettered: 0 });
});

test("a bundle that is full keeps what is left of a piece, so a source may give other pieces the next time", async () => {
  const order: number[] = [];
  const feeds = { a: feed("a", 300) };
  await openLab({ feeds, piece: 250, onPiece: ({ next }) => void order.push(next) });
  lab.nowMs += 60_000;
  const runner = lab.newRunner({ maxUnits: 1 });
  const request = { pipeline: lab.layout.pipeline, stage: lab.stage(READ), shard: 0, zxid: "0", writes: 1 };
  await runner.run(request, Number.POSITIVE_INFINITY);
  expect((await written()).length).toBeLessThan(240);
  const asked = order.length;
  lab.nowMs += 10_000;
  await runner.run(request, Number.POSITIVE_INFINITY);
  expect(order.length).toBe(asked);
  await lab.drain(READ, runner);
  expect(await written()).toEqual(names(281));
});

test("an inspection of the shard's state tells what is left, and which is due first", async () => {
  await openLab({ feeds: { a: feed("a", 9), b: [], c: feed("c", 1) } });
  await lab.drain(READ);
  lab.nowMs += EVERY_MS;
  const found = await inspectState(place.client, lab.blobs, lab.shard(READ), 2, stateRowText);
  expect(found?.counts).toEqual({ read: 3 });
  expect(found?.rows).toHaveLength(2);
  for (const row of found!.rows)
    expect(row).toMatchObject({
      kind: "read",
      text: expect.stringMatching(/feed: '[abc]', next: [01] }/),
      atMs: lab.nowMs,
    });
});

describe("the watermark", () => {
  test.each([
    ["manual", 750],
    ["monotonic", 750],
    ["wallTime", BEGIN_MS + 800],
  ] as const)("%s is what the head holds back", async (watermark, expected) => {
    await openLab({ watermark });
    lab.nowMs += 800;
    await lab.drain(READ);
    expect(await written()).toEqual(names(4));
    expect((await lab.head(READ)).holdMs).toBe(expected);
  });
});

test("a record that user code fails on goes to dead-letter alone, and can be replayed", async () => {
  let isMended = false;
  const visit = (value: string): void => {
    if (value === "a6" && !isMended) throw new RangeError("poison");
  };
  await openLab({ visit, piece: 4, feeds: { a: feed("a", 12), b: feed("b", 12) } });
  lab.nowMs += 5_000;
  await lab.drain(READ);
  const all = [...names(12), ...names(12, "b")].sort();
  expect(await written()).toEqual(all.filter((value) => value !== "a6"));
  const [only, ...others] = await lab.letters();
  expect(others).toEqual([]);
  expect(only!.letter).toMatchObject({ kind: "element", text: expect.stringMatching(/^'a6' at/) });
  isMended = true;
  await replayDeadLetter(place.client, lab.layout, only!.id);
  await lab.drain(READ);
  expect(await written()).toEqual(all);
});

test("what can't be read goes to dead-letter as it stands, others are read, and it is read on when replayed", async () => {
  let isMended = false;
  const onPiece = ({ feed: name, next }: { feed: string; next: number }): void => {
    if (name === "a" && next === 4 && !isMended) throw new RangeError("no such page");
  };
  await openLab({ onPiece, feeds: { a: feed("a", 12), b: feed("b", 12) } });
  lab.nowMs += 5_000;
  await lab.drain(READ);
  expect(await written()).toEqual([...names(4), ...names(12, "b")].sort());
  const [only] = await lab.letters();
  expect(only!.letter).toMatchObject({ kind: "element", error: { message: "no such page" } });
  expect(only!.letter.text).toMatch(/feed: 'a', next: 4/);
  isMended = true;
  await replayDeadLetter(place.client, lab.layout, only!.id);
  await lab.drain(READ);
  expect(await written()).toEqual([...names(12), ...names(12, "b")].sort());
});

test("a pause holds it, and a drain ends it and closes its windows", async () => {
  const windows: string[] = [];
  await openLab({
    pipeline: {
      build: (root) =>
        root
          .apply(beam.create(["a"]))
          .apply(
            splittableRead(feedSource({ a: feed("a", 30) }, { now: () => lab.nowMs, everyMs: 3_600_000 })),
          )
          .apply(beam.windowInto(beam.fixedWindows(1)))
          .apply(
            beam.groupGlobally<string>().combining(
              (value) => value,
              (a: string, b: string) => `${a},${b}`,
              "all",
            ),
          )
          .map(({ all }: { readonly all: string }) => {
            windows.push(all.split(",").sort().join());
            return all;
          }),
    },
  });
  lab.nowMs += 1_500;
  await lab.drain(READ);
  await pausePipeline(place.client, lab.layout);
  lab.nowMs += 7_200_000;
  expect(await lab.invoke(READ)).toMatchObject({ outcome: "stopped" });
  await resumePipeline(place.client, lab.layout);
  lab.nowMs -= 7_200_000;
  await drainPipeline(place.client, lab.layout);
  expect(windows).toEqual([]);
  // An hour before it would have been read again.
  await lab.drain(READ);
  expect(await lab.head(READ)).toMatchObject({ nextProcessingTimerMs: Infinity, holdMs: Infinity });
  await lab.drain(READ + 1);
  expect(new Set(windows)).toEqual(new Set(["a0,a1,a2,a3", "a4,a5,a6"]));
  expect((await completeDrain(place.client, lab.layout)).state).toBe("drained");
});

test.each([
  [2, [0, 1]],
  [5, [0, 1, 2]],
])("rescaled from 3 shards to %i, what waits and what is kept goes on", async (shards, inUse) => {
  const feeds = Object.fromEntries(["a", "b", "c", "d", "e", "f"].map((name) => [name, feed(name, 9)]));
  const { definition } = await openLab({ feeds, pipeline: { shards: { "feed/read": 3 } } });
  // The restrictions of the last shard are still in its inbox.
  await readShards([0, 1]);
  const { blobs, nowMs } = lab;
  await rescale(place.client, blobs, lab.layout, { [lab.stage(READ)]: shards });
  lab.close();
  lab = await ShardLab.open(place.client, definition);
  lab.nowMs = nowMs + 10_000;
  await readShards(inUse);
  const all = Object.keys(feeds).flatMap((name) => names(9, name));
  expect(await written()).toEqual(all.sort());
});
