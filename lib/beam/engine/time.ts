/**
 * The ends of Beam's time line, in milliseconds since 1970, as the largest doubles that do not lie beyond them.
 * Beam counts microseconds in 64 bits, so its own constants are odd numbers above 2^53 that a double can't hold.
 * Beam model: `BeamConstants` MIN_TIMESTAMP_MILLIS, MAX_TIMESTAMP_MILLIS, GLOBAL_WINDOW_MAX_TIMESTAMP_MILLIS.
 */
export const MIN_TIMESTAMP_MS = -9223372036854774;
export const MAX_TIMESTAMP_MS = 9223372036854774;

/** The global window's last timestamp: one day before the end of time. */
export const GLOBAL_WINDOW_MAX_TIMESTAMP_MS = 9223371950454774;

/** Brings a timestamp (an infinite one as well) onto the time line; NaN is an error of the caller. */
export function clampTimestamp(timestampMs: number): number {
  if (timestampMs < MIN_TIMESTAMP_MS) return MIN_TIMESTAMP_MS;
  if (timestampMs > MAX_TIMESTAMP_MS) return MAX_TIMESTAMP_MS;
  return timestampMs;
}
