/**
 * What the SDK's own direct runner has of the rows of docs/beam.md. It serialises functions and makes them again, so those
 * here reach nothing but globals.
 */
import * as beam from "apache-beam";
import { directRunner } from "apache-beam/runners/direct_runner";
import { sum } from "apache-beam/transforms/combiners";
import { reshuffle } from "apache-beam/transforms/utils";
import Long from "long";
import { trigger, windowingStrategy } from "../../lib/index";

const shared = globalThis as unknown as { seen: unknown[]; toLong: (ms: number) => Long };
shared.toLong = Long.fromNumber;

beforeEach(() => {
  shared.seen = [];
  jest.spyOn(console, "debug").mockImplementation(() => {});
});
afterEach(() => jest.restoreAllMocks());

interface Places {
  readonly window: beam.ParDoLookupParam<beam.Window>;
  readonly time: beam.ParDoLookupParam<unknown>;
  readonly pane: beam.ParDoLookupParam<beam.PaneInfo>;
}

interface Counts {
  readonly counter: beam.Counter;
  readonly distribution: beam.Metric<number>;
}

type Build = (root: beam.Root) => beam.PCollection<unknown>;

/** What comes out, in the order in which it does. */
async function run(build: Build) {
  const result = await directRunner().run((root) => {
    const keep = beam.withName(
      "keep",
      (value: unknown) => void (globalThis as never as typeof shared).seen.push(value),
    );
    return build(root).map(keep as never);
  });
  return {
    seen: shared.seen,
    counters: await result.counters(),
    distributions: await result.distributions(),
  };
}

let names = 0;
const given = <T>(root: beam.Root, ...values: T[]): beam.PCollection<T> =>
  root.apply(beam.withName(`create ${++names}`, beam.create(values)));
const timed = (root: beam.Root, ...times: number[]): beam.PCollection<number> =>
  given(root, ...times).apply(
    beam.withName(
      `times ${names}`,
      beam.assignTimestamps((ms: number) => (globalThis as never as typeof shared).toLong(ms) as never),
    ),
  );
const seconds = (input: beam.PCollection<number>, ...strategy: ReturnType<typeof windowingStrategy>[]) =>
  input.apply(beam.withName(`windows ${names}`, beam.windowInto(beam.fixedWindows(1), ...strategy)));
const groups = (input: beam.PCollection<number>): beam.PCollection<number[]> =>
  input
    .apply(
      beam.withName(
        "group",
        beam.groupBy(() => 1),
      ),
    )
    .map(({ value }) => [...value]);
const pairs = (root: beam.Root, ...keys: unknown[]) => given(root, ...keys.map((k) => ({ k, v: 1 })));

