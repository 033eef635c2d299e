import type { BundleClock } from "../api";
import type { CallSettings } from "../async-fn";
import type { Pane } from "../engine/panes";
import type { Window } from "../engine/windows";
import { Batches } from "./batches";
import type { Operator } from "./elementwise";
import { type Origin, type Origins, originOfBatch } from "./origin";
import type { Receiver } from "./receiver";
import { isThenable, type UserCode } from "./user-code";
import type { WindowedValue } from "./windowed-value";

/** An element on its way through a call. */
export interface Item {
  readonly value: unknown;
  readonly timestampMs: number;
  readonly window: Window;
  readonly pane: Pane;
  readonly origin: Origin;
}

/** One call of the user's function: for one element, or for a batch. Most are for one, which is then a part of it. */
export class Call implements Item {
  /** It has an answer, or nobody waits for one any more. */
  isOver = false;
  startedMs = 0;
  /** What was given for its only item, or for each of its items what it gives. */
  results: unknown;
  private controller: AbortController | undefined;
  private reason: unknown;

  constructor(
    readonly value: unknown,
    readonly timestampMs: number,
    readonly window: Window,
    readonly pane: Pane,
    readonly origin: Origin,
    private readonly batch?: readonly Item[],
  ) {}

  static ofBatch(batch: readonly Item[]): Call {
    const { value, timestampMs, window, pane, origin } = batch[0]!;
    return new Call(value, timestampMs, window, pane, origin, batch);
  }

  get items(): readonly Item[] {
    return this.batch ?? [this];
  }

  /** Made when it is asked for: few calls look at it. */
  get signal(): AbortSignal {
    this.controller ??= new AbortController();
    if (this.reason !== undefined) this.controller.abort(this.reason);
    return this.controller.signal;
  }

  abort(reason: Error): void {
    this.reason = reason;
    this.controller?.abort(reason);
  }
}

/** Starts the call and makes of what it gave the results of its items; both may throw. */
export interface Calling {
  begin(call: Call): unknown;
  /** For each item; undefined where what is given for the only one is what it gives. */
  readonly results: ((given: unknown, call: Call) => readonly (readonly unknown[])[]) | undefined;
  readonly startBundle?: (() => unknown) | undefined;
  /** To be called once, when the bundle is over. */
  readonly dispose?: (() => void) | undefined;
  /** Gives elements with their windows and times. */
  readonly finishBundle?: (() => Promise<readonly WindowedValue[]>) | undefined;
}

/** A call took longer than it may. */
export class CallTimeoutError extends Error {
  override readonly name = "CallTimeoutError";
}

interface Waiter {
  readonly isDone: () => boolean;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

const GIVEN_UP = "the bundle was given up";

/**
 * Keeps asynchronous calls of one transform in flight. Elements come in synchronously; whoever feeds them waits for
 * `room` while `isBusy`, and for `drain` before the bundle is finished. Results go on as soon as they may, whatever
 * the feeder does meanwhile. After a failure nothing goes on any more, and both waits reject with it.
 */
export class AsyncOperator implements Operator {
  private inFlight = 0;
  private readonly ready = new Queue<Call>();
  /** In the order in which they began: from the first that is not over, or whose results do not go on yet. */
  private readonly begun = new Queue<Call>();
  private readonly slots: Slot[] = [];
  private readonly batches: Batches<Item> | undefined;
  private waiters: Waiter[] = [];
  private failure: unknown;
  private isOver = false;
  private isHeld = false;
  private isDisposed = false;
  private isBeginning = false;
  private watch: AbortController | undefined;
  private readonly ahead: number;

  constructor(
    private readonly calling: Calling,
    private readonly settings: CallSettings,
    private readonly code: UserCode,
    private readonly origins: Origins,
    private readonly clock: BundleClock | undefined,
    private readonly next: Receiver,
  ) {
    const { concurrency, batch } = settings;
    this.ahead = Math.ceil(concurrency / 4);
    if (batch !== undefined) this.batches = new Batches<Item>(batch, ({ value }) => value);
  }

  receive(value: unknown, timestampMs: number, window: Window, pane: Pane): void {
    if (this.isOver) return;
    const origin = this.origins.current();
    if (this.batches === undefined) this.ready.push(new Call(value, timestampMs, window, pane, origin));
    else {
      const batch = this.batches.add({ value, timestampMs, window, pane, origin });
      if (batch === undefined) return;
      this.ready.push(Call.ofBatch(batch));
    }
    this.begin();
  }

