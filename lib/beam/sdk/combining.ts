import type { KV, PCollection } from "apache-beam";

import internal = require("apache-beam/transforms/internal");

import type { KeyedAggregates, UserCombineFn } from "../graph/node";
import { unforwarded } from "./names";
import { fastReading } from "./property-reading";

/** What the SDK keeps of `groupBy(...).combining(...)`. */
export interface Combining {
  readonly keyFn: (element: unknown) => unknown;
  readonly keyNames: string | readonly string[] | undefined;
  readonly combiners: readonly {
    readonly expr: (element: unknown) => unknown;
    readonly combineFn: UserCombineFn;
    readonly resultName: string;
  }[];
}

const keyedBy = new WeakMap<object, KeyedAggregates>();

/** What lies behind a function that makes pairs for a combine. */
export function keyedAggregatesOf(fn: object): KeyedAggregates | undefined {
  return keyedBy.get(fn);
}

/** The expansion, as the SDK's own but without the functions that it makes for each element. */
export function combine({ keyFn, keyNames, combiners }: Combining, input: PCollection<unknown>) {
  const keyOf = fastReading(unforwarded(keyFn));
  const aggregates = combiners.map(({ expr, combineFn }) => ({ inputOf: fastReading(expr), fn: combineFn }));
  const combineFn = severalCombineFns(aggregates.map(({ fn }) => fn));
  const inputsOf = inParallel(aggregates.map(({ inputOf }) => inputOf));
  const toPair = (element: unknown) => ({ key: keyOf(element), value: inputsOf(element) });
  keyedBy.set(toPair, { keyOf, aggregates, combineFn });
  const combined: PCollection<KV<unknown, readonly unknown[]>> = input
    .map(toPair)
    .apply(internal.combinePerKey(combineFn as never));
  const names = combiners.map(({ resultName }) => resultName);
  return combined.map(({ key, value }) => {
    const row: Record<string, unknown> = {};
    if (typeof keyNames === "string") row[keyNames] = key;
    else for (const [i, name] of keyNames?.entries() ?? []) row[name] = (key as readonly unknown[])[i];
    for (let i = 0; i < names.length; i++) row[names[i]!] = value[i];
    return row;
  });
}

function inParallel(exprs: readonly ((element: unknown) => unknown)[]): (element: unknown) => unknown[] {
  const [only] = exprs;
  if (exprs.length === 1) return (element) => [only!(element)];
  return (element) => exprs.map((expr) => expr(element));
}

/** Several CombineFns as one, with an array of accumulators that is changed in place. */
function severalCombineFns(fns: readonly UserCombineFn[]): UserCombineFn {
  return {
    createAccumulator: () => fns.map((fn) => fn.createAccumulator()),
    addInput: fns.length === 1 ? addToOne(fns[0]!) : addToEach(fns),
    mergeAccumulators(accumulators) {
      const all = [...accumulators] as (readonly unknown[])[];
      return fns.map((fn, i) => fn.mergeAccumulators(all.map((each) => each[i])));
    },
    extractOutput: (accumulator) =>
      fns.map((fn, i) => fn.extractOutput((accumulator as readonly unknown[])[i])),
  };
}

function addToOne(fn: UserCombineFn): UserCombineFn["addInput"] {
  return (accumulator, input) => {
    const accumulators = accumulator as unknown[];
    accumulators[0] = fn.addInput(accumulators[0], (input as readonly unknown[])[0]);
    return accumulators;
  };
}

function addToEach(fns: readonly UserCombineFn[]): UserCombineFn["addInput"] {
  return (accumulator, input) => {
    const accumulators = accumulator as unknown[];
    const inputs = input as readonly unknown[];
    for (let i = 0; i < fns.length; i++) accumulators[i] = fns[i]!.addInput(accumulators[i], inputs[i]);
    return accumulators;
  };
}

/** A binary operator as a CombineFn. The SDK's own throws where it merges nothing but null. */
export function ofOperator(combiner: (a: unknown, b: unknown) => unknown): UserCombineFn {
  const add = (a: unknown, b: unknown) => (a === undefined ? b : combiner(a, b));
  return {
    createAccumulator: () => undefined,
    addInput: add,
    mergeAccumulators(accumulators) {
      let merged: unknown;
      for (const each of accumulators) if (each !== undefined) merged = add(merged, each);
      return merged;
    },
    extractOutput: (accumulator) => accumulator,
  };
}
