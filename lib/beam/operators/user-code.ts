import { inspect } from "node:util";
import { BeamError, UnencodableValueError, UserCodeError } from "../errors";

const ELEMENT_TEXT_LENGTH = 200;

/** Who runs user code, for the errors that it raises. */
export class UserCode {
  constructor(
    readonly pipeline: string,
    readonly transform: string,
  ) {}

  /** The error for what user code threw; one of ours, from a transform further down, stays as it is. */
  failure(cause: unknown, element: unknown): BeamError {
    if (isNamed(cause)) return cause;
    return new UserCodeError(this.pipeline, this.transform, elementText(element), messageOf(cause), cause);
  }

  failureOutsideElements(cause: unknown): BeamError {
    if (isNamed(cause)) return cause;
    return new UserCodeError(this.pipeline, this.transform, undefined, messageOf(cause), cause);
  }

  /** The error for an element that has no encoding; any other stays as it is. */
  unencodable(error: unknown, element: unknown): unknown {
    return error instanceof UnencodableValueError ? this.refusal(error.message, element) : error;
  }

  refusal(what: string, element: unknown): UserCodeError {
    return new UserCodeError(this.pipeline, this.transform, elementText(element), what);
  }
}

/** An element in at most 200 characters. */
export function elementText(element: unknown): string {
  const options = {
    depth: 3,
    breakLength: Infinity,
    maxStringLength: 100,
    maxArrayLength: 20,
    getters: false,
  };
  let text: string;
  try {
    text = inspect(element, options);
  } catch {
    text = `a ${typeof element} that can't be shown`;
  }
  return text.length <= ELEMENT_TEXT_LENGTH ? text : `${text.slice(0, ELEMENT_TEXT_LENGTH - 1)}…`;
}

export function isThenable(value: unknown): boolean {
  return (
    typeof value === "object" && value !== null && typeof (value as { then?: unknown }).then === "function"
  );
}

/**
 * Finds promises among the results of one function. The first result is asked for a `then`; those after it only
 * whether they are Promises, since looking for what objects of many forms lack costs as much as a whole operator.
 */
export class PromiseFinder {
  private isFirst = true;

  finds(result: unknown): boolean {
    if (typeof result !== "object") return false;
    if (!this.isFirst) return result instanceof Promise;
    this.isFirst = false;
    return isThenable(result);
  }
}

/** Says already where it happened; a value without an encoding does not. */
function isNamed(cause: unknown): cause is BeamError {
  return cause instanceof BeamError && !(cause instanceof UnencodableValueError);
}

function messageOf(cause: unknown): string {
  if (cause instanceof UnencodableValueError) return cause.message;
  return cause instanceof Error ? `${cause.name}: ${cause.message}` : `threw ${elementText(cause)}`;
}
