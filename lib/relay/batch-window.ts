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

// The share of the newest batch in the mean of what was delivered: a change of the values' size shows within some four.
const NEWEST_SHARE = 0.5;

// The share of a commit that elements may take.
const COMMIT_SHARE = 0.75;

/**
 * What a batch holds at most. Values are read at the end of its window only, so until then their size is taken to be the
 * mean of those that were delivered last; before the first there is no such number.
 */
export class BatchSize {
  /** Of the elements. */
  readonly bytes: number;
  private meanBytes = 0;

  constructor(
    private readonly limits: Pick<
      RelayLimits,
      "maxBatchPaths" | "lingerMs" | "batchBytes" | "commitSizeBytes"
    >,
  ) {
    const { batchBytes = Number.POSITIVE_INFINITY, commitSizeBytes } = limits;
    this.bytes = Math.min(batchBytes, commitSizeBytes * COMMIT_SHARE);
  }

  /** A batch with elements of so many znodes was put together. */
  delivered(znodes: number, bytes: number): void {
    const mean = bytes / znodes;
    this.meanBytes = this.meanBytes === 0 ? mean : this.meanBytes + (mean - this.meanBytes) * NEWEST_SHARE;
  }

  /** So many znodes fill a batch: at least 1, since one znode's elements always go. */
  get paths(): number {
    const { lingerMs, maxBatchPaths } = this.limits;
    if (lingerMs === 0 || this.meanBytes === 0) return maxBatchPaths;
    return Math.min(maxBatchPaths, Math.max(1, Math.floor(this.bytes / this.meanBytes)));
  }
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
