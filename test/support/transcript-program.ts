import type * as beam from "apache-beam";
import type { StateSpec, TimerSpec } from "../../lib/beam/state";
import {
  bagState,
  combiningState,
  eventTimer,
  mapState,
  orderedListState,
  processingTimer,
  type StatefulDoFn,
  setState,
  timestamped,
  valueState,
} from "../../lib/index";
import { type Argument, type Expression, parseExpression } from "./transcript-expressions";

/**
 * A stateful DoFn in a transcript: `state` and `timers` by name, and lists of calls for `process`, for each timer under
 * `on_timer`, and for `on_window_expiration`. Times are seconds.
 *
 *     state: {total: ValueState(0), seen: BagState, best: CombiningState(max), last: MapState, ids: SetState, log: OrderedListState}
 *     timers: {end: EventTimer, idle: ProcessingTimer}
 *     process: ["write(total, plus(read(total), value))", "set(end, window_end)"]
 *     on_timer: {end: [emit(read(total))]}
 */
export type TestDoFn = StatefulDoFn<
  beam.KV<string, unknown>,
  string,
  Readonly<Record<string, StateSpec<unknown>>>,
  Readonly<Record<string, TimerSpec<unknown>>>
>;

/** What calls work with. */
interface Call {
  readonly value: unknown;
  readonly key: string;
  readonly window: { readonly kind: string; readonly startMs?: number; readonly endMs?: number };
  readonly timestampMs: number;
  readonly timerMs?: number;
  readonly tag?: string;
  readonly cells: Readonly<Record<string, Cell>>;
  readonly out: unknown[];
}

/** A state cell or a timer. */
type Cell = Readonly<Record<string, (...args: unknown[]) => unknown>>;
type Program = readonly ((call: Call) => unknown)[];
type Keywords = Readonly<Record<string, unknown>>;

const ms = (seconds: unknown): number => Number(seconds) * 1000;
const timerOptions = ({ tag, output, holds }: Keywords) => ({
  ...(tag === undefined ? {} : { tag: String(tag) }),
  ...(output === undefined ? {} : { outputTimestampMs: ms(output) }),
  ...(holds === undefined ? {} : { holdsWatermark: Boolean(holds) }),
});
const emission = (call: Call, value: unknown) => ({ key: call.key, value });

const VARIABLES: Readonly<Record<string, (call: Call) => unknown>> = {
  value: ({ value }) => value,
  key: ({ key }) => key,
  timestamp: ({ timestampMs }) => timestampMs / 1000,
  window_start: ({ window }) => window.startMs! / 1000,
  /** The window's last timestamp. */
  window_end: ({ window }) => (window.endMs! - 1) / 1000,
  /** Of a timer that fires: what it was set to. */
  time: ({ timerMs }) => timerMs! / 1000,
  tag: ({ tag }) => tag,
  true: () => true,
  false: () => false,
};

const CALLS: Readonly<Record<string, (call: Call, args: readonly unknown[], keywords: Keywords) => unknown>> =
  {
    emit: (call, [value]) => call.out.push(emission(call, value)),
    emit_at: (call, [value, time]) => call.out.push(timestamped(emission(call, value), ms(time))),
    plus: (_, [a, b]) => Number(a) + Number(b),
    equals: (_, [a, b]) => JSON.stringify(a) === JSON.stringify(b),
    not: (_, [a]) => !a,
    list: (_, values) => values,
    // State: of any kind, then of a kind.
    clear: (_, [cell, tag]) => (cell as Cell).clear!(tag),
    is_empty: (_, [cell]) => (cell as Cell).isEmpty!(),
    add: (_, [cell, ...values]) => (cell as Cell).add!(...values),
    add_at: (_, [cell, value, time]) => (cell as Cell).add!(value, ms(time)),
    read: (_, [cell]) => {
      const held = (cell as Cell).read!();
      return typeof held === "object" && held !== null ? [...(held as Iterable<unknown>)] : held;
    },
    read_range: (_, [cell, from, until]) =>
      ((cell as Cell).read!(ms(from), ms(until)) as { value: unknown }[]).map(({ value }) => value),
    clear_range: (_, [cell, from, until]) => (cell as Cell).clearRange!(ms(from), ms(until)),
    write: (_, [cell, value]) => (cell as Cell).write!(value),
    put: (_, [cell, key, value]) => (cell as Cell).set!(key, value),
    get: (_, [cell, key]) => (cell as Cell).get!(key) ?? "none",
    has: (_, [cell, key]) => (cell as Cell).has!(key),
    delete: (_, [cell, key]) => (cell as Cell).delete!(key),
    keys: (_, [cell]) => (cell as Cell).keys!(),
    // Timers.
    set: (_, [timer, time], keywords) => (timer as Cell).set!(ms(time), timerOptions(keywords)),
    set_after: (_, [timer, delay], keywords) => (timer as Cell).setAfter!(ms(delay), timerOptions(keywords)),
  };

