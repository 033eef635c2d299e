import { assignCalendar, type CalendarWindowFn } from "./calendar";
import { clampTimestamp, GLOBAL_WINDOW_MAX_TIMESTAMP_MS, MAX_TIMESTAMP_MS } from "./time";

/** A window: `global`, or the half-open interval [startMs, endMs). */
export type Window = GlobalWindow | IntervalWindow;

export interface GlobalWindow {
  readonly kind: "global";
}

export interface IntervalWindow {
  readonly kind: "interval";
  readonly startMs: number;
  readonly endMs: number;
}

export const GLOBAL_WINDOW: GlobalWindow = Object.freeze({ kind: "global" });

/** Windows that become one. Beam model: `WindowFn.MergeContext.merge`. */
export interface WindowMerge {
  readonly from: readonly IntervalWindow[];
  readonly to: IntervalWindow;
}

/** A WindowFn of the user's. What its functions give is checked where they are called. */
export interface CustomWindowFn {
  readonly kind: "custom";
  /** Stable over builds: part of the graph's fingerprint. */
  readonly name: string;
  assign(timestampMs: number, element: unknown, window: Window): readonly IntervalWindow[];
  /** For a merging WindowFn: which of one key's windows become one. */
  readonly merge?: (windows: readonly IntervalWindow[]) => readonly WindowMerge[];
}

export interface SlidingWindowFn {
  readonly kind: "sliding";
  readonly sizeMs: number;
  readonly periodMs: number;
  readonly offsetMs: number;
}

/** What a WindowFn is to the engine; sizes and offsets in milliseconds. */
export type WindowFn =
  | { readonly kind: "global" }
  | { readonly kind: "fixed"; readonly sizeMs: number; readonly offsetMs: number }
  | SlidingWindowFn
  | { readonly kind: "sessions"; readonly gapMs: number }
  | CalendarWindowFn
  | CustomWindowFn;

/** The last timestamp that belongs to the window. Beam model: `BoundedWindow.maxTimestamp`. */
export function maxTimestamp(window: Window): number {
  return window.kind === "global" ? GLOBAL_WINDOW_MAX_TIMESTAMP_MS : window.endMs - 1;
}

/** The smallest watermark at which the window has ended: its end, or for the global window the end of time. */
export function firingWatermark(window: Window): number {
  return window.kind === "global" ? MAX_TIMESTAMP_MS : window.endMs;
}

/** Equal windows have equal names. */
export function windowName(window: Window): string {
  return window.kind === "global" ? "global" : `${window.startMs}/${window.endMs}`;
}

/** Whether the windows of one key can become one. */
export function isMerging(windowFn: WindowFn): boolean {
  return windowFn.kind === "sessions" || (windowFn.kind === "custom" && windowFn.merge !== undefined);
}

/** An interval cut off at the ends of time, where doubles are two milliseconds apart; it is never empty. */
export function intervalWindow(startMs: number, endMs: number): IntervalWindow {
  const start = Math.min(clampTimestamp(startMs), MAX_TIMESTAMP_MS - 2);
  const end = clampTimestamp(endMs);
  return { kind: "interval", startMs: start, endMs: end > start ? end : start + 2 };
}

/** The windows of an element, as a plain function for the inner loop. */
export type Assignment = (
  timestampMs: number,
  element: unknown,
  window: Window,
) => Window | readonly Window[];

/**
 * Window functions with one window an element give the same object for neighbouring elements, since most come in
 * order of time.
 */
export function assigner(windowFn: WindowFn): Assignment {
  switch (windowFn.kind) {
    case "global":
      return () => GLOBAL_WINDOW;
    case "fixed":
      return remembering((timestampMs) => fixedWindow(timestampMs, windowFn.sizeMs, windowFn.offsetMs));
    case "calendar":
      return remembering((timestampMs) => assignCalendar(windowFn, timestampMs));
    case "sliding":
      return rememberingPeriod(windowFn);
    case "sessions":
      return (timestampMs) => intervalWindow(timestampMs, timestampMs + windowFn.gapMs);
    case "custom":
      return (timestampMs, element, window) => windowFn.assign(timestampMs, element, window);
  }
}

