import * as beam from "apache-beam";
import { count, max, mean, min, sum } from "apache-beam/transforms/combiners";
import { combinePerKey } from "apache-beam/transforms/internal";
import { PRECOMBINED_KEYS } from "../../lib/beam/operators/precombine";
import { compilePipeline, trigger, type WindowingOptions, windowingStrategy } from "../../lib/index";
import { randomNumbers } from "../../lib/simulation/random-numbers";
import { at, collect, readTest, runCollectingAsync, shuffled } from "../support/collect";
import { SHAPES, type SourceStep, testWhereWatermarksAreLearnedAtOnce } from "../support/memory-runner";

interface Sale {
  readonly k: string;
  readonly n: number;
}

const summing = beam.groupBy("k").combining("n", sum, "sum");
const inWindows =
  (windows: beam.PTransform<beam.PCollection<Sale>, beam.PCollection<Sale>>) => (root: beam.Root) =>
    root.apply(readTest<Sale>("in")).apply(windows).apply(summing).apply(collect("out"));

const hot = Array.from({ length: 1000 }, (_, n): [number, Sale] => [
  5000 + ((n * 7) % 1000),
  { k: "hot", n },
]);

test("a hot key goes through the shuffle as one accumulator a bundle, at the time of its earliest element", () => {
  const sent = shuffled(inWindows(beam.windowInto(beam.fixedWindows(10))), hot);
  expect(sent).toHaveLength(1);
  expect(sent[0]).toMatchObject({ key: "hot", timestampMs: 5000, value: [1000, [499_500]] });
});

test("equal windows are combined, whatever objects they are", () => {
  const sent = shuffled(inWindows(beam.windowInto(beam.slidingWindows(10, 5))), [
    [1000, { k: "a", n: 1 }],
    [7000, { k: "a", n: 2 }],
    [2000, { k: "a", n: 3 }],
  ]);
  const found = sent.map(({ window, value }) => [(window as { startMs: number }).startMs, value]);
  expect(found).toEqual([
    [0, [3, [6]]],
    [-5000, [2, [4]]],
    [5000, [1, [2]]],
  ]);
});

const inFixed = (options: WindowingOptions) =>
  beam.windowInto<Sale, beam.IntervalWindow>(beam.fixedWindows(10), windowingStrategy(options));

test.each([
  ["sessions", beam.windowInto<Sale, beam.IntervalWindow>(beam.sessions(10))],
  [
    "a trigger that counts",
    beam.windowInto<Sale, beam.GlobalWindow>(
      beam.globalWindows(),
      windowingStrategy({ trigger: trigger.repeatedly(trigger.afterCount(2)) }),
    ),
  ],
  ["the time of the latest element", inFixed({ outputTime: "latest" })],
  ["early panes that count", inFixed({ trigger: trigger.afterWatermark({ early: trigger.always() }) })],
])("nothing is combined before the shuffle with %s", (_, windows) => {
  expect(shuffled(inWindows(windows), hot)).toHaveLength(1000);
});

test.each([
  ["the default trigger with lateness", inFixed({ allowedLatenessSeconds: 5 })],
  [
    "delays and late panes",
    inFixed({
      trigger: trigger.afterWatermark({
        early: trigger.repeatedly(trigger.afterProcessingTime({ delaySeconds: 1 })),
        late: trigger.afterCount(1),
      }),
      outputTime: "earliest",
    }),
  ],
  ["never", inFixed({ trigger: trigger.never() })],
])("a hot key goes through the shuffle as one accumulator under %s", (_, windows) => {
  expect(shuffled(inWindows(windows), hot)).toMatchObject([{ timestampMs: 5000, value: [1000, [499_500]] }]);
});

test("the table of a bundle is bounded", () => {
  const keys = PRECOMBINED_KEYS + 1;
  const sales = Array.from({ length: 3 * keys }, (_, n): [number, Sale] => [0, { k: `${n % keys}`, n: 1 }]);
  const sent = shuffled(inWindows(beam.windowInto(beam.fixedWindows(10))), sales);
  expect(sent).toHaveLength(3 * keys);
  const total = sent.reduce((all, { value }) => all + (value as [number])[0], 0);
  expect(total).toBe(3 * keys);
});

test("elements that wait in the table count towards the size of the bundle", () => {
  const build = inWindows(beam.windowInto(beam.fixedWindows(10)));
  const pipeline = compilePipeline({ name: "test", build, shards: 1 });
  const bundle = pipeline.openShard(pipeline.stages[0]!.id).beginBundle(-Infinity);
  for (let n = 0; n < 100; n++) bundle.processSourceElement({ k: `${n}`, n }, 0);
  expect(bundle.pendingBytes).toBeGreaterThan(1000);
});

