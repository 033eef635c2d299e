import type { KV } from "apache-beam";
import * as beam from "apache-beam";
import { max } from "apache-beam/transforms/combiners";
import {
  bagState,
  combiningState,
  eventTimer,
  mapState,
  orderedListState,
  processingTimer,
  type StatefulDoFn,
  setState,
  statefulParDo,
  timestamped,
  trigger,
  valueState,
  windowingStrategy,
} from "../../lib/index";
import { at, type Collected, collect, readTest, runCollectingAsync } from "../support/collect";
import {
  type BundleShape,
  SHAPES,
  type SourceStep,
  testWhereWatermarksAreLearnedAtOnce,
} from "../support/memory-runner";

/**
 * Expectations are worked out from the Beam model; each test names the rule. Every pipeline runs element by element,
 * in one bundle and in random cuts, with state encoded at every bundle and some bundles lost before their commit.
 */
type Pair = KV<string, number>;
type Windows = beam.PTransform<beam.PCollection<Pair>, beam.PCollection<Pair>>;

const on = (timestampMs: number, value: number, key = "a"): SourceStep => at(timestampMs, { key, value });
const watermark = (watermarkMs: number): SourceStep => ({ watermarkMs });
const clock = (clockMs: number): SourceStep => ({ clockMs });

const seconds = (size: number, latenessMs = 0): Windows =>
  beam.windowInto<Pair, beam.IntervalWindow>(
    beam.fixedWindows(size),
    windowingStrategy({ allowedLatenessSeconds: latenessMs / 1000 }),
  );
const always: Windows = beam.windowInto<Pair, beam.GlobalWindow>(beam.globalWindows());

function run(
  shape: BundleShape,
  windows: Windows,
  transform: beam.PTransform<beam.PCollection<Pair>, beam.PCollection<unknown>>,
  steps: readonly SourceStep[],
  shards = 1,
): Promise<Collected> {
  const build = (root: beam.Root) =>
    root.apply(readTest<Pair>("in")).apply(windows).apply(transform).apply(collect("out"));
  return runCollectingAsync(build, shape, { in: steps }, shards);
}

/** What came out, with timestamps, in the order in which it came. */
const given = (result: Collected) =>
  result.of("out").map(({ payload, timestampMs }) => [payload, timestampMs]);

