/**
 * Records were not taken, and nothing of them was appended. `retryable`: they are to be delivered again, and will be
 * taken once what the message says is over. `terminal`: the source has ended.
 */
export class RecordsRefusedError extends Error {
  override readonly name = "RecordsRefusedError";
  constructor(
    message: string,
    readonly outcome: "retryable" | "terminal",
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** The event is none that the function knows, or no source of the deployment reads it. Terminal. */
export class UnknownEventError extends Error {
  override readonly name = "UnknownEventError";
  readonly outcome = "terminal";
}
