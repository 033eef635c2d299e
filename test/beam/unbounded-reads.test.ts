import * as beam from "apache-beam";
import { type SplittableSource, splittableRead } from "beamkeeper";
import { assertThat, ManualClock, readTestStream, runTest, TestStream } from "beamkeeper/testing";
import fc from "fast-check";
import { type FeedOptions, type FeedRecord, feedOf, feedSource } from "../support/feed-source";

type Feeds = Readonly<Record<string, readonly FeedRecord[]>>;

const read = (root: beam.Root, feeds: Feeds, options: FeedOptions): beam.PCollection<string> =>
  root.apply(beam.create([Object.keys(feeds).join()])).apply(splittableRead(feedSource(feeds, options)));

/** Runs in bundles of every shape, each with a clock of its own. */
async function runEach(
  build: (root: beam.Root, clock: ManualClock) => unknown,
  options: { readonly runForMs: number; readonly shards?: number },
): Promise<void> {
  for (const bundles of ["single", "whole", { seed: 1 }, { seed: 2 }, { seed: 3 }] as const) {
    const clock = new ManualClock();
    await runTest((root) => build(root, clock), { bundles, clock, ...options });
  }
}

const letters = (count: number, name = "a"): string[] =>
  Array.from({ length: count }, (_, index) => `${name}${index}`);

test.each([1, 3])("what comes in time is read, each record once, with %i shards", async (shards) => {
  const feeds = { a: feedOf("a", 40, 250), b: feedOf("b", 9, 1_000), c: [] };
  const build = (root: beam.Root, clock: ManualClock) =>
    assertThat(read(root, feeds, { now: () => clock.now() })).containsInAnyOrder([
      ...letters(21),
      ...letters(6, "b"),
    ]);
  await runEach(build, { runForMs: 5_000, shards });
});

test("a feed that ends is not asked again, and another one goes on beside it", async () => {
  const feeds = { a: feedOf("a", 5, 100), b: feedOf("b", 5, 1_000) };
  let asked = 0;
  const build = (root: beam.Root, clock: ManualClock) => {
    asked = 0;
    const onPiece = ({ feed }: { feed: string }): void => {
      if (feed === "a" && clock.now() > 1_000) asked += 1;
    };
    const options = { now: () => clock.now(), endsAfter: 5, onPiece };
    assertThat(read(root, feeds, options)).containsInAnyOrder([...letters(5), ...letters(4, "b")]);
  };
  await runEach(build, { runForMs: 3_000 });
  expect(asked).toBe(0);
});

test("windows fire as the source's watermark passes them, and the rest when it is drained", async () => {
  const feeds = { a: feedOf("a", 10, 1_000) };
  const seen: string[] = [];
  const build = (root: beam.Root, clock: ManualClock) => {
    seen.length = 0;
    const counted = read(root, feeds, { now: () => clock.now(), watermark: "monotonic" })
      .map((value) => ({ key: "all", value }))
      .apply(beam.windowInto(beam.fixedWindows(2)))
      .apply(beam.groupBy("key").combining("value", (x: string, y: string) => `${x},${y}`, "values"))
      .map(({ values }) => {
        const sorted = values.split(",").sort().join();
        seen.push(`${sorted} at ${clock.now()}`);
        return sorted;
      });
    assertThat(counted).containsInAnyOrder(["a0,a1", "a2,a3", "a4,a5"]);
  };
  await runEach(build, { runForMs: 5_500 });
  expect([...new Set(seen)]).toEqual(["a0,a1 at 2000", "a2,a3 at 4000", "a4,a5 at 5500"]);
});

test("what a truncation leaves is read before the drain ends, once, up to where the source would wait", async () => {
  const feeds = { a: feedOf("a", 10, 1_000) };
  const truncated: number[] = [];
  const build = (root: beam.Root, clock: ManualClock) => {
    truncated.length = 0;
    const options: FeedOptions = {
      // At the drain, more is there than at the last look.
      now: () => clock.now() + (truncated.length > 0 ? 3_000 : 0),
      everyMs: 10_000,
      truncate: (place) => {
        truncated.push(place.next);
        return place;
      },
    };
    assertThat(read(root, feeds, options)).containsInAnyOrder(letters(9));
  };
  await runEach(build, { runForMs: 5_500 });
  expect(truncated[0]).toBe(1);
});

