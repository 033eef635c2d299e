import type { Pane } from "../engine/panes";
import type { Window } from "../engine/windows";
import type { ElementFn, SplitOptions, UserDoFn } from "../graph/node";
import { bindContext, followsElement, type Place } from "./context";
import type { Receiver } from "./receiver";
import { elementText, isThenable, promiseFinder, type UserCode } from "./user-code";
import { fromSdkWindowedValue } from "./windowed-value";

const ASYNC =
  "returned a Promise; use mapAsync, flatMapAsync or parDoAsync from Beamkeeper, or return the value itself";

/** What an operator of one bundle has beside its receiver. */
export interface Operator {
  readonly receive: Receiver;
  start?(): void;
  finish?(): void;
}

export function mapOperator(
  fn: ElementFn,
  context: unknown,
  code: UserCode,
  place: Place,
  next: Receiver,
): Operator {
  if (isAbsent(context)) return plainMapOperator(fn, code, next);
  const call = bindCall(fn, context, place);
  const isPromise = promiseFinder();
  return {
    receive(value, timestampMs, window, pane) {
      let result: unknown;
      try {
        result = call(value, timestampMs, window, pane);
      } catch (error) {
        throw code.failure(error, value);
      }
      if (isPromise(result)) throw code.refusal(ASYNC, value);
      next(result, timestampMs, window, pane);
    },
  };
}

/** The most frequent operator by far, with one call less. */
function plainMapOperator(fn: ElementFn, code: UserCode, next: Receiver): Operator {
  const isPromise = promiseFinder();
  return {
    receive(value, timestampMs, window, pane) {
      let result: unknown;
      try {
        result = fn(value);
      } catch (error) {
        throw code.failure(error, value);
      }
      if (isPromise(result)) throw code.refusal(ASYNC, value);
      next(result, timestampMs, window, pane);
    },
  };
}

export function flatMapOperator(
  fn: ElementFn,
  context: unknown,
  code: UserCode,
  place: Place,
  next: Receiver,
): Operator {
  const call = bindCall(fn, context, place);
  return {
    receive(value, timestampMs, window, pane) {
      try {
        const results = call(value, timestampMs, window, pane);
        if (Array.isArray(results))
          for (let i = 0; i < results.length; i++) next(results[i], timestampMs, window, pane);
        else for (const result of iterable(results, code, value)) next(result, timestampMs, window, pane);
      } catch (error) {
        throw code.failure(error, value);
      }
    },
  };
}

export function parDoOperator(
  doFn: UserDoFn,
  context: unknown,
  code: UserCode,
  place: Place,
  next: Receiver,
): Operator {
  const bound = bindContext(context, place);
  return {
    receive(value, timestampMs, window, pane) {
      place.moveTo(timestampMs, window, pane);
      try {
        for (const result of iterable(doFn.process(value, bound), code, value))
          next(result, timestampMs, window, pane);
      } catch (error) {
        throw code.failure(error, value);
      }
    },
    start() {
      if (doFn.startBundle === undefined) return;
      outsideElements(code, () => doFn.startBundle!(bound));
    },
    finish() {
      if (doFn.finishBundle === undefined) return;
      outsideElements(code, () => {
        for (const result of doFn.finishBundle!(bound) ?? []) {
          const { value, timestampMs, windows, pane } = fromSdkWindowedValue(result, code);
          for (const window of windows) next(value, timestampMs, window, pane);
        }
      });
    },
  };
}

/** Beam's TypeScript SDK `split`: each property of an element goes to the output of its name. */
export function splitOperator(
  options: SplitOptions,
  code: UserCode,
  outputs: Readonly<Record<string, Receiver>>,
): Operator {
  const { exclusive, unknownTagBehavior, unknownTagName = "" } = options;
  return {
    receive(value, timestampMs, window, pane) {
      const tags = typeof value === "object" && value !== null ? Object.keys(value) : [];
      if (exclusive && tags.length !== 1) {
        throw code.refusal(`split needs elements with one property each, this has ${tags.length}`, value);
      }
      for (const tag of tags) {
        const output =
          outputs[tag] ?? (unknownTagBehavior === "rename" ? outputs[unknownTagName] : undefined);
        if (output !== undefined) output((value as Record<string, unknown>)[tag], timestampMs, window, pane);
        else if (unknownTagBehavior !== "ignore") throw code.refusal(`split knows no output "${tag}"`, value);
      }
    },
  };
}

/** The user's function as one of the element and its place; without a context it gets the element alone, as in Beam. */
function bindCall(fn: ElementFn, context: unknown, place: Place): Receiver | typeof plain {
  const plain = (value: unknown): unknown => fn(value);
  if (isAbsent(context)) return plain;
  const bound = bindContext(context, place);
  if (!followsElement(context)) return (value: unknown): unknown => fn(value, bound);
  return (value: unknown, timestampMs: number, window: Window, pane: Pane): unknown => {
    place.moveTo(timestampMs, window, pane);
    return fn(value, bound);
  };
}

function isAbsent(context: unknown): boolean {
  return context === undefined || context === null;
}

const NOTHING: readonly unknown[] = [];

function iterable(results: unknown, code: UserCode, element: unknown): Iterable<unknown> {
  if (results === undefined || results === null) return NOTHING;
  if (typeof (results as Iterable<unknown>)[Symbol.iterator] === "function")
    return results as Iterable<unknown>;
  if (isThenable(results)) throw code.refusal(ASYNC, element);
  throw code.refusal(`must return an iterable of elements, not ${elementText(results)}`, element);
}

function outsideElements(code: UserCode, run: () => void): void {
  try {
    run();
  } catch (error) {
    throw code.failureOutsideElements(error);
  }
}
