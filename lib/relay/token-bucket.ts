import type { Clock } from "../clock";

/**
 * A budget of ZooKeeper writes: it fills evenly and holds at most what one second brings (but one write, at least).
 * A commit is sent as soon as anything is left and may take more than that; the debt is waited for by the next one.
 */
export class TokenBucket {
  private tokens: number;
  private filledAtMs: number;
  private readonly capacity: number;

  /** @param perSecond writes a second; Infinity is no limit. */
  constructor(
    private readonly clock: Clock,
    private readonly perSecond: number,
  ) {
    this.capacity = Math.max(1, perSecond);
    this.tokens = this.capacity;
    this.filledAtMs = clock.now();
  }

  /** How long until something may be sent, in ms; 0 at once. */
  get waitMs(): number {
    this.fill();
    return this.tokens >= 1 ? 0 : Math.ceil(((1 - this.tokens) / this.perSecond) * 1000);
  }

  /** A whole number of writes, at least 1, of what is left divided among so many; undefined where there is no limit. */
  share(among: number): number | undefined {
    this.fill();
    if (this.perSecond === Number.POSITIVE_INFINITY) return undefined;
    return Math.max(1, Math.floor(this.tokens / Math.max(1, among)));
  }

  take(writes: number): void {
    this.fill();
    this.tokens = Math.min(this.capacity, this.tokens - writes);
  }

  private fill(): void {
    const now = this.clock.now();
    // A clock that was set back fills nothing, and goes on from there.
    const elapsedMs = Math.max(0, now - this.filledAtMs);
    this.filledAtMs = now;
    if (this.perSecond === Number.POSITIVE_INFINITY) this.tokens = this.capacity;
    else this.tokens = Math.min(this.capacity, this.tokens + (elapsedMs * this.perSecond) / 1000);
  }
}
