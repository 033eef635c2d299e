import type { Clock } from "../clock";
import { randomNumbers } from "./random-numbers";

interface Scheduled {
  readonly atMs: number;
  readonly order: number;
  run: (() => void) | undefined;
}

// Things that happen in one turn of the event loop; between any two of them everything that can go on goes on.
const HAPPENINGS_A_TURN = 64;

/**
 * A clock that stands still while code runs and jumps to the next thing that is to happen. With a seed, everything
 * that asks it for time, chance or names happens in the same order again.
 */
export class VirtualTime implements Clock {
  private nowMs: number;
  private order = 0;
  private ids = 0;
  private readonly queue: Scheduled[] = [];
  readonly random: () => number;

  constructor(seed: number, startMs: number) {
    this.random = randomNumbers(seed);
    this.nowMs = startMs;
  }

  now(): number {
    return this.nowMs;
  }

  uniqueId(): string {
    return (++this.ids).toString(16).padStart(16, "0");
  }

  /** A whole number from `from` up to and including `to`. */
  between(from: number, to: number): number {
    return from + Math.floor(this.random() * (to - from + 1));
  }

  chance(probability: number): boolean {
    return this.random() < probability;
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    if (signal?.aborted) return Promise.resolve();
    return new Promise((resolve) => {
      if (!signal) {
        this.after(ms, resolve);
        return;
      }
      const cancel = this.after(ms, () => {
        signal.removeEventListener("abort", wake);
        resolve();
      });
      const wake = (): void => {
        cancel();
        resolve();
      };
      signal.addEventListener("abort", wake, { once: true });
    });
  }

  /**
   * Runs the callback `ms` from now; of several at one time, in the order of these calls. The result takes the
   * callback back.
   */
  after(ms: number, run: () => void): () => void {
    const scheduled: Scheduled = { atMs: this.nowMs + Math.max(0, ms), order: ++this.order, run };
    let low = 0;
    let high = this.queue.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (isBefore(scheduled, this.queue[middle]!)) low = middle + 1;
      else high = middle;
    }
    this.queue.splice(low, 0, scheduled);
    return () => {
      scheduled.run = undefined;
    };
  }

  /**
   * Lets time pass until `done`; false if `limitMs` pass, or `limitSteps` things happen, before that. Node runs
   * every promise that can go on between two immediates, so many things happen in one turn of the event loop and
   * still each sees all that followed from the one before it.
   */
  run(done: () => boolean, limitMs: number, limitSteps: number): Promise<boolean> {
    const endMs = this.nowMs + limitMs;
    let steps = 0;
    return new Promise((resolve, reject) => {
      let ended = false;
      const end = (inTime: boolean): void => {
        ended = true;
        resolve(inTime);
      };
      const happen = (): void => {
        if (ended) return;
        try {
          if (done()) end(true);
          else if (steps++ >= limitSteps || !this.next(endMs)) end(false);
        } catch (error) {
          ended = true;
          reject(error);
        }
      };
      const turn = (): void => {
        for (let count = 1; count < HAPPENINGS_A_TURN; count++) setImmediate(happen);
        setImmediate(() => {
          happen();
          if (!ended) turn();
        });
      };
      turn();
    });
  }

  /** Lets the next thing happen; false where there is none before `endMs`. */
  private next(endMs: number): boolean {
    for (let next = this.queue.pop(); next; next = this.queue.pop()) {
      if (!next.run) continue;
      if (next.atMs > endMs) return false;
      this.nowMs = Math.max(this.nowMs, next.atMs);
      next.run();
      return true;
    }
    return false;
  }
}

/** The queue ends with what comes first. */
function isBefore(a: Scheduled, b: Scheduled): boolean {
  return a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order);
}
