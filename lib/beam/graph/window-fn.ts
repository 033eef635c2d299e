import { GlobalWindow, type IntervalWindow, type WindowFn as SdkWindowFn, type Window } from "apache-beam";
import type Long from "long";
import type { WindowFn } from "../engine/windows";

/**
 * The engine's window function for one of the SDK's, or what is wrong with it.
 *
 * The size is read off the window that it gives to time 0: the SDK's proto drops what is below a second, and its
 * arithmetic is wrong for times before 1970, but the window of 0 is exact.
 */
export function toWindowFn(sdk: SdkWindowFn<Window>): WindowFn | string {
  const { urn } = sdk.toProto();
  if (urn === "beam:window_fn:global_windows:v1") return { kind: "global" };
  if (urn !== "beam:window_fn:fixed_windows:v1")
    return `windows of the kind ${sdk.beamName ?? urn} are not supported`;
  let window: IntervalWindow;
  try {
    [window] = sdk.assignWindows(longZero()) as [IntervalWindow];
  } catch {
    // The size came to 0 ms, by which the SDK divides.
    return "fixed windows need a size of at least a millisecond";
  }
  const startMs = window.start.toNumber();
  const sizeMs = window.end.toNumber() - startMs;
  if (!(sizeMs > 0)) return `fixed windows need a size of at least a millisecond, not of ${sizeMs} ms`;
  return { kind: "fixed", sizeMs, offsetMs: ((startMs % sizeMs) + sizeMs) % sizeMs };
}

/** The SDK's own class of 64-bit integers, reached through one of its values so that there is only one. */
export const SdkLong = new GlobalWindow().maxTimestamp().constructor as typeof Long;

function longZero(): Long {
  return SdkLong.fromNumber(0);
}
