import { decodeValue, encodeValue } from "../coders/value-coder";
import type { Accumulation } from "../engine/aggregation";
import type { GraphNode, UserCombineFn } from "../graph/node";
import { BAGS, bagsOf } from "./bag";
import type { UserCode } from "./user-code";

/** How an aggregate stage's root brings the values of a key together. */
export function accumulationOf({ work, coders }: GraphNode, code: UserCode): Accumulation {
  const coder = coders?.value;
  if (work.kind !== "combine") {
    if (coder === undefined) return BAGS;
    return bagsOf((plain) => guarded(code, plain, () => coder.fromPlain(plain)));
  }
  if (work.isLifted) return merging(work.combineFn, code);
  const plain = combining(work.combineFn, code);
  if (coder === undefined) return plain;
  const decoded = (value: unknown): unknown => guarded(code, value, () => coder.fromPlain(value));
  return { ...plain, add: (accumulator, value) => plain.add(accumulator, decoded(value)) };
}

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
  const plain = combining(fn, code);
  return {
    ...plain,
    create: () => NOTHING,
    // A pane may be empty.
    extract: (accumulator) => plain.extract(accumulator === NOTHING ? plain.create() : accumulator),
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