test.each<[what: string, build: Build, expected: unknown[]]>([
  ["map", (root) => given(root, 1, 2).map((n) => n + 1), [2, 3]],
  [
    "parDo with bundle hooks",
    (root) => {
      let count = 0;
      return given(root, 1, 2).apply(
        beam.parDo({
          process: (n: number) => {
            count += n;
            return [];
          },
          startBundle: () => {
            count = 0;
          },
          finishBundle: () => [{ value: count, windows: [], timestamp: 0, pane: 0 }] as never,
        }),
      );
    },
    [3],
  ],
  ["an async map gives promises", (root) => given(root, 1).map(async (n) => n), [expect.any(Promise)]],
  ["groupBy", (root) => groups(given(root, 1, 2)), [[1, 2]]],
  [
    "keys with their properties in another order are other keys",
    (root) =>
      pairs(root, { a: 1, b: 2 }, { b: 2, a: 1 })
        .apply(beam.groupBy("k"))
        .map(({ key }) => key),
    [
      { a: 1, b: 2 },
      { b: 2, a: 1 },
    ],
  ],
  [
    "dates as keys are lost",
    (root) =>
      pairs(root, new Date(5))
        .apply(beam.groupBy("k"))
        .map(({ key }) => key),
    [{}],
  ],
  ["flatten", (root) => beam.P([given(root, 1), given(root, 2)]).apply(beam.flatten()), [1, 2]],
  [
    "combining",
    (root) => pairs(root, 7, 7).apply(beam.groupBy("k").combining("v", sum, "s")),
    [{ k: 7, s: 2 }],
  ],
  [
    "coGroupBy",
    (root) => beam.P({ a: pairs(root, 1), b: pairs(root, 1) }).apply(beam.coGroupBy("k")),
    [{ key: 1, values: { a: [{ k: 1, v: 1 }], b: [{ k: 1, v: 1 }] } }],
  ],
  [
    "split",
    (root) => given<Record<string, number>>(root, { a: 1 }, { b: 2 }).apply(beam.split(["a", "b"])).a!,
    [1],
  ],
  ["partition", (root) => given(root, 1, 2).apply(beam.partition((n: number) => n % 2, 2))[0]!, [2]],
  ["reshuffle", (root) => given(root, 1, 2).apply(reshuffle()), [1, 2]],
  [
    "a singleton side input",
    (root) =>
      given(root, 1, 2).map((n, { side }) => n + side.lookup(), {
        side: beam.singletonSideInput(given(root, 5)),
      }),
    [6, 7],
  ],
  [
    "an iterable side input is used up by the first element",
    (root) =>
      given(root, 1, 2).map((n, { side }) => [n, ...side.lookup()], {
        side: beam.iterableSideInput(given(root, 5)),
      }),
    [[1, 5], [2]],
  ],
  [
    "a windowed one is used up by the first element of its window",
    (root) => {
      const input = seconds(timed(root, 0, 1, 1500));
      return input.map((n, { side }) => [n, ...side.lookup()], { side: beam.iterableSideInput(input) });
    },
    [[0, 0, 1], [1], [1500, 1500]],
  ],
  [
    "window, timestamp and pane",
    (root) =>
      seconds(timed(root, 1500)).map(
        beam.withName("where", (n: number, { window, time, pane }: Places) => {
          return [n, `${window.lookup().maxTimestamp()}`, `${time.lookup()}`, pane.lookup().index];
        }),
        { window: beam.windowParam(), time: beam.timestampParam(), pane: beam.paneInfoParam() },
      ),
    [[1500, "1999", "1500", 0]],
  ],
  ["fixed windows", (root) => groups(seconds(timed(root, 0, 500, 1500))), [[0, 500], [1500]]],
  [
    "sliding windows",
    (root) => groups(timed(root, 500, 1500).apply(beam.windowInto(beam.slidingWindows(2, 1)))),
    [[500, 1500], [500], [1500]],
  ],
  [
    "triggers are ignored",
    (root) => {
      const strategy = windowingStrategy({ trigger: trigger.repeatedly(trigger.afterCount(1)) });
      return groups(seconds(timed(root, 0, 500), strategy));
    },
    [[0, 500]],
  ],
])("%s", async (_, build, expected) => {
  expect((await run(build)).seen).toEqual(expected);
});

test("counters and distributions", async () => {
  const { counters, distributions } = await run((root) =>
    given(root, 1, 3).map(
      beam.withName("count", (n: number, { counter, distribution }: Counts) => {
        counter.increment(2);
        distribution.update(n);
        return n;
      }),
      { counter: beam.counter("c"), distribution: beam.distribution("d") },
    ),
  );
  expect([counters, distributions]).toEqual([{ c: 4 }, { d: { count: 2, sum: 4, min: 1, max: 3 } }]);
});

test.each<[what: string, build: Build, message: string]>([
  [
    "session windows",
    (root) => groups(timed(root, 0).apply(beam.windowInto(beam.sessions(1)))),
    "Unsupported non-merging WindowFn",
  ],
  [
    "output times other than the end of the window",
    (root) => groups(seconds(timed(root, 0), windowingStrategy({ outputTime: "earliest" }))),
    "Unsupported windowing output time",
  ],
])("%s are refused", async (_, build, message) => {
  await expect(run(build)).rejects.toThrow(message);
});