test("TestStream moves the clock of what is read beside it", async () => {
  const feeds = { a: feedOf("a", 10, 1_000) };
  const stream = new TestStream<string>()
    .at(0, "x")
    .advanceProcessingTime(2_000)
    .at(1, "y")
    .advanceProcessingTime(1_500);
  const clock = new ManualClock();
  const build = (root: beam.Root) => {
    const fed = read(root, feeds, { now: () => clock.now() });
    const both = beam.P([fed, root.apply(readTestStream(stream))]).apply(beam.flatten<string>());
    assertThat(both).containsInAnyOrder([...letters(4), "x", "y"]);
  };
  await runTest(build, { bundles: "single", clock });
});

test("a source that always has more is told so, and not read for ever", async () => {
  const source: SplittableSource<string, number, number> = {
    name: "restless",
    unbounded: true,
    split: () => [0],
    *read(from) {
      for (let at = from; ; at++) yield { records: [at], rest: at + 1 };
    },
  };
  const build = (root: beam.Root) => root.apply(beam.create(["x"])).apply(splittableRead(source));
  await expect(runTest(build, { bundles: "single", runForMs: 1 })).rejects.toThrow(
    /"restless" has always more to give/,
  );
});

test("a source that asks to be resumed has to say that it has no end", async () => {
  const source: SplittableSource<string, number, number> = {
    name: "shy",
    split: () => [0],
    *read() {
      yield { records: [], rest: 1, resumeAfterMs: 10 };
    },
  };
  const build = (root: beam.Root) => root.apply(beam.create(["x"])).apply(splittableRead(source));
  await expect(runTest(build, { bundles: "whole" })).rejects.toThrow(/"shy" asks to be resumed after 10 ms/);
});

test("bounded sources run in memory, too", async () => {
  const source: SplittableSource<number, { readonly part: number; readonly at: number }, string> = {
    name: "bounded",
    split: (parts) => Array.from({ length: parts }, (_, part) => ({ part, at: 0 })),
    *read({ part, at }) {
      for (let from = at; from < 6; from += 2)
        yield {
          records: [`${part}-${from}`, `${part}-${from + 1}`],
          rest: from < 4 ? { part, at: from + 2 } : undefined,
        };
    },
  };
  const all = [0, 1, 2].flatMap((part) => [0, 1, 2, 3, 4, 5].map((at) => `${part}-${at}`));
  const build = (root: beam.Root) =>
    assertThat(root.apply(beam.create([3])).apply(splittableRead(source))).containsInAnyOrder(all);
  await runTest(build, { shards: 2 });
});

test("many feeds, against counting by hand", async () => {
  const record = fc.record({ atMs: fc.nat(5_000), timestampMs: fc.nat(5_000) });
  const scenario = fc.record({
    feeds: fc.array(fc.array(record, { maxLength: 12 }), { minLength: 1, maxLength: 5 }),
    everyMs: fc.integer({ min: 100, max: 2_000 }),
    piece: fc.integer({ min: 1, max: 4 }),
    shards: fc.integer({ min: 1, max: 3 }),
    runForMs: fc.integer({ min: 1, max: 6_000 }),
    seed: fc.nat(1_000),
    watermark: fc.constantFrom("manual" as const, "monotonic" as const, "wallTime" as const),
  });
  await fc.assert(
    fc.asyncProperty(scenario, async ({ feeds: drawn, seed, shards, runForMs, ...options }) => {
      const feeds: Record<string, FeedRecord[]> = {};
      for (const [index, records] of drawn.entries())
        feeds[`f${index}`] = records
          .sort((a, b) => a.atMs - b.atMs)
          .map((each, place) => ({ ...each, value: `f${index}-${place}` }));
      const lastLookMs = Math.floor(runForMs / options.everyMs) * options.everyMs;
      const expected = Object.values(feeds).flatMap((records) =>
        records.filter(({ atMs }) => atMs <= lastLookMs).map(({ value }) => value),
      );
      const clock = new ManualClock();
      const build = (root: beam.Root) =>
        assertThat(read(root, feeds, { now: () => clock.now(), ...options })).containsInAnyOrder(expected);
      await runTest(build, { bundles: { seed }, clock, shards, runForMs });
    }),
    { numRuns: 60 },
  );
});
