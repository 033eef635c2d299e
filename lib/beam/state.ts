import "./sdk/patches";
import type { KV, PCollection, PTransform } from "apache-beam";
import { GeneralObjectCoder } from "apache-beam/coders/js_coders";
import type { Pipeline } from "apache-beam/internal/pipeline";
import { serializeFn } from "apache-beam/internal/serialize";
import * as runnerApi from "apache-beam/proto/beam_runner_api";
import type { CombineFn } from "apache-beam/transforms/group_and_combine";
import type { BoundedWindow, Pane } from "./api";
import { STATEFUL_URN, type StatefulSpec } from "./graph/stateful";
import { keep } from "./operators/kept-value";
import { Timestamped } from "./operators/timestamped";
import { isBuilding } from "./sdk/function-registry";
import { CallableTransform } from "./sdk/pipeline-builder";

/**
 * Stateful processing: a DoFn with state and timers of each key in each window. Beam model: stateful ParDo.
 *
 * The SDK has no form for it, so this is one in its spirit:
 *
 *     input.apply(
 *       statefulParDo({
 *         state: { count: valueState(0) },
 *         timers: { idle: processingTimer() },
 *         process({ key }: KV<string, Order>, { state, timers }) {
 *           state.count.write(state.count.read() + 1);
 *           timers.idle.setAfter(60_000);
 *           return [];
 *         },
 *         onTimer: { idle: ({ key, state }) => [{ key, orders: state.count.read() }] },
 *       }),
 *     )
 *
 * What is read from state is a copy, and what is written is copied: to change a value, write it again. Values are
 * plain data, as between transforms: Maps, Sets, Dates, bigints and bytes too. Keys are compared by value.
 */

/** One value. */
export interface ValueState<T> {
  /** What was last written, else the initial value. */
  read(): T;
  /** @throws UnencodableValueError if it is no plain data. */
  write(value: T): void;
  clear(): void;
}

/** Values in the order in which they were added. Adding costs what is added, however many there are. */
export interface BagState<T> {
  add(value: T): void;
  /** A picture of it as it is now, which a large bag reads piece by piece. */
  read(): Iterable<T>;
  isEmpty(): boolean;
  clear(): void;
}

/** The accumulator of a CombineFn. */
export interface CombiningState<I, O> {
  add(input: I): void;
  /** Of no inputs, too, unless the combiner is a function of two values: then undefined. */
  read(): O;
  isEmpty(): boolean;
  clear(): void;
}

/** Entries by key. A change costs the entry, however many there are. */
export interface MapState<K, V> {
  get(key: K): V | undefined;
  has(key: K): boolean;
  set(key: K, value: V): void;
  /** @returns whether it was there. */
  delete(key: K): boolean;
  /** In the order of the keys' encodings. */
  entries(): readonly (readonly [key: K, value: V])[];
  keys(): readonly K[];
  values(): readonly V[];
  isEmpty(): boolean;
  clear(): void;
}

/** Values, each once. A change costs the value, however many there are. */
export interface SetState<T> {
  has(value: T): boolean;
  /** @returns whether it is new. */
  add(value: T): boolean;
  /** @returns whether it was there. */
  delete(value: T): boolean;
  /** In the order of their encodings. */
  read(): readonly T[];
  isEmpty(): boolean;
  clear(): void;
}

export interface TimestampedValue<T> {
  readonly value: T;
  readonly timestampMs: number;
}

/** Values with timestamps, in their order. Adding costs what is added; the first look sorts. */
export interface OrderedListState<T> {
  add(value: T, timestampMs: number): void;
  /** With timestamps from `fromMs` (default: the first) to before `untilMs` (default: the last). */
  read(fromMs?: number, untilMs?: number): readonly TimestampedValue<T>[];
  clearRange(fromMs: number, untilMs: number): void;
  isEmpty(): boolean;
  clear(): void;
}

declare const STATE: unique symbol;

/** Declares a state cell; made by `valueState` and its like. */
export interface StateSpec<H> {
  readonly kind: "value" | "combining" | "bag" | "map" | "set" | "orderedList";
  /** Only a type: what `context.state` has under its name. */
  readonly [STATE]?: H;
}

export type StateSpecs = Readonly<Record<string, StateSpec<unknown>>>;
export type StateOf<S extends StateSpecs> = {
  readonly [N in keyof S]: S[N] extends StateSpec<infer H> ? H : never;
};

