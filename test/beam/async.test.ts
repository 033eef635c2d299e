import { setImmediate as turn } from "node:timers/promises";
import * as beam from "apache-beam";
import {
  type AsyncCall,
  batchElements,
  bundleFinalizer,
  compilePipeline,
  flatMapAsync,
  mapAsync,
  mapBatches,
  parDoAsync,
} from "../../lib/index";
import { at, collect, readTest, runCollecting, runCollectingAsync } from "../support/collect";
import { type BundleShape, runInMemoryAsync, SHAPES, type SourceStep } from "../support/memory-runner";

/** Answers later the larger the number is, modulo seven. */
async function answer<T>(n: number, value: T): Promise<T> {
  for (let turns = n % 7; turns > 0; turns--) await turn();
  return value;
}

const numbers = (count: number): SourceStep[] => Array.from({ length: count }, (_, n) => at(n * 100, n));
const build =
  <O>(transform: beam.PTransform<beam.PCollection<number>, beam.PCollection<O>>) =>
  (root: beam.Root) =>
    root.apply(readTest<number>("in")).apply(transform).apply(collect("out"));
const run = (
  transform: beam.PTransform<beam.PCollection<number>, beam.PCollection<unknown>>,
  shape: BundleShape,
  count = 40,
) => runCollectingAsync(build(transform), shape, { in: numbers(count) });
const payloads = (result: Awaited<ReturnType<typeof run>>) => result.of("out").map(({ payload }) => payload);

