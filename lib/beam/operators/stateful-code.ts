import type { SetAsidePane } from "../api";
import { encodeElement, encodeReplay } from "../coders/element-coder";
import type { StoredRow } from "../coders/state-coder";
import {
  type KeyedElement,
  type KeyedPlan,
  lastTimerMs,
  type OpenPlace,
  type TimeDomain,
  type Timer,
} from "../engine/keyed-place";
import type { KeyedCalls, TentativeKeyedState } from "../engine/keyed-state";
import { NO_FIRING, type Pane } from "../engine/panes";
import { clampTimestamp } from "../engine/time";
import { maxTimestamp, type Window } from "../engine/windows";
import type { StatefulSpec } from "../graph/stateful";
import type { CallGate } from "./call-gate";
import { bindContext, type Place } from "./context";
import type { Receiver } from "./receiver";
import type { CellSpec, PlaceCells } from "./state-cells";
import { stateHandle } from "./state-handles";
import { Timestamped } from "./timestamped";
import { elementText, isThenable, type UserCode } from "./user-code";

export type StatefulPlace = OpenPlace<StoredRow, PlaceCells>;

/** What is known of a stateful transform before any bundle. */
export interface StatefulPlan {
  readonly spec: StatefulSpec;
  readonly cells: readonly CellSpec[];
  readonly cellNames: readonly string[];
  readonly timerNames: readonly string[];
  readonly keyed: KeyedPlan;
}

/** What goes to dead-letter of a timer, and of an expiry: that takes the state along, which is gone afterwards. */
export type ReplayedCall =
  | { readonly timer: string; readonly tag: string; readonly timeMs: number; readonly isHeld: boolean }
  | { readonly expired: Readonly<Record<string, unknown>> };

/** What the user's functions see of a call. Changed in place, once for each. */
interface CallContext {
  key: unknown;
  window: Window;
  timestampMs: number;
  pane: Pane;
  timerMs: number;
  tag: string;
  readonly state: object;
  readonly timers: object;
  readonly params: unknown;
}

/** Runs the user's functions of one bundle for the engine. */
export class StatefulCode implements KeyedCalls<StatefulPlace> {
  private engine!: TentativeKeyedState<StoredRow, PlaceCells>;
  private place: StatefulPlace | undefined;
  private isExpiring = false;
  /** From where `setAfter` of an event-time timer counts. */
  private baseMs = 0;
  private readonly context: CallContext;
  private readonly hasParams: boolean;

  constructor(
    private readonly plan: StatefulPlan,
    private readonly code: UserCode,
    private readonly gate: CallGate,
    private readonly sdkPlace: Place,
    private readonly next: Receiver,
  ) {
    const { params } = plan.spec.doFn;
    this.hasParams = params !== undefined;
    const cellOf = (index: number) => () => this.current().cells.cell(index);
    this.context = {
      ...{ key: undefined, window: { kind: "global" }, timestampMs: 0, pane: NO_FIRING, timerMs: 0, tag: "" },
      state: named(plan.cellNames, (index) => stateHandle(plan.cells[index]!.kind, cellOf(index))),
      timers: named(plan.timerNames, (index) => this.timerHandle(index)),
      params: bindContext(params ?? {}, sdkPlace),
    };
  }

  serve(engine: TentativeKeyedState<StoredRow, PlaceCells>): void {
    this.engine = engine;
  }

  process(place: StatefulPlace, element: KeyedElement): void {
    const { key, window } = place;
    const { value, timestampMs, pane } = element;
    if (this.gate.enter()) this.gate.keep(setAsideElement(place, element));
    else {
      this.moveTo(place, timestampMs, pane, timestampMs);
      const { doFn, keyOf } = this.plan.spec;
      const input = keyOf === undefined ? { key, value } : value;
      try {
        this.give(doFn.process(input, this.context), input, timestampMs, window, pane);
      } catch (error) {
        throw this.code.failure(error, input);
      }
      this.place = undefined;
    }
    this.gate.leave();
  }