/** A value; undefined until it is written. */
export function valueState<T>(): StateSpec<ValueState<T | undefined>>;
/** A value that is `initial` until it is written. */
export function valueState<T>(initial: T): StateSpec<ValueState<Widened<T>>>;
export function valueState(initial?: unknown): StateSpec<ValueState<unknown>> {
  return spec("value", { initial: keep(initial) });
}

export function bagState<T>(): StateSpec<BagState<T>> {
  return spec("bag");
}

export function mapState<K, V>(): StateSpec<MapState<K, V>> {
  return spec("map");
}

export function setState<T>(): StateSpec<SetState<T>> {
  return spec("set");
}

export function orderedListState<T>(): StateSpec<OrderedListState<T>> {
  return spec("orderedList");
}

/** The SDK's combiners (`sum`, `max`, `count`, `mean`), a CombineFn, or a function that makes one value of two. */
export function combiningState<T>(combiner: (a: T, b: T) => T): StateSpec<CombiningState<T, T | undefined>>;
export function combiningState<I, A, O>(combiner: CombineFn<I, A, O>): StateSpec<CombiningState<I, O>>;
export function combiningState(
  combiner: CombineFn<unknown, unknown, unknown> | ((a: unknown, b: unknown) => unknown),
): StateSpec<CombiningState<unknown, unknown>> {
  if (typeof combiner !== "function") return spec("combining", { combineFn: combiner });
  const combineFn = {
    createAccumulator: () => undefined,
    addInput: (a: unknown, b: unknown) => (a === undefined ? b : combiner(a, b)),
    mergeAccumulators: (all: Iterable<unknown>) =>
      [...all].reduce((a, b) => (a === undefined ? b : b === undefined ? a : combiner(a, b)), undefined),
    extractOutput: (accumulator: unknown) => accumulator,
  };
  return spec("combining", { combineFn });
}

function spec<H>(kind: StateSpec<H>["kind"], settings: object = {}): StateSpec<H> {
  return { kind, ...settings };
}

/** `valueState(0)` is of numbers, not of zeros. */
type Widened<T> = T extends number
  ? number
  : T extends string
    ? string
    : T extends boolean
      ? boolean
      : T extends bigint
        ? bigint
        : T;

export interface TimerOptions {
  /** Timers of one name are told apart by their tags. Default: "". Beam model: timer families. */
  readonly tag?: string;
  /**
   * The timestamp of what the timer will give. While it is set, the output watermark is held there, so that this will
   * not be late. Not before the element's (or the firing timer's) own timestamp, and not after the window's last
   * one plus the allowed lateness. Default: the timer's own time; of a processing-time timer the timestamp of the
   * element, or of the firing timer.
   */
  readonly outputTimestampMs?: number;
  /**
   * False: the watermark is not held, and what the timer gives may be late further down. For timers that only tidy
   * up: in the global window one that holds stops all windows further down. Default: true.
   */
  readonly holdsWatermark?: boolean;
}

/** Fires when the input watermark has passed its time, once. */
export interface EventTimer {
  /**
   * Sets it, also anew: then only the new time counts. A time that has passed fires soon.
   *
   * @throws RangeError if it lies after the window's last timestamp plus the allowed lateness: then nothing is left.
   */
  set(timestampMs: number, options?: TimerOptions): void;
  /** So long after the element (or the firing timer's time), but not after the window's expiry. */
  setAfter(delayMs: number, options?: TimerOptions): void;
  clear(tag?: string): void;
}

/** Fires when the clock has reached its time, once; never once its window has expired. */
export interface ProcessingTimer {
  /** Sets it, also anew: then only the new time counts. */
  set(timeMs: number, options?: TimerOptions): void;
  /** So long from now. */
  setAfter(delayMs: number, options?: TimerOptions): void;
  clear(tag?: string): void;
}

/** Declares a timer; made by `eventTimer` and `processingTimer`. */
export interface TimerSpec<H> {
  readonly domain: "event" | "processing";
  /** Only a type: what `context.timers` has under its name. */
  readonly [STATE]?: H;
}

