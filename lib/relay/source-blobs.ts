import { type BlobReader, type BlobStore, CommitBlobs, collectBlobs } from "../checkpoint/blobs";
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

/** The blobs of one source's commits: elements that are larger than a segment, each by itself, and so large records of its manifest. */
export class SourceBlobs implements BlobReader {
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
   * The operations with references in place of large records, whose blobs are written when it resolves, and the names of
   * those by path. Rejects with a retryable SourceError where the store fails.
   */
  async keep(
    ops: readonly Op[],
    { number, ids: [commitId] }: Cursor,
  ): Promise<{ readonly ops: readonly Op[]; readonly written: ReadonlyMap<string, string> }> {
    const { blobs, limits, sourceId } = this.options;
    const written = new CommitBlobs(blobs, this.cursorPath, number, commitId!);
    try {
      return { ops: await written.keep(ops, limits.segmentSizeBytes), written: written.byPath };
    } catch (error) {
      throw blobStoreFailed(sourceId, error);
    }
  }

  /** A blob; undefined where there is none. Rejects with a retryable SourceError where the store fails. */
  async get(name: string): Promise<Buffer | undefined> {
    try {
      return await this.options.blobs.get(name);
    } catch (error) {
      throw blobStoreFailed(this.options.sourceId, error);
    }
  }

  /** Deletes blobs that a commit has taken the references to away. What it leaves the next relay's `collect` deletes. */
  async discard(names: readonly string[]): Promise<void> {
    const { blobs, log, sourceId } = this.options;
    try {
      await Promise.all(names.map((name) => blobs.delete(name)));
    } catch (error) {
      log("warn", "blobs of the manifest were not deleted yet", { source: sourceId, error });
    }
  }

  /**
   * Deletes the blobs of commits that were never made, by relays that died or lost, and those of the manifest that were
   * left. What it leaves the next one deletes.
   *
   * @param manifest of a source of znodes: its path, and the blobs that it is known to need.
   */
  async collect(
    committed: number,
    { scope, generation }: CurrentGeneration,
    manifest?: { readonly path: string; readonly blobNames: Iterable<string> },
  ): Promise<void> {
    const { client, blobs, consumers, log, sourceId } = this.options;
    const inboxes = consumers.flatMap((stage) =>
      Array.from({ length: generation.shards[stage] ?? 1 }, (_, shard) => ({
        path: scope.shard(stage, shard).inbox,
      })),
    );
    try {
      const referrers = [...(manifest ? [manifest] : []), ...inboxes];
      await collectBlobs(client, blobs, this.cursorPath, committed, manifest?.blobNames ?? [], referrers);
    } catch (error) {
      log("warn", "blobs of lost commits were not looked for", { source: sourceId, error });
    }
  }
}
