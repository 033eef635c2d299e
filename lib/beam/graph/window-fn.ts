import { GlobalWindow, type IntervalWindow, type WindowFn as SdkWindowFn, type Window } from "apache-beam";
import type Long from "long";
import { intervalWindow, isMerging, type WindowFn } from "../engine/windows";

const known = new WeakMap<object, WindowFn>();

/** Remembers what one of our own builders made. */
export function markWindowFn<W extends object>(sdk: W, windowFn: WindowFn): W {
  known.set(sdk, windowFn);
  return sdk;
}

/**
 * The engine's window function for one of ours or one of the SDK's, or what is wrong with it.
 *
 * Sizes are read off the windows that it gives to time 0: the SDK's proto drops what is below a second, and its
 * arithmetic is wrong for times before 1970, but the windows of 0 are exact.
 */
export function toWindowFn(sdk: SdkWindowFn<Window>): WindowFn | string {
  const ours = known.get(sdk);
  if (ours !== undefined) return ours;
  const { urn } = sdk.toProto();
  switch (urn) {
    case "beam:window_fn:global_windows:v1":
      return { kind: "global" };
    case "beam:window_fn:fixed_windows:v1":
      return toFixed(sdk);
    case "beam:window_fn:sliding_windows:v1":
      return toSliding(sdk);
    case "beam:window_fn:session_windows:v1": {
      const [session] = windowsOfZero(sdk);
      const gapMs = session === undefined ? 0 : session.endMs - session.startMs;
      return gapMs >= 1 ? { kind: "sessions", gapMs } : "sessions need a gap of at least a millisecond";
    }
    default:
      return toCustom(sdk);
  }
}

/** For messages; window functions with equal descriptions are compatible. */
export function describeWindowFn(windowFn: WindowFn): string {
  const offset =
    "offsetMs" in windowFn && windowFn.offsetMs !== 0 ? ` offset by ${windowFn.offsetMs} ms` : "";
  switch (windowFn.kind) {
    case "global":
      return "global windows";
    case "fixed":
      return `fixed windows of ${windowFn.sizeMs} ms${offset}`;
    case "sliding":
      return `sliding windows of ${windowFn.sizeMs} ms every ${windowFn.periodMs} ms${offset}`;
    case "sessions":
      return `sessions with a gap of ${windowFn.gapMs} ms`;
    case "calendar": {
      const { year, month, day } = windowFn.from;
      return `windows of ${windowFn.count} ${windowFn.unit} from ${year}-${month}-${day} in ${windowFn.timeZone}`;
    }
    case "custom":
      return `custom windows "${windowFn.name}"`;
  }
}

/** Settings of a window function as plain data, for the fingerprint. */
export function windowFnSettings(windowFn: WindowFn): unknown {
  if (windowFn.kind !== "custom") return windowFn;
  return { kind: windowFn.kind, name: windowFn.name, merging: isMerging(windowFn) };
}

function toFixed(sdk: SdkWindowFn<Window>): WindowFn | string {
  const [window] = windowsOfZero(sdk);
  // The SDK divides by a size that came to 0 ms.
  if (window === undefined) return "fixed windows need a size of at least a millisecond";
  const sizeMs = window.endMs - window.startMs;
  if (!(sizeMs > 0)) return `fixed windows need a size of at least a millisecond, not of ${sizeMs} ms`;
  return { kind: "fixed", sizeMs, offsetMs: floorMod(window.startMs, sizeMs) };
}

/** Time 0 lies in at least two windows unless the period is as long as the size; then it can't be read off. */
function toSliding(sdk: SdkWindowFn<Window>): WindowFn | string {
  const [first, second] = windowsOfZero(sdk);
  if (first === undefined || second === undefined) {
    return "the SDK's sliding windows with a period that is not shorter than the size are not supported";
  }
  const sizeMs = first.endMs - first.startMs;
  const periodMs = first.startMs - second.startMs;
  return { kind: "sliding", sizeMs, periodMs, offsetMs: floorMod(first.startMs, periodMs) };
}

/** A WindowFn of the user's own in the SDK's form, which has nothing to say how windows merge. */
function toCustom(sdk: SdkWindowFn<Window>): WindowFn | string {
  const name = sdk.beamName ?? sdk.toProto().urn;
  if (typeof sdk.assignWindows !== "function" || sdk.isMerging()) {
    return `windows of the kind ${name} are not supported`;
  }
  return {
    kind: "custom",
    name,
    assign: (timestampMs) =>
      sdk.assignWindows(SdkLong.fromNumber(timestampMs)).map((window) => {
        const { start, end } = window as IntervalWindow;
        return intervalWindow(start.toNumber(), end.toNumber());
      }),
  };
}

function windowsOfZero(sdk: SdkWindowFn<Window>): { startMs: number; endMs: number }[] {
  try {
    return (sdk.assignWindows(SdkLong.fromNumber(0)) as IntervalWindow[]).map(({ start, end }) => ({
      startMs: start.toNumber(),
      endMs: end.toNumber(),
    }));
  } catch {
    return [];
  }
}

/** The SDK's own class of 64-bit integers, reached through one of its values so that there is only one. */
export const SdkLong = new GlobalWindow().maxTimestamp().constructor as typeof Long;

function floorMod(value: number, modulus: number): number {
  return ((value % modulus) + modulus) % modulus;
}
