import * as beam from "apache-beam";
import {
  listSideInput,
  mapAsync,
  mapSideInput,
  multimapSideInput,
  trigger,
  windowingStrategy,
} from "../../lib/index";
import { at, collect, readTest, runCollectingAsync } from "../support/collect";
import { SHAPES, testWhereWatermarksAreLearnedAtOnce } from "../support/memory-runner";

const all = (n: number, { side }: { side: { lookup(): Iterable<number> } }) =>
  `${n}: ${[...side.lookup()].sort((a, b) => a - b)}`;

describe.each(SHAPES)("in bundles of shape %j", (shape) => {
  test.each([1, 4])("every shard of %d sees the whole of a bounded side input", async (shards) => {
    const build = (root: beam.Root) => {
      const side = root.apply(readTest<number>("side", true)).map((n) => n * 10);
      root
        .apply(readTest<number>("in"))
        .map(all, { side: beam.iterableSideInput(side) })
        .apply(collect("out"));
    };
    const steps = { side: [at(0, 2), at(0, 1)], in: [1, 2, 3, 4, 5].map((n) => at(n, n)) };
    const result = await runCollectingAsync(build, shape, steps, shards);
    expect(result.values("out")).toEqual(["1: 10,20", "2: 10,20", "3: 10,20", "4: 10,20", "5: 10,20"]);
    expect(
      result
        .of("out")
        .map(({ timestampMs }) => timestampMs)
        .sort(),
    ).toEqual([1, 2, 3, 4, 5]);
  });

  test("an element sees its own window of the side input, or nothing once that has ended without elements", async () => {
    const build = (root: beam.Root) => {
      const windows = beam.windowInto<number, beam.IntervalWindow>(beam.fixedWindows(1));
      const side = root.apply(readTest<number>("side")).apply(windows);
      root
        .apply(readTest<number>("in"))
        .apply(windows)
        .map(all, { side: beam.iterableSideInput(side) })
        .apply(collect("out"));
    };
    const result = await runCollectingAsync(build, shape, {
      side: [at(100, 1), at(900, 2), at(2100, 3)],
      in: [at(500, 1), at(1500, 2), { watermarkMs: 2000 }, at(2500, 3)],
    });
    expect(result.values("out")).toEqual(["1: 1,2", "2: ", "3: 3"]);
  });

  test("a window looks at the earliest window of the side input that holds its end", async () => {
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
    const result = await runCollectingAsync(build, shape, {
      side: [at(500, 1), at(5000, 2)],
      in: [at(2500, 7)],
    });
    expect(result.values("out")).toEqual(["7: 1"]);
  });

  test("elements that wait hold the watermark, so that what groups them further down drops none", async () => {
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
    const result = await runCollectingAsync(build, shape, steps);
    expect(result.of("out").map(({ payload, timestampMs }) => [payload, timestampMs])).toEqual([
      [{ k: "all", sum: 101 }, 999],
      [{ k: "all", sum: 102 }, 5999],
    ]);
    expect(result.droppedLate).toBe(0);
  });

  test("later panes replace earlier ones, for the elements that come after them", async () => {
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
    expect((await runCollectingAsync(build, shape, steps)).values("out")).toEqual(["5: 1,2"]);
  });

  test("one transform with two side inputs, one of them made from its own input, and a default", async () => {
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
    expect((await runCollectingAsync(build, shape)).values("out")).toEqual([1 / 6 + 7, 1 / 3 + 7, 1 / 2 + 7]);
  });

  testWhereWatermarksAreLearnedAtOnce("an element whose side window is forgotten is late", async () => {
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
    const result = await runCollectingAsync(build, shape, steps);
    expect(result.values("out")).toEqual(["1: 1"]);
    expect(result.droppedLate).toBe(1);
  });
});

interface Rate {
  readonly key: { readonly from: string; readonly to: string };
  readonly value: number;
}
const rate = (from: string, to: string, value: number): Rate => ({ key: { to, from }, value });

