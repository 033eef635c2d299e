import "./sdk/patches";
import {
  IntervalWindow,
  type IntervalWindow as SdkInterval,
  type WindowFn as SdkWindowFn,
} from "apache-beam";
import { IntervalWindowCoder } from "apache-beam/coders/standard_coders";
import {
  FixedWindowsPayload,
  SessionWindowsPayload,
  SlidingWindowsPayload,
} from "apache-beam/proto/standard_window_fns";
import type { BoundedWindow } from "./api";
import {
  assigner,
  type CustomWindowFn,
  type IntervalWindow as EngineInterval,
  GLOBAL_WINDOW,
  intervalWindow,
  isMerging,
  type WindowFn,
} from "./engine/windows";
import { markWindowFn, SdkLong } from "./graph/window-fn";
import { toMillis } from "./operators/windowed-value";

type IntervalWindowFn = SdkWindowFn<SdkInterval>;

/**
 * Fixed windows of `sizeSeconds`, to the millisecond and for times before 1970.
 *
 * @throws RangeError if the size is below a millisecond.
 */
export function fixedWindows(sizeSeconds: number, offsetSeconds = 0): IntervalWindowFn {
  const sizeMs = positiveMillis("fixedWindows", "the size", sizeSeconds);
  const offsetMs = millis("fixedWindows", "the offset", offsetSeconds);
  const payload = FixedWindowsPayload.toBinary({ size: duration(sizeMs), offset: duration(offsetMs) });
  const windowFn: WindowFn = { kind: "fixed", sizeMs, offsetMs: floorMod(offsetMs, sizeMs) };
  return sdkWindowFn(windowFn, `fixedWindows(${sizeSeconds})`, "beam:window_fn:fixed_windows:v1", payload);
}

/**
 * Windows of `sizeSeconds` that begin every `periodSeconds`; an element is in size/period of them, and in none
 * between two windows where the period is longer than the size.
 *
 * @throws RangeError if size or period is below a millisecond.
 */
export function slidingWindows(
  sizeSeconds: number,
  periodSeconds: number,
  offsetSeconds = 0,
): IntervalWindowFn {
  const sizeMs = positiveMillis("slidingWindows", "the size", sizeSeconds);
  const periodMs = positiveMillis("slidingWindows", "the period", periodSeconds);
  const offsetMs = millis("slidingWindows", "the offset", offsetSeconds);
  const payload = SlidingWindowsPayload.toBinary({
    size: duration(sizeMs),
    period: duration(periodMs),
    offset: duration(offsetMs),
  });
  const windowFn: WindowFn = { kind: "sliding", sizeMs, periodMs, offsetMs: floorMod(offsetMs, periodMs) };
  const name = `slidingWindows(${sizeSeconds}, ${periodSeconds})`;
  return sdkWindowFn(windowFn, name, "beam:window_fn:sliding_windows:v1", payload);
}

/**
 * Sessions: the elements of a key that follow each other in less than `gapSeconds` are together in one window.
 *
 * @throws RangeError if the gap is below a millisecond.
 */
export function sessions(gapSeconds: number): IntervalWindowFn {
  const gapMs = positiveMillis("sessions", "the gap", gapSeconds);
  const payload = SessionWindowsPayload.toBinary({ gapSize: duration(gapMs) });
  const urn = "beam:window_fn:session_windows:v1";
  return sdkWindowFn({ kind: "sessions", gapMs }, `sessions(${gapSeconds})`, urn, payload);
}

export interface CalendarOptions {
  /** An IANA name, as "Europe/Vienna". Default: "UTC". */
  readonly timeZone?: string;
  /** A date, as "2026-04-06", on which a window begins. Default: "1970-01-01". */
  readonly from?: string;
}

/** Windows of whole days in a time zone; a day has 23 or 25 hours where the clocks change. */
export function calendarDays(days = 1, options: CalendarOptions = {}): IntervalWindowFn {
  return calendar("days", days, options);
}

/** Windows of whole months in a time zone, beginning on the day of `from` (1 to 28). */
export function calendarMonths(months = 1, options: CalendarOptions = {}): IntervalWindowFn {
  return calendar("months", months, options);
}

/** Windows of whole years in a time zone, beginning on month and day of `from` (day 1 to 28). */
export function calendarYears(years = 1, options: CalendarOptions = {}): IntervalWindowFn {
  return calendar("years", years, options);
}

/** A window as a custom WindowFn gives it: [startMs, endMs), in milliseconds since 1970. */
export interface Interval {
  readonly startMs: number;
  readonly endMs: number;
}

export interface CustomWindowOptions<T> {
  /** Names the WindowFn; part of the pipeline's fingerprint. */
  readonly name: string;
  /** The windows of an element; its own window and time come along. */
  assign(place: { element: T; timestampMs: number; window: BoundedWindow }): readonly Interval[];
  /** Which of one key's windows become one. Default: windows never merge. */
  merge?(windows: readonly Interval[]): readonly { from: readonly Interval[]; to: Interval }[];
}

