import type { KV } from "apache-beam";
import * as beam from "apache-beam";
import type { BundleResult, CompiledPipeline, StageShard } from "../../lib/beam/api";
import { compilePipeline } from "../../lib/beam/pipeline";
import {
  bagState,
  eventTimer,
  mapState,
  orderedListState,
  statefulParDo,
  timestamped,
  UnsupportedPipelineError,
  valueState,
} from "../../lib/index";
import { at, collect, readTest, runCollecting } from "../support/collect";

type Pair = KV<string, number>;
type Windows = beam.PTransform<beam.PCollection<Pair>, beam.PCollection<Pair>>;
type Transform = beam.PTransform<beam.PCollection<Pair>, beam.PCollection<unknown>>;

const second: Windows = beam.windowInto<Pair, beam.IntervalWindow>(beam.fixedWindows(1));

function compiled(transform: Transform, windows = second): CompiledPipeline {
  const build = (root: beam.Root) =>
    root.apply(readTest<Pair>("in")).apply(windows).apply(transform).apply(collect("out"));
  return compilePipeline({ name: "test", build, shards: 1 });
}

const problemsOf = (transform: Transform, windows = second): string[] => {
  try {
    compiled(transform, windows);
  } catch (error) {
    if (error instanceof UnsupportedPipelineError) return error.problems.map(({ what }) => what);
    throw error;
  }
  return [];
};

const counting = () => statefulParDo({ n: valueState(0) }, (_: Pair) => []);

describe("what is refused", () => {
  test("windows that merge, by name", () => {
    // Beam model: state is not supported with merging windows
    const sessions: Windows = beam.windowInto<Pair, beam.IntervalWindow>(beam.sessions(5));
    expect(problemsOf(counting(), sessions)).toEqual([
      "it keeps state in sessions with a gap of 5000 ms, and what windows hold that merge can't be made one",
    ]);
  });

  test("side inputs", () => {
    const build = (root: beam.Root) => {
      const side = beam.singletonSideInput(root.apply(beam.create([1])));
      root.apply(readTest<Pair>("in")).apply(statefulParDo({ params: { side }, process: (_: Pair) => [] }));
    };
    expect(() => compilePipeline({ name: "test", build, shards: 1 })).toThrow(
      'its parameter "side" is a side input, which a transform with state can\'t have',
    );
  });

  test("timers without functions, and functions without timers", () => {
    const process = (_: Pair) => [];
    expect(() => statefulParDo({ timers: { t: eventTimer() }, process })).toThrow(
      'statefulParDo has no function onTimer.t for its timer "t"',
    );
    const onTimer = { other: () => [] };
    expect(() => statefulParDo({ timers: {}, process, onTimer })).toThrow(
      'statefulParDo has a function onTimer.other and no timer "other"',
    );
  });

  const failing = (process: Parameters<typeof statefulParDo>[0] & object) => () =>
    runCollecting(
      (root) =>
        root
          .apply(readTest<Pair>("in"))
          .apply(second)
          .apply(statefulParDo(process as never)),
      "whole",
      { in: [at(100, { key: "a", value: 1 })] },
    );
  const timers = { t: eventTimer() };
  const onTimer = { t: () => [] };

  test.each([
    [
      "a timer after the window's expiry",
      {
        timers,
        onTimer,
        process: (_: Pair, { timers: { t } }: never) => (t as { set(ms: number): void }).set(1000),
      },
      'RangeError: the timer "t" is set to 1000, after its window\'s expiry (999)',
    ],
    [
      "an output timestamp before the element's",
      {
        ...{ timers, onTimer },
        process: (_: Pair, { timers: { t } }: never) =>
          (t as { set(ms: number, options: object): void }).set(900, { outputTimestampMs: 99 }),
      },
      'the timer "t" has the output timestamp 99; it must be from 100, the timestamp of what is at hand, to 999',
    ],
    [
      "an element with an earlier timestamp",
      { process: () => [timestamped(1, 99)] },
      "gave an element the timestamp 99, which is before 100",
    ],
    [
      "a promise",
      { process: async () => [] },
      "returned a Promise; functions with state must be synchronous",
    ],
    [
      "a value that has no encoding, where it is written",
      {
        state: { v: valueState() },
        process: (_: Pair, { state: { v } }: never) =>
          (v as { write(x: unknown): void }).write({ f: () => 1 }),
      },
      "value.f is a function, which can't be encoded",
    ],
    [
      "a timer at the expiry",
      {
        ...{ timers, onTimer, process: () => [] },
        onWindowExpiration: ({ timers: { t } }: never) => (t as { set(ms: number): void }).set(999),
      },
      'the timer "t" can\'t be set any more: its window has expired',
    ],
  ] as [string, object, string][])("%s", (_name, doFn, message) => {
    expect(failing(doFn as never)).toThrow(message);
  });

  test("state in use after its call", () => {
    let kept: { read(): number } | undefined;
    const keeping = {
      state: { n: valueState(0) },
      process(_: Pair, { state }: { state: { n: { read(): number } } }) {
        kept = state.n;
      },
    };
    failing(keeping as never)();
    expect(() => kept!.read()).toThrow("they can be used until the function returns");
  });
});

