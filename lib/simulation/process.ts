import type { Clock } from "../clock";
import type { ModelClient } from "./model-client";
import type { VirtualTime } from "./virtual-time";

/** A process of the simulated system: its connection to the ensemble, and its clock, which may go wrong by a constant. */
export class SimulatedProcess implements Clock {
  constructor(
    private readonly time: VirtualTime,
    readonly client: ModelClient,
    private readonly skewMs: number,
  ) {}

  get dead(): boolean {
    return this.client.dead;
  }

  now(): number {
    return this.time.now() + this.skewMs;
  }

  random(): number {
    return this.time.random();
  }

  uniqueId(): string {
    return this.time.uniqueId();
  }

  /** A dead process never wakes, and one that stands still only when it goes on. */
  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return this.heard(this.time.sleep(ms, signal));
  }

  /** What the promise gives, when this process is able to hear of it. */
  async heard<T>(promise: Promise<T>): Promise<T> {
    try {
      return await promise;
    } finally {
      if (!this.client.isAwake) await new Promise<void>((resolve) => this.client.whenAwake(resolve));
    }
  }
}
