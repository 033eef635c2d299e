import type { SourceBatching } from "../checkpoint/znode-source";

/** What a source relay cuts its commits to, and how long it waits. */
export interface RelayLimits {
  /** Bytes of one commit's multi (default 512 KiB). */
  readonly commitSizeBytes: number;
  /** Bytes of the elements in one commit (default: three quarters of the commit); one znode's always go. */
  readonly batchBytes?: number;
  /** Bytes of one inline segment (default 128 KiB). */
  readonly segmentSizeBytes: number;
  /** Znodes read for one commit (default 500). */
  readonly maxBatchPaths: number;
  /** How often the watermark is published when nothing waits for it, in ms (default 1,000). */
  readonly idleIntervalMs: number;
  /** How long the first change of a batch waits for others, in ms (default 0); a full batch does not wait. */
  readonly lingerMs: number;
}

/** The limits of a source that says how it wants its changes brought together. */
export function limitsOf(limits: RelayLimits, { size, windowMs, bytes }: SourceBatching = {}): RelayLimits {
  return {
    ...limits,
    ...(size === undefined ? {} : { maxBatchPaths: size }),
    ...(windowMs === undefined ? {} : { lingerMs: windowMs }),
    ...(bytes === undefined ? {} : { batchBytes: bytes }),
  };
}