test("what state and timers a transform declares is part of the graph's fingerprint; what its functions do is not", () => {
  const print = (transform: Transform) => compiled(transform).fingerprint;
  const same = statefulParDo({ n: valueState(7) }, (_: Pair) => [1]);
  expect(print(counting())).toBe(print(same));
  expect(print(counting())).not.toBe(print(statefulParDo({ m: valueState(0) }, (_: Pair) => [])));
  expect(print(counting())).not.toBe(print(statefulParDo({ n: bagState() }, (_: Pair) => [])));
});

/** The stateful stage of a pipeline, with what is sent to it encoded as it would be. */
class Stage {
  readonly id: string;
  shard: StageShard;

  constructor(private readonly pipeline: CompiledPipeline) {
    this.id = pipeline.stages[1]!.id;
    this.shard = pipeline.openShard(this.id);
  }

  encode(timestampMs: number, value: number, key = "a"): Uint8Array {
    const bundle = this.pipeline.openShard(this.pipeline.stages[0]!.id).beginBundle(-Infinity);
    bundle.processSourceElement({ key, value }, timestampMs);
    return [...bundle.finish().outputs.get(this.id)!][0]!.bytes;
  }

  /** Keeps what the bundle leaves. */
  run(
    work: (bundle: ReturnType<StageShard["beginBundle"]>) => void,
    aside: Parameters<StageShard["beginBundle"]>[2] = new Set(),
  ): BundleResult {
    const bundle = this.shard.beginBundle(-Infinity, undefined, aside);
    work(bundle);
    const result = bundle.finish();
    this.shard = result.shard;
    this.shard.accept();
    return result;
  }
}

describe("what fails alone is set aside and comes back", () => {
  const poisonous = (isHealed: () => boolean) =>
    statefulParDo({
      state: { n: valueState(0), all: bagState<number>() },
      timers: { t: eventTimer() },
      process({ value }: Pair, { state, timers }) {
        if (value === 13 && !isHealed()) throw new Error("thirteen");
        state.n.write(state.n.read() + 1);
        state.all.add(value);
        timers.t.set(500);
        return [`element ${value}`];
      },
      onTimer: {
        t({ state }) {
          if (!isHealed()) throw new Error("timer");
          return [`timer ${state.n.read()}`];
        },
      },
      onWindowExpiration({ state }) {
        if (!isHealed()) throw new Error("expiry");
        return [`expiry ${state.n.read()} of ${[...state.all.read()]}`];
      },
    });
  const outOf = ({ effects }: BundleResult) => effects.map(({ payload }) => payload);

  test("an element, a timer and an expiry, while state and the others go on", () => {
    let isHealed = false;
    const stage = new Stage(compiled(poisonous(() => isHealed)));
    const [one, two] = [stage.encode(10, 1), stage.encode(20, 13)];
    const elements = (bundle: ReturnType<StageShard["beginBundle"]>) => {
      bundle.processElement(one);
      bundle.processElement(two);
    };
    const bundle = stage.shard.beginBundle(-Infinity);
    expect(() => elements(bundle)).toThrow("thirteen");
    expect(bundle.panes).toEqual({ begun: 2, failed: 1 });
    const first = stage.run(elements, new Set([1]));
    expect(outOf(first)).toEqual(["element 1"]);
    expect(first.setAside.map(({ kind, number, text }) => [kind, number, text])).toEqual([
      ["element", 1, "13"],
    ]);

    const second = stage.run((open) => open.advanceWatermark(600, 10), new Set([0]));
    expect(outOf(second)).toEqual([]);
    expect(second.setAside[0]).toMatchObject({ kind: "timer", position: { key: "'a'", timestampMs: 500 } });

    isHealed = true;
    const letters = [...first.setAside, ...second.setAside];
    const replayed = stage.run((open) => {
      for (const { bytes } of letters) open.processElement(bytes);
    });
    // The element sets the timer again, for a time that has come; the replayed one fires by itself.
    expect(outOf(replayed)).toEqual(["element 13", "timer 2"]);

    isHealed = false;
    stage.run((open) => open.advanceWatermark(999, 10), "all");
    const last = stage.run((open) => open.advanceWatermark(1000, 10), "all");
    expect(last.isStateEmpty).toBe(true);
    isHealed = true;
    const back = stage.run((open) => {
      for (const { bytes } of last.setAside) open.processElement(bytes);
    });
    expect(outOf(back)).toEqual(["expiry 2 of 1,13"]);
    expect(back.isStateEmpty).toBe(true);
  });

  test("a timer comes too late when its window has expired meanwhile", () => {
    let isHealed = false;
    const stage = new Stage(compiled(poisonous(() => isHealed)));
    const one = stage.encode(10, 1);
    stage.run((open) => open.processElement(one));
    const { setAside } = stage.run((open) => open.advanceWatermark(600, 10), "all");
    isHealed = true;
    stage.run((open) => open.advanceWatermark(1000, 10));
    const replayed = stage.run((open) => open.processElement(setAside[0]!.bytes));
    expect([outOf(replayed), replayed.counters.droppedLate]).toEqual([[], 1]);
  });
});

