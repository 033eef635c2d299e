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

/** One call of the user's function: for one element, or for a batch. */
export class Call {
  /** For each of its items, what it gives. */
  results: readonly (readonly unknown[])[] | undefined;
  private controller: AbortController | undefined;
  private reason: unknown;

  constructor(
    readonly items: readonly Item[],
    readonly startedMs: number,
  ) {}

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
  results(given: unknown, call: Call): readonly (readonly unknown[])[];
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
  private readonly inFlight = new Set<Call>();
  private readonly ready = new Queue<readonly Item[]>();
  private readonly inOrder = new Queue<Call>();
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

  readonly receive: Receiver = (value, timestampMs, window, pane) => {
    if (this.isOver) return;
    const item: Item = { value, timestampMs, window, pane, origin: this.origins.current() };
    const items = this.batches === undefined ? [item] : this.batches.add(item);
    if (items === undefined) return;
    this.ready.push(items);
    this.begin();
  };

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
    if (this.batches !== undefined) for (const items of this.batches.rest()) this.ready.push(items);
    this.begin();
    await this.until(
      () => !this.isHeld && this.ready.length + this.inFlight.size + this.inOrder.length === 0,
    );
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
        for (const window of windows) this.next(value, timestampMs, window, pane);
    } catch (error) {
      throw this.code.failureOutsideElements(error);
    }
  }

  private begin(): void {
    if (this.isBeginning || this.isHeld) return;
    this.isBeginning = true;
    while (!this.isOver && this.ready.length > 0 && this.inFlight.size < this.settings.concurrency)
      this.call(this.ready.shift()!);
    this.isBeginning = false;
    this.wake();
  }

  private call(items: readonly Item[]): void {
    const call = new Call(items, this.clock?.now() ?? 0);
    if (this.settings.ordered) this.inOrder.push(call);
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
    this.inFlight.add(call);
    if (this.watch === undefined) void this.watchTime();
    (given as PromiseLike<unknown>).then(
      (value) => {
        // One that ends after its bundle has failed is heard by nobody.
        if (!this.inFlight.delete(call)) return;
        this.end(call, value);
        this.begin();
      },
      (error: unknown) => {
        if (this.inFlight.delete(call)) this.failCall(call, error);
      },
    );
  }

  private end(call: Call, given: unknown): void {
    try {
      call.results = this.calling.results(given, call);
    } catch (error) {
      this.failCall(call, error);
      return;
    }
    if (!this.settings.ordered) this.emit(call);
    else while (!this.isOver && this.inOrder.first?.results !== undefined) this.emit(this.inOrder.shift()!);
  }

  private emit(call: Call): void {
    const { items, results } = call;
    const before = this.origins.resume(undefined);
    try {
      for (let i = 0; i < items.length; i++) {
        const { timestampMs, window, pane, origin } = items[i]!;
        this.origins.resume(origin);
        for (const result of results![i]!) this.next(result, timestampMs, window, pane);
      }
    } catch (error) {
      this.failCall(call, error);
    } finally {
      this.origins.resume(before);
    }
  }

  private failCall({ items }: Call, error: unknown): void {
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
    const calls = [...this.inFlight];
    this.inFlight.clear();
    if (calls.length === 0) return;
    const reason = new Error(`${this.code.transform}: ${why}`);
    for (const call of calls) call.abort(reason);
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
      const [oldest] = this.inFlight;
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
    this.inFlight.delete(call);
    call.abort(error);
    this.failCall(call, error);
  }
}

/** First in, first out, without moving what is behind. */
class Queue<T> {
  private items: (T | undefined)[] = [];
  private head = 0;

  get length(): number {
    return this.items.length - this.head;
  }
  get first(): T | undefined {
    return this.items[this.head];
  }

  push(item: T): void {
    this.items.push(item);
  }

  shift(): T | undefined {
    const item = this.items[this.head];
    this.items[this.head++] = undefined;
    if (this.head === this.items.length) {
      this.items.length = 0;
      this.head = 0;
    } else if (this.head >= 1024 && this.head * 2 > this.items.length) {
      this.items = this.items.slice(this.head);
      this.head = 0;
    }
    return item;
  }
}
