import type { SetAside, TentativeBundle } from "../beam/api";
import { CommitLostError } from "../checkpoint/commit";
import type { LetterPosition } from "../checkpoint/dead-letter";
import type { MultiError } from "../zookeeper";
import { ForbiddenWriteError, ZnodeConflictError } from "./znode-writes";

/** What does not fit in one commit even alone. Terminal: it will not fit the next time either. */
export class CommitTooLargeError extends Error {
  override readonly name = "CommitTooLargeError";
  readonly outcome = "terminal";
}

/** The server refused an operation of the user's for a reason that planning again does not mend. */
export class RefusedWriteError extends Error {
  override readonly name = "RefusedWriteError";
  readonly outcome = "retryable";
  constructor(stage: string, path: string, cause: MultiError) {
    super(
      `${stage}: the ensemble refused to write ${path} (${cause.cause.message}). Nothing of this bundle was committed. ` +
        "Look at the znode's rights and children.",
      { cause },
    );
  }
}

/** What a bundle keeps out: the element that it would begin with, and panes by their number. */
export interface BundleAside {
  readonly element: boolean;
  readonly panes: SetAside;
}

export const NOTHING_ASIDE: BundleAside = { element: false, panes: new Set() };

/** An element that was kept out of a bundle. */
export interface AsideElement {
  readonly position: LetterPosition;
  /** Not later than its event time. */
  readonly minTimestampMs: number;
  readonly bytes: Buffer;
}

/**
 * A bundle failed for a reason that lies in what it was to process: user code, an encoding, a size, a write that is
 * not allowed. `cause` is what the user is told. Servers, connections and disks that fail are never this.
 */
export class BundleFailedError extends Error {
  override readonly name = "BundleFailedError";
  constructor(
    override readonly cause: Error,
    /** Elements and panes up to the failure, at least 1. */
    readonly units: number,
    /** The place in the bundle, from 0, of the element that was being processed; undefined where it was none. */
    readonly element: number | undefined,
    readonly panes: TentativeBundle["panes"],
  ) {
    super(cause.message);
  }
}

/** Follows a bundle through what user code runs in, so that a failure knows its place. */
export class BundleTrace {
  private bundle: TentativeBundle | undefined;
  private elements = 0;
  private inElement = false;

  begin(begin: () => TentativeBundle): TentativeBundle {
    this.bundle = this.guard(begin);
    return this.bundle;
  }

  /** Processes one element. What it takes may be passed on, so that not every element needs a closure. */
  element<T = void, U = void>(run: (first: T, second: U) => void, first?: T, second?: U): void {
    this.elements += 1;
    this.inElement = true;
    try {
      run(first as T, second as U);
    } catch (error) {
      throw this.failed(error);
    }
    this.inElement = false;
  }

  /** Runs what the next element comes from: what it throws is that element's failure. */
  ahead<T>(run: () => T): T {
    try {
      return run();
    } catch (error) {
      throw this.failedAhead(error);
    }
  }

  /** The same for what a source reads. Servers and disks that fail for a while are no failure of the bundle. */
  async pull<T>(read: () => Promise<T>): Promise<T> {
    try {
      return await read();
    } catch (error) {
      throw isOutage(error) ? error : this.failedAhead(error);
    }
  }

  private failedAhead(error: unknown): BundleFailedError {
    this.elements += 1;
    this.inElement = true;
    return this.failed(error);
  }

  /** Runs user code. The engine does no I/O, so whatever it throws lies in its input. */
  guard<T>(run: () => T): T {
    try {
      return run();
    } catch (error) {
      throw this.failed(error);
    }
  }

  /** The same for what user code does asynchronously. */
  async settle<T>(run: () => Promise<T>): Promise<T> {
    try {
      return await run();
    } catch (error) {
      throw this.failed(error);
    }
  }

  /** The error of a commit as it is to be thrown on. */
  failedCommit(error: unknown): unknown {
    return isOfTheBundle(error) ? this.failed(error) : error;
  }

  private failed(error: unknown): BundleFailedError {
    if (error instanceof BundleFailedError) return error;
    const cause = error instanceof Error ? error : new Error(String(error));
    const panes = this.bundle?.panes ?? { begun: 0, failed: undefined };
    const units = Math.max(1, this.elements + panes.begun);
    const element = this.inElement ? this.elements - 1 : this.bundle?.failedElement;
    return new BundleFailedError(cause, units, element, panes);
  }
}

function isOutage(error: unknown): boolean {
  const outcome = error instanceof Error && "outcome" in error ? error.outcome : undefined;
  return outcome === "retryable" || outcome === "ambiguous";
}

function isOfTheBundle(error: unknown): boolean {
  return (
    error instanceof CommitTooLargeError ||
    error instanceof CommitLostError ||
    error instanceof ZnodeConflictError ||
    error instanceof ForbiddenWriteError ||
    error instanceof RefusedWriteError
  );
}
