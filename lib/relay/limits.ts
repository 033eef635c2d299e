/** What a source relay cuts its commits to, and how long it waits. */
export interface RelayLimits {
  /** Bytes of one commit's multi (default 512 KiB). */
  readonly commitSizeBytes: number;
  /** Bytes of one inline segment (default 128 KiB). */
  readonly segmentSizeBytes: number;
  /** Znodes read for one commit (default 500). */
  readonly maxBatchPaths: number;
  /** How often the watermark is published when nothing waits for it, in ms (default 1,000). */
  readonly idleIntervalMs: number;
  /** The least time between two commits while changes come, in ms (default 10); a full batch does not wait. */
  readonly lingerMs: number;
}
