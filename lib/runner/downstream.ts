import type { BundleResult } from "../beam/api";
import type { CommitBlobs } from "../checkpoint/blobs";
import { segmentPrefix, shardOf } from "../checkpoint/layout";
import {
  cutSegments,
  type SegmentDraft,
  type SegmentElement,
  segmentElementBytes,
} from "../checkpoint/segment";
import type { Op } from "../zookeeper";
import type { ShardContext } from "./shard-runner";

/** Output that does not fit in a commit goes to blobs of at most this size; as much of it is in memory at once. */
const BLOB_SEGMENT_BYTES = 8 * 1024 * 1024;
// So small that references and what stays inline fit in a commit with any number of shards downstream.
const LARGE_INLINE_BYTES = 1024;

export interface DownstreamSegments {
  readonly ops: readonly Op[];
  readonly fed: readonly { readonly stage: string; readonly shard: number; readonly segments: number }[];
}

/** The segments of a bundle's outputs, the large ones in blobs that are written when it resolves. */
export async function downstreamSegments(
  context: ShardContext,
  result: BundleResult,
  written: CommitBlobs,
): Promise<DownstreamSegments> {
  const { segmentSizeBytes, commitSizeBytes } = context.limits;
  // One element may give any amount of output; else a bundle is cut before it gives more than half a commit.
  const isLarge = result.pendingBytes > commitSizeBytes / 2 + segmentSizeBytes;
  const inlineBytes = isLarge ? LARGE_INLINE_BYTES : segmentSizeBytes;
  const ops: Op[] = [];
  const fed: { stage: string; shard: number; segments: number }[] = [];
  for (const [stage, outputs] of result.outputs) {
    const writer = new StageWriter(
      context,
      stage,
      written,
      isLarge ? BLOB_SEGMENT_BYTES : segmentSizeBytes,
      inlineBytes,
    );
    for (const output of outputs) {
      const full = writer.add(output, output.isBroadcast ? undefined : output.keyHash);
      if (full !== undefined) await writer.write(full);
    }
    await writer.writeAll();
    ops.push(...writer.ops);
    for (const [shard, segments] of writer.fed) fed.push({ stage, shard, segments });
  }
  return { ops, fed };
}

/** The segments of one stage downstream. */
class StageWriter {
  readonly ops: Op[] = [];
  /** How many segments each shard gets. */
  readonly fed = new Map<number, number>();
  private readonly waiting = new Map<number, { elements: SegmentElement[]; bytes: number }>();
  private readonly shards: number;
  private bytes = 0;

  constructor(
    private readonly context: ShardContext,
    private readonly stage: string,
    private readonly written: CommitBlobs,
    private readonly segmentBytes: number,
    private readonly inlineBytes: number,
  ) {
    this.shards = context.current.generation.shards[stage] ?? 1;
  }

  /** Without a hash for every shard. Returns the shard whose elements have to be written now, if one's have. */
  add(element: SegmentElement, keyHash: number | undefined): number | undefined {
    const everyShard = Array.from({ length: keyHash === undefined ? this.shards : 0 }, (_, shard) => shard);
    for (const shard of keyHash === undefined ? everyShard : [shardOf(keyHash, this.shards)]) {
      const waiting = this.waiting.get(shard) ?? { elements: [], bytes: 0 };
      waiting.elements.push(element);
      waiting.bytes += segmentElementBytes(element);
      this.bytes += segmentElementBytes(element);
      this.waiting.set(shard, waiting);
    }
    return this.bytes < BLOB_SEGMENT_BYTES ? undefined : this.largest();
  }

  async writeAll(): Promise<void> {
    for (const shard of [...this.waiting.keys()]) await this.write(shard);
  }

  async write(shard: number): Promise<void> {
    const { elements, bytes } = this.waiting.get(shard)!;
    this.waiting.delete(shard);
    this.bytes -= bytes;
    const drafts = cutSegments(elements, this.segmentBytes);
    this.fed.set(shard, (this.fed.get(shard) ?? 0) + drafts.length);
    this.ops.push(
      ...(await this.written.keep(
        drafts.map((draft) => this.create(shard, draft)),
        this.inlineBytes,
      )),
    );
  }

  private create(shard: number, { data, minTimestampMs }: SegmentDraft): Op {
    const { inbox } = this.context.current.scope.shard(this.stage, shard);
    return {
      type: "create",
      path: segmentPrefix(inbox, minTimestampMs),
      data,
      mode: "persistent-sequential",
    };
  }

  private largest(): number {
    const [first] = [...this.waiting].sort(([, a], [, b]) => b.bytes - a.bytes);
    return first![0];
  }
}
