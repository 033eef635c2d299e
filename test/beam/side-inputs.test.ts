import * as beam from "apache-beam";
import { trigger, windowingStrategy } from "../../lib/index";
import { at, collect, readTest, runCollecting } from "../support/collect";
import { SHAPES } from "../support/memory-runner";

const all = (n: number, { side }: { side: { lookup(): Iterable<number> } }) =>
  `${n}: ${[...side.lookup()].sort((a, b) => a - b)}`;

describe.each(SHAPES)("in bundles of shape %j", (shape) => {
  test.each([1, 4])("every shard of %d sees the whole of a bounded side input", (shards) => {
    const build = (root: beam.Root) => {
      const side = root.apply(readTest<number>("side", true)).map((n) => n * 10);
      root
        .apply(readTest<number>("in"))
        .map(all, { side: beam.iterableSideInput(side) })
        .apply(collect("out"));
    };
    const steps = { side: [at(0, 2), at(0, 1)], in: [1, 2, 3, 4, 5].map((n) => at(n, n)) };
    const result = runCollecting(build, shape, steps, shards);
    expect(result.values("out")).toEqual(["1: 10,20", "2: 10,20", "3: 10,20", "4: 10,20", "5: 10,20"]);
    expect(
      result
        .of("out")
        .map(({ timestampMs }) => timestampMs)
        .sort(),
    ).toEqual([1, 2, 3, 4, 5]);
  });

  test("an element sees its own window of the side input, or nothing once that has ended without elements", () => {
    const build = (root: beam.Root) => {
      const windows = beam.windowInto<number, beam.IntervalWindow>(beam.fixedWindows(1));
      const side = root.apply(readTest<number>("side")).apply(windows);
      root
        .apply(readTest<number>("in"))
        .apply(windows)
        .map(all, { side: beam.iterableSideInput(side) })
        .apply(collect("out"));
    };
    const result = runCollecting(build, shape, {
      side: [at(100, 1), at(900, 2), at(2100, 3)],
      in: [at(500, 1), at(1500, 2), { watermarkMs: 2000 }, at(2500, 3)],
    });
    expect(result.values("out")).toEqual(["1: 1,2", "2: ", "3: 3"]);
  });

  test("a window looks at the earliest window of the side input that holds its end", () => {
    const build = (root: beam.Root) => {
      const sliding = beam.windowInto<number, beam.IntervalWindow>(beam.slidingWindows(4, 2));
      const side = root.apply(readTest<number>("side", true)).apply(sliding);
      root
        .apply(readTest<number>("in"))
        .apply(beam.windowInto(beam.fixedWindows(1)))
        .map(all, { side: beam.iterableSideInput(side) })
        .apply(collect("out"));
    };
    // Of [0, 4) and [2, 6), which both hold 2.999, [0, 4) is the earlier one.
    const result = runCollecting(build, shape, { side: [at(500, 1), at(5000, 2)], in: [at(2500, 7)] });
    expect(result.values("out")).toEqual(["7: 1"]);
  });

  test("elements that wait hold the watermark, so that what groups them further down drops none", () => {
    const build = (root: beam.Root) => {
      const side = root.apply(readTest<number>("side", true));
      root
        .apply(readTest<number>("in"))
        .map((n, { side }) => ({ k: "all", n: n + side.lookup() }), { side: beam.singletonSideInput(side) })
        .apply(beam.windowInto(beam.fixedWindows(1)))
        .apply(beam.groupBy("k").combining("n", (a: number, b: number) => a + b, "sum"))
        .apply(collect("out"));
    };
    const steps = { in: [at(100, 1), { watermarkMs: 5000 }, at(5100, 2)], side: [at(0, 100)] };
    const result = runCollecting(build, shape, steps);
    expect(result.of("out").map(({ payload, timestampMs }) => [payload, timestampMs])).toEqual([
      [{ k: "all", sum: 101 }, 999],
      [{ k: "all", sum: 102 }, 5999],
    ]);
    expect(result.droppedLate).toBe(0);
  });

  test("later panes replace earlier ones, for the elements that come after them", () => {
    const build = (root: beam.Root) => {
      const side = root.apply(readTest<number>("side")).apply(
        beam.windowInto(
          beam.globalWindows(),
          windowingStrategy({
            trigger: trigger.repeatedly(trigger.afterCount(1)),
            accumulation: "accumulating",
          }),
        ),
      );
      root
        .apply(readTest<{ n: number }>("in"))
        .map(({ n }, { side }) => `${n}: ${[...side.lookup()]}`, { side: beam.iterableSideInput(side) })
        .apply(collect("out"));
    };
    const steps = {
      side: [at(0, 1), { watermarkMs: 1 }, at(1, 2), { watermarkMs: 2 }],
      in: [at(0, { n: 5 })],
    };
    expect(runCollecting(build, shape, steps).values("out")).toEqual(["5: 1,2"]);
  });

  test("one transform with two side inputs, one of them made from its own input, and a default", () => {
    const build = (root: beam.Root) => {
      const numbers = root.apply(beam.create([1, 2, 3]));
      const none = numbers.flatMap((n) => (n > 3 ? [n] : []));
      const total = numbers.apply(
        beam.groupGlobally<number>().combining(
          (n) => n,
          (a: number, b: number) => a + b,
          "sum",
        ),
      );
      numbers
        .map((n, { total, none }) => n / (total.lookup() as { sum: number }).sum + none.lookup(), {
          total: beam.singletonSideInput(total),
          none: beam.singletonSideInput(none, 7),
        })
        .apply(collect("out"));
    };
    expect(runCollecting(build, shape).values("out")).toEqual([1 / 6 + 7, 1 / 3 + 7, 1 / 2 + 7]);
  });

  test("an element whose side window is forgotten is late", () => {
    const build = (root: beam.Root) => {
      const windows = beam.windowInto<number, beam.IntervalWindow>(beam.fixedWindows(1));
      const side = root.apply(readTest<number>("side", true)).apply(windows);
      root
        .apply(readTest<number>("in"))
        .apply(windows)
        .map(all, { side: beam.iterableSideInput(side) })
        .apply(collect("out"));
    };
    const steps = { side: [at(100, 1)], in: [at(500, 1), { watermarkMs: 1500 }, at(600, 2)] };
    const result = runCollecting(build, shape, steps);
    expect(result.values("out")).toEqual(["1: 1"]);
    expect(result.droppedLate).toBe(1);
  });
});

test("a failure names the transform and the element", () => {
  const build = (root: beam.Root) => {
    const side = root.apply(beam.create([1, 2]));
    root.apply(beam.create(["a"])).map((s, { side }) => s + side.lookup(), {
      side: beam.singletonSideInput(side),
    });
  };
  expect(() => runCollecting(build, "whole")).toThrow(
    'pipeline "test", transform "map" on element \'a\': Error: Expected a single element, got 2',
  );
});
