import type { RelayLimits } from "./limits";

/** The changes of a source that are not committed yet, as far as the next batch is concerned. */
export interface PendingChanges {
  /** Of these the values are being read or were read: they go with the next commits, as many as fit in each. */
  readonly taken: number;
  /** These are only marked, and still change into one value each. */
  readonly untaken: number;
  /** When the first of the untaken came, in ms by the local clock; -Infinity where its window is over already. */
  readonly sinceMs: number;
}

/**
 * How long until untaken changes may be taken, in ms: 0 once a batch is full or the window of the first of them has
 * ended, Infinity where there are none, or no room for them before the next commit. A window begins with the first
 * change of its batch; what fills no batch waits for its own.
 */
export function nextBatchInMs(
  { taken, untaken, sinceMs }: PendingChanges,
  { maxBatchPaths, lingerMs }: Pick<RelayLimits, "maxBatchPaths" | "lingerMs">,
  nowMs: number,
): number {
  if (untaken === 0 || taken >= maxBatchPaths) return Number.POSITIVE_INFINITY;
  if (taken + untaken >= maxBatchPaths) return 0;
  const remainingMs = sinceMs + lingerMs - nowMs;
  // The local clock may have gone back meanwhile.
  return Math.min(lingerMs, Math.max(0, remainingMs));
}