describe.each(SHAPES)("in bundles of shape %j", (shape) => {
  test("mapAsync gives what map gives: in order, in each element's window and at its time", async () => {
    const windows = beam.windowInto<number, beam.IntervalWindow>(beam.fixedWindows(1));
    const both = (root: beam.Root, apply: (pc: beam.PCollection<number>) => beam.PCollection<number>) =>
      apply(root.apply(readTest<number>("in")).apply(windows)).apply(collect("out"));
    const steps = { in: numbers(40) };
    const plain = runCollecting((root) => both(root, (pc) => pc.map((n) => n * 10)), shape, steps);
    const result = await runCollectingAsync(
      (root) => both(root, (pc) => pc.apply(mapAsync((n) => answer(n, n * 10)))),
      shape,
      steps,
    );
    expect(result.effects).toEqual(plain.effects);
  });

  test("unordered, each result comes when it is there, with its own window and time", async () => {
    const result = await run(
      mapAsync((n) => answer(n, n), { ordered: false, concurrency: 40 }),
      shape,
    );
    expect(result.values("out")).toHaveLength(40);
    for (const { payload, timestampMs } of result.of("out"))
      expect(timestampMs).toBe((payload as number) * 100);
    const isInOrder = payloads(result).every((n, index) => n === index);
    if (shape !== "single") expect(isInOrder).toBe(false);
  });

  test("flatMapAsync: promises of iterables, async generators, and plain iterables", async () => {
    const result = await run(
      flatMapAsync((n): Promise<string[]> | AsyncIterable<string> | Iterable<string> => {
        if (n % 3 === 0) return answer(n, [`${n}a`, `${n}b`]);
        if (n % 3 === 1) return slowly(n);
        return [];
      }),
      shape,
      9,
    );
    expect(payloads(result)).toEqual(["0a", "0b", "1", "1", "3a", "3b", "4", "4", "6a", "6b", "7", "7"]);
  });

  test("transforms after one another, and grouping behind them", async () => {
    const steps = { in: numbers(50) };
    const sums = (root: beam.Root) =>
      root
        .apply(readTest<number>("in"))
        .apply(mapAsync((n) => answer(n, n + 1), { concurrency: 3 }))
        .map((n) => n * 2)
        .apply(flatMapAsync((n) => answer(n, [n, n]), { ordered: false }))
        .map((n) => ({ k: n % 4, n }))
        .apply(beam.windowInto(beam.fixedWindows(1)))
        .apply(beam.groupBy("k").combining("n", (a: number, b: number) => a + b, "sum"))
        .apply(mapAsync((row) => answer(row.sum, row)))
        .apply(collect("out"));
    const expected = (root: beam.Root) =>
      root
        .apply(readTest<number>("in"))
        .flatMap((n) => [(n + 1) * 2, (n + 1) * 2])
        .map((n) => ({ k: n % 4, n }))
        .apply(beam.windowInto(beam.fixedWindows(1)))
        .apply(beam.groupBy("k").combining("n", (a: number, b: number) => a + b, "sum"))
        .apply(collect("out"));
    const result = await runCollectingAsync(sums, shape, steps, 2);
    expect(result.values("out")).toEqual(runCollecting(expected, shape, steps, 2).values("out"));
  });

  test("side inputs, windows and metrics are those of the element, also after it has waited", async () => {
    const counted = beam.counter("counted");
    const context = (side: beam.PCollection<number>) => ({
      side: beam.iterableSideInput(side),
      time: beam.timestampParam(),
      counted,
    });
    const result = await runCollectingAsync(
      (root) => {
        const side = root.apply(readTest<number>("side", true));
        root
          .apply(readTest<number>("in"))
          .apply(
            mapAsync(
              async (n, { context: { side, time, counted }, timestampMs }) => {
                await answer(n, n);
                counted.increment();
                return [n, time.lookup().toNumber() === timestampMs, [...side.lookup()].length];
              },
              { context: context(side) },
            ),
          )
          .apply(collect("out"));
      },
      shape,
      { side: [at(0, 1), at(0, 2)], in: numbers(10) },
    );
    expect(result.values("out")).toEqual(numbers(10).map((_, n) => [n, true, 2]));
    expect([...result.counters.values()]).toEqual([10]);
  });

  test("mapBatches: one result for each element, at its own place", async () => {
    const sizes: number[] = [];
    const transform = mapBatches(
      async (all: readonly number[]) => {
        sizes.push(all.length);
        await answer(all[0]!, undefined);
        return all.map((n) => n * 2);
      },
      { maxElements: 8, minElements: 3, concurrency: 2 },
    );
    const result = await run(transform, shape);
    expect(result.of("out").map(({ payload, timestampMs }) => [payload, timestampMs])).toEqual(
      numbers(40).map((_, n) => [n * 2, n * 100]),
    );
    if (shape === "whole") expect(sizes.slice(-5)).toEqual([8, 8, 8, 8, 8]);
    expect(Math.max(...sizes)).toBeLessThanOrEqual(8);
  });

  test("batchElements: arrays of one window, none lost", async () => {
    const result = await runCollectingAsync(
      (root) =>
        root
          .apply(readTest<number>("in"))
          .apply(beam.windowInto(beam.fixedWindows(1)))
          .apply(batchElements({ maxElements: 4 }))
          .apply(mapAsync(async (batch) => batch))
          .apply(collect("out")),
      shape,
      { in: numbers(25) },
    );
    const batches = result.of("out").map(({ payload, window, timestampMs }) => ({
      batch: payload as number[],
      startMs: window.kind === "interval" ? window.startMs : undefined,
      timestampMs,
    }));
    expect(batches.flatMap(({ batch }) => batch).sort((a, b) => a - b)).toEqual(numbers(25).map((_, n) => n));
    for (const { batch, startMs, timestampMs } of batches) {
      expect(batch.length).toBeLessThanOrEqual(4);
      expect(new Set(batch.map((n) => Math.floor(n / 10) * 1000))).toEqual(new Set([startMs]));
      expect(timestampMs).toBe(batch[0]! * 100);
    }
  });

  test("finalisers are given each token of a committed bundle", async () => {
    const done: number[] = [];
    const finalizer = bundleFinalizer<number>(async (tokens) => {
      await turn();
      done.push(...tokens);
    });
    await runCollectingAsync(
      (root) =>
        root
          .apply(readTest<number>("in"))
          .map((n, { finalizer }) => finalizer.afterCommit(n), { finalizer })
          .apply(mapAsync(async () => "x"))
          .apply(collect("out")),
      shape,
      { in: numbers(20) },
    );
    expect(done).toEqual(numbers(20).map((_, n) => n));
  });
});

async function* slowly(n: number): AsyncGenerator<string> {
  yield await answer(n, String(n));
  yield String(n);
}

