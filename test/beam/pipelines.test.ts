import * as beam from "apache-beam";
import { count, mean, sum } from "apache-beam/transforms/combiners";
import { reshuffle } from "apache-beam/transforms/utils";
import { combineGlobally } from "beamkeeper";
import { at, collect, readTest, runCollectingAsync } from "../support/collect";
import { SHAPES } from "../support/memory-runner";

describe.each(SHAPES.map((shape) => [JSON.stringify(shape), shape] as const))(
  "in bundles of shape %s",
  (_, shape) => {
    test("map, flatMap and ParDo", async () => {
      const build = (root: beam.Root) =>
        root
          .apply(readTest<number>("in"))
          .map((n) => n * 10)
          .flatMap((n) => [n, n + 1])
          .apply(
            beam.parDo<number, string>({
              *process(n) {
                if (n % 2 === 0) yield `even ${n}`;
              },
            }),
          )
          .apply(collect("out"));
      const result = await runCollectingAsync(build, shape, { in: [at(1, 1), at(2, 2), at(3, 3)] });
      expect(result.values("out")).toEqual(["even 10", "even 20", "even 30"]);
      expect(result.of("out").map(({ timestampMs }) => timestampMs)).toEqual([1, 2, 3]);
    });

    test("startBundle and finishBundle frame the elements of each bundle", async () => {
      const log: string[] = [];
      const build = (root: beam.Root) =>
        root
          .apply(readTest<number>("in"))
          .apply(
            beam.parDo<number, number>({
              startBundle: () => void log.push("start"),
              process: (n) => {
                log.push(`element ${n}`);
                return [n];
              },
              finishBundle: () => {
                log.push("finish");
                const window = new beam.GlobalWindow();
                return [{ value: -1, windows: [window], timestamp: window.maxTimestamp(), pane: PANE }];
              },
            }),
          )
          .apply(collect("out"));
      const result = await runCollectingAsync(build, shape, { in: [at(1, 1), at(2, 2)] });
      expect(result.values("out").filter((n) => n !== -1)).toEqual([1, 2]);
      const bundles = log.join(",").split("start,").filter(Boolean);
      for (const bundle of bundles)
        expect(bundle.replace(/,$/, "")).toMatch(/^(element \d,)*finish$|^finish$/);
    });

    test("combining keeps the order of keys out of the result, by value", async () => {
      const build = (root: beam.Root) =>
        root
          .apply(readTest<{ k: { a: number; b: unknown }; n: number }>("in"))
          .apply(beam.windowInto(beam.fixedWindows(10)))
          .apply(
            beam
              .groupBy("k")
              .combining("n", sum, "sum")
              .combining("n", mean, "mean")
              .combining("n", count, "count"),
          )
          .apply(collect("out"));
      const result = await runCollectingAsync(build, shape, {
        in: [
          at(1, { k: { a: 1, b: NaN }, n: 1 }),
          at(2, { k: { b: NaN, a: 1 }, n: 3 }),
          at(3, { k: { b: -0, a: 1 }, n: 5 }),
          at(4, { k: { a: 1, b: 0 }, n: 5 }),
          at(5, { k: { a: 1, b: 0n }, n: 7 }),
        ],
      });
      const rows = result
        .of("out")
        .map(({ payload }) => payload as { sum: number; mean: number; count: number });
      expect(rows.map(({ sum, mean, count }) => [sum, mean, count])).toEqual([
        [4, 2, 2],
        [10, 5, 2],
        [7, 7, 1],
      ]);
    });

    test("groupBy, coGroupBy, countPerElement, groupGlobally", async () => {
      const build = (root: beam.Root) => {
        const numbers = root.apply(readTest<number>("in", true));
        const words = root.apply(readTest<string>("words", true));
        numbers
          .apply(beam.groupBy((n: number) => n % 2))
          .map((group) => [group.key, [...group.value].sort()])
          .apply(collect("parity"));
        beam
          .P({ n: numbers.map((n) => ({ id: n, n })), w: words.map((w) => ({ id: w.length, w })) })
          .apply(beam.coGroupBy<unknown, number>("id"))
          .map(({ key, values }) => [key, [...values.n!].length, [...values.w!].length])
          .apply(collect("joined"));
        words.apply(beam.countPerElement()).apply(collect("counted"));
        words
          .apply(beam.groupGlobally<string>())
          .map((all: Iterable<string>) => [...all].sort())
          .apply(collect("all"));
      };
      const result = await runCollectingAsync(build, shape, {
        in: [at(0, 1), at(0, 2), at(0, 3)],
        words: [at(0, "a"), at(0, "bb"), at(0, "a")],
      });
      expect(result.values("parity")).toEqual([
        [0, [2]],
        [1, [1, 3]],
      ]);
      expect(result.values("joined")).toEqual([
        [1, 1, 2],
        [2, 1, 1],
        [3, 1, 0],
      ]);
      expect(result.values("counted")).toEqual([
        { element: "a", count: 2 },
        { element: "bb", count: 1 },
      ]);
      expect(result.values("all")).toEqual([["a", "a", "bb"]]);
    });

    test("flatten of sources that differ in boundedness; what follows is in both stages", async () => {
      const build = (root: beam.Root) => {
        const one = root.apply(readTest<number>("one"));
        const two = root.apply(readTest<number>("two", true));
        beam
          .P([one, two, two])
          .apply(beam.flatten<number>())
          .map((n) => n + 100)
          .apply(collect("out"));
      };
      const result = await runCollectingAsync(build, shape, { one: [at(0, 1)], two: [at(0, 2), at(0, 3)] });
      expect(result.values("out")).toEqual([101, 102, 102, 103, 103]);
    });

    test("split and partition", async () => {
      const build = (root: beam.Root) => {
        const [small, large] = root
          .apply(readTest<number>("in"))
          .apply(beam.partition((n: number) => (n < 10 ? 0 : 1), 2));
        small!.apply(collect("small"));
        large!.apply(collect("large"));
      };
      const result = await runCollectingAsync(build, shape, { in: [at(0, 1), at(0, 20), at(0, 3)] });
      expect(result.values("small")).toEqual([1, 3]);
      expect(result.values("large")).toEqual([20]);
    });

    test("windows, timestamps and panes as context parameters", async () => {
      const build = (root: beam.Root) =>
        root
          .apply(readTest<number>("in"))
          .apply(beam.assignTimestamps((n: number) => beamLong(n)))
          .apply(beam.windowInto(beam.fixedWindows(0.5)))
          .apply(beam.groupBy(() => "all"))
          .map(
            (group, { window, timestamp, pane, extra }) => ({
              values: [...group.value].sort(),
              start: (window.lookup() as beam.IntervalWindow).start.toNumber(),
              end: (window.lookup() as beam.IntervalWindow).end.toNumber(),
              timestamp: timestamp.lookup().toNumber(),
              pane: pane.lookup(),
              extra,
            }),
            {
              window: beam.windowParam(),
              timestamp: beam.timestampParam(),
              pane: beam.paneInfoParam(),
              extra: 7,
            },
          )
          .apply(collect("out"));
      const result = await runCollectingAsync(build, shape, {
        in: [at(0, -1), at(0, -500), at(0, 499), at(0, -501)],
      });
      const pane = { timing: "ON_TIME", index: 0, onTimeIndex: 0, isFirst: true, isLast: true };
      expect(result.of("out").map(({ payload }) => payload)).toEqual([
        { values: [-501], start: -1000, end: -500, timestamp: -501, pane, extra: 7 },
        { values: [-1, -500].sort(), start: -500, end: 0, timestamp: -1, pane, extra: 7 },
        { values: [499], start: 0, end: 500, timestamp: 499, pane, extra: 7 },
      ]);
    });

    test("metrics count once for each committed bundle", async () => {
      const build = (root: beam.Root) =>
        root
          .apply(readTest<number>("in"))
          .map(
            beam.withContext(
              ((n: number, { seen, sizes }: { seen: beam.Counter; sizes: beam.Metric<number> }) => {
                seen.increment();
                sizes.update(n);
                return n;
              }) as never,
              { seen: beam.counter("seen"), sizes: beam.distribution("sizes") },
            ) as (n: number) => number,
          )
          .apply(collect("out"));
      const result = await runCollectingAsync(build, shape, { in: [at(0, 1), at(0, 5), at(0, 3)] });
      expect(Object.fromEntries(result.counters)).toEqual({ "map:seen": 3 });
      expect(Object.fromEntries(result.distributions)).toEqual({
        "map:sizes": { count: 3, sum: 9, min: 1, max: 5 },
      });
    });

    test("an element of a window that has ended is dropped and counted", async () => {
      const build = (root: beam.Root) =>
        root
          .apply(readTest<{ k: string; n: number }>("in"))
          .apply(beam.windowInto(beam.fixedWindows(1)))
          .apply(beam.groupBy("k").combining("n", sum, "sum"))
          .apply(collect("out"));
      const result = await runCollectingAsync(build, shape, {
        in: [
          at(100, { k: "a", n: 1 }),
          at(1500, { k: "a", n: 2 }),
          { watermarkMs: 999 },
          at(900, { k: "a", n: 4 }),
          { watermarkMs: 1000 },
          at(950, { k: "a", n: 8 }),
          at(1000, { k: "a", n: 16 }),
        ],
      });
      expect(result.of("out").map(({ payload, timestampMs }) => [payload, timestampMs])).toEqual([
        [{ k: "a", sum: 5 }, 999],
        [{ k: "a", sum: 18 }, 1999],
      ]);
      expect(result.droppedLate).toBe(1);
    });

    test("an accumulator that the CombineFn changes in place stays as it was committed", async () => {
      const collecting: beam.CombineFn<number, { list: number[] }, string> = {
        createAccumulator: () => ({ list: [] }),
        addInput: (accumulator: { list: number[] }, n: number) => {
          accumulator.list.push(n);
          return accumulator;
        },
        mergeAccumulators: (all) => ({ list: [...all].flatMap(({ list }) => list) }),
        extractOutput: ({ list }: { list: number[] }) =>
          list
            .splice(0)
            .sort((a, b) => a - b)
            .join(),
      };
      const build = (root: beam.Root) =>
        root
          .apply(readTest<{ n: number }>("in", true))
          .apply(beam.groupBy(() => "x").combining("n" as never, collecting, "list"))
          .apply(collect("out"));
      const steps = Array.from({ length: 20 }, (_, n) => at(0, { n }));
      const result = await runCollectingAsync(build, shape, { in: steps });
      expect(result.values("out")).toEqual([
        { key: "x", list: Array.from({ length: 20 }, (_, n) => n).join() },
      ]);
    });

    test("reshuffled elements, and the default of a combine that has no elements", async () => {
      const build = (root: beam.Root) => {
        const reshuffled = root.apply(readTest<number>("in")).apply(reshuffle()) as beam.PCollection<number>;
        reshuffled.map((n) => n * 2).apply(collect("out"));
        root.apply(readTest<number>("none", true)).apply(combineGlobally(sum)).apply(collect("default"));
      };
      const elements = [1, 2, 3, 4, 5].map((n) => at(n, n));
      const result = await runCollectingAsync(build, shape, { in: elements, none: [] }, 2);
      expect(result.values("out").sort((a, b) => Number(a) - Number(b))).toEqual([2, 4, 6, 8, 10]);
      expect(result.values("default")).toEqual([0]);
    });

    test("create runs from an impulse, and several shards give what one gives", async () => {
      const build = (root: beam.Root) =>
        root
          .apply(beam.create(["a", "b", "c", "a", "d"]))
          .apply(beam.countPerElement())
          .apply(collect("out"));
      const one = await runCollectingAsync(build, shape);
      expect(one.values("out")).toEqual(
        [
          { element: "a", count: 2 },
          { element: "b", count: 1 },
          { element: "c", count: 1 },
          { element: "d", count: 1 },
        ].map((row) => ({ ...row })),
      );
      expect((await runCollectingAsync(build, shape, {}, 5)).values("out")).toEqual(one.values("out"));
    });
  },
);

const PANE = { timing: beam.Timing.UNKNOWN, index: 0, onTimeIndex: 0, isFirst: true, isLast: true };

function beamLong(ms: number) {
  const zero = new beam.GlobalWindow().maxTimestamp();
  return (zero.constructor as unknown as { fromNumber(n: number): typeof zero }).fromNumber(ms);
}
