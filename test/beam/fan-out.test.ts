import * as beam from "apache-beam";
import { globalRegistry } from "apache-beam/coders/coders";
import { KVCoder } from "apache-beam/coders/required_coders";
import { count, max, mean, min, sum } from "apache-beam/transforms/combiners";
import { combinePerKey, withCoderInternal } from "apache-beam/transforms/internal";
import type { Reader, Writer } from "protobufjs/minimal";
import {
  combineGlobally,
  compilePipeline,
  top,
  trigger,
  type WindowingOptions,
  windowingStrategy,
  withHotKeyFanout,
} from "../../lib/index";
import { randomNumbers } from "../../lib/simulation/random-numbers";
import { at, collect, readTest, runCollectingAsync, shuffled } from "../support/collect";
import { SHAPES, type SourceStep, testWhereWatermarksAreLearnedAtOnce } from "../support/memory-runner";

interface Sale {
  readonly k: string;
  readonly n: number;
}

interface Row {
  readonly k: unknown;
  readonly sum: number;
}

const summing = beam.groupBy("k").combining("n", sum, "sum");
const FANOUT = 4;

type Windows = beam.PTransform<beam.PCollection<Sale>, beam.PCollection<Sale>>;

const inFixed = (options: WindowingOptions): Windows =>
  beam.windowInto<Sale, beam.IntervalWindow>(beam.fixedWindows(10), windowingStrategy(options));

const hot = Array.from({ length: 100 }, (_, n): [number, Sale] => [5000 + n, { k: "hot", n }]);

test("a hot key's elements go through the shuffle under as many keys as it has parts, as many of each", () => {
  const build = (root: beam.Root) =>
    root
      .apply(readTest<Sale>("in"))
      .apply(beam.windowInto(beam.sessions(10)))
      .apply(withHotKeyFanout(summing, FANOUT))
      .apply(collect("out"));
  const parts = shuffled(build, hot).map(({ key }) => key as [string, number]);
  expect(new Set(parts.map(([key]) => key))).toEqual(new Set(["hot"]));
  for (let part = 0; part < FANOUT; part++)
    expect(parts.filter(([, each]) => each === part)).toHaveLength(hot.length / FANOUT);
});