  timer(place: StatefulPlace, timer: Timer): void {
    const { key, window } = place;
    const { index, tag, timeMs } = timer;
    const name = this.plan.timerNames[index]!;
    if (this.gate.enter()) this.gate.keep(setAsideTimer(place, name, timer));
    else {
      const outputMs = this.outputTime(timer, window);
      const isEvent = this.plan.keyed.timers[index] === "event";
      this.moveTo(place, outputMs, NO_FIRING, isEvent ? timeMs : outputMs);
      this.context.timerMs = timeMs;
      this.context.tag = tag;
      const subject = { key, timer: name, ...(tag === "" ? {} : { tag }), timeMs };
      try {
        const results = this.plan.spec.doFn.onTimer![name]!(this.context);
        this.give(results, subject, outputMs, window, NO_FIRING);
      } catch (error) {
        throw this.code.failure(error, subject);
      }
      this.place = undefined;
    }
    this.gate.leave();
  }

  expire(place: StatefulPlace): void {
    const { key, window } = place;
    if (this.gate.enter()) this.gate.keep(setAsideExpiry(place, this.plan));
    else {
      const endMs = maxTimestamp(window);
      this.moveTo(place, endMs, NO_FIRING, endMs);
      this.isExpiring = true;
      const subject = { key, expired: window };
      try {
        this.give(this.plan.spec.doFn.onWindowExpiration!(this.context), subject, endMs, window, NO_FIRING);
      } catch (error) {
        throw this.code.failure(error, subject);
      }
      this.isExpiring = false;
      this.place = undefined;
    }
    this.gate.leave();
  }

  /** Without a hold there is no time that is sure not to be late; the watermark's is the best there is. */
  private outputTime({ isHeld, outputMs }: Timer, window: Window): number {
    return isHeld ? outputMs : Math.max(outputMs, Math.min(this.engine.watermarkMs, maxTimestamp(window)));
  }

  private moveTo(place: StatefulPlace, timestampMs: number, pane: Pane, baseMs: number): void {
    const { context } = this;
    this.place = place;
    this.baseMs = baseMs;
    context.key = place.key;
    context.window = place.window;
    context.timestampMs = timestampMs;
    context.pane = pane;
    if (this.hasParams) this.sdkPlace.moveTo(timestampMs, place.window, pane);
  }

  private give(results: unknown, subject: unknown, timestampMs: number, window: Window, pane: Pane): void {
    if (results === undefined || results === null) return;
    if (Array.isArray(results)) {
      for (let i = 0; i < results.length; i++) this.giveOne(results[i], timestampMs, window, pane);
      return;
    }
    if (typeof (results as Iterable<unknown>)[Symbol.iterator] === "function") {
      for (const result of results as Iterable<unknown>) this.giveOne(result, timestampMs, window, pane);
      return;
    }
    if (isThenable(results))
      throw this.code.refusal(
        "returned a Promise; functions with state must be synchronous, call what takes time in a map before or after",
        subject,
      );
    throw this.code.refusal(`must return an iterable of elements, not ${elementText(results)}`, subject);
  }

  private giveOne(result: unknown, timestampMs: number, window: Window, pane: Pane): void {
    if (!(result instanceof Timestamped)) {
      this.next.receive(result, timestampMs, window, pane);
      return;
    }
    const ownMs = clampTimestamp(result.timestampMs);
    if (!(ownMs >= timestampMs))
      throw new RangeError(
        `gave an element the timestamp ${result.timestampMs}, which is before ${timestampMs}, that of what it comes from`,
      );
    this.next.receive(result.value, ownMs, window, pane);
  }

  private current(): StatefulPlace {
    if (this.place === undefined)
      throw new Error("state and timers belong to a key: they can be used until the function returns");
    return this.place;
  }