export type TimerSpecs = Readonly<Record<string, TimerSpec<unknown>>>;
export type TimersOf<T extends TimerSpecs> = {
  readonly [N in keyof T]: T[N] extends TimerSpec<infer H> ? H : never;
};

export function eventTimer(): TimerSpec<EventTimer> {
  return { domain: "event" };
}

export function processingTimer(): TimerSpec<ProcessingTimer> {
  return { domain: "processing" };
}

/** What user code works with; valid until it returns. */
export interface StatefulContext<K, S extends StateSpecs, P> {
  readonly key: K;
  readonly window: BoundedWindow;
  /** Of the element, or of what the timer gives; at the expiry the window's last one. Milliseconds. */
  readonly timestampMs: number;
  readonly state: StateOf<S>;
  /** What was given as `params`, bound to this call. */
  readonly params: P;
}

export interface ElementContext<K, S extends StateSpecs, T extends TimerSpecs, P>
  extends StatefulContext<K, S, P> {
  readonly pane: Pane;
  readonly timers: TimersOf<T>;
}

export interface TimerContext<K, S extends StateSpecs, T extends TimerSpecs, P>
  extends StatefulContext<K, S, P> {
  readonly timers: TimersOf<T>;
  /** The time that the timer was set to, in its own time domain. */
  readonly timerMs: number;
  readonly tag: string;
}

/**
 * An element with a timestamp of its own, to be returned by a stateful DoFn: not before the timestamp of the element
 * or timer that is at hand. Beam model: `outputWithTimestamp`.
 */
export function timestamped<T>(value: T, timestampMs: number): Timestamped<T> {
  return new Timestamped(value, timestampMs);
}

/** What a function of a stateful DoFn gives: elements, plain or `timestamped`. */
// biome-ignore lint/suspicious/noConfusingVoidType: a function without a return gives nothing.
export type Results = Iterable<unknown> | undefined | void;

/** The elements of what functions give. */
type ElementsOf<R> = R extends Iterable<infer O> ? (O extends Timestamped<infer V> ? V : O) : never;

type Handlers<K, S extends StateSpecs, T extends TimerSpecs, P> = {
  readonly [N in keyof T]: (context: TimerContext<K, S, T, P>) => Results;
};

type None = Readonly<Record<never, never>>;

/**
 * An object with functions, or an instance of a class. The functions may capture what they like. `E` are the elements;
 * from `R`, `H` and `X`, the types of the functions, the elements of the output are known.
 */
export interface StatefulDoFn<
  E,
  K,
  S extends StateSpecs = None,
  T extends TimerSpecs = None,
  P extends object = None,
  R extends Results = Results,
  H extends Handlers<K, S, T, P> = Handlers<K, S, T, P>,
  X extends Results = Results,
> {
  /** Cells of each key and window, by name. Default: none. */
  readonly state?: S;
  /** Default: none. */
  readonly timers?: T;
  /** Metrics, finalisers and other context parameters; side inputs are not among them. */
  readonly params?: P;
  /** Called once for each process, before anything else; may be asynchronous. */
  setup?(): unknown;
  process(element: E, context: ElementContext<K, S, T, P>): R;
  /** One function for each timer. */
  readonly onTimer?: H;
  /**
   * Called for each key and window that has had an element, when the window has ended and the allowed lateness has
   * passed, before its state is gone. Holds the watermark. Beam model: `OnWindowExpiration`.
   */
  onWindowExpiration?(context: StatefulContext<K, S, P>): X;
  /** Called once for each process that ends in an orderly way. */
  teardown?(): unknown;
  /**
   * Elements of a key and window are processed in the order of their timestamps; they wait until the watermark (less
   * the allowed lateness) has passed them. Those that come later are dropped. Default: false.
   */
  readonly requiresTimeSortedInput?: boolean;
  /**
   * A failed bundle is tried again with the same elements. That is so here without being asked: what is processed
   * was committed into the shard's inbox before, and each element is consumed by one commit. Default: false.
   */
  readonly requiresStableInput?: boolean;
}

/** What the functions of a DoFn give together. */
type OutputOf<R, H, X> =
  | ElementsOf<R>
  | ElementsOf<H[keyof H] extends (context: never) => infer Q ? Q : never>
  | ElementsOf<X>;

/**
 * A transform with state and timers for each key and window of its input.
 *
 * @param doFn takes elements {key, value}.
 * @throws TypeError if it has no `process`, or a timer no function in `onTimer`.
 */
