import type { BundleResult, OutputBlock } from "../beam/api";
import type { CommitBlobs } from "../checkpoint/blobs";
import { type ShardLayout, segmentPrefix, shardOf } from "../checkpoint/layout";
import { SegmentBuilder, type SegmentDraft, segmentElementBytes } from "../checkpoint/segment";
import type { Op } from "../zookeeper";
import type { ShardContext } from "./shard-context";

/** Output that does not fit in a commit goes to blobs of at most this size; as much of it is in memory at once. */
const BLOB_SEGMENT_BYTES = 8 * 1024 * 1024;
// So small that references and what stays inline fit in a commit with any number of shards downstream.
const LARGE_INLINE_BYTES = 1024;
/** No shard has exactly its share. */
const SHARE_MARGIN = 1.25;
/** In place of a key's hash: see `OutputBlock.keyHashes`. */
const FOR_EVERY_SHARD = -1;

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
    for (const block of outputs.blocks()) {
      for (let index = 0; index < block.count; index++) {
        writer.add(block, index);
        if (writer.isFull) await writer.writeLargest();
      }
    }
    await writer.writeAll();
    ops.push(...writer.ops);
    for (const [shard, segments] of writer.fed) fed.push({ stage, shard, segments });
  }
  return { ops, fed };
}

/** What waits for one shard: segments that are full, and the one that is being filled. */
interface Waiting {
  readonly full: SegmentDraft[];
  open: SegmentBuilder;
  bytes: number;
}

/** The segments of one stage downstream. */
class StageWriter {
  readonly ops: Op[] = [];
  /** How many segments each shard gets. */
  readonly fed = new Map<number, number>();
  private readonly waiting = new Map<number, Waiting>();
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

  /** So much waits that some of it has to be written now. */
  get isFull(): boolean {
    return this.bytes >= BLOB_SEGMENT_BYTES;
  }

  add(block: OutputBlock, index: number): void {
    const keyHash = block.keyHashes[index]!;
    if (keyHash !== FOR_EVERY_SHARD) this.addTo(shardOf(keyHash, this.shards), block, index);
    else for (let shard = 0; shard < this.shards; shard++) this.addTo(shard, block, index);
  }

  async writeAll(): Promise<void> {
    for (const shard of [...this.waiting.keys()]) await this.write(shard);
  }

  async writeLargest(): Promise<void> {
    const [first] = [...this.waiting].sort(([, a], [, b]) => b.bytes - a.bytes);
    await this.write(first![0]);
  }

  private addTo(shard: number, block: OutputBlock, index: number): void {
    const { bytes, ends, timestampsMs } = block;
    const start = index === 0 ? 0 : ends[index - 1]!;
    const end = ends[index]!;
    let waiting = this.waiting.get(shard);
    if (waiting === undefined) {
      waiting = { full: [], open: new SegmentBuilder(this.expectedBytes(block)), bytes: 0 };
      this.waiting.set(shard, waiting);
    }
    if (!waiting.open.hasRoom(end - start, this.segmentBytes)) {
      waiting.full.push(waiting.open.finish());
      waiting.open = new SegmentBuilder();
    }
    waiting.open.add(bytes, start, end, timestampsMs[index]!);
    const added = segmentElementBytes(end - start);
    waiting.bytes += added;
    this.bytes += added;
  }

  /** Of a shard's share of a block. */
  private expectedBytes({ ends, count }: OutputBlock): number {
    const share = segmentElementBytes(ends[count - 1]! / count) * (count / this.shards);
    return Math.min(this.segmentBytes, Math.ceil(share * SHARE_MARGIN));
  }

  private async write(shard: number): Promise<void> {
    const { full, open, bytes } = this.waiting.get(shard)!;
    this.waiting.delete(shard);
    this.bytes -= bytes;
    const drafts = [...full, open.finish()];
    this.fed.set(shard, (this.fed.get(shard) ?? 0) + drafts.length);
    const { current } = this.context;
    const layout = current.scope.shard(this.stage, shard);
    const ops = drafts.map((draft) => create(layout, draft));
    this.ops.push(...(await this.written.keep(ops, this.inlineBytes)));
  }
}

function create({ inbox }: ShardLayout, { data, minTimestampMs }: SegmentDraft): Op {
  const path = segmentPrefix(inbox, minTimestampMs);
  return { type: "create", path, data, mode: "persistent-sequential" };
}