/** What becomes of one key's windows; only groups that change something. */
export function mergesOf(windowFn: WindowFn, windows: readonly IntervalWindow[]): readonly WindowMerge[] {
  if (windowFn.kind === "sessions") return mergeOverlapping(windows);
  if (windowFn.kind !== "custom" || windowFn.merge === undefined) return [];
  return windowFn.merge(windows).filter(({ from, to }) => from.length > 1 || !isSame(from[0]!, to));
}

/** Windows that share a moment become their span; windows that only touch stay apart. Beam model: `Sessions`. */
export function mergeOverlapping(windows: readonly IntervalWindow[]): WindowMerge[] {
  const merges: { from: IntervalWindow[]; to: IntervalWindow }[] = [];
  for (const window of [...windows].sort((a, b) => a.startMs - b.startMs || a.endMs - b.endMs)) {
    const last = merges.at(-1);
    if (last === undefined || window.startMs >= last.to.endMs) merges.push({ from: [window], to: window });
    else {
      last.from.push(window);
      last.to = { ...last.to, endMs: Math.max(last.to.endMs, window.endMs) };
    }
  }
  return merges.filter(({ from }) => from.length > 1);
}

/**
 * The fixed window of a timestamp: start = t - floorMod(t - offset, size), cut off at the ends of time.
 * Beam model: `FixedWindows.assignWindow`; the modulus is never negative, so times before 1970 are right.
 */
export function fixedWindow(timestampMs: number, sizeMs: number, offsetMs: number): IntervalWindow {
  const start = timestampMs - floorMod(timestampMs - offsetMs, sizeMs);
  return intervalWindow(start, start + sizeMs);
}

/** The newest first, as Beam's `SlidingWindows.assignWindows`; none where the period is longer than the size. */
function slidingWindows(
  timestampMs: number,
  { sizeMs, periodMs, offsetMs }: { sizeMs: number; periodMs: number; offsetMs: number },
): IntervalWindow[] {
  const windows: IntervalWindow[] = [];
  const newest = timestampMs - floorMod(timestampMs - offsetMs, periodMs);
  for (let start = newest; start > timestampMs - sizeMs; start -= periodMs) {
    windows.push(intervalWindow(start, start + sizeMs));
  }
  return windows;
}

function remembering(assign: (timestampMs: number) => IntervalWindow): Assignment {
  let last: IntervalWindow | undefined;
  return (timestampMs) => {
    if (last !== undefined && timestampMs >= last.startMs && timestampMs < last.endMs) return last;
    last = assign(timestampMs);
    return last;
  };
}

/** The windows of a period are the same, unless the period does not divide the size or is longer. */
function rememberingPeriod(windowFn: SlidingWindowFn): Assignment {
  const { sizeMs, periodMs, offsetMs } = windowFn;
  if (sizeMs % periodMs !== 0) return (timestampMs) => slidingWindows(timestampMs, windowFn);
  let lastStart = Number.NaN;
  let last: IntervalWindow[] = [];
  return (timestampMs) => {
    const start = timestampMs - floorMod(timestampMs - offsetMs, periodMs);
    if (start !== lastStart) {
      last = slidingWindows(timestampMs, windowFn);
      lastStart = start;
    }
    return last;
  };
}

export function isSame(a: Window, b: Window): boolean {
  if (a.kind === "global" || b.kind === "global") return a.kind === b.kind;
  return a.startMs === b.startMs && a.endMs === b.endMs;
}

function floorMod(value: number, modulus: number): number {
  const remainder = value % modulus;
  return remainder < 0 ? remainder + modulus : remainder;
}
