import { decodeValue, encodeValue } from "../coders/value-coder";
import type { Accumulation } from "../engine/aggregation";
import type { GraphNode, UserCombineFn } from "../graph/node";
import type { UserCode } from "./user-code";

/** How an aggregate stage's root brings the values of a key together. */
export function accumulationOf({ work }: GraphNode, code: UserCode): Accumulation {
  if (work.kind !== "combine") return COLLECTING;
  return work.isLifted ? merging(work.combineFn, code) : combining(work.combineFn, code);
}

/**
 * GroupByKey: the values in lists of at most `LIST_LENGTH`, so that a bundle that adds to a large group copies
 * the last list only.
 */
const LIST_LENGTH = 256;

const COLLECTING: Accumulation = {
  create: () => [],
  add(accumulator, value) {
    const lists = accumulator as unknown[][];
    const last = lists.at(-1);
    if (last === undefined || last.length === LIST_LENGTH) lists.push([value]);
    else last.push(value);
    return lists;
  },
  extract(accumulator) {
    const lists = accumulator as unknown[][];
    // A copy, since the group may go on; `concat` takes a fifth of the time of `flat`.
    return lists.length === 1 ? lists[0]!.slice() : ([] as unknown[]).concat(...lists);
  },
  copy(accumulator) {
    const lists = [...(accumulator as unknown[][])];
    const last = lists.pop();
    if (last !== undefined) lists.push([...last]);
    return lists;
  },
  merge: (accumulators) => (accumulators as unknown[][][]).flat(),
};

function combining(fn: UserCombineFn, code: UserCode): Accumulation {
  return {
    create: () => guarded(code, undefined, () => fn.createAccumulator()),
    add: (accumulator, value) => guarded(code, value, () => fn.addInput(accumulator, value)),
    extract: (accumulator) => guarded(code, accumulator, () => fn.extractOutput(accumulator)),
    // A CombineFn may change its accumulator in place, and the committed one must stay as it is.
    copy: (accumulator) =>
      typeof accumulator === "object" && accumulator !== null
        ? guarded(code, accumulator, () => decodeValue(encodeValue(accumulator)))
        : accumulator,
    merge: (accumulators) => guarded(code, accumulators, () => fn.mergeAccumulators(accumulators)),
  };
}

const NOTHING = Symbol("no accumulator");

/** Of values that are accumulators themselves, made before the shuffle; with how many elements each stands for. */
function merging(fn: UserCombineFn, code: UserCode): Accumulation {
  return {
    ...combining(fn, code),
    create: () => NOTHING,
    add(accumulator, value) {
      const [, partial] = value as Lifted;
      if (accumulator === NOTHING) return partial;
      return guarded(code, partial, () => fn.mergeAccumulators([accumulator, partial]));
    },
  };
}

/** What goes through the shuffle of a lifted combine: a number of elements, and the accumulator of their values. */
export type Lifted = readonly [elements: number, accumulator: unknown];

export function guarded<T>(code: UserCode, element: unknown, run: () => T): T {
  try {
    return run();
  } catch (error) {
    throw code.failure(error, element);
  }
}