describe.each(SHAPES)("views in bundles of shape %j", (shape) => {
  test.each([1, 4])("a list, a map and a multimap of one collection, on %d shards", async (shards) => {
    const build = (root: beam.Root) => {
      const rates = root.apply(readTest<Rate>("rates", true));
      root
        .apply(readTest<string>("in"))
        .map(
          (to, { list, map, multimap }) => {
            const key = { from: "EUR", to };
            return {
              to,
              count: list.lookup().length,
              one: map.lookup().get(key),
              has: map.lookup().has(key),
              all: [...multimap.lookup().get(to)].sort(),
            };
          },
          {
            list: listSideInput(rates),
            map: mapSideInput(rates),
            multimap: multimapSideInput(rates.map(({ key, value }) => ({ key: key.to, value }))),
          },
        )
        .apply(collect("out"));
    };
    const steps = {
      rates: [at(0, rate("EUR", "USD", 2)), at(0, rate("EUR", "JPY", 150)), at(0, rate("GBP", "USD", 3))],
      in: ["USD", "JPY", "CHF"].map((to, n) => at(n, to)),
    };
    expect((await runCollectingAsync(build, shape, steps, shards)).values("out")).toEqual([
      { to: "CHF", count: 3, one: undefined, has: false, all: [] },
      { to: "JPY", count: 3, one: 150, has: true, all: [150] },
      { to: "USD", count: 3, one: 2, has: true, all: [2, 3] },
    ]);
  });

  test("keys are equal by value, and a view can be gone through", async () => {
    const keys = [1, 1n, "1", -0, Number.NaN, [1, 2], new Date(5), new Map([["a", new Set([1])]]), null];
    const build = (root: beam.Root) => {
      const side = root.apply(
        beam.create(keys.map((key, value) => ({ key, value }) as beam.KV<unknown, number>)),
      );
      root
        .apply(readTest<string>("in"))
        .map(
          (name, { map, multimap }) => {
            const others = [
              1,
              1n,
              "1",
              0,
              Number.NaN,
              [1, 2],
              new Date(5),
              new Map([["a", new Set([1])]]),
              null,
            ];
            const one = map.lookup();
            const many = multimap.lookup();
            return {
              name,
              one: others.map((key) => one.get(key)),
              many: others.map((key) => many.get(key)),
              sizes: [one.size, many.size, [...one.keys()].length, [...many.keys()].length],
              values: [...one.values()].sort(),
              entries: [
                [...one].map(([, value]) => value).sort(),
                [...many].flatMap(([, values]) => values).sort(),
              ],
              absent: [one.get("2"), one.has(2), many.get(2n), many.has("")],
            };
          },
          { map: mapSideInput(side), multimap: multimapSideInput(side) },
        )
        .apply(collect("out"));
    };
    const numbers = keys.map((_, n) => n);
    expect((await runCollectingAsync(build, shape, { in: [at(0, "a")] })).values("out")).toEqual([
      {
        name: "a",
        one: numbers,
        many: numbers.map((n) => [n]),
        sizes: [9, 9, 9, 9],
        values: numbers,
        entries: [numbers, numbers],
        absent: [undefined, false, [], false],
      },
    ]);
  });

  test("each window has its own map, and a later pane replaces it", async () => {
    const build = (root: beam.Root) => {
      const everySecond = beam.fixedWindows(1);
      const side = root.apply(readTest<beam.KV<string, number>>("side")).apply(
        beam.windowInto(
          everySecond,
          windowingStrategy({
            trigger: trigger.repeatedly(trigger.afterCount(1)),
            accumulation: "accumulating",
            allowedLatenessSeconds: 10,
          }),
        ),
      );
      root
        .apply(readTest<string>("in"))
        .apply(beam.windowInto(everySecond, windowingStrategy({ allowedLatenessSeconds: 10 })))
        .map((key, { side }) => `${key}: ${side.lookup().get(key) ?? "none"}`, { side: mapSideInput(side) })
        .apply(collect("out"));
    };
    const steps = {
      side: [at(0, { key: "a", value: 1 }), at(1000, { key: "a", value: 2 }), { watermarkMs: 1 }],
      in: [at(500, "a"), at(1500, "a"), at(1600, "b"), { watermarkMs: 1500 }],
    };
    expect((await runCollectingAsync(build, shape, steps)).values("out")).toEqual([
      "a: 1",
      "a: 2",
      "b: none",
    ]);
    const updated = {
      side: [...steps.side, at(1700, { key: "b", value: 3 }), { watermarkMs: 2 }],
      in: [at(1600, "b")],
    };
    expect((await runCollectingAsync(build, shape, updated)).values("out")).toEqual(["b: 3"]);
  });

  test("the map of a window that has ended without elements is empty", async () => {
    const build = (root: beam.Root) => {
      const windows = beam.windowInto<unknown, beam.IntervalWindow>(beam.fixedWindows(1));
      const side = root.apply(readTest<beam.KV<string, number>>("side")).apply(windows) as never;
      const input = root.apply(readTest<string>("in")).apply(windows) as beam.PCollection<string>;
      input
        .map((key, { side }) => `${key}: ${side.lookup().size}`, { side: mapSideInput<string, number>(side) })
        .apply(collect("out"));
    };
    expect((await runCollectingAsync(build, shape, { in: [at(500, "a")] })).values("out")).toEqual(["a: 0"]);
  });

  test("asynchronous calls look at views as at the moment at which they began", async () => {
    const build = (root: beam.Root) => {
      const side = root.apply(readTest<beam.KV<string, number>>("side", true));
      root
        .apply(readTest<string>("in"))
        .apply(
          mapAsync(
            async (key: string, { context }) => {
              await Promise.resolve();
              return `${key}: ${context.side.lookup().get(key)}`;
            },
            { context: { side: mapSideInput(side) } },
          ),
        )
        .apply(collect("out"));
    };
    const steps = { side: [at(0, { key: "a", value: 1 })], in: [at(0, "a"), at(1, "b")] };
    expect((await runCollectingAsync(build, shape, steps)).values("out")).toEqual(["a: 1", "b: undefined"]);
  });
});

