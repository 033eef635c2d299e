import type { BundleResult } from "../beam/api";
import { segmentPrefix, shardOf } from "../checkpoint/layout";
import { cutSegments, type SegmentElement, segmentElementBytes } from "../checkpoint/segment";
import type { Op } from "../zookeeper";
import type { ShardContext } from "./shard-runner";

const BLOB_SEGMENT_BYTES = 8 * 1024 * 1024;
// So small that references and what stays inline fit in a commit with any number of shards downstream.
const LARGE_INLINE_BYTES = 1024;

export interface DownstreamSegments {
  readonly ops: readonly Op[];
  readonly fed: readonly { readonly stage: string; readonly shard: number; readonly segments: number }[];
  /** Segments above this go to the blob store. */
  readonly inlineBytes: number;
}

export function downstreamSegments(
  { current, limits }: ShardContext,
  result: BundleResult,
): DownstreamSegments {
  // One element may give any amount of output; what does not fit in a commit goes to few large blobs.
  const isLarge = bytesOf(result) > limits.commitSizeBytes / 2 + limits.segmentSizeBytes;
  const segmentBytes = isLarge ? BLOB_SEGMENT_BYTES : limits.segmentSizeBytes;
  const ops: Op[] = [];
  const fed: { stage: string; shard: number; segments: number }[] = [];
  for (const [stage, outputs] of result.outputs) {
    const shards = current.generation.shards[stage] ?? 1;
    const everyShard = Array.from({ length: shards }, (_, shard) => shard);
    const byShard = new Map<number, SegmentElement[]>();
    for (const output of outputs) {
      for (const shard of output.isBroadcast ? everyShard : [shardOf(output.keyHash, shards)]) {
        const elements = byShard.get(shard);
        if (elements) elements.push(output);
        else byShard.set(shard, [output]);
      }
    }
    for (const [shard, elements] of byShard) {
      const { inbox } = current.scope.shard(stage, shard);
      const drafts = cutSegments(elements, segmentBytes);
      fed.push({ stage, shard, segments: drafts.length });
      for (const draft of drafts) {
        ops.push({
          type: "create",
          path: segmentPrefix(inbox, draft.minTimestampMs),
          data: draft.data,
          mode: "persistent-sequential",
        });
      }
    }
  }
  return { ops, fed, inlineBytes: isLarge ? LARGE_INLINE_BYTES : limits.segmentSizeBytes };
}

function bytesOf({ outputs }: BundleResult): number {
  let sum = 0;
  for (const ofStage of outputs.values()) for (const output of ofStage) sum += segmentElementBytes(output);
  return sum;
}
