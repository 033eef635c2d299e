/** Errors of `lib/beam`. `retryable` tells the runner whether the same work may succeed when it is tried again. */
export abstract class BeamError extends Error {
  abstract readonly retryable: boolean;
  override get name(): string {
    return "BeamError";
  }
}

/** The definition of a pipeline is not one: an option is missing or has the wrong form. */
export class PipelineDefinitionError extends BeamError {
  readonly retryable = false;
  override get name() {
    return "PipelineDefinitionError";
  }
}

/** The `build` function of a pipeline threw, or returned a Promise. `cause` is what it threw. */
export class BuildError extends BeamError {
  readonly retryable = false;
  override get name() {
    return "BuildError";
  }
  constructor(
    readonly pipeline: string,
    what: string,
    cause?: unknown,
  ) {
    super(`pipeline "${pipeline}" can't be built: ${what}`, cause === undefined ? undefined : { cause });
  }
}

/** Something that a pipeline uses and Beamkeeper can't run: where, what, and what to do instead. */
export interface PipelineProblem {
  /** Full name of the transform. */
  readonly transform: string;
  readonly what: string;
  readonly remedy: string;
}

/** A pipeline uses what is not supported. All problems are reported at once. */
export class UnsupportedPipelineError extends BeamError {
  readonly retryable = false;
  override get name() {
    return "UnsupportedPipelineError";
  }
  constructor(
    readonly pipeline: string,
    readonly problems: readonly PipelineProblem[],
  ) {
    const lines = problems.map((p) => `\n  ${p.transform}: ${p.what}. ${p.remedy}`);
    super(`pipeline "${pipeline}" uses what Beamkeeper can't run:${lines.join("")}`);
  }
}

/**
 * A function of the user's threw. Retryable at first, since the runner can't know whether it will throw again.
 * `cause` is what it threw; the stack is the user's.
 */
export class UserCodeError extends BeamError {
  readonly retryable = true;
  override get name() {
    return "UserCodeError";
  }
  constructor(
    readonly pipeline: string,
    /** Full name of the transform. */
    readonly transform: string,
    /** The element, shortened; undefined where there is none (startBundle, finishBundle). */
    readonly element: string | undefined,
    what: string,
    cause?: unknown,
  ) {
    const where = element === undefined ? "" : ` on element ${element}`;
    super(
      `pipeline "${pipeline}", transform "${transform}"${where}: ${what}`,
      cause === undefined ? undefined : { cause },
    );
    if (cause instanceof Error && cause.stack !== undefined)
      this.stack = `${this.name}: ${this.message}\n${cause.stack}`;
  }
}

/** A value that has no encoding: a function, a Promise, an instance of a class, a cycle. */
export class UnencodableValueError extends BeamError {
  readonly retryable = false;
  override get name() {
    return "UnencodableValueError";
  }
  constructor(
    /** Where in the value, as in `value.items[3].when`. */
    readonly path: string,
    what: string,
  ) {
    super(`${path} ${what}`);
  }
}

/** Bytes that are no encoding of ours: cut off, damaged, or written by another version. */
export class CorruptEncodingError extends BeamError {
  readonly retryable = false;
  override get name() {
    return "CorruptEncodingError";
  }
}
