import type { CombineFn, KV, PCollection } from "apache-beam";

/**
 * The types of `groupBy(...).combining(...)`. The element's type is not known before `apply`, so a grouping is
 * typed as a function from any collection whose elements have the fields that it reads. (It is an object at run
 * time; `apply` takes both.)
 */

/** The value of a result: the type of a field of the element, or a type that the combiner fixes. */
export type FieldOf<F extends string> = { readonly field: F };
export type Fixed<O> = { readonly fixed: O };

type ResultOf<T, S> =
  S extends FieldOf<infer F> ? (F extends keyof T ? T[F] : never) : S extends Fixed<infer O> ? O : never;

/** Names of the element's fields that the combined results read. */
type FieldsOf<R> = { [N in keyof R]: R[N] extends FieldOf<infer F> ? F : never }[keyof R];

type Simplified<T> = { [N in keyof T]: T[N] };

/** The row that comes out: the key's fields and one field for each combiner. */
export type CombinedRow<T, K extends string, R> = Simplified<
  { [N in K]: N extends keyof T ? T[N] : never } & { [N in keyof R]: ResultOf<T, R[N]> }
>;

// biome-ignore lint/suspicious/noExplicitAny: the element's type is not known yet; a binary operator keeps the field's.
export type BinaryOperator = (a: any, b: any) => any;

/** `groupBy("field")`, or `groupBy(["a", "b"])`; `V` is the type of the key as a function of the element. */
export interface FieldGrouping<K extends string, Many extends boolean> {
  <T extends Record<K, unknown>>(
    input: PCollection<T>,
  ): PCollection<KV<Many extends true ? T[K][] : T[K], T[]>>;
  combining<F extends string, N extends string>(
    field: F,
    combiner: BinaryOperator,
    resultName: N,
  ): FieldCombining<K, Record<N, FieldOf<F>>>;
  combining<F extends string, I, A, O, N extends string>(
    field: F,
    combiner: CombineFn<I, A, O>,
    resultName: N,
  ): FieldCombining<K, Record<N, Fixed<O>>>;
  combining<I, N extends string>(
    // biome-ignore lint/suspicious/noExplicitAny: see BinaryOperator; annotate the parameter to have it checked.
    expr: (element: any) => I,
    combiner: (a: I, b: I) => I,
    resultName: N,
  ): FieldCombining<K, Record<N, Fixed<I>>>;
  combining<I, A, O, N extends string>(
    // biome-ignore lint/suspicious/noExplicitAny: as above.
    expr: (element: any) => I,
    combiner: CombineFn<I, A, O>,
    resultName: N,
  ): FieldCombining<K, Record<N, Fixed<O>>>;
}

/** A grouping with combiners; `R` says for each result where its type comes from. */
export interface FieldCombining<K extends string, R> {
  <T extends Record<K | FieldsOf<R>, unknown>>(input: PCollection<T>): PCollection<CombinedRow<T, K, R>>;
  combining<F extends string, N extends string>(
    field: F,
    combiner: BinaryOperator,
    resultName: N,
  ): FieldCombining<K, R & Record<N, FieldOf<F>>>;
  combining<F extends string, I, A, O, N extends string>(
    field: F,
    combiner: CombineFn<I, A, O>,
    resultName: N,
  ): FieldCombining<K, R & Record<N, Fixed<O>>>;
  combining<I, N extends string>(
    // biome-ignore lint/suspicious/noExplicitAny: as above.
    expr: (element: any) => I,
    combiner: (a: I, b: I) => I,
    resultName: N,
  ): FieldCombining<K, R & Record<N, Fixed<I>>>;
  combining<I, A, O, N extends string>(
    // biome-ignore lint/suspicious/noExplicitAny: as above.
    expr: (element: any) => I,
    combiner: CombineFn<I, A, O>,
    resultName: N,
  ): FieldCombining<K, R & Record<N, Fixed<O>>>;
}

/** `groupBy((element) => key, "name")`: the parameter is annotated, so element and key are known. */
export interface KeyedGrouping<T, K, KeyName extends string> {
  (input: PCollection<T>): PCollection<KV<K, T[]>>;
  combining<F extends keyof T & string, N extends string>(
    field: F,
    combiner: BinaryOperator,
    resultName: N,
  ): KeyedCombining<T, Record<KeyName, K> & Record<N, T[F]>>;
  combining<I, N extends string>(
    expr: (element: T) => I,
    combiner: (a: I, b: I) => I,
    resultName: N,
  ): KeyedCombining<T, Record<KeyName, K> & Record<N, I>>;
  combining<I, A, O, N extends string>(
    expr: (keyof T & string) | ((element: T) => I),
    combiner: CombineFn<I, A, O>,
    resultName: N,
  ): KeyedCombining<T, Record<KeyName, K> & Record<N, O>>;
}

export interface KeyedCombining<T, Row> {
  (input: PCollection<T>): PCollection<Simplified<Row>>;
  combining<F extends keyof T & string, N extends string>(
    field: F,
    combiner: BinaryOperator,
    resultName: N,
  ): KeyedCombining<T, Row & Record<N, T[F]>>;
  combining<I, N extends string>(
    expr: (element: T) => I,
    combiner: (a: I, b: I) => I,
    resultName: N,
  ): KeyedCombining<T, Row & Record<N, I>>;
  combining<I, A, O, N extends string>(
    expr: (keyof T & string) | ((element: T) => I),
    combiner: CombineFn<I, A, O>,
    resultName: N,
  ): KeyedCombining<T, Row & Record<N, O>>;
}