/** Windows by functions of your own. Both must be pure: equal arguments, equal windows. */
export function customWindows<T>(options: CustomWindowOptions<T>): IntervalWindowFn {
  const { name, assign, merge } = options;
  if (typeof name !== "string" || name === "") throw new TypeError("customWindows needs a name");
  if (typeof assign !== "function") throw new TypeError(`customWindows "${name}" needs a function assign`);
  const known: CustomWindowFn = {
    kind: "custom",
    name,
    assign: (timestampMs, element, window) =>
      intervals(name, assign({ element: element as T, timestampMs, window })),
  };
  const windowFn: CustomWindowFn =
    merge === undefined
      ? known
      : { ...known, merge: (windows) => checkedMerges(name, windows, merge(windows)) };
  return sdkWindowFn(windowFn, name, `beamkeeper:window_fn:custom:v1`, Buffer.from(name));
}

function calendar(
  unit: "days" | "months" | "years",
  count: number,
  { timeZone = "UTC", from = "1970-01-01" }: CalendarOptions,
): IntervalWindowFn {
  const name = `calendar${unit[0]!.toUpperCase()}${unit.slice(1)}`;
  if (!Number.isInteger(count) || count < 1 || count > 100_000)
    throw new RangeError(`${name}: the number of ${unit} must be a whole number from 1 to 100000`);
  try {
    new Intl.DateTimeFormat("en-US", { timeZone });
  } catch (cause) {
    throw new RangeError(`${name}: the time zone ${JSON.stringify(timeZone)} is unknown`, { cause });
  }
  const match = /^(\d{4})-(\d{2})-(\d{2})$/.exec(from);
  const valid = match !== null && new Date(`${from}T00:00:00Z`).toJSON()?.startsWith(from);
  if (!valid)
    throw new RangeError(`${name}: from must be a date like "2026-04-06", it is ${JSON.stringify(from)}`);
  const [year, month, day] = [Number(match[1]), Number(match[2]), Number(match[3])];
  if (unit !== "days" && day > 28)
    throw new RangeError(`${name}: the day of from must be 1 to 28, so that every month has it`);
  const windowFn: WindowFn = { kind: "calendar", unit, count, from: { year, month, day }, timeZone };
  const payload = Buffer.from(JSON.stringify(windowFn));
  return sdkWindowFn(windowFn, `${name}(${count})`, "beamkeeper:window_fn:calendar:v1", payload);
}

/** As the SDK's construction wants it; what runs is the engine's. */
function sdkWindowFn(
  windowFn: WindowFn,
  beamName: string,
  urn: string,
  payload: Uint8Array,
): IntervalWindowFn {
  const assign = assigner(windowFn);
  return markWindowFn(
    {
      beamName,
      assignWindows: (timestamp: unknown) =>
        [assign(toMillis(timestamp), undefined, GLOBAL_WINDOW)].flat().map((window): SdkInterval => {
          const { startMs, endMs } = window as EngineInterval;
          return new IntervalWindow(SdkLong.fromNumber(startMs), SdkLong.fromNumber(endMs));
        }),
      windowCoder: () => new IntervalWindowCoder() as never,
      toProto: () => ({ urn, payload }),
      isMerging: () => isMerging(windowFn),
      assignsToOneWindow: () => windowFn.kind !== "sliding" && windowFn.kind !== "custom",
    },
    windowFn,
  );
}

function intervals(name: string, windows: unknown): EngineInterval[] {
  if (!Array.isArray(windows)) throw new TypeError(`customWindows "${name}": assign must give an array`);
  return windows.map((window) => interval(name, window));
}

function interval(name: string, window: unknown): EngineInterval {
  const { startMs, endMs } = (window ?? {}) as Partial<Interval>;
  if (typeof startMs === "number" && typeof endMs === "number" && startMs < endMs)
    return intervalWindow(startMs, endMs);
  throw new TypeError(
    `customWindows "${name}": a window is { startMs, endMs } with startMs < endMs, not ${JSON.stringify(window)}`,
  );
}

/** A merge must take windows that are there, each once. */
function checkedMerges(
  name: string,
  windows: readonly EngineInterval[],
  merges: readonly { from: readonly Interval[]; to: Interval }[],
) {
  const left = new Set(windows.map(({ startMs, endMs }) => `${startMs}/${endMs}`));
  return merges.map(({ from, to }) => {
    if (from.length === 0) throw new TypeError(`customWindows "${name}": a merge of no windows`);
    for (const { startMs, endMs } of from) {
      if (left.delete(`${startMs}/${endMs}`)) continue;
      throw new TypeError(
        `customWindows "${name}": merges [${startMs}, ${endMs}), which is no window or merged already`,
      );
    }
    return { from: from.map((window) => interval(name, window)), to: interval(name, to) };
  });
}

function positiveMillis(fn: string, what: string, seconds: number): number {
  const value = millis(fn, what, seconds);
  if (value >= 1) return value;
  throw new RangeError(`${fn}: ${what} must be at least a millisecond, it is ${seconds} s`);
}

function millis(fn: string, what: string, seconds: number): number {
  const value = Math.round(seconds * 1000);
  if (Number.isSafeInteger(value)) return value;
  throw new RangeError(`${fn}: ${what} must be a number of seconds, it is ${String(seconds)}`);
}

function duration(ms: number): { seconds: bigint; nanos: number } {
  const seconds = Math.trunc(ms / 1000);
  return { seconds: BigInt(seconds), nanos: (ms - seconds * 1000) * 1_000_000 };
}

function floorMod(value: number, modulus: number): number {
  return ((value % modulus) + modulus) % modulus;
}
