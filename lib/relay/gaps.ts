// Beyond this many, remembering costs more than a lower bound that is marked as one.
const MAX_ACCOUNTED = 100_000;

/**
 * Whether a whole life of a znode may have gone by unheard. A path that is in nobody's memory may have been
 * created and deleted while no watch was armed; only where no gap has happened since the source began, or where
 * its deletion was delivered after the last one, is a creation known to be the next life.
 */
export class Gaps {
  private happened = 0;
  private readonly accounted = new Set<string>();

  /** How many there have been. */
  get count(): number {
    return this.happened;
  }

  /** Events may have been missed: a reconnect, or a relay that takes over where another one ended. */
  interrupted(): void {
    this.happened += 1;
    this.accounted.clear();
  }

  /** The path's deletion was delivered, as it was read when `count` was this. */
  deletionDelivered(path: string, count: number): void {
    if (count === 0 || count !== this.happened) return;
    if (this.accounted.size >= MAX_ACCOUNTED) this.accounted.clear();
    this.accounted.add(path);
  }

  mayHideLives(path: string): boolean {
    return this.happened > 0 && !this.accounted.has(path);
  }
}