describe.each(SHAPES)("in bundles of shape %j", (shape) => {
  test.each([1, 3])("lifted or not, %d shards give what is worked out by hand", async (shards) => {
    const random = randomNumbers(7);
    const sales = Array.from({ length: 200 }, () => ({
      timestampMs: Math.floor(random() * 40_000),
      value: { k: `k${Math.floor(random() * 5)}`, n: Math.floor(random() * 100) },
    }));
    const combining = beam
      .groupBy("k")
      .combining("n", sum, "sum")
      .combining("n", count, "count")
      .combining("n", min, "min")
      .combining("n", max, "max")
      .combining("n", mean, "mean")
      .combining("n", (a: number, b: number) => a ^ b, "xor");
    const build = (root: beam.Root) => {
      const windowed = root.apply(readTest<Sale>("in")).apply(beam.windowInto(beam.fixedWindows(10)));
      windowed.apply(combining).apply(collect("lifted"));
      windowed
        .apply(beam.groupBy((sale: Sale) => sale.k))
        .map(({ key, value }) => {
          const ns = [...value].map(({ n }) => n);
          const total = ns.reduce((a, b) => a + b);
          return {
            k: key,
            sum: total,
            count: ns.length,
            min: Math.min(...ns),
            max: Math.max(...ns),
            mean: total / ns.length,
            xor: ns.reduce((a, b) => a ^ b),
          };
        })
        .apply(collect("by hand"));
    };
    const result = await runCollectingAsync(build, shape, { in: sales }, shards);
    expect(result.of("lifted")).toHaveLength(20);
    expect(result.values("lifted")).toEqual(result.values("by hand"));
  });

  testWhereWatermarksAreLearnedAtOnce("panes of accumulators are those of elements", async () => {
    const windows = inFixed({
      trigger: trigger.afterWatermark({
        early: trigger.repeatedly(trigger.afterProcessingTime({ delaySeconds: 1 })),
        late: trigger.afterCount(1),
      }),
      allowedLatenessSeconds: 60,
    });
    const build = (root: beam.Root) => {
      const windowed = root.apply(readTest<Sale>("in")).apply(windows);
      windowed.apply(summing).apply(collect("lifted"));
      windowed
        .apply(beam.groupBy("k"))
        .map(({ key, value }) => ({ k: key, sum: value.reduce((total, { n }) => total + n, 0) }))
        .apply(collect("by hand"));
    };
    const sales = (k: string, ...ns: number[]) => ns.map((n) => at(1000 + n, { k, n }));
    const steps: SourceStep[] = [
      ...[{ clockMs: 0 }, ...sales("a", 1, 2), ...sales("b", 3), { clockMs: 2000 }, ...sales("a", 4)],
      ...[{ watermarkMs: 10_000 }, ...sales("a", 5), { watermarkMs: 20_000 }, ...sales("b", 6)],
    ];
    const result = await runCollectingAsync(build, shape, { in: steps });
    const panes = (name: string) =>
      result.of(name).map(({ payload, pane, timestampMs }) => ({ payload, pane, timestampMs }));
    expect(panes("lifted")).toEqual(panes("by hand"));
    // The pane at the end of b's window is empty.
    expect(panes("lifted").map(({ payload }) => Object.values(payload as object))).toEqual([
      ...[
        ["a", 3],
        ["b", 3],
        ["a", 4],
        ["b", 0],
        ["a", 5],
        ["b", 6],
      ],
    ]);
  });

  testWhereWatermarksAreLearnedAtOnce(
    "elements that come too late are counted, not the accumulators that they came in",
    async () => {
      const late: SourceStep[] = [
        at(100, { k: "a", n: 1 }),
        at(200, { k: "a", n: 2 }),
        at(300, { k: "b", n: 3 }),
      ];
      const steps = { in: [at(5000, { k: "a", n: 1 }), { watermarkMs: 2000 }, ...late] };
      const result = await runCollectingAsync(inWindows(beam.windowInto(beam.fixedWindows(1))), shape, steps);
      expect(result.values("out")).toEqual([{ k: "a", sum: 1 }]);
      expect(result.droppedLate).toBe(3);
    },
  );

  test("an operator that gives null", async () => {
    const build = (root: beam.Root) =>
      root
        .apply(readTest<{ k: string; n: number | null }>("in", true))
        .apply(beam.groupBy("k").combining("n", () => null, "none"))
        .apply(collect("out"));
    const steps = { in: [1, 2, 3].map((n) => at(n, { k: "a", n })) };
    expect((await runCollectingAsync(build, shape, steps)).values("out")).toEqual([{ k: "a", none: null }]);
  });

  test("combine globally, with no key at all", async () => {
    const build = (root: beam.Root) => {
      const input = root.apply(readTest<Sale>("in", true));
      input.apply(beam.groupGlobally<Sale>().combining("n", max, "max")).apply(collect("out"));
      input.apply(beam.countGlobally()).apply(collect("count"));
    };
    const steps = { in: [3, 9, 4].map((n) => at(n, { k: "a", n })) };
    const result = await runCollectingAsync(build, shape, steps);
    expect([result.values("out"), result.values("count")]).toEqual([[{ max: 9 }], [3]]);
  });
});

