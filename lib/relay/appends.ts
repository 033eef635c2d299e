import { keyHashOf } from "../checkpoint/key-hash";
import { segmentPrefix, shardOf } from "../checkpoint/layout";
import type { CurrentGeneration } from "../checkpoint/scope";
import { cutSegments, type SegmentElement } from "../checkpoint/segment";
import type { Op } from "../zookeeper";

/** An element of a source, and the path that it belongs to. */
export interface KeyedElement {
  readonly key: string;
  readonly element: SegmentElement;
}

/** An inbox that gets so many segments. */
export interface FedInbox {
  readonly stage: string;
  readonly shard: number;
  readonly segments: number;
}

/** The shard of a stage that gets the elements of a key. */
export function shardOfKey({ generation }: CurrentGeneration, stage: string, key: string): number {
  return shardOf(keyHashOf(key), generation.shards[stage] ?? 1);
}

/** The operations that append the elements to the inboxes of each consumer's shards, in order for each key. */
export function appends(
  current: CurrentGeneration,
  consumers: readonly string[],
  elements: readonly KeyedElement[],
  segmentSizeBytes: number,
): { readonly ops: readonly Op[]; readonly fed: readonly FedInbox[] } {
  const ops: Op[] = [];
  const fed: FedInbox[] = [];
  for (const stage of elements.length > 0 ? consumers : []) {
    const byShard = new Map<number, SegmentElement[]>();
    for (const { key, element } of elements) {
      const shard = shardOfKey(current, stage, key);
      const others = byShard.get(shard);
      if (others) others.push(element);
      else byShard.set(shard, [element]);
    }
    for (const [shard, shardElements] of byShard) {
      const drafts = cutSegments(shardElements, segmentSizeBytes);
      fed.push({ stage, shard, segments: drafts.length });
      for (const { data, minTimestampMs } of drafts) {
        const path = segmentPrefix(current.scope.shard(stage, shard).inbox, minTimestampMs);
        ops.push({ type: "create", path, data, mode: "persistent-sequential" });
      }
    }
  }
  return { ops, fed };
}
