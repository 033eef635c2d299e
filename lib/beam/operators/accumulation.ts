import { decodeValue, encodeValue } from "../coders/value-coder";
import type { Accumulation } from "../engine/aggregation";
import type { GraphNode, UserCombineFn } from "../graph/node";
import type { UserCode } from "./user-code";

/** How an aggregate stage's root brings the values of a key together. */
export function accumulationOf(root: GraphNode, code: UserCode): Accumulation {
  return root.work.kind === "combine" ? combining(root.work.combineFn, code) : COLLECTING;
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
  extract: (accumulator) => (accumulator as unknown[][]).flat(),
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

function guarded<T>(code: UserCode, element: unknown, run: () => T): T {
  try {
    return run();
  } catch (error) {
    throw code.failure(error, element);
  }
}
