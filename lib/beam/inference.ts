import type { PCollection, PTransform } from "apache-beam";
import { asyncTransform, type MapBatchesOptions } from "./async";
import { FollowedZnode, requireZnodePath, type WatchedZnode } from "./followed-znode";

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
  /** The znode of the model, on Beamkeeper's own ensemble. It is looked at before each bundle. */
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
  requireZnodePath("the model of runInference", options?.model);
  const { model: path } = options;
  const load = (znode: WatchedZnode | undefined) => {
    if (znode !== undefined) return handler.load(znode);
    throw new Error(
      `the model's znode ${path} does not exist; write the model to it, or what it is found by`,
    );
  };
  const models = new FollowedZnode<M>(path, {
    load,
    unload: handler.unload && ((model) => handler.unload!(model)),
  });
  const predict = (batch: readonly I[], { context, signal }: { context: M; signal: AbortSignal }) =>
    handler.predict(context, batch, signal);
  return asyncTransform("runInference", "batch", predict, options, { follows: models }, options);
}