  /** Enough calls wait for their turn. */
  get isBusy(): boolean {
    return this.failure !== undefined || this.ready.length >= this.ahead;
  }

  room(): Promise<void> {
    return this.until(() => this.ready.length <= this.ahead >> 1);
  }

  start(): void {
    const { startBundle } = this.calling;
    if (startBundle === undefined) return;
    let starting: unknown;
    try {
      starting = startBundle();
    } catch (error) {
      throw this.code.failureOutsideElements(error);
    }
    if (!isThenable(starting)) return;
    this.isHeld = true;
    const go = (): void => {
      this.isHeld = false;
      this.begin();
    };
    Promise.resolve(starting).then(go, (error: unknown) =>
      this.fail(this.code.failureOutsideElements(error)),
    );
  }

  async drain(): Promise<void> {
    if (this.batches !== undefined)
      for (const batch of this.batches.rest()) this.ready.push(Call.ofBatch(batch));
    this.begin();
    await this.until(() => !this.isHeld && this.ready.length + this.inFlight + this.begun.length === 0);
    await this.finishBundle();
    this.stop(GIVEN_UP);
  }

  /** Nobody waits for what is still under way. */
  abandon(): void {
    this.stop(GIVEN_UP);
    if (!this.isDisposed) this.calling.dispose?.();
    this.isDisposed = true;
  }

  private async finishBundle(): Promise<void> {
    try {
      for (const { value, windows, timestampMs, pane } of (await this.calling.finishBundle?.()) ?? [])
        for (const window of windows) this.next.receive(value, timestampMs, window, pane);
    } catch (error) {
      throw this.code.failureOutsideElements(error);
    }
  }

  private begin(): void {
    if (this.isBeginning || this.isHeld) return;
    this.isBeginning = true;
    while (!this.isOver && this.ready.length > 0 && this.inFlight < this.settings.concurrency)
      this.call(this.ready.shift()!);
    this.isBeginning = false;
    if (this.waiters.length > 0) this.wake();
  }

  private call(call: Call): void {
    call.startedMs = this.clock?.now() ?? 0;
    this.begun.push(call);
    let given: unknown;
    try {
      given = this.calling.begin(call);
    } catch (error) {
      this.failCall(call, error);
      return;
    }
    if (!isThenable(given)) {
      this.end(call, given);
      return;
    }
    this.inFlight += 1;
    if (this.watch === undefined) void this.watchTime();
    (this.slots.pop() ?? new Slot(this.settled, this.rejected)).wait(given as PromiseLike<unknown>, call);
  }

  private readonly settled = (slot: Slot, call: Call, value: unknown): void => {
    // One that ends after its bundle has failed is heard by nobody.
    if (call.isOver) return;
    this.slots.push(slot);
    this.inFlight -= 1;
    this.end(call, value);
    this.begin();
  };

  private readonly rejected = (_slot: Slot, call: Call, error: unknown): void => {
    if (call.isOver) return;
    this.inFlight -= 1;
    this.failCall(call, error);
  };

  private end(call: Call, given: unknown): void {
    try {
      call.results = this.calling.results === undefined ? given : this.calling.results(given, call);
    } catch (error) {
      this.failCall(call, error);
      return;
    }
    call.isOver = true;
    const { begun, settings } = this;
    if (!settings.ordered) this.emit(call);
    while (!this.isOver && begun.first?.isOver === true) {
      const first = begun.shift()!;
      if (settings.ordered) this.emit(first);
    }
  }

  private emit(call: Call): void {
    const { origins } = this;
    const before = origins.resume(undefined);
    try {
      if (this.calling.results === undefined) this.emitOne(call, call.results);
      else {
        const { items } = call;
        const results = call.results as readonly (readonly unknown[])[];
        for (let i = 0; i < items.length; i++)
          for (const result of results[i]!) this.emitOne(items[i]!, result);
      }
    } catch (error) {
      this.failCall(call, error);
    } finally {
      origins.resume(before);
    }
  }

  private emitOne({ timestampMs, window, pane, origin }: Item, result: unknown): void {
    this.origins.resume(origin);
    this.next.receive(result, timestampMs, window, pane);
  }