describe.each(SHAPES)("in bundles of shape %j", (shape) => {
  describe("state", () => {
    test.each([1, 3])("is of one key in one window, in %d shards", async (shards) => {
      // Beam model: "state is partitioned by key and window"
      const running = statefulParDo({
        state: { total: valueState(0) },
        process({ key, value }: Pair, { state, window }) {
          state.total.write(state.total.read() + value);
          const start = window.kind === "interval" ? window.startMs : "global";
          return [`${key} ${start}: ${state.total.read()}`];
        },
      });
      const steps = [on(0, 1), on(100, 10, "b"), on(200, 2), on(1500, 4), watermark(900), on(950, 8)];
      const result = await run(shape, seconds(1), running, steps, shards);
      expect(result.values("out")).toEqual(["a 0: 1", "a 0: 11", "a 0: 3", "a 1000: 4", "b 0: 10"]);
    });

    test("has an element's state in each of its sliding windows", async () => {
      // Beam model: an element in several windows is processed once in each
      const sliding = beam.windowInto<Pair, beam.IntervalWindow>(beam.slidingWindows(2, 1));
      const count = statefulParDo({ n: valueState(0) }, (_: Pair, { state, window }) => {
        state.n.write(state.n.read() + 1);
        return [`${window.kind === "interval" && window.startMs}: ${state.n.read()}`];
      });
      const result = await run(shape, sliding, count, [on(500, 1), on(1500, 1)]);
      expect(result.values("out")).toEqual(["-1000: 1", "0: 1", "0: 2", "1000: 1"]);
    });

    test("compares keys by value, and gives the key as it first came", async () => {
      const count = statefulParDo(
        { n: valueState(0) },
        ({ key }: KV<object, number>, { state, key: own }) => {
          state.n.write(state.n.read() + 1);
          return [`${JSON.stringify(key)} ${JSON.stringify(own)} ${state.n.read()}`];
        },
      );
      const build = (root: beam.Root) =>
        root.apply(readTest<KV<object, number>>("in")).apply(count).apply(collect("out"));
      const steps = [at(0, { key: { x: 1, y: 2 }, value: 0 }), at(1, { key: { y: 2, x: 1 }, value: 0 })];
      expect((await runCollectingAsync(build, shape, { in: steps })).values("out")).toEqual([
        '{"x":1,"y":2} {"x":1,"y":2} 1',
        '{"x":1,"y":2} {"x":1,"y":2} 2',
      ]);
    });

    test("of every kind keeps what it is given, whatever bundle it comes in", async () => {
      const kinds = statefulParDo({
        state: {
          nothing: valueState<string>(),
          bag: bagState<number>(),
          sum: combiningState((a: number, b: number) => a + b),
          most: combiningState(max),
          map: mapState<string, Date>(),
          set: setState<bigint>(),
          list: orderedListState<string>(),
        },
        process({ value }: Pair, { state }) {
          const { nothing, bag, sum, most, map, set, list } = state;
          if (value >= 0) {
            bag.add(value);
            sum.add(value);
            most.add(value);
            map.set(`${value % 3}`, new Date(value));
            set.add(BigInt(value % 2));
            list.add(`v${value}`, 100 - value);
            return [];
          }
          const all = {
            ...{ nothing: nothing.read(), bag: [...bag.read()], sum: sum.read(), most: most.read() },
            ...{ map: map.entries().map(([key, date]) => `${key}=${date.getTime()}`), has: map.has("7") },
            ...{ one: map.get("1")?.getTime(), set: set.read(), old: set.add(1n), fresh: set.add(9n) },
            ...{
              list: list.read().map((each) => each.value),
              part: list.read(97, 99).map((e) => e.timestampMs),
            },
          };
          if (value === -1) return [all];
          list.clearRange(97, 99);
          map.delete("1");
          bag.clear();
          sum.clear();
          set.clear();
          bag.add(7);
          return [all.bag.length];
        },
      });
      const values = [1, 2, 3, 4, -1, -2, -1];
      const result = await run(
        shape,
        always,
        kinds,
        values.map((value, index) => on(index, value)),
      );
      const first = {
        ...{
          nothing: undefined,
          bag: [1, 2, 3, 4],
          sum: 10,
          most: 4,
          map: ["0=3", "1=4", "2=2"],
          has: false,
        },
        ...{ one: 4, set: [0n, 1n], old: false, fresh: true, list: ["v4", "v3", "v2", "v1"], part: [97, 98] },
      };
      const second = {
        ...{ nothing: undefined, bag: [7], sum: undefined, most: 4, map: ["0=3", "2=2"], has: false },
        ...{ one: undefined, set: [], old: true, fresh: true, list: ["v4", "v1"], part: [] },
      };
      expect(result.of("out").map(({ payload }) => payload)).toEqual([first, 4, second]);
    });

    test("is a copy: what is changed in place is not changed", async () => {
      const copies = statefulParDo({
        state: { list: valueState<number[]>([]) },
        process({ value }: Pair, { state }) {
          const own = state.list.read();
          own.push(value);
          if (value % 2 === 0) state.list.write(own);
          own.push(99);
          return [state.list.read().join()];
        },
      });
      const result = await run(shape, always, copies, [on(0, 1), on(1, 2), on(2, 3), on(3, 4)]);
      expect(result.of("out").map(({ payload }) => payload)).toEqual(["", "2", "2", "2,4"]);
    });

    test("is gone when its window has expired, and what comes then is dropped and counted", async () => {
      // Beam model: a window's state is collected, and elements dropped, at its end + allowed lateness
      const count = statefulParDo({ n: valueState(0) }, (_: Pair, { state }) => {
        state.n.write(state.n.read() + 1);
        return [state.n.read()];
      });
      const steps = [
        on(0, 1),
        watermark(1000),
        on(1, 1),
        watermark(1499),
        on(2, 1),
        watermark(1500),
        on(3, 1),
      ];
      const result = await run(shape, seconds(1, 500), count, steps);
      expect(given(result)).toEqual([
        [1, 0],
        [2, 1],
        [3, 2],
      ]);
      expect(result.droppedLate).toBe(1);
    });
  });

  describe("event-time timers", () => {
    const once = (timerMs: number) =>
      statefulParDo({
        timers: { t: eventTimer() },
        process(_: Pair, { timers }) {
          timers.t.set(timerMs);
        },
        onTimer: { t: ({ key, timerMs }) => [`${key} ${timerMs}`] },
      });

    test("fire once, when the watermark has passed their time, with that as timestamp", async () => {
      // Beam model: "the timer fires when the watermark passes"; an element of its own time may come until then
      const steps = [on(0, 1), watermark(700), on(700, 1), watermark(701), on(701, 1), watermark(2000)];
      const count = statefulParDo({
        state: { n: valueState(0) },
        timers: { t: eventTimer() },
        process({ value }: Pair, { timers, state }) {
          state.n.write(state.n.read() + value);
          if (state.n.read() === 1) timers.t.set(700);
        },
        onTimer: { t: ({ state }) => [state.n.read()] },
      });
      expect(given(await run(shape, seconds(1), count, steps))).toEqual([[2, 700]]);
    });

    test("set anew fire at the new time only; cleared ones do not fire", async () => {
      // Beam model: "a timer set again replaces the one before"
      const kept = statefulParDo({
        timers: { t: eventTimer(), cleared: eventTimer() },
        process({ value }: Pair, { timers }) {
          timers.t.set(value);
          timers.cleared.set(value);
          if (value === 300) timers.cleared.clear();
        },
        onTimer: { t: ({ timerMs }) => [`t ${timerMs}`], cleared: () => ["cleared"] },
      });
      const steps = [on(0, 500), on(1, 100), on(2, 300), watermark(1000)];
      expect(given(await run(shape, seconds(1), kept, steps))).toEqual([["t 300", 300]]);
    });

    test("of all names and tags fire in the order of their times", async () => {
      // Beam model: timer families; timers fire in timestamp order
      const ordered = statefulParDo({
        timers: { x: eventTimer(), y: eventTimer() },
        process(_: Pair, { timers }) {
          for (const ms of [500, 200, 400]) timers.x.set(ms, { tag: `${ms}` });
          timers.y.set(300);
          timers.x.set(200);
          timers.x.clear("400");
        },
        onTimer: {
          x: ({ timerMs, tag }) => [`x${tag} ${timerMs}`],
          y: ({ timerMs, timers }) => {
            timers.x.set(350, { tag: "late" });
            return [`y ${timerMs}`];
          },
        },
      });
      const expected = ["x 200", "x200 200", "y 300", "xlate 350", "x500 500"];
      const payloads = async (steps: SourceStep[]) =>
        (await run(shape, seconds(1), ordered, steps)).of("out").map(({ payload }) => payload);
      expect(await payloads([on(0, 1), watermark(1000)])).toEqual(expected);
      expect(await payloads([on(0, 1), watermark(250), watermark(351), watermark(1000)])).toEqual(expected);
    });

    test("of several keys fire in one order of time", async () => {
      const own = statefulParDo({
        timers: { t: eventTimer() },
        process: ({ value }: Pair, { timers }) => timers.t.set(value),
        onTimer: { t: ({ key, timerMs }) => [`${key} ${timerMs}`] },
      });
      const steps = [on(0, 300, "a"), on(0, 100, "b"), on(0, 200, "c"), watermark(50), on(60, 150, "d")];
      const result = await run(shape, seconds(1), own, [...steps, watermark(1000)]);
      expect(result.of("out").map(({ payload }) => payload)).toEqual(["b 100", "d 150", "c 200", "a 300"]);
    });

    testWhereWatermarksAreLearnedAtOnce("that are due fire before their key's next element", async () => {
      const turns = statefulParDo({
        state: { n: valueState(0) },
        timers: { t: eventTimer() },
        process({ value }: Pair, { timers, state }) {
          timers.t.set(0);
          const before = state.n.read();
          state.n.write(before + value);
          return [`element at ${before}`];
        },
        onTimer: {
          t({ state }) {
            state.n.write(state.n.read() * 10);
          },
        },
      });
      const result = await run(shape, seconds(1), turns, [
        watermark(500),
        on(600, 1),
        on(601, 2),
        on(602, 3),
      ]);
      expect(given(result)).toEqual([
        ["element at 0", 600],
        ["element at 10", 601],
        ["element at 120", 602],
      ]);
    });

    test("can loop, until the window expires", async () => {
      // Beam's "looping timer" pattern
      const looping = statefulParDo({
        state: { n: valueState(0) },
        timers: { t: eventTimer() },
        process: (_: Pair, { timers, timestampMs }) => timers.t.set(timestampMs + 300),
        onTimer: {
          t({ timers, timerMs, state, window }) {
            state.n.write(state.n.read() + 1);
            const next = timerMs + 300;
            if (window.kind === "interval" && next < window.endMs) timers.t.set(next);
            return [state.n.read()];
          },
        },
      });
      expect(given(await run(shape, seconds(1), looping, [on(50, 1), watermark(700)]))).toEqual([
        [1, 350],
        [2, 650],
        [3, 950],
      ]);
    });

    test("hold the output watermark at their output timestamp, so that what they give is in time", async () => {
      // Beam model: "timer output timestamp holds the watermark"
      const summed = (transform: beam.PTransform<beam.PCollection<Pair>, beam.PCollection<Pair>>) => {
        const build = (root: beam.Root) =>
          root
            .apply(readTest<Pair>("in"))
            .apply(transform)
            .apply(beam.windowInto(beam.fixedWindows(1)))
            .apply(beam.groupBy("key").combining("value", (a: number, b: number) => a + b, "sum"))
            .apply(collect("out"));
        const steps = [on(100, 1), watermark(4000), on(4100, 2), watermark(6000)];
        return runCollectingAsync(build, shape, { in: steps });
      };
      const buffered = (holdsWatermark: boolean) =>
        statefulParDo({
          state: { sum: combiningState((a: number, b: number) => a + b) },
          timers: { flush: eventTimer() },
          process({ value }: Pair, { state, timers, timestampMs }) {
            if (state.sum.isEmpty())
              timers.flush.set(5000, { outputTimestampMs: timestampMs, holdsWatermark });
            state.sum.add(value);
          },
          onTimer: { flush: ({ key, state }) => [{ key, value: state.sum.read() ?? 0 }] },
        });
      const held = await summed(buffered(true));
      expect(given(held)).toEqual([[{ key: "a", sum: 3 }, 999]]);
      expect(held.droppedLate).toBe(0);
      // Without the hold the output has the watermark's time, and so is in the window that is open then.
      expect(given(await summed(buffered(false)))).toEqual([[{ key: "a", sum: 3 }, 6999]]);
    });

    test("setAfter counts from the element or the timer, and ends with the window", async () => {
      const after = statefulParDo({
        timers: { t: eventTimer() },
        process: (_: Pair, { timers }) => timers.t.setAfter(400),
        onTimer: {
          t({ timers, timerMs }) {
            if (timerMs < 1499) timers.t.setAfter(700);
            return [timerMs];
          },
        },
      });
      expect(given(await run(shape, seconds(1, 500), after, [on(50, 1), watermark(3000)]))).toEqual([
        [450, 450],
        [1150, 1150],
        [1499, 1499],
      ]);
    });

    test("fire at the end of time in the global window", async () => {
      expect(given(await run(shape, always, once(10), [on(0, 1), on(5, 1, "b")])).sort()).toEqual([
        ["a 10", 10],
        ["b 10", 10],
      ]);
    });
  });

  describe("processing-time timers", () => {
    const idle = () =>
      statefulParDo({
        state: { n: valueState(0) },
        timers: { idle: processingTimer() },
        process(_: Pair, { state, timers }) {
          state.n.write(state.n.read() + 1);
          timers.idle.setAfter(100);
        },
        onTimer: {
          idle({ state, key, timerMs }) {
            const n = state.n.read();
            state.n.clear();
            return [`${key} ${n} at ${timerMs}`];
          },
        },
      });

    test("fire when the clock reaches them, with the element's timestamp", async () => {
      // Beam model: a processing-time timer's output timestamp is its element's
      const steps = [
        clock(1000),
        on(10, 1),
        clock(1050),
        on(20, 1),
        clock(1149),
        clock(1150),
        on(30, 1),
        clock(9000),
      ];
      expect(given(await run(shape, always, idle(), steps))).toEqual([
        ["a 2 at 1150", 20],
        ["a 1 at 1250", 30],
      ]);
    });

    test("do not fire once their window has expired", async () => {
      // Beam model: "processing-time timers for expired windows are ignored"
      const steps = [clock(1000), on(10, 1), watermark(1000), clock(2000)];
      expect(given(await run(shape, seconds(1), idle(), steps))).toEqual([]);
    });
  });

  describe("the expiration", () => {
    const closing = statefulParDo({
      state: { n: valueState(0) },
      timers: { last: eventTimer() },
      process(_: Pair, { state, timers, window }) {
        state.n.write(state.n.read() + 1);
        if (window.kind === "interval") timers.last.set(window.endMs - 1);
      },
      onTimer: { last: ({ key, state }) => [`${key} last ${state.n.read()}`] },
      onWindowExpiration: ({ key, state }) => [`${key} expired ${state.n.read()}`],
    });

    test("comes for each key and window, after the last timers, with the window's last timestamp", async () => {
      // Beam model: "OnWindowExpiration is called after all timers have fired, before state is collected"
      const steps = [on(0, 1), on(1, 1, "b"), on(2, 1), on(1100, 1), watermark(1000), watermark(2000)];
      const result = given(await run(shape, seconds(1), closing, steps));
      expect(result.filter(([text]) => `${text}`.startsWith("a"))).toEqual([
        ["a last 2", 999],
        ["a expired 2", 999],
        ["a last 1", 1999],
        ["a expired 1", 1999],
      ]);
      expect(result.filter(([text]) => `${text}`.startsWith("b"))).toEqual([
        ["b last 1", 999],
        ["b expired 1", 999],
      ]);
    });

    test("comes where no state was written, and waits for the allowed lateness", async () => {
      const bare = statefulParDo({
        state: {},
        process: (_: Pair) => [],
        onWindowExpiration: ({ key, timestampMs }) => [`${key} ${timestampMs}`],
      });
      const steps = [on(0, 1), watermark(1499), on(1, 1, "b"), watermark(1500), on(3, 1, "c")];
      const result = await run(shape, seconds(1, 500), bare, steps);
      expect(result.values("out")).toEqual(["a 999", "b 999"]);
      expect(result.droppedLate).toBe(1);
    });

    test("comes in the global window at the end of time", async () => {
      expect((await run(shape, always, closing, [on(0, 1), on(5, 1, "b"), on(6, 1)])).values("out")).toEqual([
        "a expired 2",
        "b expired 1",
      ]);
    });

    test("holds the watermark, so that what it gives is grouped in its own window", async () => {
      const total = statefulParDo({
        state: { n: valueState(0) },
        process({ value }: Pair, { state }) {
          state.n.write(state.n.read() + value);
        },
        onWindowExpiration: ({ key, state }) => [{ key, n: state.n.read() }],
      });
      const build = (root: beam.Root) =>
        root
          .apply(readTest<Pair>("in"))
          .apply(seconds(1))
          .apply(total)
          .apply(
            beam.groupBy((_: { key: string; n: number }) => "all").combining("n", (a, b) => a + b, "sum"),
          )
          .apply(collect("out"));
      const steps = [on(0, 1), on(1, 2, "b"), on(1000, 4), watermark(1000), watermark(2000)];
      const result = await runCollectingAsync(build, shape, { in: steps });
      expect(given(result)).toEqual([
        [{ key: "all", sum: 3 }, 999],
        [{ key: "all", sum: 4 }, 1999],
      ]);
      expect(result.droppedLate).toBe(0);
    });
  });

  describe("sorted input", () => {
    const sorted = statefulParDo({
      state: { last: valueState(-1) },
      timers: { t: eventTimer() },
      process({ value }: Pair, { state, timestampMs, timers }) {
        const before = state.last.read();
        state.last.write(value);
        if (value === 2) timers.t.set(timestampMs);
        return [`${before} then ${value}`];
      },
      onTimer: { t: ({ state }) => [`timer after ${state.last.read()}`] },
      requiresTimeSortedInput: true,
    });

    test("comes in the order of timestamps, with timers in between", async () => {
      // Beam model: RequiresTimeSortedInput
      const steps = [on(30, 3), on(10, 1), watermark(15), on(20, 2), on(40, 4), on(20, 5), watermark(35)];
      expect(given(await run(shape, seconds(1), sorted, steps))).toEqual([
        ["-1 then 1", 10],
        ["1 then 2", 20],
        ["2 then 5", 20],
        ["timer after 5", 20],
        ["5 then 3", 30],
        ["3 then 4", 40],
      ]);
    });

    test("drops and counts what comes behind the watermark, less the allowed lateness", async () => {
      const steps = [on(30, 3), watermark(50), on(49, 1), on(50, 2), watermark(1000)];
      const strict = await run(shape, seconds(1), sorted, steps);
      expect(strict.droppedLate).toBe(1);
      expect(strict.of("out").map(({ payload }) => payload)).toEqual([
        "-1 then 3",
        "3 then 2",
        "timer after 2",
      ]);
      const lenient = await run(shape, seconds(1, 100), sorted, steps);
      expect(lenient.droppedLate).toBe(0);
      expect(lenient.of("out").map(({ payload }) => payload)).toEqual([
        "-1 then 3",
        "3 then 1",
        "1 then 2",
        "timer after 2",
      ]);
    });
  });

  test("elements with timestamps of their own, a key function, a class, metrics", async () => {
    class Delaying implements StatefulDoFn<number, string> {
      constructor(private readonly delayMs: number) {}
      readonly params = { seen: beam.counter("seen") };
      process(n: number, context: { key: string; timestampMs: number; params: object }) {
        const { seen } = context.params as typeof this.params;
        seen.increment(n);
        return [timestamped(`${context.key} ${n}`, context.timestampMs + this.delayMs), `now ${n}`];
      }
    }
    const build = (root: beam.Root) =>
      root
        .apply(readTest<number>("in"))
        .apply(
          beam.withName(
            "delaying",
            statefulParDo((n: number) => (n % 2 === 0 ? "even" : "odd"), new Delaying(7)),
          ),
        )
        .apply(collect("out"));
    const result = await runCollectingAsync(build, shape, { in: [at(10, 2), at(20, 3)] });
    expect(given(result).sort()).toEqual([
      ["even 2", 17],
      ["now 2", 10],
      ["now 3", 20],
      ["odd 3", 27],
    ]);
    expect(result.counters.get("delaying:seen")).toBe(5);
  });

  test("state in windows that a grouping has merged", async () => {
    const count = statefulParDo({ n: valueState(0) }, ({ value }: KV<string, Pair[]>, { state }) => {
      state.n.write(state.n.read() + value.length);
      return [state.n.read()];
    });
    const build = (root: beam.Root) =>
      root
        .apply(readTest<Pair>("in"))
        .apply(
          beam.windowInto<Pair, beam.IntervalWindow>(
            beam.sessions(1),
            windowingStrategy({ trigger: trigger.repeatedly(trigger.afterCount(1)) }),
          ),
        )
        .apply(beam.groupBy("key"))
        .apply(count)
        .apply(collect("out"));
    expect((await runCollectingAsync(build, shape, { in: [on(0, 1), on(5000, 2)] })).values("out")).toEqual([
      1, 1,
    ]);
  });
});
