import type { JsonTime } from "./encoding";

/** What the relay asks of the bundle function. It travels as JSON. */
export interface ShardRequest {
  readonly pipeline: string;
  readonly stage: string;
  readonly shard: number;
  /** Of a bounded pipeline: which run. */
  readonly run?: string | undefined;
  /** Hexadecimal; the function reads no server that is behind it. */
  readonly zxid: string;
  /** Begin no bundle after this many writes to ZooKeeper (default: no bound). */
  readonly writes?: number | undefined;
  /** Nothing else is under way: go on with the shards that get segments, so that nobody has to be called for them. */
  readonly chain?: boolean | undefined;
  /** A commit that is under way and appends to this shard: while nothing else waits, it is waited for. */
  readonly announced?: AnnouncedCommit | undefined;
}

/** A relay's commit that was sent and not answered. It may never take effect. */
export interface AnnouncedCommit {
  readonly source: string;
  /** Of the source's cursor once it is committed. */
  readonly number: number;
}

/** What the bundle function answers, so that no wake-up is lost; with the answers of the shards that it went on with. */
export interface ShardReply extends ShardAnswer {
  readonly chained: readonly (ShardAnswer & { readonly stage: string; readonly shard: number })[];
}

/** What became of one shard. */
export interface ShardAnswer {
  /**
   * `idle`: nothing is left to do at this watermark. `more`: work is waiting, and the time is over or
   * other shards should hear of their segments. `superseded`: another
   * invocation committed for this shard, or the generation changed. `interrupted`: a bundle failed after others
   * were committed; the failure shows when the function is asked again. `stopped`: the generation admits no commits.
   */
  readonly outcome: "idle" | "more" | "superseded" | "interrupted" | "stopped";
  readonly commits: number;
  /** The number of the head's last commit; more than these commits, and others have committed as well. */
  readonly commitNumber: number;
  /** Writes to ZooKeeper, about. */
  readonly writes: number;
  /** Segments that wait in the inbox. */
  readonly backlog: number;
  /** Shards that got segments, and how many, with the zxid of the last append. */
  readonly fed: readonly FedShard[];
  /** The inbox was listed when the server had seen this zxid. */
  readonly listedZxid: string;
  readonly inputWatermarkMs: JsonTime;
  readonly holdMs: JsonTime;
  readonly nextTimerMs: JsonTime;
  readonly nextProcessingTimerMs: JsonTime;
}

export interface FedShard {
  readonly stage: string;
  readonly shard: number;
  readonly segments: number;
  readonly zxid: string;
}

/**
 * Calls the bundle function, the version of it where one is named, and waits for its answer; rejects when the function
 * failed.
 */
export type ShardInvoker = (request: ShardRequest, version?: string) => Promise<ShardReply>;
