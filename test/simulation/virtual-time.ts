import type { Clock } from "../../lib/clock";
import { randomNumbers } from "../support/memory-runner";

interface Scheduled {
  readonly atMs: number;
  readonly order: number;
  readonly run: () => void;
}

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
    return new Promise((resolve) => {
      const wake = (): void => {
        signal?.removeEventListener("abort", wake);
        resolve();
      };
      signal?.addEventListener("abort", wake, { once: true });
      if (signal?.aborted) wake();
      this.after(ms, wake);
    });
  }

  /** Runs the callback `ms` from now; of several at one time, in the order of these calls. */
  after(ms: number, run: () => void): void {
    const scheduled = { atMs: this.nowMs + Math.max(0, ms), order: ++this.order, run };
    let low = 0;
    let high = this.queue.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (isBefore(scheduled, this.queue[middle]!)) low = middle + 1;
      else high = middle;
    }
    this.queue.splice(low, 0, scheduled);
  }

  /** Lets time pass until `done`; false if `limitMs` pass, or `limitSteps` things happen, before that. */
  async run(done: () => boolean, limitMs: number, limitSteps: number): Promise<boolean> {
    const endMs = this.nowMs + limitMs;
    await settled();
    for (let steps = 0; !done(); steps++) {
      if (steps >= limitSteps) return false;
      const next = this.queue.pop();
      if (!next || next.atMs > endMs) return false;
      this.nowMs = Math.max(this.nowMs, next.atMs);
      next.run();
      await settled();
    }
    return true;
  }
}

/** The queue ends with what comes first. */
function isBefore(a: Scheduled, b: Scheduled): boolean {
  return a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order);
}

/** Resolves when every promise that can go on without time passing has gone on. */
function settled(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
