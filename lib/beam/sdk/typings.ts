import type { PTransform, PValue } from "apache-beam";

/**
 * The SDK's types under `strict`: its `apply` gives any, its `map` needs annotations. An augmentation's overloads
 * come before the SDK's own.
 */
declare module "apache-beam/pvalue" {
  interface PCollection<T> {
    apply<O extends PValue<any>>(transform: PTransform<PCollection<T>, O>): O;
    map<O>(fn: (element: T) => O): PCollection<O>;
    map<O, C>(fn: (element: T, context: C) => O, context: C): PCollection<O>;
    flatMap<O>(fn: (element: T) => Iterable<O>): PCollection<O>;
    flatMap<O, C>(fn: (element: T, context: C) => Iterable<O>, context: C): PCollection<O>;
  }
}
