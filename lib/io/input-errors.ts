/** A file cannot be read: it is missing, is no file, has changed since it was split, or is damaged. Terminal. */
export class InputFileError extends Error {
  override readonly name = "InputFileError";
  readonly outcome = "terminal";
}

/** The store of the files does not answer as it should. The same read may succeed later. */
export class InputUnavailableError extends Error {
  override readonly name = "InputUnavailableError";
  readonly outcome = "retryable";
}
