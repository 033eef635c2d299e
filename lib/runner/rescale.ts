import { inboxKeyHash, mergeShared } from "../beam/rescaling";
import type { BlobStore } from "../checkpoint/blobs";
import { requireGeneration } from "../checkpoint/control";
import { decodeEventRecord, eventKey, isEventRecord } from "../checkpoint/event-record";
import type { UpdateChoices } from "../checkpoint/graph";
import { keyHashOf } from "../checkpoint/key-hash";
import type { PipelineLayout } from "../checkpoint/layout";
import type { Generation } from "../checkpoint/records";
import type { KeyKnowledge } from "../checkpoint/redistribution";
import { rescalePipeline } from "../checkpoint/rescale";
import { type UpdatePlan, updatePipeline } from "../checkpoint/update";
import { decodeZnodeChange } from "../checkpoint/znode-change";
import type { ZooKeeperClient } from "../zookeeper";

/** Rescales a pipeline without its code: what it needs to know of elements, their encodings tell. */
export async function rescale(
  client: ZooKeeperClient,
  blobs: BlobStore,
  layout: PipelineLayout,
  shards: Readonly<Record<string, number>>,
): Promise<Generation> {
  const keys = keysOf((await requireGeneration(client, layout)).generation);
  return rescalePipeline({ client, blobs, layout, shards, keys });
}

/** Hands what the pipeline has to the code that was compiled: see {@link updatePipeline}. */
export async function update(
  client: ZooKeeperClient,
  blobs: BlobStore,
  layout: PipelineLayout,
  plan: UpdatePlan,
  choices: UpdateChoices,
): Promise<Generation> {
  const keys = keysOf((await requireGeneration(client, layout)).generation);
  return updatePipeline({ client, blobs, layout, plan, choices, keys });
}

function keysOf({ upstream }: Generation): KeyKnowledge {
  const readsSource = (stage: string): boolean => upstream[stage]?.[0]?.type === "source";
  const keyHash = (stage: string, element: Uint8Array): number => {
    if (!readsSource(stage)) return inboxKeyHash(element);
    // The impulse has no bytes, and goes to the first shard.
    if (element.length === 0) return 0;
    const bytes = Buffer.from(element);
    const isEvent = isEventRecord(bytes);
    return keyHashOf(
      isEvent ? eventKey(decodeEventRecord(bytes).record) : decodeZnodeChange(bytes).change.path,
    );
  };
  return { keyHashOf: keyHash, mergeShared };
}
