import type { AsyncFn, BatchSettings } from "../async-fn";
import type { Windowing } from "../engine/windowing";
import type { SinkSpec, SourceSpec } from "../primitives";
import type { AnySource } from "../splittable";
import type { GroupingCoders } from "./element-coders";
import type { StatefulSpec } from "./stateful";

/** What a transform does, taken out of the SDK's proto. Functions are the user's own objects. */
export type Work =
  | { readonly kind: "impulse" }
  | { readonly kind: "read"; readonly spec: SourceSpec }
  | { readonly kind: "write"; readonly spec: SinkSpec }
  | ({ readonly kind: "splittable" } & Splitting)
  | {
      readonly kind: "map" | "flatMap";
      readonly fn: ElementFn;
      readonly context: unknown;
      /** Where the function makes pairs for a combine. */
      readonly keyed?: KeyedAggregates | undefined;
    }
  | { readonly kind: "parDo"; readonly doFn: UserDoFn; readonly context: unknown }
  | { readonly kind: "async"; readonly fn: AsyncFn; readonly context: unknown }
  | { readonly kind: "batch"; readonly settings: BatchSettings }
  | { readonly kind: "split"; readonly options: SplitOptions }
  | { readonly kind: "identity" | "groupByKey" }
  /** Inputs of one windowing; with `asFirst` of any, and the first one's counts. */
  | { readonly kind: "flatten"; readonly asFirst?: true }
  /** Elements go on as they are, in another stage. */
  | { readonly kind: "reshuffle" }
  /** All elements of a window, for the transforms that have them as a side input. */
  | { readonly kind: "view" }
  | { readonly kind: "assignTimestamps"; readonly fn: (element: unknown, timestamp: unknown) => unknown }
  | { readonly kind: "windowInto"; readonly windowing: Windowing }
  /** State and timers of each key and window. */
  | { readonly kind: "stateful"; readonly spec: StatefulSpec; readonly context: unknown }
  /** Lifted: the values are combined within each bundle before the shuffle, and accumulators after it. */
  | {
      readonly kind: "combine";
      readonly combineFn: UserCombineFn;
      readonly isLifted: boolean;
      /** Into how many parts a key is divided first. */
      readonly fanout?: number | undefined;
    };

/** The half of a splittable read that divides elements into restrictions, or the one that reads these. */
export interface Splitting {
  readonly phase: "split" | "read";
  readonly source: AnySource;
}

/** Whether what is left of its restrictions is kept in state, until the time to read on. */
export function readsWithoutEnd({ phase, source }: Splitting): boolean {
  return phase === "read" && source.unbounded === true;
}

export type ElementFn = (element: unknown, context?: unknown) => unknown;

export interface UserDoFn {
  process(element: unknown, context: unknown): Iterable<unknown> | undefined;
  startBundle?(context: unknown): void;
  finishBundle?(context: unknown): Iterable<unknown> | undefined;
  setup?(): unknown;
  teardown?(): unknown;
}

export interface UserCombineFn {
  createAccumulator(): unknown;
  addInput(accumulator: unknown, input: unknown): unknown;
  mergeAccumulators(accumulators: Iterable<unknown>): unknown;
  extractOutput(accumulator: unknown): unknown;
}

/** What `groupBy(...).combining(...)` makes of an element: its key, and what each CombineFn is given of it. */
export interface KeyedAggregates {
  readonly keyOf: (element: unknown) => unknown;
  readonly aggregates: readonly Aggregate[];
  /** All of them as one: an accumulator is an array of theirs. */
  readonly combineFn: UserCombineFn;
}

export interface Aggregate {
  readonly inputOf: (element: unknown) => unknown;
  readonly fn: UserCombineFn;
}

export interface SplitOptions {
  readonly knownTags: readonly string[];
  readonly exclusive: boolean;
  readonly unknownTagBehavior: "error" | "ignore" | "rename";
  readonly unknownTagName?: string;
}

/** One primitive transform. Collections are known by the ids that the SDK gave them. */
export interface GraphNode {
  /** Full name, unique in the pipeline. */
  readonly name: string;
  readonly work: Work;
  readonly inputs: readonly string[];
  /** The views that it looks up, by the names that the SDK gave them. */
  readonly sides: Readonly<Record<string, string>>;
  /** By tag. */
  readonly outputs: Readonly<Record<string, string>>;
  /** Of a grouping or a reshuffle, where its keys or values have coders of their own. */
  readonly coders?: GroupingCoders;
}

export interface Graph {
  /** In the order of construction, so that each comes after those that it reads from. */
  readonly nodes: readonly GraphNode[];
  /** The windowing of each collection. */
  readonly windowing: ReadonlyMap<string, Windowing>;
}

/** Where a stage begins. */
export function isRoot(node: GraphNode): boolean {
  return node.work.kind === "impulse" || node.work.kind === "read" || isShuffle(node);
}

/** Whether elements come to it through the inbox of a stage of its own. */
export function isShuffle(node: GraphNode): boolean {
  const { kind } = node.work;
  const isOwnStage = kind === "reshuffle" || kind === "splittable" || kind === "stateful";
  return isGrouping(node.work) || isOwnStage || hasSides(node);
}

export function isGrouping(work: Work): boolean {
  return work.kind === "groupByKey" || work.kind === "combine" || work.kind === "view";
}

export function hasSides({ sides }: GraphNode): boolean {
  return Object.keys(sides).length > 0;
}