  private timerHandle(index: number) {
    const domain = this.plan.keyed.timers[index]!;
    const set = (timeMs: number, options: SetOptions = {}) => {
      const timer = this.checkedTimer(index, domain, timeMs, options);
      this.engine.setTimer(this.current(), timer);
    };
    return {
      set,
      setAfter: (delayMs: number, options?: SetOptions) => {
        const { window } = this.current();
        const last = lastTimerMs(window, this.plan.keyed.windowing);
        if (domain === "event") set(Math.min(this.baseMs + delayMs, last), options);
        else set(this.now() + delayMs, options);
      },
      clear: (tag = "") => this.engine.clearTimer(this.current(), index, tag),
    };
  }

  private now(): number {
    const { nowMs } = this.engine;
    if (nowMs === undefined) throw new Error("the processing time is not known here");
    return nowMs;
  }

  private checkedTimer(
    index: number,
    domain: TimeDomain,
    timeMs: number,
    { tag = "", outputTimestampMs, holdsWatermark = true }: SetOptions,
  ): Timer {
    const { window } = this.current();
    const { timestampMs } = this.context;
    const name = this.plan.timerNames[index];
    const last = lastTimerMs(window, this.plan.keyed.windowing);
    if (this.isExpiring) throw new Error(`the timer "${name}" can't be set any more: its window has expired`);
    if (typeof timeMs !== "number" || Number.isNaN(timeMs))
      throw new TypeError(`the timer "${name}" needs a time in milliseconds, not ${elementText(timeMs)}`);
    if (domain === "event" && timeMs > last)
      throw new RangeError(`the timer "${name}" is set to ${timeMs}, after its window's expiry (${last})`);
    if (outputTimestampMs !== undefined && !(outputTimestampMs >= timestampMs && outputTimestampMs <= last))
      throw new RangeError(
        `the timer "${name}" has the output timestamp ${outputTimestampMs}; it must be from ${timestampMs}, the timestamp ` +
          `of what is at hand, to ${last}, the window's expiry`,
      );
    const outputMs =
      outputTimestampMs ?? (domain === "event" ? Math.max(timeMs, timestampMs) : Math.min(timestampMs, last));
    return { index, tag, timeMs: clampTimestamp(timeMs), outputMs, isHeld: holdsWatermark };
  }
}

interface SetOptions {
  readonly tag?: string;
  readonly outputTimestampMs?: number;
  readonly holdsWatermark?: boolean;
}

function named<T>(names: readonly string[], make: (index: number) => T): Record<string, T> {
  return Object.fromEntries(names.map((name, index) => [name, make(index)]));
}

function setAsideElement(
  { key, window }: StatefulPlace,
  { value, timestampMs, pane }: KeyedElement,
): Omit<SetAsidePane, "number"> {
  const position = { key: elementText(key), window, pane, timestampMs };
  const bytes = encodeElement({ key, value, timestampMs, window, pane });
  return { kind: "element", position, text: elementText(value), bytes };
}

function setAsideTimer(
  { key, window }: StatefulPlace,
  name: string,
  { tag, timeMs, outputMs, isHeld }: Timer,
): Omit<SetAsidePane, "number"> {
  return setAsideCall(key, window, outputMs, { timer: name, tag, timeMs, isHeld });
}

function setAsideExpiry(
  { key, window, cells }: StatefulPlace,
  plan: StatefulPlan,
): Omit<SetAsidePane, "number"> {
  const state = plan.cellNames.flatMap((name, index) => {
    const cell = cells.cell(index);
    return cell.isEmpty ? [] : [[name, cell.dump()] as const];
  });
  return setAsideCall(key, window, maxTimestamp(window), { expired: Object.fromEntries(state) });
}

function setAsideCall(
  key: unknown,
  window: Window,
  timestampMs: number,
  call: ReplayedCall,
): Omit<SetAsidePane, "number"> {
  const place = { window, pane: NO_FIRING, timestampMs };
  const bytes = encodeReplay("timer", { key, value: call, ...place });
  return { kind: "timer", position: { key: elementText(key), ...place }, text: elementText(call), bytes };
}
