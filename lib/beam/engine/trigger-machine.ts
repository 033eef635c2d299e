import type { TimestampTransform, Trigger } from "./trigger";

/** What a trigger remembers of one key and window, by the place of each part in the tree. */
export interface TriggerState {
  readonly finished: readonly boolean[];
  /** The count of elements, or the processing time at which a delay ends; undefined where there is none. */
  readonly values: readonly (number | undefined)[];
  /** The processing time at which it was asked last; delays that had ended by then wake nobody again. */
  readonly askedMs: number | undefined;
}

/** The same while a bundle changes it. */
export interface OpenTriggerState {
  readonly finished: boolean[];
  readonly values: (number | undefined)[];
  askedMs: number | undefined;
}

/** What a trigger sees. */
export interface TriggerPlace {
  /** The watermark has passed the end of the window. */
  readonly ended: boolean;
  /** Undefined as long as nobody has told the time: delays then never end. */
  readonly nowMs: number | undefined;
}

/**
 * One trigger of the tree as a state machine, after Beam's `TriggerStateMachine`. In merging windows all parts see
 * every element, since a merge can bring back a part that had finished.
 */
export abstract class TriggerMachine {
  constructor(
    protected readonly index: number,
    protected readonly parts: readonly TriggerMachine[],
  ) {}

  abstract onElement(state: OpenTriggerState, place: TriggerPlace): void;
  abstract shouldFire(state: OpenTriggerState, place: TriggerPlace): boolean;
  abstract onFire(state: OpenTriggerState, place: TriggerPlace): void;
  /** `state` is a fresh one for the merged window, `sources` are those of the windows that had elements. */
  abstract onMerge(sources: readonly TriggerState[], state: OpenTriggerState, place: TriggerPlace): void;

  /** Whether it fires when the window ends, even if nothing new came. */
  hasOnTimePane(): boolean {
    return this.parts.some((part) => part.hasOnTimePane());
  }

  isFinished(state: TriggerState): boolean {
    return state.finished[this.index]!;
  }

  /** Forgets what it waits for, but not what has finished. */
  clear(state: OpenTriggerState): void {
    state.values[this.index] = undefined;
    for (const part of this.parts) part.clear(state);
  }

  reset(state: OpenTriggerState): void {
    state.finished[this.index] = false;
    state.values[this.index] = undefined;
    for (const part of this.parts) part.reset(state);
  }

  /** The earliest processing time at which it has to be asked; Infinity if none. */
  deadline(state: TriggerState): number {
    let earliest = Infinity;
    for (const part of this.parts) earliest = Math.min(earliest, part.deadline(state));
    return earliest;
  }

  protected finish(state: OpenTriggerState, finished = true): void {
    state.finished[this.index] = finished;
  }

  protected finishedInAll(sources: readonly TriggerState[]): boolean {
    return sources.every((source) => this.isFinished(source));
  }

  protected finishedInAny(sources: readonly TriggerState[]): boolean {
    return sources.some((source) => this.isFinished(source));
  }
}

/** Always, Never and Default: nothing to remember, and never finished. */
class Stateless extends TriggerMachine {
  constructor(
    index: number,
    private readonly kind: "always" | "never" | "default",
  ) {
    super(index, []);
  }
  onElement(): void {}
  shouldFire(_state: OpenTriggerState, place: TriggerPlace): boolean {
    return this.kind === "always" || (this.kind === "default" && place.ended);
  }
  onFire(): void {}
  onMerge(): void {}
  override hasOnTimePane(): boolean {
    return this.kind === "default";
  }
}

class ElementCount extends TriggerMachine {
  constructor(
    index: number,
    private readonly count: number,
  ) {
    super(index, []);
  }
  onElement(state: OpenTriggerState): void {
    state.values[this.index] = (state.values[this.index] ?? 0) + 1;
  }
  shouldFire(state: OpenTriggerState): boolean {
    return (state.values[this.index] ?? 0) >= this.count;
  }
  onFire(state: OpenTriggerState): void {
    this.clear(state);
    this.finish(state);
  }
  /** One that has fired in any of the windows has fired; else the elements of all count. */
  onMerge(sources: readonly TriggerState[], state: OpenTriggerState): void {
    if (this.finishedInAny(sources)) this.finish(state);
    else
      state.values[this.index] = sources.reduce((sum, source) => sum + (source.values[this.index] ?? 0), 0);
  }
}

/**
 * AfterProcessingTime, from the first element of a pane on. AfterSynchronizedProcessingTime is a delay to the next
 * moment: a bundle's inbox is read up before its clock is advanced, so all upstream is by then as far as that.
 */
