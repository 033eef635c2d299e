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

/** What a WindowFn is to the engine; sizes and offsets in milliseconds. */
export type WindowFn =
  | { readonly kind: "global" }
  | { readonly kind: "fixed"; readonly sizeMs: number; readonly offsetMs: number };

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

/**
 * The window function as a plain function of the timestamp, for the inner loop.
 * It gives the same object for neighbouring elements, since most come in order of time.
 */
export function assigner(windowFn: WindowFn): (timestampMs: number) => Window {
  if (windowFn.kind === "global") return () => GLOBAL_WINDOW;
  let last: IntervalWindow | undefined;
  return (timestampMs) => {
    if (last !== undefined && timestampMs >= last.startMs && timestampMs < last.endMs) return last;
    last = fixedWindow(timestampMs, windowFn.sizeMs, windowFn.offsetMs);
    return last;
  };
}

/**
 * The fixed window of a timestamp: start = t - floorMod(t - offset, size), cut off at the ends of time.
 * Beam model: `FixedWindows.assignWindow`; the modulus is never negative, so times before 1970 are right.
 */
export function fixedWindow(timestampMs: number, sizeMs: number, offsetMs: number): IntervalWindow {
  const remainder = (timestampMs - offsetMs) % sizeMs;
  const start = timestampMs - (remainder < 0 ? remainder + sizeMs : remainder);
  return { kind: "interval", startMs: clampTimestamp(start), endMs: clampTimestamp(start + sizeMs) };
}
