import type { GenerationState } from "../checkpoint/records";

/** A source that cannot go on. `retryable`: a new start of the relay may mend it; `terminal`: someone has to act first. */
export class SourceError extends Error {
  override readonly name = "SourceError";
  constructor(
    message: string,
    readonly outcome: "retryable" | "terminal",
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** The relay ends because it is no longer the one to go on: fenced by another relay, or the pipeline is not running. Not a failure. */
export class RelayStoppedError extends Error {
  override readonly name = "RelayStoppedError";
  constructor(
    message: string,
    /** The generation's state, where that is the reason. */
    readonly state?: GenerationState,
    /** Another relay goes on in its place; this one may stand by again. */
    readonly isSuperseded = false,
  ) {
    super(message);
  }
}

/** A shard whose invocations keep failing; raised only where the relay was told to give up. */
export class ShardFailedError extends Error {
  override readonly name = "ShardFailedError";
  constructor(
    readonly stage: string,
    readonly shard: number,
    readonly failures: number,
    cause: Error,
  ) {
    super(
      `shard ${shard} of stage "${stage}" failed ${failures} times, the last time with: ${cause.message}`,
      { cause },
    );
  }
}

/** The pipeline was rescaled. The relay is to be started again, as after a pause. */
export function nextEpoch(epoch: number): RelayStoppedError {
  return new RelayStoppedError(
    `the pipeline goes on in epoch ${epoch}, and so does the next relay`,
    "paused",
  );
}

/** Another relay has committed on the cursor. */
export function takenOver(sourceId: string): RelayStoppedError {
  return new RelayStoppedError(
    `source "${sourceId}": another relay has committed since; this one stops, and the other one goes on`,
    undefined,
    true,
  );
}

/** The ensemble is older than what the pipeline has read of it. */
export function cursorAhead(sourceId: string, path: string, cursor: bigint, server: bigint): SourceError {
  return new SourceError(
    `source "${sourceId}": the cursor ${path} is at zxid 0x${cursor.toString(16)}, the ensemble at 0x${server.toString(16)}. ` +
      "It was restored from an older backup, or is another ensemble. Nothing was read. Connect to the right ensemble; or " +
      `pause the pipeline and begin the source again with "beamkeeper reset".`,
    "terminal",
  );
}

/** A znode is older than what was delivered of it, although the ensemble's zxids have passed the cursor since. */
export function wentBack(path: string, delivered: bigint, found: bigint): SourceError {
  return new SourceError(
    `${path} was delivered as of zxid 0x${delivered.toString(16)}, and the ensemble has it as of 0x${found.toString(16)}. ` +
      "It was restored from an older backup, or is another ensemble. Nothing more was read. Connect to the right ensemble; or " +
      `pause the pipeline and begin the source again with "beamkeeper reset".`,
    "terminal",
  );
}

/** The blob store did not do what was asked of it; nothing was appended. */
export function blobStoreFailed(sourceId: string, cause: unknown): SourceError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new SourceError(
    `source "${sourceId}": the blob store failed: ${reason}. Nothing is lost: the relay begins again before these values. ` +
      "Check that BEAMKEEPER_BLOB_STORE exists, and that the relay may write to it.",
    "retryable",
    { cause },
  );
}
