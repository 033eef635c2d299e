import {
  groupBy,
  groupGlobally,
  impulse,
  iterableSideInput,
  P,
  type PCollection,
  type PTransform,
  paneInfoParam,
  Root,
} from "apache-beam";
import type { Pipeline } from "apache-beam/internal/pipeline";
import type * as runnerApi from "apache-beam/proto/beam_runner_api";
import { murmur3 } from "./coders/key";
import { canonicalBytes } from "./coders/value-coder";
import { orDefaultPrimitive } from "./primitives";
import { CallableTransform, PipelineBuilder } from "./sdk/pipeline-builder";

/** A CombineFn in the SDK's form, to be given to `combining`. */
export interface TypedCombineFn<I, A, O> {
  createAccumulator(): A;
  addInput(accumulator: A, input: I): A;
  mergeAccumulators(accumulators: Iterable<A>): A;
  extractOutput(accumulator: A): O;
}

/** Less than 0 where `a` comes before `b`. */
export type Compare<T> = (a: T, b: T) => number;

/**
 * The `count` largest values, the largest first; with `compare` those that come last in its order. Beam model: `Top`.
 *
 * @throws RangeError unless `count` is a whole number above 0.
 */
export function top<T>(count: number, compare: Compare<T> = natural): TypedCombineFn<T, T[], T[]> {
  return best(count, (a, b) => compare(b, a));
}

/** The `count` smallest values, the smallest first. @throws RangeError as `top`. */
export function smallest<T>(count: number, compare: Compare<T> = natural): TypedCombineFn<T, T[], T[]> {
  return best(count, compare);
}

/** What a sample keeps of a value: where chance has put it. */
type Drawn<T> = readonly [rank: number, value: T];

/**
 * At most `count` of the values, each as likely as any other. Beam model: `Sample.combineFn`. Chance comes from the
 * values and their order, so that a bundle that is run again draws the same.
 *
 * @throws RangeError unless `count` is a whole number above 0.
 */
export function sample<T>(count: number): TypedCombineFn<T, { seen: number; drawn: Drawn<T>[] }, T[]> {
  const { addInput, mergeAccumulators } = best<Drawn<T>>(count, ([a], [b]) => a - b);
  return {
    createAccumulator: () => ({ seen: 0, drawn: [] }),
    addInput: ({ seen, drawn }, value) => ({
      seen: seen + 1,
      drawn: addInput(drawn, [murmur3(canonicalBytes([seen, value])), value]),
    }),
    mergeAccumulators(accumulators) {
      const all = [...accumulators];
      return {
        seen: all.reduce((sum, { seen }) => sum + seen, 0),
        drawn: mergeAccumulators(all.map(({ drawn }) => drawn)),
      };
    },
    extractOutput: ({ drawn }) => drawn.map(([, value]) => value),
  };
}

/**
 * Each element once in each window; with `keyOf` the first that came of those with equal keys. Beam model: `Distinct`:
 * where triggers give several panes, only the first one counts.
 */
export function distinct<T>(
  keyOf: (element: T) => unknown = (element) => element,
): (input: PCollection<T>) => PCollection<T> {
  const first: TypedCombineFn<T, T[], T> = {
    createAccumulator: () => [],
    addInput: (kept, element) => (kept.length === 0 ? [element] : kept),
    mergeAccumulators(all) {
      for (const kept of all) if (kept.length > 0) return kept;
      return [];
    },
    extractOutput: (kept) => kept[0]!,
  };
  return (input) => {
    const grouped = input.apply(
      groupBy(keyOf, "key").combining((element: T) => element, first as never, "element"),
    ) as PCollection<{ element: T }>;
    return grouped.flatMap(({ element }, { pane }) => (pane.lookup().isFirst ? [element] : []), {
      pane: paneInfoParam(),
    });
  };
}

export interface CombineGloballyOptions {
  /** Nothing comes of an input without elements. Default: false, which the global window alone allows. */
  readonly withoutDefaults?: boolean;
}

const GLOBAL_WINDOWS_URN = "beam:window_fn:global_windows:v1";

/**
 * One value of all elements of a window. Beam model: `Combine.globally`. In the global window an input that ends
 * without any element gives one value, that of an empty accumulator. Other windows come about by their elements, so
 * they need `withoutDefaults`; the compiled pipeline is refused else.
 */