describe("a commit costs what was added, not what is stored", () => {
  const TEXT = "x".repeat(100);
  const BUNDLES = 1_000;

  /** Bytes that each bundle of one element writes, when there are many in store. */
  function bytesPerBundle(transform: Transform): { mean: number; most: number } {
    const stage = new Stage(compiled(transform));
    const element = stage.encode(10, 1);
    const written: number[] = [];
    for (let n = 0; n < BUNDLES; n++) {
      const { stateChanges } = stage.run((open) => open.processElement(element));
      written.push(stateChanges.reduce((sum, { id, value }) => sum + id.length + (value?.length ?? 0), 0));
    }
    const late = written.slice(BUNDLES / 2);
    return { mean: late.reduce((sum, bytes) => sum + bytes, 0) / late.length, most: Math.max(...late) };
  }

  test("a bag", () => {
    const bag = statefulParDo({ all: bagState<string>() }, (_: Pair, { state }) => state.all.add(TEXT));
    const { mean, most } = bytesPerBundle(bag);
    // A tail of 1 KiB at most, and now and then all small chunks as one large one.
    expect(mean).toBeLessThan(1_000);
    expect(most).toBeLessThan(70_000);
  });

  test("a map, an ordered list", () => {
    let n = 0;
    const map = statefulParDo({ all: mapState<number, string>() }, (_: Pair, { state }) =>
      state.all.set(n++, TEXT),
    );
    const list = statefulParDo({ all: orderedListState<string>() }, (_: Pair, { state }) =>
      state.all.add(TEXT, n++),
    );
    expect(bytesPerBundle(map).most).toBeLessThan(300);
    expect(bytesPerBundle(list).most).toBeLessThan(300);
  });

  test("a small value beside a large one", () => {
    const both = statefulParDo(
      { large: valueState<string>(), small: valueState(0) },
      (_: Pair, { state }) => {
        if (state.large.read() === undefined) state.large.write(TEXT.repeat(100));
        state.small.write(state.small.read() + 1);
      },
    );
    expect(bytesPerBundle(both).most).toBeLessThan(200);
  });

  test("a bag of many chunks is read whole, in order, and cleared", () => {
    let n = 0;
    const bag = statefulParDo(
      { all: bagState<string>() },
      ({ value }: Pair, { state }): unknown[] | undefined => {
        if (value === 1) for (let i = 0; i < 700; i++) state.all.add(`${n++} ${TEXT}`);
        if (value === 3) state.all.clear();
        return value === 2 ? [...state.all.read()].map((text) => parseInt(text, 10)) : undefined;
      },
    );
    const stage = new Stage(compiled(bag));
    const [add, read, clear] = [1, 2, 3].map((value) => stage.encode(10, value)) as [
      Uint8Array,
      Uint8Array,
      Uint8Array,
    ];
    for (let round = 0; round < 5; round++) stage.run((open) => open.processElement(add));
    const numbers = stage.run((open) => open.processElement(read)).effects.map(({ payload }) => payload);
    expect(numbers).toEqual(Array.from({ length: 3_500 }, (_, i) => i));
    expect(stage.run((open) => open.processElement(clear)).isStateEmpty).toBe(true);
  });
});
