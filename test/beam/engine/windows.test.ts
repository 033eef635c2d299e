import fc from "fast-check";
import { assignCalendar, type CalendarWindowFn } from "../../../lib/beam/engine/calendar";
import {
  GLOBAL_WINDOW_MAX_TIMESTAMP_MS,
  MAX_TIMESTAMP_MS,
  MIN_TIMESTAMP_MS,
} from "../../../lib/beam/engine/time";
import {
  assigner,
  GLOBAL_WINDOW,
  type IntervalWindow,
  intervalWindow,
  maxTimestamp,
  mergeOverlapping,
  type WindowFn,
} from "../../../lib/beam/engine/windows";

function assign(windowFn: WindowFn, timestampMs: number): IntervalWindow[] {
  return [assigner(windowFn)(timestampMs, undefined, GLOBAL_WINDOW)].flat() as IntervalWindow[];
}

function spans(windows: readonly IntervalWindow[]): [number, number][] {
  return windows.map(({ startMs, endMs }) => [startMs, endMs]);
}

const zone = (unit: CalendarWindowFn["unit"], timeZone: string, count = 1, from = "1970-01-01") => {
  const [year, month, day] = from.split("-").map(Number) as [number, number, number];
  return { kind: "calendar", unit, count, timeZone, from: { year, month, day } } as const;
};

function dates(windowFn: CalendarWindowFn, time: string): string[] {
  const { startMs, endMs } = assignCalendar(windowFn, Date.parse(time));
  return [startMs, endMs].map((ms) => new Date(ms).toISOString().slice(0, 16));
}

describe("sliding windows (Beam model: SlidingWindows)", () => {
  const sliding = { kind: "sliding", sizeMs: 10, periodMs: 5, offsetMs: 0 } as const;
  test.each([
    [
      sliding,
      0,
      [
        [0, 10],
        [-5, 5],
      ],
    ],
    [
      sliding,
      -1,
      [
        [-5, 5],
        [-10, 0],
      ],
    ],
    [
      sliding,
      5,
      [
        [5, 15],
        [0, 10],
      ],
    ],
    [
      { ...sliding, offsetMs: 2 },
      1,
      [
        [-3, 7],
        [-8, 2],
      ],
    ],
    [{ ...sliding, sizeMs: 3 }, 2, [[0, 3]]],
    [{ ...sliding, sizeMs: 3 }, 3, []],
    [{ ...sliding, sizeMs: 3 }, -5, [[-5, -2]]],
    [
      { ...sliding, sizeMs: 7 },
      1,
      [
        [0, 7],
        [-5, 2],
      ],
    ],
    [{ ...sliding, sizeMs: 7 }, 2, [[0, 7]]],
  ])("%j at %i", (windowFn, time, expected) => {
    expect(spans(assign(windowFn as WindowFn, time))).toEqual(expected);
  });

  test("an element is in every window of the grid that holds its time, and in no other", () => {
    const small = fc.integer({ min: 1, max: 40 });
    fc.assert(
      fc.property(
        fc.integer({ min: -1e5, max: 1e5 }),
        small,
        small,
        small,
        (time, sizeMs, periodMs, offset) => {
          const offsetMs = offset % periodMs;
          const expected: [number, number][] = [];
          for (let start = time + 50; start > time - 100; start--) {
            const onGrid = (start - offsetMs) % periodMs === 0;
            if (onGrid && start <= time && time < start + sizeMs) expected.push([start, start + sizeMs]);
          }
          expect(spans(assign({ kind: "sliding", sizeMs, periodMs, offsetMs }, time))).toEqual(expected);
        },
      ),
    );
  });
});

