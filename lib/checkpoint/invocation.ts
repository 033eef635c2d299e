import type { JsonTime } from "./encoding";

/** What the relay asks of the bundle function. It travels as JSON. */
export interface ShardRequest {
  readonly pipeline: string;
  readonly stage: string;
  readonly shard: number;
  /** Hexadecimal; the function reads no server that is behind it. */
  readonly zxid: string;
}

/** What the bundle function answers, so that no wake-up is lost. */
export interface ShardReply {
  /**
   * `idle`: nothing is left to do at this watermark. `more`: work is waiting, and the time is over or
   * other shards should hear of their segments. `superseded`: another
   * invocation committed for this shard, or the generation changed. `interrupted`: a bundle failed after others
   * were committed; the failure shows when the function is asked again. `stopped`: the generation admits no commits.
   */
  readonly outcome: "idle" | "more" | "superseded" | "interrupted" | "stopped";
  readonly commits: number;
  /** Shards that got segments, with the zxid of the last append. */
  readonly fed: readonly { readonly stage: string; readonly shard: number; readonly zxid: string }[];
  /** The inbox was listed when the server had seen this zxid. */
  readonly listedZxid: string;
  readonly inputWatermarkMs: JsonTime;
  readonly holdMs: JsonTime;
  readonly nextTimerMs: JsonTime;
  readonly nextProcessingTimerMs: JsonTime;
}

/** Calls the bundle function and waits for its answer; rejects when the function failed. */
export type ShardInvoker = (request: ShardRequest) => Promise<ShardReply>;