export function combineGlobally<I, A, O>(
  fn: TypedCombineFn<I, A, O>,
  { withoutDefaults = false }: CombineGloballyOptions = {},
): PTransform<PCollection<I>, PCollection<O>> {
  const expand = (input: PCollection<I>, pipeline: Pipeline, proto: runnerApi.PTransform): PCollection<O> => {
    if (!(pipeline instanceof PipelineBuilder))
      throw new Error("combineGlobally runs on Beamkeeper only; put it into the build of a definePipeline");
    const whole = groupGlobally<I>().combining((element: I) => element, fn as never, "value");
    const combined = (input.apply(whole) as PCollection<{ value: O }>).map(({ value }) => value);
    if (withoutDefaults) return combined;
    if (!isInGlobalWindow(input)) {
      const what =
        "its input is not in the global window, and no window comes about without an element to give a default";
      const remedy = "Use combineGlobally(fn, { withoutDefaults: true }).";
      pipeline.problems.push({ transform: proto.uniqueName, what, remedy });
      return combined;
    }
    const missing = new Root(pipeline)
      .apply(impulse())
      .flatMap(
        (_, { all }) => ([...all.lookup()].length > 0 ? [] : [fn.extractOutput(fn.createAccumulator())]),
        { all: iterableSideInput(combined) },
      );
    return P([combined, missing]).apply(orDefaultPrimitive<O>());
  };
  return new CallableTransform(expand, "combineGlobally");
}

/**
 * A combine that divides each key into `fanout` parts, which lie in different shards: for keys with more values than one shard
 * can take. What comes of the parts is brought together by key. Where panes are made before the end of a window, triggers
 * look first at the elements of a part, then at what comes of the parts: what counts elements counts these. Where a trigger
 * does not count and windows do not merge, values are combined before the shuffle anyway, and a hot key needs no parts.
 * Beam model: `Combine.PerKey.withHotKeyFanout`.
 *
 * @param combine `groupBy(...).combining(...)`, `groupGlobally().combining(...)`, `combineGlobally(...)`, or what has them within.
 * @throws RangeError unless `fanout` is a whole number above 1.
 */
export function withHotKeyFanout<I, O>(
  combine: PTransform<PCollection<I>, PCollection<O>> | ((input: PCollection<I>) => PCollection<O>),
  fanout: number,
): PTransform<PCollection<I>, PCollection<O>> {
  if (!(Number.isInteger(fanout) && fanout > 1))
    throw new RangeError(`the fan-out of a hot key must be a whole number above 1; it is ${fanout}`);
  const expand = (input: PCollection<I>, pipeline: Pipeline, proto: runnerApi.PTransform): PCollection<O> => {
    if (!(pipeline instanceof PipelineBuilder))
      throw new Error("withHotKeyFanout runs on Beamkeeper only; put it into the build of a definePipeline");
    pipeline.fanOut(proto.uniqueName, fanout);
    return input.apply(combine as PTransform<PCollection<I>, PCollection<O>>);
  };
  return new CallableTransform(expand, "withHotKeyFanout");
}

function isInGlobalWindow(input: PCollection<unknown>): boolean {
  const { pcollections, windowingStrategies } = input.pipeline.getProto().components!;
  const { windowingStrategyId } = pcollections[input.getId()]!;
  return windowingStrategies[windowingStrategyId]!.windowFn?.urn === GLOBAL_WINDOWS_URN;
}

/** Sorted, and never longer than `count`. */
function best<T>(count: number, compare: Compare<T>): TypedCombineFn<T, T[], T[]> {
  if (!(Number.isInteger(count) && count >= 1)) {
    throw new RangeError(`the number of values to keep must be a whole number above 0; it is ${count}`);
  }
  return {
    createAccumulator: () => [],
    addInput(kept, value) {
      if (kept.length === count && compare(value, kept[count - 1]!) >= 0) return kept;
      let place = kept.length;
      while (place > 0 && compare(value, kept[place - 1]!) < 0) place--;
      kept.splice(place, 0, value);
      if (kept.length > count) kept.pop();
      return kept;
    },
    mergeAccumulators: (all) => [...all].flat().sort(compare).slice(0, count),
    extractOutput: (kept) => kept,
  };
}

/** As `<` has it: numbers by size, texts by their characters. */
function natural<T>(a: T, b: T): number {
  if (a < b) return -1;
  return a > b ? 1 : 0;
}
