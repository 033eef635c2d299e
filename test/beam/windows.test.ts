import * as beam from "apache-beam";
import { FixedWindowsPayload } from "apache-beam/proto/standard_window_fns";
import {
  calendarDays,
  calendarMonths,
  compilePipeline,
  customWindows,
  fixedWindows,
  sessions,
  slidingWindows,
} from "../../lib/index";
import { at, collect, readTest, runCollecting, runCollectingAsync } from "../support/collect";
import { SHAPES } from "../support/memory-runner";

interface Row {
  readonly k: string;
}

type AnyWindowFn = Parameters<typeof beam.windowInto>[0];

function grouped(windowFn: AnyWindowFn) {
  return (root: beam.Root) =>
    root
      .apply(readTest<Row>("in"))
      .apply(beam.windowInto(windowFn))
      .apply(beam.groupBy("k"))
      .map(({ key, value }) => `${key}${[...value].length}`)
      .apply(collect("out"));
}

const inputAt = (times: readonly number[]) => ({ in: times.map((time) => at(time, { k: "a" })) });

async function panes(
  windowFn: AnyWindowFn,
  times: readonly number[],
  shape: (typeof SHAPES)[number],
): Promise<string[]> {
  const result = await runCollectingAsync(grouped(windowFn), shape, inputAt(times));
  return result
    .of("out")
    .map(
      ({ payload, window }) =>
        `${payload} ${window.kind === "global" ? "" : `${window.startMs}..${window.endMs}`}`,
    )
    .sort();
}

describe.each(SHAPES.map((shape) => [JSON.stringify(shape), shape] as const))(
  "in bundles of shape %s",
  (_, shape) => {
    test("sliding windows of the SDK and of our own, negative and sub-second", async () => {
      const times = [-1, 0, 499, 500];
      expect(await panes(slidingWindows(1, 0.5), times, shape)).toEqual(
        ["a1 -1000..0", "a3 -500..500", "a3 0..1000", "a1 500..1500"].sort(),
      );
      expect(await panes(beam.slidingWindows(1, 0.5), times, shape)).toEqual(
        await panes(slidingWindows(1, 0.5), times, shape),
      );
    });

    test("elements between two windows are in none", async () => {
      expect(await panes(slidingWindows(1, 2), [0, 999, 1000, 1999, 2000], shape)).toEqual([
        "a1 2000..3000",
        "a2 0..1000",
      ]);
    });

    test("calendar days", async () => {
      const windowFn = calendarDays(1, { timeZone: "Europe/Vienna" });
      const noon = Date.parse("2026-03-29T12:00Z");
      const start = Date.parse("2026-03-28T23:00Z");
      expect(await panes(windowFn, [noon, start, start - 1], shape)).toEqual([
        `a1 ${start - 86_400_000}..${start}`,
        `a2 ${start}..${start + 23 * 3_600_000}`,
      ]);
    });

    test("custom windows by element", async () => {
      const windowFn = customWindows<Row>({
        name: "by-key-length",
        assign: ({ element, timestampMs }) => [
          { startMs: timestampMs, endMs: timestampMs + element.k.length },
        ],
      });
      expect(await panes(windowFn, [5, 5, -3], shape)).toEqual(["a1 -3..-2", "a2 5..6"]);
    });
  },
);

test("what a custom window function gives is checked, by transform and element", () => {
  const windowFn = customWindows<Row>({ name: "bad", assign: () => [{ startMs: 5, endMs: 5 }] });
  expect(() => runCollecting(grouped(windowFn), "whole", inputAt([1]))).toThrow(
    /transform "windowInto" on element .*customWindows "bad": a window is \{ startMs, endMs \}/,
  );
});

test("builders refuse sizes and zones that are none", () => {
  expect(() => fixedWindows(0.0001)).toThrow("fixedWindows: the size must be at least a millisecond");
  expect(() => slidingWindows(1, 0)).toThrow("the period must be at least a millisecond");
  expect(() => sessions(Number.NaN)).toThrow("the gap must be a number of seconds");
  expect(() => calendarDays(1, { timeZone: "Mars/Olympus" })).toThrow(
    'the time zone "Mars/Olympus" is unknown',
  );
  expect(() => calendarDays(0)).toThrow("whole number from 1");
  expect(() => calendarMonths(1, { from: "2026-01-31" })).toThrow("the day of from must be 1 to 28");
  expect(() => calendarMonths(1, { from: "2026-02-30" })).toThrow("from must be a date");
});

test("our window functions give the SDK a proto that says all, and right windows", () => {
  const windowFn = fixedWindows(0.25, 0.1);
  expect(FixedWindowsPayload.fromBinary(windowFn.toProto().payload)).toEqual({
    size: { seconds: 0n, nanos: 250_000_000 },
    offset: { seconds: 0n, nanos: 100_000_000 },
  });
  const zero = new beam.GlobalWindow().maxTimestamp().mul(0);
  const [window] = windowFn.assignWindows(zero.sub(1));
  expect([window!.start.toNumber(), window!.end.toNumber()]).toEqual([-150, 100]);
});

test("window functions that differ in settings differ in fingerprint", () => {
  const print = (windowFn: AnyWindowFn) =>
    compilePipeline({ name: "t", build: grouped(windowFn), shards: 1 }).fingerprint;
  const custom = (name: string) => customWindows({ name, assign: () => [] });
  const prints = [
    print(fixedWindows(1)),
    print(slidingWindows(1, 0.5)),
    print(slidingWindows(1, 0.25)),
    print(calendarDays(1)),
    print(calendarDays(1, { timeZone: "Europe/Vienna" })),
    print(custom("a")),
    print(custom("b")),
  ];
  expect(new Set(prints).size).toBe(prints.length);
  expect(print(beam.fixedWindows(1))).toBe(print(fixedWindows(1)));
});