  private failCall(call: Call, error: unknown): void {
    const { items } = call;
    call.isOver = true;
    const values = items.map(({ value }) => value);
    this.fail(
      this.code.failure(error, this.batches === undefined ? values[0] : values),
      originOfBatch(items.map(({ origin }) => origin)),
    );
  }

  private fail(error: unknown, origin?: Origin): void {
    if (this.isOver) return;
    this.failure = error;
    this.origins.failed ??= origin;
    this.stop("another element of the bundle failed");
    this.wake();
  }

  private stop(why: string): void {
    this.isOver = true;
    this.watch?.abort();
    if (this.inFlight === 0) return;
    this.inFlight = 0;
    const reason = new Error(`${this.code.transform}: ${why}`);
    for (let call = this.begun.shift(); call !== undefined; call = this.begun.shift()) {
      if (!call.isOver) call.abort(reason);
      call.isOver = true;
    }
  }

  private until(isDone: () => boolean): Promise<void> {
    if (this.failure !== undefined) return Promise.reject(this.failure);
    if (isDone()) return Promise.resolve();
    return new Promise((resolve, reject) => this.waiters.push({ isDone, resolve, reject }));
  }

  private wake(): void {
    if (this.waiters.length === 0) return;
    const waiters = this.waiters;
    this.waiters = [];
    for (const waiter of waiters) {
      if (this.failure !== undefined) waiter.reject(this.failure);
      else if (waiter.isDone()) waiter.resolve();
      else this.waiters.push(waiter);
    }
  }

  /** One timer for all calls: they have the same time, so the one that began first is the first to have none left. */
  private async watchTime(): Promise<void> {
    const { clock } = this;
    if (clock === undefined) return;
    const { timeoutMs } = this.settings;
    this.watch = new AbortController();
    const { signal } = this.watch;
    while (!signal.aborted) {
      const oldest = this.oldest();
      const leftMs = (oldest?.startedMs ?? clock.now()) + timeoutMs - clock.now();
      if (leftMs > 0) await clock.sleep(leftMs, signal);
      else this.expire(oldest!);
    }
  }

  private expire(call: Call): void {
    const { timeoutMs } = this.settings;
    const error = new CallTimeoutError(
      `no answer within ${timeoutMs} ms; raise timeoutMs, or look at what it waits for`,
    );
    this.inFlight -= 1;
    call.abort(error);
    this.failCall(call, error);
  }

  /** The call that has been in flight longest. In order, ones behind it may have ended before. */
  private oldest(): Call | undefined {
    return this.begun.find((call) => !call.isOver);
  }
}

/** Hears of one call after the other, so that not each needs functions of its own. */
class Slot {
  private call!: Call;

  constructor(
    private readonly settled: (slot: Slot, call: Call, value: unknown) => void,
    private readonly rejected: (slot: Slot, call: Call, error: unknown) => void,
  ) {}

  /** To be called anew only when the call before has settled. */
  wait(given: PromiseLike<unknown>, call: Call): void {
    this.call = call;
    // Of a promise of another kind: ours settles once, whatever that does.
    Promise.resolve(given).then(this.onValue, this.onError);
  }

  private readonly onValue = (value: unknown): void => this.settled(this, this.call, value);
  private readonly onError = (error: unknown): void => this.rejected(this, this.call, error);
}

const FIRST_CAPACITY = 16;

/** First in, first out, in a ring of slots whose number is a power of two. */
class Queue<T> {
  private slots: (T | undefined)[] = new Array(FIRST_CAPACITY).fill(undefined);
  private head = 0;
  length = 0;

  get first(): T | undefined {
    return this.slots[this.head];
  }

  push(item: T): void {
    if (this.length === this.slots.length) this.grow();
    this.slots[(this.head + this.length++) & (this.slots.length - 1)] = item;
  }

  shift(): T | undefined {
    if (this.length === 0) return undefined;
    const item = this.slots[this.head];
    this.slots[this.head] = undefined;
    this.head = (this.head + 1) & (this.slots.length - 1);
    this.length -= 1;
    return item;
  }

  find(isWanted: (item: T) => boolean): T | undefined {
    for (let place = 0; place < this.length; place++) {
      const item = this.slots[(this.head + place) & (this.slots.length - 1)]!;
      if (isWanted(item)) return item;
    }
    return undefined;
  }

  private grow(): void {
    const { slots, head } = this;
    this.slots = [...slots.slice(head), ...slots.slice(0, head), ...slots.map(() => undefined)];
    this.head = 0;
  }
}
