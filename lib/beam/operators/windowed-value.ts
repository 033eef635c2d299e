import { NO_FIRING, type Pane } from "../engine/panes";
import { clampTimestamp } from "../engine/time";
import { GLOBAL_WINDOW, maxTimestamp, type Window } from "../engine/windows";
import { SdkLong } from "../graph/window-fn";
import type { UserCode } from "./user-code";

/** An element with its place, as finishBundle gives it. */
export interface WindowedValue {
  readonly value: unknown;
  readonly windows: readonly Window[];
  readonly timestampMs: number;
  readonly pane: Pane;
}

/** From the SDK's WindowedValue, whose times are Longs (numbers are taken as well). */
export function fromSdkWindowedValue(result: unknown, code: UserCode): WindowedValue {
  const { value, windows, timestamp, pane } = (result ?? {}) as Record<string, unknown>;
  if (!Array.isArray(windows) || windows.length === 0) {
    const shape = "{ value, windows, timestamp, pane }";
    throw code.refusal(`finishBundle must give elements with their windows, as ${shape}`, result);
  }
  const engineWindows = windows.map((window) => fromSdkWindow(window));
  const timestampMs = timestamp === undefined ? maxTimestamp(engineWindows[0]!) : toMillis(timestamp);
  if (Number.isNaN(timestampMs))
    throw code.refusal("finishBundle gave an element without a timestamp", result);
  return { value, windows: engineWindows, timestampMs: clampTimestamp(timestampMs), pane: fromSdkPane(pane) };
}

/** Milliseconds of a Long, a number or a bigint; NaN for anything else. */
export function toMillis(timestamp: unknown): number {
  if (timestamp instanceof SdkLong) return timestamp.toNumber();
  if (typeof timestamp === "number" || typeof timestamp === "bigint") return Number(timestamp);
  const { toNumber } = (timestamp ?? {}) as { toNumber?: unknown };
  return typeof toNumber === "function" ? Number(toNumber.call(timestamp)) : NaN;
}

function fromSdkWindow(window: { start?: unknown; end?: unknown }): Window {
  if (window.start === undefined) return GLOBAL_WINDOW;
  return { kind: "interval", startMs: toMillis(window.start), endMs: toMillis(window.end) };
}

function fromSdkPane(pane: unknown): Pane {
  if (typeof pane !== "object" || pane === null) return NO_FIRING;
  const { timing, index, onTimeIndex, isFirst, isLast } = { ...NO_FIRING, onTimeIndex: 0, ...pane };
  return { index, nonSpeculativeIndex: onTimeIndex, timing, isFirst, isLast };
}