test("never more calls than asked for, and as many as asked for", async () => {
  let now = 0;
  let most = 0;
  const transform = mapAsync(
    async (n: number) => {
      most = Math.max(most, ++now);
      await answer(n, n);
      now--;
      return n;
    },
    { concurrency: 5 },
  );
  await run(transform, "whole", 200);
  expect([most, now]).toEqual([5, 0]);
});

test("1,000 in flight at 10 ms each: the calls take no longer than the ideal, in the service's own time", async () => {
  const waiting: { readonly atMs: number; readonly answer: () => void }[] = [];
  let nowMs = 0;
  // Time goes on when everything that can go on has gone on.
  const pass = (): void => {
    nowMs = waiting[0]?.atMs ?? nowMs;
    while (waiting.length > 0 && waiting[0]!.atMs <= nowMs) waiting.shift()!.answer();
    if (waiting.length > 0) setImmediate(pass);
  };
  const transform = mapAsync(
    (n: number) =>
      new Promise<number>((resolve) => {
        if (waiting.length === 0) setImmediate(pass);
        waiting.push({ atMs: nowMs + 10, answer: () => resolve(n) });
      }),
    { concurrency: 1_000 },
  );
  const pipeline = compilePipeline({ name: "test", build: build(transform), shards: 1 });
  const bundle = pipeline.openShard(pipeline.stages[0]!.id).beginBundle(-Infinity);
  for (let n = 0; n < 20_000; n++) {
    bundle.processSourceElement(n, n);
    if (bundle.isBusy) await bundle.room();
  }
  await bundle.drain();
  expect(bundle.finish().effects.map(({ payload }) => payload)).toEqual(
    Array.from({ length: 20_000 }, (_, n) => n),
  );
  expect(nowMs).toBe(200);
});

test("hooks: setup before everything, once; startBundle before the calls; finishBundle after them", async () => {
  const log: string[] = [];
  const transform = parDoAsync<number, number>({
    setup: async () => {
      await turn();
      log.push("setup");
    },
    startBundle: async () => {
      await turn();
      log.push("start");
    },
    process: async (n) => {
      log.push("process");
      return answer(n, [n]);
    },
    finishBundle: async () => {
      await turn();
      log.push("finish");
    },
    teardown: async () => {
      await turn();
      log.push("teardown");
    },
  });
  const pipeline = compilePipeline({ name: "test", build: build(transform), shards: 1 });
  await runInMemoryAsync(pipeline, { in: numbers(4) }, { shape: "single" });
  await pipeline.tearDown();
  // Some bundles are run twice, and one at the end has no elements.
  expect(log.join(" ")).toMatch(/^setup( start( process)* finish)+ teardown$/);
  expect(log.filter((entry) => entry === "process").length).toBeGreaterThanOrEqual(4);
});

test("a set-up that fails is tried again", async () => {
  let tries = 0;
  const setup = async () => {
    if (++tries === 1) throw new Error("no model yet");
  };
  const transform = parDoAsync<number, number>({ setup, process: async (n) => [n] });
  const pipeline = compilePipeline({ name: "test", build: build(transform), shards: 1 });
  const [stage] = pipeline.stages;
  await expect(pipeline.setUp(stage!.id)).rejects.toThrow(/"parDoAsync": Error: no model yet/);
  await pipeline.setUp(stage!.id);
  expect([tries, pipeline.setUp(stage!.id)]).toEqual([2, undefined]);
});

