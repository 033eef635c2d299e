import type { PTransform, PValue } from "apache-beam";
import type { FieldGrouping, KeyedGrouping } from "./grouping-types";

/**
 * The SDK's types under `strict`: its `apply` gives any, its `map` needs annotations, and the results of its
 * `combining` are unknown. The overloads of an augmentation come before the SDK's own. `apply` takes a
 * function first, since only against a single signature does TypeScript infer through a generic one (groupBy).
 */
declare module "apache-beam/pvalue" {
  interface PCollection<T> {
    // biome-ignore lint/suspicious/noExplicitAny: as the SDK declares it.
    apply<O extends PValue<any>>(transform: (input: PCollection<T>) => O): O;
    // biome-ignore lint/suspicious/noExplicitAny: as the SDK declares it.
    apply<O extends PValue<any>>(transform: PTransform<PCollection<T>, O>): O;
    map<O>(fn: (element: T) => O): PCollection<O>;
    map<O, C>(fn: (element: T, context: C) => O, context: C): PCollection<O>;
    flatMap<O>(fn: (element: T) => Iterable<O>): PCollection<O>;
    flatMap<O, C>(fn: (element: T, context: C) => Iterable<O>, context: C): PCollection<O>;
  }
}

declare module "apache-beam/transforms/group_and_combine" {
  export function groupBy<const K extends string>(key: K): FieldGrouping<K, false>;
  export function groupBy<const K extends readonly string[]>(key: K): FieldGrouping<K[number], true>;
  export function groupBy<T, K, const N extends string = "key">(
    key: (element: T) => K,
    keyName?: N,
  ): KeyedGrouping<T, K, N>;
}
