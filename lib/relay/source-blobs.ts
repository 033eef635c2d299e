import { type BlobStore, CommitBlobs, collectBlobs } from "../checkpoint/blobs";
import type { Cursor } from "../checkpoint/records";
import type { CurrentGeneration } from "../checkpoint/scope";
import type { SegmentElement } from "../checkpoint/segment";
import type { Log } from "../log";
import type { Op, ZooKeeperClient } from "../zookeeper";
import { blobStoreFailed } from "./errors";

/** Large values of one batch, of which the first may be larger; all are in memory at once. */
export const MAX_BLOB_BYTES = 8 * 1024 * 1024;
// What a segment of one element is larger than the element, and a reference to a blob; both are upper bounds.
const SEGMENT_OVERHEAD_BYTES = 32;
const REFERENCE_BYTES = 384;

interface SourceBlobsOptions {
  readonly client: ZooKeeperClient;
  readonly sourceId: string;
  readonly consumers: readonly string[];
  readonly blobs: BlobStore;
  readonly log: Log;
  readonly limits: { readonly segmentSizeBytes: number };
}

/** The blobs of one source's commits: elements that are larger than a segment, each by itself. */
export class SourceBlobs {
  constructor(
    private readonly options: SourceBlobsOptions,
    private readonly cursorPath: string,
  ) {}

  /** What of the element goes to a blob, in bytes. */
  blobBytes({ bytes }: SegmentElement): number {
    return bytes.length + SEGMENT_OVERHEAD_BYTES > this.options.limits.segmentSizeBytes ? bytes.length : 0;
  }

  /** What the element adds to a commit for each consumer, in bytes. */
  inlineBytes(element: SegmentElement): number {
    return this.blobBytes(element) > 0 ? REFERENCE_BYTES : element.bytes.length + 64;
  }

  /**
   * The operations with references in place of the large segments, whose blobs are written when it resolves. Rejects
   * with a retryable SourceError where the store fails.
   */
  async keep(ops: readonly Op[], { number, ids: [commitId] }: Cursor): Promise<readonly Op[]> {
    const { blobs, limits, sourceId } = this.options;
    const written = new CommitBlobs(blobs, this.cursorPath, number, commitId!);
    try {
      return await written.keep(ops, limits.segmentSizeBytes);
    } catch (error) {
      throw blobStoreFailed(sourceId, error);
    }
  }

  /** Deletes the blobs of commits that were never made, by relays that died or lost. What it leaves the next one deletes. */
  async collect(committed: number, { scope, generation }: CurrentGeneration): Promise<void> {
    const { client, blobs, consumers, log, sourceId } = this.options;
    const inboxes = consumers.flatMap((stage) =>
      Array.from({ length: generation.shards[stage] ?? 1 }, (_, shard) => ({
        path: scope.shard(stage, shard).inbox,
      })),
    );
    try {
      await collectBlobs(client, blobs, this.cursorPath, committed, [], inboxes);
    } catch (error) {
      log("warn", "blobs of lost commits were not looked for", { source: sourceId, error });
    }
  }
}
