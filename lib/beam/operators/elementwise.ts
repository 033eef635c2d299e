import type { Pane } from "../engine/panes";
import type { Window } from "../engine/windows";
import type { ElementFn, SplitOptions, UserDoFn } from "../graph/node";
import { bindContext, followsElement, type Place } from "./context";
import type { Receiver } from "./receiver";
import { elementText, isThenable, PromiseFinder, type UserCode } from "./user-code";
import { fromSdkWindowedValue } from "./windowed-value";

const ASYNC =
  "returned a Promise; use mapAsync, flatMapAsync or parDoAsync from Beamkeeper, or return the value itself";

/** What takes elements in one bundle. */
export interface Operator extends Receiver {
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
  return isAbsent(context)
    ? new PlainMapOperator(fn, code, next)
    : new MapOperator(bindCall(fn, context, place), code, next);
}

class MapOperator implements Operator {
  private readonly promises = new PromiseFinder();

  constructor(
    private readonly call: Call,
    private readonly code: UserCode,
    private readonly next: Receiver,
  ) {}

  receive(value: unknown, timestampMs: number, window: Window, pane: Pane): void {
    const { call } = this;
    let result: unknown;
    try {
      result = call(value, timestampMs, window, pane);
    } catch (error) {
      throw this.code.failure(error, value);
    }
    if (this.promises.finds(result)) throw this.code.refusal(ASYNC, value);
    this.next.receive(result, timestampMs, window, pane);
  }
}

/** The most frequent operator by far, with one call less. */
class PlainMapOperator implements Operator {
  private readonly promises = new PromiseFinder();

  constructor(
    private readonly fn: ElementFn,
    private readonly code: UserCode,
    private readonly next: Receiver,
  ) {}

  receive(value: unknown, timestampMs: number, window: Window, pane: Pane): void {
    const { fn } = this;
    let result: unknown;
    try {
      result = fn(value);
    } catch (error) {
      throw this.code.failure(error, value);
    }
    if (this.promises.finds(result)) throw this.code.refusal(ASYNC, value);
    this.next.receive(result, timestampMs, window, pane);
  }
}

export function flatMapOperator(
  fn: ElementFn,
  context: unknown,
  code: UserCode,
  place: Place,
  next: Receiver,
): Operator {
  return new FlatMapOperator(bindCall(fn, context, place), code, next);
}

class FlatMapOperator implements Operator {
  constructor(
    private readonly call: Call,
    private readonly code: UserCode,
    private readonly next: Receiver,
  ) {}

  receive(value: unknown, timestampMs: number, window: Window, pane: Pane): void {
    const { call, code, next } = this;
    try {
      const results = call(value, timestampMs, window, pane);
      if (Array.isArray(results))
        for (let i = 0; i < results.length; i++) next.receive(results[i], timestampMs, window, pane);
      else
        for (const result of iterable(results, code, value)) next.receive(result, timestampMs, window, pane);
    } catch (error) {
      throw code.failure(error, value);
    }
  }
}

export class ParDoOperator implements Operator {
  private readonly bound: unknown;

  constructor(
    private readonly doFn: UserDoFn,
    context: unknown,
    private readonly code: UserCode,
    private readonly place: Place,
    private readonly next: Receiver,
  ) {
    this.bound = bindContext(context, place);
  }

  receive(value: unknown, timestampMs: number, window: Window, pane: Pane): void {
    const { code, next } = this;
    this.place.moveTo(timestampMs, window, pane);
    try {
      for (const result of iterable(this.doFn.process(value, this.bound), code, value))
        next.receive(result, timestampMs, window, pane);
    } catch (error) {
      throw code.failure(error, value);
    }
  }

  start(): void {
    const { doFn } = this;
    if (doFn.startBundle === undefined) return;
    outsideElements(this.code, () => doFn.startBundle!(this.bound));
  }

  finish(): void {
    const { doFn, code, next } = this;
    if (doFn.finishBundle === undefined) return;
    outsideElements(code, () => {
      for (const result of doFn.finishBundle!(this.bound) ?? []) {
        const { value, timestampMs, windows, pane } = fromSdkWindowedValue(result, code);
        for (const window of windows) next.receive(value, timestampMs, window, pane);
      }
    });
  }
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
        if (output !== undefined)
          output.receive((value as Record<string, unknown>)[tag], timestampMs, window, pane);
        else if (unknownTagBehavior !== "ignore") throw code.refusal(`split knows no output "${tag}"`, value);
      }
    },
  };
}

type Call = (value: unknown, timestampMs: number, window: Window, pane: Pane) => unknown;

/** The user's function as one of the element and its place; without a context it gets the element alone, as in Beam. */
function bindCall(fn: ElementFn, context: unknown, place: Place): Call {
  if (isAbsent(context)) return (value: unknown): unknown => fn(value);
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