describe.each(SHAPES)("in bundles of shape %j", (shape) => {
  test.each([
    ["fixed windows", beam.windowInto<Sale, beam.IntervalWindow>(beam.fixedWindows(10))],
    ["sliding windows", beam.windowInto<Sale, beam.IntervalWindow>(beam.slidingWindows(10, 5))],
    ["sessions", beam.windowInto<Sale, beam.IntervalWindow>(beam.sessions(1))],
    ["the time of the latest element", inFixed({ outputTime: "latest" })],
    ["lateness", inFixed({ allowedLatenessSeconds: 5 })],
  ])("combines with %s give the same with parts and without", async (_, windows) => {
    const random = randomNumbers(11);
    const sales = Array.from({ length: 120 }, () => ({
      timestampMs: Math.floor(random() * 40_000),
      value: { k: `k${Math.floor(random() * 3)}`, n: Math.floor(random() * 100) },
    }));
    const combining = beam
      .groupBy("k")
      .combining("n", sum, "sum")
      .combining("n", count, "count")
      .combining("n", min, "min")
      .combining("n", max, "max")
      .combining("n", mean, "mean")
      .combining("n", top<number>(3), "top");
    const build = (root: beam.Root) => {
      const windowed = root.apply(readTest<Sale>("in")).apply(windows);
      windowed.apply(combining).apply(collect("whole"));
      windowed.apply(withHotKeyFanout(combining, FANOUT)).apply(collect("parted"));
    };
    const result = await runCollectingAsync(build, shape, { in: sales }, 3);
    const panes = (name: string) =>
      result
        .of(name)
        .map(({ payload, window, timestampMs }) => JSON.stringify([window, payload, timestampMs]))
        .sort();
    expect(panes("whole").length).toBeGreaterThan(5);
    expect(panes("parted")).toEqual(panes("whole"));
  });

  describe.each(["accumulating", "discarding"] as const)("with %s panes", (accumulation) => {
    const late = (...ns: number[]) => ns.map((n) => at(1000 + n, { k: "a", n }));
    const run = (windows: Windows, steps: readonly SourceStep[]) => {
      const build = (root: beam.Root) =>
        root
          .apply(readTest<Sale>("in"))
          .apply(windows)
          .apply(withHotKeyFanout(summing, FANOUT))
          .apply(collect<Row>("out"));
      return runCollectingAsync(build, shape, { in: steps }, 2);
    };
    /** What all panes of a key say in the end. */
    const total = (sums: readonly number[]): number =>
      accumulation === "accumulating" ? sums.at(-1)! : sums.reduce((all, each) => all + each, 0);

    test("that count elements, each part's accumulator counts once", async () => {
      const windows = beam.windowInto<Sale, beam.GlobalWindow>(
        beam.globalWindows(),
        windowingStrategy({ trigger: trigger.repeatedly(trigger.afterCount(1)), accumulation }),
      );
      const numbers = Array.from({ length: 20 }, (_, n) => n + 1);
      const result = await run(windows, late(...numbers));
      const sums = result.of("out").map(({ payload }) => (payload as Row).sum);
      expect(total(sums)).toBe(210);
      // Positive numbers: what accumulates grows, and what doesn't is each of them once.
      if (accumulation === "accumulating") expect(sums).toEqual([...sums].sort((a, b) => a - b));
    });

    testWhereWatermarksAreLearnedAtOnce("early, on time and late", async () => {
      const windows = inFixed({
        trigger: trigger.afterWatermark({
          early: trigger.repeatedly(trigger.afterProcessingTime({ delaySeconds: 1 })),
          late: trigger.afterCount(1),
        }),
        allowedLatenessSeconds: 60,
        accumulation,
      });
      const steps: SourceStep[] = [
        ...[{ clockMs: 0 }, ...late(1, 2), { clockMs: 2000 }, { clockMs: 4000 }, ...late(3)],
        ...[{ watermarkMs: 10_000 }, ...late(4), { watermarkMs: 20_000 }, ...late(5)],
      ];
      const result = await run(windows, steps);
      const panes = result.of("out").map(({ payload, pane }) => [pane.timing, (payload as Row).sum] as const);
      expect(total(panes.map(([, each]) => each))).toBe(15);
      const onTime = panes.filter(([timing]) => timing !== "LATE").map(([, each]) => each);
      expect(total(onTime)).toBe(6);
      expect(panes.filter(([timing]) => timing === "ON_TIME")).toHaveLength(1);
      expect(panes.filter(([timing]) => timing === "LATE").length).toBeGreaterThan(0);
    });
  });

  test("a part without anything new gives no pane", async () => {
    const windows = inFixed({
      trigger: trigger.afterWatermark({ early: trigger.repeatedly(trigger.afterCount(1)) }),
      accumulation: "discarding",
    });
    const build = (root: beam.Root) =>
      root
        .apply(readTest<Sale>("in"))
        .apply(windows)
        .apply(withHotKeyFanout(summing, FANOUT))
        .apply(collect("out"));
    const steps = [1, 2, 3, 4, 5, 6, 7, 8].map((n) => at(n, { k: "a", n }));
    const result = await runCollectingAsync(build, shape, { in: steps });
    const early = result.of("out").filter(({ pane }) => pane.timing === "EARLY");
    expect(early.reduce((all, { payload }) => all + (payload as Row).sum, 0)).toBe(36);
    for (const { payload } of early) expect((payload as Row).sum).toBeGreaterThan(0);
  });

  testWhereWatermarksAreLearnedAtOnce("what comes too late is dropped and counted once", async () => {
    const build = (root: beam.Root) =>
      root
        .apply(readTest<Sale>("in"))
        .apply(beam.windowInto(beam.fixedWindows(1)))
        .apply(withHotKeyFanout(summing, FANOUT))
        .apply(collect("out"));
    const late = [at(100, { k: "a", n: 1 }), at(200, { k: "a", n: 2 }), at(300, { k: "b", n: 3 })];
    const steps = [at(5000, { k: "a", n: 1 }), { watermarkMs: 2000 }, ...late];
    const result = await runCollectingAsync(build, shape, { in: steps });
    expect(result.values("out")).toEqual([{ k: "a", sum: 1 }]);
    expect(result.droppedLate).toBe(3);
  });

  test("all of a window, and the default where there is nothing", async () => {
    const build = (root: beam.Root) => {
      const input = root.apply(readTest<Sale>("in", true));
      input
        .apply(withHotKeyFanout(beam.groupGlobally<Sale>().combining("n", max, "max"), 3))
        .apply(collect("max"));
      const numbers = input.map(({ n }) => n);
      numbers.apply(withHotKeyFanout(combineGlobally(sum), 3)).apply(collect("sum"));
    };
    const some = await runCollectingAsync(
      build,
      shape,
      { in: [3, 9, 4].map((n) => at(n, { k: "a", n })) },
      2,
    );
    expect([some.values("max"), some.values("sum")]).toEqual([[{ max: 9 }], [16]]);
    const none = await runCollectingAsync(build, shape, {}, 2);
    expect([none.values("max"), none.values("sum")]).toEqual([[], [0]]);
  });
});

type Pairs = beam.PCollection<{ key: unknown; value: unknown }>;

/** The SDK's, whose type is lost in `apply`. */
const perKey = (fn: unknown) => combinePerKey(fn as never) as unknown as beam.PTransform<Pairs, Pairs>;