export function statefulParDo<
  K,
  V,
  S extends StateSpecs = None,
  T extends TimerSpecs = None,
  P extends object = None,
  R extends Results = undefined,
  H extends Handlers<K, S, T, P> = Handlers<K, S, T, P>,
  X extends Results = undefined,
>(
  doFn: StatefulDoFn<KV<K, V>, K, S, T, P, R, H, X>,
): PTransform<PCollection<KV<K, V>>, PCollection<OutputOf<R, H, X>>>;
/** The same with a function that tells the key of an element. */
export function statefulParDo<
  E,
  K,
  S extends StateSpecs = None,
  T extends TimerSpecs = None,
  P extends object = None,
  R extends Results = undefined,
  H extends Handlers<K, S, T, P> = Handlers<K, S, T, P>,
  X extends Results = undefined,
>(
  keyOf: (element: E) => K,
  doFn: StatefulDoFn<E, K, S, T, P, R, H, X>,
): PTransform<PCollection<E>, PCollection<OutputOf<R, H, X>>>;
/** The short form: state, and what is done with an element {key, value}. */
export function statefulParDo<K, V, S extends StateSpecs, R extends Results>(
  state: S,
  process: (element: KV<K, V>, context: ElementContext<K, S, None, None>) => R,
): PTransform<PCollection<KV<K, V>>, PCollection<ElementsOf<R>>>;
export function statefulParDo(
  first: unknown,
  second?: unknown,
): PTransform<PCollection<unknown>, PCollection<unknown>> {
  const spec = toSpec(first, second);
  return new CallableTransform(
    (input: PCollection<unknown>, pipeline: Pipeline, proto: runnerApi.PTransform) => {
      if (!isBuilding())
        throw new Error("statefulParDo runs on Beamkeeper only; put it into the build of a definePipeline");
      proto.spec = runnerApi.FunctionSpec.create({ urn: STATEFUL_URN, payload: serializeFn(spec) });
      void input;
      return pipeline.createPCollectionInternal<unknown>(new GeneralObjectCoder());
    },
    "statefulParDo",
  );
}

function toSpec(first: unknown, second: unknown): StatefulSpec {
  if (typeof first === "function") return checked(second, first as StatefulSpec["keyOf"]);
  if (typeof second === "function") return checked({ state: first, process: second }, undefined);
  return checked(first, undefined);
}

/** From the checks of the graph's side, so that what is compiled is known to be whole. */
function checked(doFn: unknown, keyOf: StatefulSpec["keyOf"]): StatefulSpec {
  const fail = (what: string): never => {
    throw new TypeError(`statefulParDo ${what}`);
  };
  if (typeof doFn !== "object" || doFn === null)
    return fail(`needs a DoFn, an object with process; it was given ${typeof doFn}`);
  const { process, onTimer = {}, onWindowExpiration, state = {}, timers = {} } = doFn as StatefulSpec["doFn"];
  if (typeof process !== "function") fail("needs a DoFn with a function `process`");
  if (onWindowExpiration !== undefined && typeof onWindowExpiration !== "function")
    fail("has an onWindowExpiration that is no function");
  for (const name of ["startBundle", "finishBundle"])
    if (name in doFn) fail(`has a function ${name}: what it does between bundles belongs into state`);
  for (const [name, cell] of Object.entries(state))
    if (typeof (cell as { kind?: unknown }).kind !== "string")
      fail(`has a state "${name}" that was not made by valueState, bagState or their like`);
  for (const [name, timer] of Object.entries(timers)) {
    if (typeof (timer as { domain?: unknown }).domain !== "string")
      fail(`has a timer "${name}" that was not made by eventTimer or processingTimer`);
    if (typeof onTimer[name] !== "function") fail(`has no function onTimer.${name} for its timer "${name}"`);
  }
  for (const name of Object.keys(onTimer))
    if (!Object.hasOwn(timers, name)) fail(`has a function onTimer.${name} and no timer "${name}"`);
  if (Object.keys(state).length > MOST_CELLS) fail(`has more than ${MOST_CELLS} state cells`);
  return { doFn: doFn as StatefulSpec["doFn"], keyOf };
}

// A cell's number is one byte of its rows' names.
const MOST_CELLS = 100;
