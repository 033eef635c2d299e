import "./sdk/patches";
import { type PCollection, type PTransform, parDo } from "apache-beam";
import {
  type AsyncCall,
  type AsyncDoFn,
  AsyncFn,
  type AsyncOptions,
  type BatchCall,
  BatchFn,
  type BatchOptions,
  batchSettings,
  type CallKind,
  callSettings,
  type Hooks,
} from "./async-fn";
import { CallableTransform } from "./sdk/pipeline-builder";

export interface MapBatchesOptions<C = undefined> extends AsyncOptions<C>, BatchOptions {}

/**
 * `map` with a function that may be asynchronous: one result for each element, in its window and at its time. A call
 * whose promise rejects, or takes longer than `timeoutMs`, is an element that failed: it is tried again and goes to
 * dead-letter as one whose function throws. A bundle that is run again calls again.
 *
 * @throws RangeError if an option has the wrong value.
 */
export function mapAsync<T, O, C extends object | undefined = undefined>(
  fn: (element: T, call: AsyncCall<C>) => Promise<O> | O,
  options: AsyncOptions<C> = {},
): PTransform<PCollection<T>, PCollection<O>> {
  return asyncTransform("mapAsync", "map", fn, options);
}

/** The same for any number of results: an iterable, a promise of one, or an async generator. */
export function flatMapAsync<T, O, C extends object | undefined = undefined>(
  fn: (element: T, call: AsyncCall<C>) => Promise<Iterable<O>> | AsyncIterable<O> | Iterable<O>,
  options: AsyncOptions<C> = {},
): PTransform<PCollection<T>, PCollection<O>> {
  return asyncTransform("flatMapAsync", "flatMap", fn, options);
}

/** `parDo` with a DoFn whose `process`, and whose hooks, may be asynchronous. */
export function parDoAsync<T, O, C extends object | undefined = undefined>(
  doFn: AsyncDoFn<T, O, C>,
  options: AsyncOptions<C> = {},
): PTransform<PCollection<T>, PCollection<O>> {
  if (typeof doFn?.process !== "function")
    throw new TypeError("parDoAsync needs an object with process(element, call)");
  const process = (element: T, call: AsyncCall<C>) => doFn.process(element, call);
  return asyncTransform("parDoAsync", "flatMap", process, options, {
    ...(doFn.setup && { setup: () => doFn.setup!() }),
    ...(doFn.startBundle && { startBundle: () => doFn.startBundle!() }),
    ...(doFn.finishBundle && { finishBundle: () => doFn.finishBundle!() }),
    ...(doFn.teardown && { teardown: () => doFn.teardown!() }),
  });
}

/**
 * Calls a function with batches of a bundle's elements; it gives an array of one result for each of them, in their
 * order. Each result has the window and the time of its own element.
 *
 * @throws RangeError if an option has the wrong value.
 */
export function mapBatches<T, O, C extends object | undefined = undefined>(
  fn: (elements: readonly T[], call: BatchCall<C>) => Promise<readonly O[]> | readonly O[],
  options: MapBatchesOptions<C> = {},
): PTransform<PCollection<T>, PCollection<O>> {
  return asyncTransform("mapBatches", "batch", fn, options, {}, options);
}

/**
 * Brings the elements of a bundle together in arrays, of one window each. An array has the time of its earliest element.
 *
 * @throws RangeError if an option has the wrong value.
 */
export function batchElements<T>(options: BatchOptions = {}): PTransform<PCollection<T>, PCollection<T[]>> {
  const fn = new BatchFn(batchSettings("batchElements", options));
  return new CallableTransform(parDo(fn) as never, "batchElements");
}

/** @internal */
export function asyncTransform<T, O>(
  name: string,
  kind: CallKind,
  fn: (element: never, call: never) => unknown,
  options: AsyncOptions<object | undefined>,
  hooks: Hooks = {},
  batch?: BatchOptions,
): PTransform<PCollection<T>, PCollection<O>> {
  if (typeof fn !== "function") throw new TypeError(`${name} needs a function`);
  const settings = callSettings(name, options, batch);
  return new CallableTransform(parDo(new AsyncFn(kind, fn, settings, hooks), options.context) as never, name);
}
