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
