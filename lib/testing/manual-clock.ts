import type { Clock } from "../clock";

interface Sleeper {
  readonly atMs: number;
  readonly wake: () => void;
}

/** A clock that stands still until it is advanced: for the time limits of asynchronous transforms in tests. */
export class ManualClock implements Clock {
  private readonly sleepers = new Set<Sleeper>();
  private ids = 0;

  /** @param nowMs milliseconds since 1970. Default: 0. */
  constructor(private nowMs = 0) {}

  now(): number {
    return this.nowMs;
  }

  random(): number {
    return 0.5;
  }

  uniqueId(): string {
    return (++this.ids).toString(16).padStart(16, "0");
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    if (ms <= 0 || signal?.aborted) return Promise.resolve();
    return new Promise((resolve) => {
      const wake = (): void => {
        this.sleepers.delete(sleeper);
        signal?.removeEventListener("abort", wake);
        resolve();
      };
      const sleeper = { atMs: this.nowMs + ms, wake };
      this.sleepers.add(sleeper);
      signal?.addEventListener("abort", wake, { once: true });
    });
  }

  /** Wakes whoever has slept long enough, in the order of time. */
  advance(ms: number): void {
    this.nowMs += ms;
    const due = [...this.sleepers].filter(({ atMs }) => atMs <= this.nowMs);
    for (const { wake } of due.sort((a, b) => a.atMs - b.atMs)) wake();
  }
}