const failing = (): never => {
  throw new Error("no");
};

test.each([
  ["addInput", beam.groupBy("k").combining("n", { ...sum, addInput: failing }, "sum"), "combinePerKey", "5"],
  [
    "the key's function",
    beam.groupBy(failing as (sale: Sale) => string).combining("n", sum, "sum"),
    "map",
    "{ k: 'a', n: 5 }",
  ],
  ["the value's function", beam.groupBy("k").combining(failing, sum, "sum"), "map", "{ k: 'a', n: 5 }"],
] as const)(
  "where %s fails, its transform and the element are named",
  async (_, combining, transform, element) => {
    const build = (root: beam.Root) => root.apply(readTest<Sale>("in", true)).apply(combining as never);
    const run = runCollectingAsync(build, "whole", { in: [at(0, { k: "a", n: 5 })] });
    await expect(run).rejects.toThrow(
      new RegExp(`transform "groupBy/(combinePerKey/)?${transform}" on element ${element}: Error: no`),
    );
  },
);

test("a key without an encoding is told with its element", async () => {
  const build = (root: beam.Root) =>
    root
      .apply(readTest<Sale>("in", true))
      .apply(beam.groupBy((_: Sale) => () => 1).combining("n", sum, "sum"));
  await expect(runCollectingAsync(build, "whole", { in: [at(0, { k: "a", n: 5 })] })).rejects.toThrow(
    /combinePerKey" on element { k: 'a', n: 5 }: key is a function/,
  );
});

describe("what is combined comes", () => {
  const sales = [1, 2, 3].map((n) => at(n, { k: n === 3 ? "b" : "a", n }));
  const run = async (shape: (sales: beam.PCollection<Sale>) => beam.PCollection<unknown>) => {
    const build = (root: beam.Root) =>
      shape(root.apply(readTest<Sale>("in", true))).apply(collect<unknown>("out"));
    return (await runCollectingAsync(build, "whole", { in: sales })).values("out");
  };

  test("as pairs from anywhere", async () => {
    const pairs = (sales: beam.PCollection<Sale>, times: number) =>
      sales.map(({ k, n }) => ({ key: k, value: times * n }));
    const result = await run((sales) =>
      beam
        .P([pairs(sales, 1), pairs(sales, 10)])
        .apply(beam.flatten())
        .apply(combinePerKey(sum as never)),
    );
    expect(result).toEqual([
      { key: "a", value: 33 },
      { key: "b", value: 33 },
    ]);
  });

  test("from functions, and from properties of any number of names", async () => {
    const names = Array.from({ length: 12 }, (_, i) => `p${i}`);
    const result = await run((sales) => {
      const wide = sales.map(({ k, n }) => ({
        k,
        ...Object.fromEntries(names.map((name, i) => [name, n + i])),
      }));
      let combining: ReturnType<beam.GroupBy<unknown, unknown>["combining"]> = beam
        .groupBy((each: Record<string, unknown>) => String(each.k).toUpperCase(), "K")
        .combining((each: Record<string, unknown>) => Number(each.p0) * 100, sum, "hundreds") as never;
      for (const name of names) combining = combining.combining(name as never, sum, name);
      return wide.apply(combining as never);
    });
    const row = (k: string, n: number, count: number) => ({
      K: k,
      hundreds: n * 100,
      ...Object.fromEntries(names.map((name, i) => [name, n + i * count])),
    });
    expect(result).toEqual([row("A", 3, 2), row("B", 3, 1)]);
  });

  test("by several keys", async () => {
    const result = await run((sales) =>
      sales.apply(beam.groupBy(["k", "n"]).combining("n", count, "count") as never),
    );
    expect(result).toEqual([
      { k: "a", n: 1, count: 1 },
      { k: "a", n: 2, count: 1 },
      { k: "b", n: 3, count: 1 },
    ]);
  });
});