describe("a call that fails", () => {
  const open = (fn: (n: number, call: AsyncCall) => Promise<number>, options = {}) => {
    const transform = mapAsync(fn, { concurrency: 4, ...options });
    const pipeline = compilePipeline({ name: "test", build: build(transform), shards: 1 });
    return pipeline.openShard(pipeline.stages[0]!.id);
  };
  const feed = async (bundle: ReturnType<ReturnType<typeof open>["beginBundle"]>, count: number) => {
    for (let n = 0; n < count; n++) {
      bundle.processSourceElement(n, n);
      if (bundle.isBusy) await bundle.room();
    }
    await bundle.drain();
  };

  test("fails its bundle, with the element and its place; the others are told by their signal", async () => {
    const aborted: number[] = [];
    const bundle = open(async (n, { signal }) => {
      signal.addEventListener("abort", () => aborted.push(n));
      if (n !== 3) return new Promise<number>(() => undefined);
      throw new RangeError("three is poison");
    }).beginBundle(-Infinity);
    await expect(feed(bundle, 8)).rejects.toThrow(
      'pipeline "test", transform "mapAsync" on element 3: RangeError: three is poison',
    );
    expect(bundle.failedElement).toBe(3);
    expect(aborted).toEqual([0, 1, 2]);
  });

  test("what fails behind it, after it has waited, is known for the element it came from", async () => {
    const pipeline = compilePipeline({
      name: "test",
      shards: 1,
      build: (root) =>
        root
          .apply(readTest<number>("in"))
          .apply(mapAsync((n) => answer(7 - n, n), { ordered: false }))
          .map((n) => {
            if (n === 4) throw new Error("four");
            return n;
          })
          .apply(collect("out")),
    });
    const bundle = pipeline.openShard(pipeline.stages[0]!.id).beginBundle(-Infinity);
    await expect(feed(bundle, 7)).rejects.toThrow(/transform "map" on element 4: Error: four/);
    expect(bundle.failedElement).toBe(4);
  });

  test("one that never answers fails when its time is up", async () => {
    let nowMs = 0;
    const clock = {
      now: () => nowMs,
      sleep: async (ms: number) => {
        await turn();
        nowMs += ms;
      },
    };
    const waits = (n: number) => (n === 2 ? new Promise<number>(() => undefined) : Promise.resolve(n));
    const bundle = open(waits, { timeoutMs: 500 }).beginBundle(-Infinity, undefined, undefined, clock);
    await expect(feed(bundle, 20)).rejects.toThrow(/element 2: CallTimeoutError: no answer within 500 ms/);
    expect(bundle.failedElement).toBe(2);
  });

  test("a batch fails as a whole: what comes before it can be told apart", async () => {
    const fn = async (all: readonly number[]) => {
      if (all.includes(7)) throw new Error("seven");
      return all;
    };
    const transform = mapBatches(fn, { maxElements: 3 });
    const pipeline = compilePipeline({ name: "test", build: build(transform), shards: 1 });
    const bundle = pipeline.openShard(pipeline.stages[0]!.id).beginBundle(-Infinity);
    await expect(feed(bundle, 12)).rejects.toThrow(/on element \[ 6, 7, 8 \]: Error: seven/);
    expect(bundle.failedElement).toBe(6);
  });

  test("a batch must be answered element by element", async () => {
    const transform = mapBatches(async () => [1], { maxElements: 3 });
    await expect(run(transform, "whole", 3)).rejects.toThrow(
      /one result for each of the 3 elements, not 1 results/,
    );
  });
});

describe("asynchronous functions where there may be none", () => {
  const problem = (apply: (pc: beam.PCollection<number>) => beam.PCollection<unknown>) => () =>
    compilePipeline({
      name: "test",
      shards: 1,
      build: (root) => apply(root.apply(readTest<number>("in"))).apply(collect("out")),
    });

  test("are refused when the pipeline is compiled", () => {
    expect(problem((pc) => pc.map(async (n) => n))).toThrow(/map: its function is async. Use mapAsync./);
    expect(problem((pc) => pc.flatMap(slowly as never))).toThrow(
      /flatMap: its function is async. Use flatMapAsync./,
    );
    const process = async () => undefined;
    expect(problem((pc) => pc.apply(beam.parDo({ process: process as never })))).toThrow(
      /its process is async. Use parDoAsync./,
    );
  });

  test("and where only the result shows it, by the element", () => {
    expect(() =>
      runCollecting(
        (root) =>
          root
            .apply(readTest("in"))
            .map((n) => Promise.resolve(n))
            .apply(collect("out")),
        "whole",
        {
          in: numbers(1),
        },
      ),
    ).toThrow(/on element 0: returned a Promise; use mapAsync/);
  });

  test("options are checked", () => {
    const fn = async (n: number) => n;
    expect(() => mapAsync(fn, { concurrency: 0 })).toThrow(
      "mapAsync: concurrency must be a whole number from 1",
    );
    expect(() => mapAsync(fn, { timeoutMs: 0 })).toThrow("mapAsync: timeoutMs must be from 1");
    expect(() => batchElements({ maxElements: 10, minElements: 6 })).toThrow(
      /minElements must be .* from 1 to 5/,
    );
  });
});
