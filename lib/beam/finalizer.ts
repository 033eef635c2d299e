import "./sdk/patches";
import { ParDoUpdateParam } from "apache-beam";

/**
 * A context parameter through which a transform asks to be called once its bundle has been committed, with what it
 * gave for it: to acknowledge what it took from elsewhere, for example. Beam model: bundle finalisation.
 */
export class BundleFinalizer<T> extends ParDoUpdateParam<T> {
  /** Its name in the context of the transform that it is bound to. @internal */
  readonly contextKey: string = "";

  constructor(readonly finalize: (tokens: readonly T[]) => unknown) {
    super("bundleFinalizer");
  }

  /** The callback will be given this when the bundle has been committed. It must be plain data. */
  afterCommit(token: T): void {
    this.update(token);
  }
}

/**
 * Makes a context parameter for `map`, `flatMap`, `parDo` and the asynchronous transforms:
 *
 *     const done = bundleFinalizer((ids: readonly string[]) => queue.acknowledge(ids));
 *     messages.map(({ id, body }, { done }) => { done.afterCommit(id); return body; }, { done });
 *
 * The tokens are committed with the bundle, so the callback is called for each at least once, and only after the commit:
 * again when it fails, or when the process dies before it has returned. What it throws makes the invocation fail.
 */
export function bundleFinalizer<T>(finalize: (tokens: readonly T[]) => unknown): BundleFinalizer<T> {
  if (typeof finalize !== "function")
    throw new TypeError("bundleFinalizer needs a function that is given the tokens of a committed bundle");
  return new BundleFinalizer(finalize);
}

/** The parameters of a context that are finalisers. */
export function finalizerKeys(context: unknown): string[] {
  const keys: string[] = [];
  if (typeof context !== "object" || context === null) return keys;
  for (const key in context)
    if ((context as Record<string, unknown>)[key] instanceof BundleFinalizer) keys.push(key);
  return keys;
}