describe("calendar windows (Beam model: CalendarWindows)", () => {
  test.each([
    [zone("days", "UTC"), "1969-12-31T23:59:59.999Z", ["1969-12-31T00:00", "1970-01-01T00:00"]],
    [zone("days", "Europe/Vienna"), "2026-03-29T10:00Z", ["2026-03-28T23:00", "2026-03-29T22:00"]],
    [zone("days", "Europe/Vienna"), "2026-10-25T10:00Z", ["2026-10-24T22:00", "2026-10-25T23:00"]],
    // Midnight did not exist on this day: the day begins at one o'clock.
    [zone("days", "America/Sao_Paulo"), "2018-11-04T12:00Z", ["2018-11-04T03:00", "2018-11-05T02:00"]],
    // Midnight came twice: the first one counts.
    [zone("days", "America/Havana"), "2025-11-02T12:00Z", ["2025-11-02T04:00", "2025-11-03T05:00"]],
    [zone("days", "Pacific/Apia"), "2011-12-30T09:59Z", ["2011-12-29T10:00", "2011-12-30T10:00"]],
    [zone("days", "UTC", 7, "2026-01-05"), "2025-12-31T12:00Z", ["2025-12-29T00:00", "2026-01-05T00:00"]],
    [zone("months", "UTC"), "2024-02-29T23:59Z", ["2024-02-01T00:00", "2024-03-01T00:00"]],
    [zone("months", "Asia/Kolkata"), "2025-12-31T18:30Z", ["2025-12-31T18:30", "2026-01-31T18:30"]],
    [zone("months", "UTC", 3, "2026-01-15"), "2026-01-14T00:00Z", ["2025-10-15T00:00", "2026-01-15T00:00"]],
    [zone("years", "UTC"), "1900-06-01T00:00Z", ["1900-01-01T00:00", "1901-01-01T00:00"]],
    [zone("years", "UTC", 1, "2000-04-06"), "2026-04-05T23:59Z", ["2025-04-06T00:00", "2026-04-06T00:00"]],
    [zone("years", "UTC", 10), "1965-01-01T00:00Z", ["1960-01-01T00:00", "1970-01-01T00:00"]],
  ])("%j at %s", (windowFn, time, expected) => {
    expect(dates(windowFn, time)).toEqual(expected);
  });

  test("every time is in its window, and a window's neighbours begin where it ends", () => {
    const zones = fc.constantFrom(
      "UTC",
      "Europe/Vienna",
      "America/St_Johns",
      "Australia/Lord_Howe",
      "Asia/Beirut",
    );
    const units = fc.constantFrom("days", "months", "years" as const);
    const time = fc.integer({ min: Date.UTC(1850, 0), max: Date.UTC(2100, 0) });
    fc.assert(
      fc.property(zones, units, time, fc.integer({ min: 1, max: 5 }), (timeZone, unit, at, count) => {
        const windowFn = zone(unit as "days", timeZone, count);
        const { startMs, endMs } = assignCalendar(windowFn, at);
        expect(startMs <= at && at < endMs).toBe(true);
        expect(assignCalendar(windowFn, endMs).startMs).toBe(endMs);
        expect(assignCalendar(windowFn, startMs - 1).endMs).toBe(startMs);
      }),
      { numRuns: 300 },
    );
  });

  test("far before and after what dates can say, the outermost window goes on", () => {
    for (const unit of ["days", "months", "years"] as const) {
      expect(assignCalendar(zone(unit, "Europe/Vienna"), MIN_TIMESTAMP_MS).startMs).toBe(MIN_TIMESTAMP_MS);
      expect(assignCalendar(zone(unit, "Europe/Vienna"), MAX_TIMESTAMP_MS).endMs).toBe(MAX_TIMESTAMP_MS);
    }
    const century = assignCalendar(zone("years", "UTC", 100_000), 0);
    expect(century.startMs <= 0 && century.endMs > 0).toBe(true);
  });
});

describe("sessions (Beam model: Sessions, MergeOverlappingIntervalWindows)", () => {
  test("windows that share a moment merge, windows that touch do not", () => {
    const merges = mergeOverlapping([
      intervalWindow(20, 30),
      intervalWindow(0, 10),
      intervalWindow(9, 19),
      intervalWindow(10, 12),
      intervalWindow(30, 40),
    ]);
    expect(merges.map(({ from, to }) => [spans(from), spans([to])])).toEqual([
      [
        [
          [0, 10],
          [9, 19],
          [10, 12],
        ],
        [[0, 19]],
      ],
    ]);
  });

  test("a window within another changes nothing of its span", () => {
    const [merge] = mergeOverlapping([intervalWindow(0, 100), intervalWindow(10, 20)]);
    expect(spans([merge!.to])).toEqual([[0, 100]]);
  });
});

describe("at the ends of time", () => {
  const fns: WindowFn[] = [
    { kind: "fixed", sizeMs: 60_000, offsetMs: 0 },
    { kind: "fixed", sizeMs: 1, offsetMs: 0 },
    { kind: "sliding", sizeMs: 60_000, periodMs: 20_000, offsetMs: 7 },
    { kind: "sessions", gapMs: 1 },
    { kind: "sessions", gapMs: 60_000 },
    zone("months", "UTC"),
  ];
  const times = [MIN_TIMESTAMP_MS, MIN_TIMESTAMP_MS + 2, GLOBAL_WINDOW_MAX_TIMESTAMP_MS, MAX_TIMESTAMP_MS];
  test.each(fns)("%j gives windows that are not empty and lie on the time line", (windowFn) => {
    for (const time of times) {
      const windows = assign(windowFn, time);
      expect(windows.length).toBeGreaterThan(0);
      for (const window of windows) {
        expect(window.startMs).toBeGreaterThanOrEqual(MIN_TIMESTAMP_MS);
        expect(window.endMs).toBeGreaterThan(window.startMs);
        expect(window.endMs).toBeLessThanOrEqual(MAX_TIMESTAMP_MS);
        // Doubles are two milliseconds apart here, so the last timestamp may round to the end.
        expect(maxTimestamp(window)).toBeLessThanOrEqual(window.endMs);
      }
    }
  });
});
