import type { Watch, WatchIterator, WatchNotification } from "./api";

export const DEFAULT_MAX_BUFFERED = 10_000;

type Result = IteratorResult<WatchNotification, undefined>;
const DONE: Result = { done: true, value: undefined };

/**
 * A persistent watch as an async iterator. What the consumer has not taken is kept, up to a bound; beyond it
 * all of that becomes one `gap`, so a slow consumer costs a fixed amount of memory and knows what it lost.
 */
export class BufferedWatch implements WatchIterator {
  #buffer: WatchNotification[] = [];
  #waiting: ((result: Result) => void)[] = [];
  #isOver = false;
  #watch: Watch | undefined;

  constructor(private readonly maxBuffered: number) {}

  /** Joins it to the watch that feeds it. */
  attach(watch: Watch): this {
    this.#watch = watch;
    if (this.#isOver) watch.remove();
    return this;
  }

  readonly listener = (notification: WatchNotification): void => {
    if (this.#isOver) return;
    const consumer = this.#waiting.shift();
    if (consumer) consumer({ done: false, value: notification });
    else this.#keep(notification);
    if (notification.type === "ended") this.#finish();
  };

  next(): Promise<Result> {
    const value = this.#buffer.shift();
    if (value) return Promise.resolve({ done: false, value });
    if (this.#isOver) return Promise.resolve(DONE);
    return new Promise((done) => this.#waiting.push(done));
  }

  /** Called by a loop that is left. */
  return(): Promise<Result> {
    this.remove();
    return Promise.resolve(DONE);
  }

  remove(): void {
    this.#watch?.remove();
    this.#buffer = [];
    this.#finish();
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.remove();
  }

  #keep(notification: WatchNotification): void {
    if (this.#buffer.length >= this.maxBuffered && notification.type === "event") {
      this.#buffer = [{ type: "gap" }];
    } else if (notification.type !== "gap" || this.#buffer.at(-1)?.type !== "gap") {
      this.#buffer.push(notification);
    }
  }

  #finish(): void {
    this.#isOver = true;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const done of waiting) done(DONE);
  }
}
