import type { CompiledPipeline, CompiledStage } from "../beam/api";
import type { ReadContext } from "../beam/splittable";
import type { BlobStore } from "../checkpoint/blobs";
import type { FileStore } from "../checkpoint/files";
import type { ShardLayout } from "../checkpoint/layout";
import type { CurrentGeneration } from "../checkpoint/scope";
import { type ReadHead, readHead as readHeadOf } from "../checkpoint/stored-state";
import type { Clock } from "../clock";
import type { Log } from "../log";
import { NoNodeError, type ZooKeeperClient } from "../zookeeper";
import type { BundleLimits } from "./bundle";
import type { FollowedZnodes } from "./followed-znodes";
import type { OpenReads } from "./open-reads";
import type { ZnodeWrites } from "./znode-writes";

/** One shard of one stage in one epoch, as an invocation works on it. */
export interface ShardContext {
  readonly client: ZooKeeperClient;
  readonly pipeline: CompiledPipeline;
  readonly stage: CompiledStage;
  readonly shard: number;
  readonly current: CurrentGeneration;
  readonly layout: ShardLayout;
  readonly files: FileStore;
  readonly blobs: BlobStore;
  readonly writes: ZnodeWrites;
  readonly clock: Clock;
  readonly log: Log;
  readonly limits: BundleLimits;
  /** When the invocation begins no more bundles. */
  readonly deadlineMs: number;
  readonly reads: ReadContext;
  readonly openReads: OpenReads;
  readonly followed: FollowedZnodes;
}

/** A pipeline, stage or shard that this deployment does not have. Terminal. */
export class UnknownShardError extends Error {
  override readonly name = "UnknownShardError";
  readonly outcome = "terminal";
}

/** The shard's head as it is now. Rejects with UnknownShardError where there is none. */
export async function readHead({ client, layout, stage, shard }: ShardContext): Promise<ReadHead> {
  try {
    return await readHeadOf(client, layout);
  } catch (error) {
    if (error instanceof NoNodeError)
      throw new UnknownShardError(`the head of shard ${shard} of "${stage.id}" is gone: ${layout.head}`);
    throw error;
  }
}

/** Of a shard among those of its pipeline. */
export function shardName({ stage, shard }: { readonly stage: string; readonly shard: number }): string {
  return `${stage}/${shard}`;
}