const COMBINERS: Readonly<Record<string, (a: number, b: number) => number>> = {
  sum: (a, b) => a + b,
  max: Math.max,
  min: Math.min,
};

const STATES: Readonly<Record<string, (expression: Expression) => StateSpec<unknown>>> = {
  ValueState: ({ args: [initial] }) => valueState(initial),
  BagState: () => bagState(),
  CombiningState: ({ args: [combiner] }) => combiningState(named(COMBINERS, combiner, "the combiner")),
  MapState: () => mapState(),
  SetState: () => setState(),
  OrderedListState: () => orderedListState(),
};

const TIMERS: Readonly<Record<string, () => TimerSpec<unknown>>> = {
  EventTimer: eventTimer,
  ProcessingTimer: processingTimer,
};

/** @throws Error that names what is not understood. */
export function toDoFn(given: unknown): TestDoFn {
  const spec = mapping(given, "stateful");
  const known = [
    "state",
    "timers",
    "process",
    "on_timer",
    "on_window_expiration",
    "requires_time_sorted_input",
  ];
  for (const name of Object.keys(spec))
    if (!known.includes(name)) throw new Error(`stateful has no ${name}; it has ${known.join(", ")}`);
  const state = specs(spec.state, (expression) => named(STATES, expression, "the state")(expression));
  const timers = specs(spec.timers, (expression) => named(TIMERS, expression, "the timer")());
  const cells = new Set([...Object.keys(state), ...Object.keys(timers)]);
  const process = toProgram(spec.process, cells);
  const onTimer = Object.fromEntries(
    Object.entries(mapping(spec.on_timer ?? {}, "on_timer")).map(([name, calls]) => {
      const program = toProgram(calls, cells);
      return [name, (context: Context) => run(program, undefined, context)];
    }),
  );
  const expiration =
    spec.on_window_expiration === undefined ? undefined : toProgram(spec.on_window_expiration, cells);
  return {
    state,
    timers,
    process: ({ value }, context) => run(process, value, context as unknown as Context),
    onTimer,
    ...(expiration
      ? { onWindowExpiration: (context) => run(expiration, undefined, context as unknown as Context) }
      : {}),
    requiresTimeSortedInput: spec.requires_time_sorted_input === true,
  } as TestDoFn;
}

type Context = Omit<Call, "cells" | "out" | "value"> & {
  readonly state: Call["cells"];
  readonly timers?: Call["cells"];
};

function run(program: Program, value: unknown, context: Context): unknown[] {
  const { key, window, timestampMs, timerMs, tag } = context;
  const out: unknown[] = [];
  const cells = { ...context.state, ...context.timers };
  const call = { value, key, window, timestampMs, cells, out, ...definedOnly({ timerMs, tag }) } as Call;
  for (const step of program) step(call);
  return out;
}

function definedOnly(fields: object): object {
  return Object.fromEntries(Object.entries(fields).filter(([, field]) => field !== undefined));
}

function toProgram(given: unknown, cells: ReadonlySet<string>): Program {
  const calls = given === undefined ? [] : [given].flat();
  return calls.map((text) => toStep(parseExpression(text), cells));
}

function toStep(argument: Argument, cells: ReadonlySet<string>): (call: Call) => unknown {
  if (typeof argument !== "object") return () => argument;
  const { name, args, keywords } = argument;
  if (args.length === 0 && cells.has(name)) return (call) => call.cells[name];
  if (args.length === 0 && VARIABLES[name] !== undefined) return VARIABLES[name];
  // Of a condition the rest is called only where it holds.
  const work = name === "when" ? undefined : named(CALLS, argument, "the call");
  const steps = args.map((each) => toStep(each, cells));
  if (work === undefined) {
    const [condition, ...rest] = steps;
    return (call) => {
      if (condition!(call)) for (const step of rest) step(call);
    };
  }
  const byKeyword = Object.entries(keywords).map(
    ([keyword, each]) => [keyword, toStep(each, cells)] as const,
  );
  return (call) =>
    work(
      call,
      steps.map((step) => step(call)),
      Object.fromEntries(byKeyword.map(([keyword, step]) => [keyword, step(call)])),
    );
}

function specs<S>(given: unknown, read: (expression: Expression) => S): Record<string, S> {
  return Object.fromEntries(
    Object.entries(mapping(given ?? {}, "state and timers")).map(([name, text]) => [
      name,
      read(parseExpression(text)),
    ]),
  );
}

function named<T>(table: Readonly<Record<string, T>>, of: Argument, what: string): T {
  const name = typeof of === "object" ? of.name : String(of);
  const found = Object.hasOwn(table, name) ? table[name] : undefined;
  if (found === undefined)
    throw new Error(`${what} ${name} is unknown; there are ${Object.keys(table).join(", ")}`);
  return found;
}

export function mapping(given: unknown, what: string): Record<string, unknown> {
  if (typeof given !== "object" || given === null || Array.isArray(given))
    throw new Error(`${what} needs a map of names, not ${JSON.stringify(given)}`);
  return given as Record<string, unknown>;
}