class Delay extends TriggerMachine {
  constructor(
    index: number,
    private readonly transforms: readonly TimestampTransform[],
  ) {
    super(index, []);
  }
  onElement(state: OpenTriggerState, { nowMs }: TriggerPlace): void {
    if (nowMs === undefined || this.isFinished(state)) return;
    state.values[this.index] ??= this.transforms.reduce(transformed, nowMs);
  }
  shouldFire(state: OpenTriggerState, { nowMs }: TriggerPlace): boolean {
    const until = state.values[this.index];
    return until !== undefined && nowMs !== undefined && nowMs >= until;
  }
  onFire(state: OpenTriggerState): void {
    this.clear(state);
    this.finish(state);
  }
  onMerge(sources: readonly TriggerState[], state: OpenTriggerState): void {
    if (this.finishedInAny(sources)) {
      this.finish(state);
      return;
    }
    const delays = sources.map((source) => source.values[this.index]).filter((value) => value !== undefined);
    if (delays.length > 0) state.values[this.index] = Math.min(...delays);
  }
  override deadline(state: TriggerState): number {
    const until = state.values[this.index];
    return until === undefined || until <= (state.askedMs ?? -Infinity) ? Infinity : until;
  }
}

/** The end of the window, once. */
class EndOfWindow extends TriggerMachine {
  onElement(): void {}
  shouldFire(_state: OpenTriggerState, place: TriggerPlace): boolean {
    return place.ended;
  }
  onFire(state: OpenTriggerState): void {
    this.finish(state);
  }
  /** Active again if the merged window has not ended, or has elements that the end of theirs did not fire. */
  onMerge(sources: readonly TriggerState[], state: OpenTriggerState, place: TriggerPlace): void {
    this.finish(state, place.ended && this.finishedInAll(sources));
  }
  override hasOnTimePane(): boolean {
    return true;
  }
}

/** AfterEndOfWindow with early and late firings; both repeat. Its parts are early and late, `never` if not given. */
class EarlyAndLate extends TriggerMachine {
  constructor(
    index: number,
    private readonly early: TriggerMachine,
    private readonly late: TriggerMachine | undefined,
    private readonly merging: boolean,
  ) {
    super(index, late === undefined ? [early] : [early, late]);
  }
  onElement(state: OpenTriggerState, place: TriggerPlace): void {
    const isLate = this.early.isFinished(state);
    if (this.merging || !isLate) this.early.onElement(state, place);
    if (this.merging || isLate) this.late?.onElement(state, place);
  }
  shouldFire(state: OpenTriggerState, place: TriggerPlace): boolean {
    if (!this.early.isFinished(state)) return place.ended || this.early.shouldFire(state, place);
    return this.late?.shouldFire(state, place) ?? false;
  }
  onFire(state: OpenTriggerState, place: TriggerPlace): void {
    if (this.early.isFinished(state)) {
      if (this.late === undefined) this.finish(state);
      else {
        this.late.onFire(state, place);
        this.late.reset(state);
      }
      return;
    }
    this.early.reset(state);
    if (!place.ended) return;
    state.finished[this.partIndex()] = true;
    // The late trigger ran beside the early one in merging windows.
    this.late?.reset(state);
    if (this.late === undefined) this.finish(state);
  }
  onMerge(sources: readonly TriggerState[], state: OpenTriggerState, place: TriggerPlace): void {
    const isLate = place.ended && sources.every((source) => this.early.isFinished(source));
    if (!isLate) this.early.onMerge(sources, state, place);
    state.finished[this.partIndex()] = isLate;
    if (isLate) this.late?.onMerge(sources, state, place);
    this.finish(state, isLate && this.late === undefined);
  }
  override hasOnTimePane(): boolean {
    return true;
  }
  /** The early part comes right after its parent. */
  private partIndex(): number {
    return this.index + 1;
  }
}

/** AfterAll and AfterAny: parts side by side. */
class Parallel extends TriggerMachine {
  constructor(
    index: number,
    parts: readonly TriggerMachine[],
    private readonly all: boolean,
  ) {
    super(index, parts);
  }
  onElement(state: OpenTriggerState, place: TriggerPlace): void {
    for (const part of this.parts) if (!part.isFinished(state)) part.onElement(state, place);
  }
  shouldFire(state: OpenTriggerState, place: TriggerPlace): boolean {
    const ready = (part: TriggerMachine) => part.isFinished(state) || part.shouldFire(state, place);
    return this.all ? this.parts.every(ready) : this.parts.some(ready);
  }
  onFire(state: OpenTriggerState, place: TriggerPlace): void {
    for (const part of this.parts) {
      if (!part.isFinished(state) && part.shouldFire(state, place)) part.onFire(state, place);
      else part.clear(state);
    }
    this.finish(state);
  }
  onMerge(sources: readonly TriggerState[], state: OpenTriggerState, place: TriggerPlace): void {
    for (const part of this.parts) part.onMerge(sources, state, place);
    const done = (part: TriggerMachine) => part.isFinished(state);
    this.finish(state, this.all ? this.parts.every(done) : this.parts.some(done));
  }
}