test("a view is made once for all elements of a bundle", async () => {
  const views = new Set<unknown>();
  let bundles = 0;
  const build = (root: beam.Root) => {
    const side = root.apply(beam.create([{ key: "a", value: 1 }]));
    const looking = {
      startBundle: () => void bundles++,
      process: (n: number, { map }: { map: { lookup(): unknown } }) => {
        views.add(map.lookup());
        return [n];
      },
    };
    root
      .apply(readTest<number>("in"))
      .apply(beam.parDo(looking, { map: mapSideInput(side) }))
      .apply(collect("out"));
  };
  const elements = Array.from({ length: 100 }, (_, n) => at(n, n));
  expect((await runCollectingAsync(build, "whole", { in: elements })).of("out")).toHaveLength(100);
  expect(views.size).toBeLessThanOrEqual(bundles);
  expect(views.size).toBeLessThan(50);
});

test("many that wait are released in their order, in part or whole, whatever they take", async () => {
  const values = Array.from(
    { length: 120 },
    (_, n) => `${String(n).padStart(3, "0")}${"x".repeat((n % 7) * 200)}`,
  );
  const build = (root: beam.Root) => {
    const windows = beam.windowInto<string, beam.IntervalWindow>(beam.fixedWindows(1));
    const waiting = root.apply(readTest<string>("in")).apply(windows);
    const side = root.apply(readTest<string>("side")).apply(windows);
    waiting
      .map((text, { side: view }) => `${text} ${[...view.lookup()].length}`, {
        side: beam.iterableSideInput(side),
      })
      .apply(collect("out"));
  };
  for (const shape of SHAPES) {
    // Some have a pane to wait for, the others the end of their window.
    const steps = {
      in: values.map((value, n) => at(n < 60 ? 500 : 1_500, value)),
      side: [at(600, "y"), { watermarkMs: 3_000 }],
    };
    const found = (await runCollectingAsync(build, shape, steps))
      .of("out")
      .map(({ payload }) => payload as string);
    const expected = values.map((value, n) => `${value} ${n < 60 ? 1 : 0}`);
    expect(found.filter((text) => text.endsWith("1"))).toEqual(expected.slice(0, 60));
    expect(found.filter((text) => text.endsWith("0"))).toEqual(expected.slice(60));
  }
});

test.each([
  [
    "two values for one key name view and key",
    [
      { key: { a: 1, b: 2 }, value: 1 },
      { key: { b: 2, a: 1 }, value: 2 },
    ],
    'pipeline "test", transform "map" on element \'x\': Error: side input "prices": the key { b: 2, a: 1 } has more than one value in its window; use multimapSideInput, or combine by key before',
  ],
  [
    "an element without a key names the view",
    [7],
    'pipeline "test", transform "map" on element \'x\': TypeError: side input "prices" needs elements of the form {key, value}, not 7',
  ],
])("in a map view %s", async (_, elements, message) => {
  const build = (root: beam.Root) => {
    const side = root.apply(beam.create(elements as beam.KV<unknown, unknown>[]));
    root
      .apply(beam.create(["x"]))
      .map((key, { prices }) => prices.lookup().get(key), { prices: mapSideInput(side) });
  };
  await expect(runCollectingAsync(build, "whole")).rejects.toThrow(message);
});

test("a failure names the transform and the element", async () => {
  const build = (root: beam.Root) => {
    const side = root.apply(beam.create([1, 2]));
    root.apply(beam.create(["a"])).map((s, { side }) => s + side.lookup(), {
      side: beam.singletonSideInput(side),
    });
  };
  await expect(runCollectingAsync(build, "whole")).rejects.toThrow(
    'pipeline "test", transform "map" on element \'a\': Error: Expected a single element, got 2',
  );
});
