import type { PCollection, PTransform } from "apache-beam";
import { asyncTransform, type MapBatchesOptions } from "./async";
import type { ReadZnode, WatchedZnode } from "./async-fn";

/** Loads a model and has it predict. One for each process; its model is shared by the bundles that run side by side. */
export interface ModelHandler<I, O, M> {
  /**
   * Called with the model's znode before the first bundle, and again before the first bundle that finds it changed. The
   * znode holds the model itself where that is small, else what it is found by. What it throws makes the invocation
   * fail, which is tried again; no element is to blame.
   */
  load(znode: WatchedZnode): Promise<M> | M;
  /** One result for each element of the batch, in their order. */
  predict(model: M, batch: readonly I[], signal: AbortSignal): Promise<readonly O[]> | readonly O[];
  /** Called when another model has taken its place and no bundle uses it any more. */
  unload?(model: M): unknown;
}

export interface RunInferenceOptions extends Omit<MapBatchesOptions, "context"> {
  /** The znode of the model, on Beamkeeper's own ensemble. It is read before each bundle. */
  readonly model: string;
}

/**
 * Enriches elements by a model, in batches of a bundle. All elements of a bundle are predicted by one version of the
 * model: the one that its znode held when the bundle began. Beam: `RunInference`.
 *
 * @throws TypeError or RangeError if the handler or an option has the wrong form.
 */
export function runInference<I, O, M>(
  handler: ModelHandler<I, O, M>,
  options: RunInferenceOptions,
): PTransform<PCollection<I>, PCollection<O>> {
  if (typeof handler?.load !== "function" || typeof handler.predict !== "function")
    throw new TypeError("runInference needs a handler with load(znode) and predict(model, batch)");
  if (typeof options?.model !== "string" || !/^\/.*[^/]$/.test(options.model))
    throw new TypeError(
      "runInference needs the path of the model's znode, as in { model: '/models/latency' }",
    );
  const models = new Models(handler);
  const predict = (batch: readonly I[], { context, signal }: { context: M; signal: AbortSignal }) =>
    handler.predict(context, batch, signal);
  const hooks = {
    refresh: (read: ReadZnode) => models.refresh(options.model, read),
    lend: () => models.lend(),
    teardown: () => models.close(),
  };
  return asyncTransform("runInference", "batch", predict, options, hooks, options);
}

interface Loaded<M> {
  readonly mzxid: bigint;
  readonly model: M;
  /** Bundles that use it, and one while it is the current one. */
  uses: number;
}

/** The model of a process as its znode says, and older ones for as long as bundles use them. */
class Models<M> {
  private current: Loaded<M> | undefined;
  private refreshing: Promise<void> = Promise.resolve();

  constructor(private readonly handler: ModelHandler<never, unknown, M>) {}

  /** One after the other, so that no model is loaded twice. */
  refresh(path: string, read: ReadZnode): Promise<void> {
    const next = this.refreshing.then(() => this.load(path, read));
    this.refreshing = next.catch(() => undefined);
    return next;
  }

  lend(): { readonly value: M; readonly end: () => void } {
    const { current } = this;
    if (current === undefined) throw new Error("no model is loaded: the stage was not refreshed");
    current.uses += 1;
    return { value: current.model, end: () => this.release(current) };
  }

  async close(): Promise<void> {
    await this.refreshing;
    if (this.current) this.release(this.current);
    this.current = undefined;
  }

  private async load(path: string, read: ReadZnode): Promise<void> {
    const znode = await read(path);
    if (znode === undefined)
      throw new Error(
        `the model's znode ${path} does not exist; write the model to it, or what it is found by`,
      );
    const before = this.current;
    if (before?.mzxid === znode.mzxid) return;
    this.current = { mzxid: znode.mzxid, model: await this.handler.load(znode), uses: 1 };
    if (before) this.release(before);
  }

  private release(loaded: Loaded<M>): void {
    loaded.uses -= 1;
    if (loaded.uses === 0) void Promise.resolve(this.handler.unload?.(loaded.model)).catch(() => undefined);
  }
}