/** AfterEach: one part after the other. */
class InOrder extends TriggerMachine {
  constructor(
    index: number,
    parts: readonly TriggerMachine[],
    private readonly merging: boolean,
  ) {
    super(index, parts);
  }
  onElement(state: OpenTriggerState, place: TriggerPlace): void {
    if (this.merging) for (const part of this.parts) part.onElement(state, place);
    else this.current(state)?.onElement(state, place);
  }
  shouldFire(state: OpenTriggerState, place: TriggerPlace): boolean {
    return this.current(state)?.shouldFire(state, place) ?? false;
  }
  onFire(state: OpenTriggerState, place: TriggerPlace): void {
    this.current(state)?.onFire(state, place);
    if (this.merging) for (const part of this.parts) part.clear(state);
    this.finish(state, this.current(state) === undefined);
  }
  onMerge(sources: readonly TriggerState[], state: OpenTriggerState, place: TriggerPlace): void {
    for (const part of this.parts) {
      part.onMerge(sources, state, place);
      // What comes after it has not begun.
      if (!part.isFinished(state)) break;
    }
    this.finish(state, this.current(state) === undefined);
  }
  private current(state: TriggerState): TriggerMachine | undefined {
    return this.parts.find((part) => !part.isFinished(state));
  }
}

class OrFinally extends TriggerMachine {
  constructor(
    index: number,
    private readonly main: TriggerMachine,
    private readonly until: TriggerMachine,
  ) {
    super(index, [main, until]);
  }
  onElement(state: OpenTriggerState, place: TriggerPlace): void {
    for (const part of this.parts) part.onElement(state, place);
  }
  shouldFire(state: OpenTriggerState, place: TriggerPlace): boolean {
    return this.main.shouldFire(state, place) || this.until.shouldFire(state, place);
  }
  onFire(state: OpenTriggerState, place: TriggerPlace): void {
    if (this.until.shouldFire(state, place)) {
      this.until.onFire(state, place);
      this.main.clear(state);
      this.finish(state);
    } else {
      this.main.onFire(state, place);
      this.finish(state, this.main.isFinished(state));
    }
  }
  onMerge(sources: readonly TriggerState[], state: OpenTriggerState, place: TriggerPlace): void {
    for (const part of this.parts) part.onMerge(sources, state, place);
    this.finish(
      state,
      this.parts.some((part) => part.isFinished(state)),
    );
  }
}

class Repeatedly extends TriggerMachine {
  constructor(
    index: number,
    private readonly part: TriggerMachine,
  ) {
    super(index, [part]);
  }
  onElement(state: OpenTriggerState, place: TriggerPlace): void {
    this.part.onElement(state, place);
  }
  shouldFire(state: OpenTriggerState, place: TriggerPlace): boolean {
    return this.part.shouldFire(state, place);
  }
  onFire(state: OpenTriggerState, place: TriggerPlace): void {
    this.part.onFire(state, place);
    if (this.part.isFinished(state)) this.part.reset(state);
  }
  onMerge(sources: readonly TriggerState[], state: OpenTriggerState, place: TriggerPlace): void {
    this.part.onMerge(sources, state, place);
    if (this.part.isFinished(state)) this.part.reset(state);
  }
}

export interface CompiledTrigger {
  readonly root: TriggerMachine;
  /** How many parts the tree has. */
  readonly size: number;
  /** The state of all cells where the trigger has nothing to remember. */
  readonly stateless: OpenTriggerState | undefined;
}

/** @param merging whether its windows can merge. */
export function compileTrigger(trigger: Trigger, merging: boolean): CompiledTrigger {
  let size = 0;
  const compile = (part: Trigger): TriggerMachine => {
    const index = size++;
    switch (part.kind) {
      case "default":
      case "always":
      case "never":
        return new Stateless(index, part.kind);
      case "elementCount":
        return new ElementCount(index, part.count);
      case "afterProcessingTime":
        return new Delay(index, part.transforms);
      case "afterSynchronizedProcessingTime":
        return new Delay(index, [{ kind: "delay", delayMs: 1 }]);
      case "afterEndOfWindow": {
        if (part.early === undefined && part.late === undefined) return new EndOfWindow(index, []);
        const early = compile(part.early ?? { kind: "never" });
        const late = part.late === undefined ? undefined : compile(part.late);
        return new EarlyAndLate(index, early, late, merging);
      }
      case "afterAll":
      case "afterAny":
        return new Parallel(index, part.parts.map(compile), part.kind === "afterAll");
      case "afterEach":
        return new InOrder(index, part.parts.map(compile), merging);
      case "orFinally":
        return new OrFinally(index, compile(part.main), compile(part.until));
      case "repeatedly":
        return new Repeatedly(index, compile(part.part));
    }
  };
  const root = compile(trigger);
  const stateless =
    root instanceof Stateless ? { finished: [false], values: [undefined], askedMs: undefined } : undefined;
  return { root, size, stateless };
}

export function freshTriggerState({ size }: Pick<CompiledTrigger, "size">): OpenTriggerState {
  return {
    finished: new Array(size).fill(false),
    values: new Array(size).fill(undefined),
    askedMs: undefined,
  };
}

/** Beam model: `TimestampTransform`; a time on a boundary stays there. */
function transformed(timeMs: number, transform: TimestampTransform): number {
  if (transform.kind === "delay") return timeMs + transform.delayMs;
  const remainder = (timeMs - transform.offsetMs) % transform.periodMs;
  if (remainder === 0) return timeMs;
  return timeMs - remainder + (remainder < 0 ? 0 : transform.periodMs);
}