/** No plain data, so that only its own coder can carry it; the label is left out. */
class Box {
  readonly #n: number;
  constructor(
    n: number,
    readonly label: string,
  ) {
    this.#n = n;
  }
  get n(): number {
    return this.#n;
  }
}

class BoxCoder {
  encode(box: Box, writer: Writer): void {
    writer.int32(box.n);
  }
  decode(reader: Reader): Box {
    return new Box(reader.int32(), "decoded");
  }
  toProto() {
    return { spec: { urn: "test:coder:box:v1", payload: new Uint8Array() }, componentCoderIds: [] };
  }
}
globalRegistry().registerClass("test:coder:box:v1", BoxCoder as never);

test.each([
  ["whole", false],
  ["single", true],
] as const)("keys and values with coders of their own, in bundles of shape %j", async (shape, isLifted) => {
  const windows = isLifted ? beam.fixedWindows(10) : beam.sessions(10);
  const boxed = {
    createAccumulator: () => 0,
    addInput: (total: number, box: Box) => total + box.n,
    mergeAccumulators: (all: Iterable<number>) => [...all].reduce((a, b) => a + b, 0),
    extractOutput: (total: number) => total,
  };
  const build = (root: beam.Root) => {
    const pairs = root
      .apply(readTest<number>("in", true))
      .apply(beam.windowInto(windows as never))
      .map((n: number) => ({ key: new Box(n % 2, `key of ${n}`), value: new Box(n, "value") }));
    const coded = pairs.apply(
      withCoderInternal(new KVCoder(new BoxCoder(), new BoxCoder()) as never),
    ) as Pairs;
    const summed: Pairs = coded.apply(withHotKeyFanout(perKey(boxed), 2));
    summed.map(({ key, value }) => [(key as Box).n, value]).apply(collect("out"));
  };
  const steps = [1, 2, 3, 4, 5].map((n) => at(n, n));
  expect((await runCollectingAsync(build, shape, { in: steps }, 2)).values("out")).toEqual([
    [0, 6],
    [1, 9],
  ]);
});

test("a CombineFn that is a class, within a transform of the user's", async () => {
  class Longest {
    private readonly none = "";
    createAccumulator(): string {
      return this.none;
    }
    addInput(longest: string, text: string): string {
      return text.length > longest.length ? text : longest;
    }
    mergeAccumulators(all: Iterable<string>): string {
      return [...all].reduce((a, b) => this.addInput(a, b), this.none);
    }
    extractOutput(longest: string): string {
      return `${longest}${this.none}!`;
    }
  }
  const within = (input: beam.PCollection<Sale>): Pairs =>
    input
      .map(({ k, n }): { key: unknown; value: unknown } => ({ key: { of: k }, value: "x".repeat(n) }))
      .apply(perKey(new Longest()));
  const build = (root: beam.Root) =>
    root.apply(readTest<Sale>("in", true)).apply(withHotKeyFanout(within, 2)).apply(collect("out"));
  const steps = [2, 4, 1, 3].map((n) => at(n, { k: "a", n }));
  const result = await runCollectingAsync(build, "whole", { in: steps });
  expect(result.values("out")).toEqual([{ key: { of: "a" }, value: "xxxx!" }]);
});

test("the graph says so: another fingerprint, a stage more for each combine", () => {
  const compiled = (combining: typeof summing) =>
    compilePipeline({
      name: "test",
      shards: 1,
      build: (root) => root.apply(readTest<Sale>("in", true)).apply(combining).apply(collect("out")),
    });
  const [whole, parted] = [compiled(summing), compiled(withHotKeyFanout(summing, 2) as typeof summing)];
  expect(parted.fingerprint).not.toBe(whole.fingerprint);
  expect(parted.stages.map(({ id }) => id)).toEqual([
    "in",
    "withHotKeyFanout/groupBy/combinePerKey/combinePerKey/combineParts",
    "withHotKeyFanout/groupBy/combinePerKey/combinePerKey",
  ]);
  // Of how many parts there are, no state depends.
  expect(compiled(withHotKeyFanout(summing, 5) as typeof summing).fingerprint).toBe(parted.fingerprint);
});

test("what is no pair is refused as without parts", async () => {
  const build = (root: beam.Root) =>
    root
      .apply(readTest<{ key: unknown; value: unknown }>("in", true))
      .apply(withHotKeyFanout(perKey(sum), 2));
  await expect(runCollectingAsync(build, "whole", { in: [at(0, { k: "a", n: 5 })] })).rejects.toThrow(
    "combineParts\" on element { k: 'a', n: 5 }: grouping needs elements of the form {key, value}",
  );
});

test.each([1, 0, 2.5, NaN, "4"])("a fan-out of %p is refused", (fanout) => {
  expect(() => withHotKeyFanout(summing, fanout as number)).toThrow(
    new RangeError(`the fan-out of a hot key must be a whole number above 1; it is ${fanout}`),
  );
});
