/**
 * A map that is never changed: writing gives a new one and leaves the old one as it was, so a bundle that is
 * not committed costs nothing to forget. Two layers keep the cost of a commit near the size of what changed:
 * the small one is copied each time and is folded into the large one when it has grown to a quarter of it.
 */
export class LayeredMap<V> {
  static readonly EMPTY = new LayeredMap<never>(new Map<string, never>(), new Map<string, never>(), 0);

  private constructor(
    private readonly base: ReadonlyMap<string, V>,
    /** Newer than the base; undefined marks a removed key. */
    private readonly recent: ReadonlyMap<string, V | undefined>,
    readonly size: number,
  ) {}

  static empty<V>(): LayeredMap<V> {
    return LayeredMap.EMPTY as LayeredMap<V>;
  }

  static of<V>(entries: Iterable<readonly [string, V]>): LayeredMap<V> {
    const base = new Map(entries);
    return new LayeredMap(base, new Map(), base.size);
  }

  get(key: string): V | undefined {
    return this.recent.has(key) ? this.recent.get(key) : this.base.get(key);
  }

  /** A key that the base holds keeps its place there, others follow in the order in which they came. */
  *entries(): Generator<[string, V]> {
    for (const [key, value] of this.base) {
      const current = this.recent.has(key) ? this.recent.get(key) : value;
      if (current !== undefined) yield [key, current];
    }
    for (const [key, value] of this.recent) {
      if (value !== undefined && !this.base.has(key)) yield [key, value];
    }
  }

  /** The map with `changes` applied; undefined removes a key. */
  with(changes: ReadonlyMap<string, V | undefined>): LayeredMap<V> {
    if (changes.size === 0) return this;
    let size = this.size;
    const recent = new Map(this.recent);
    for (const [key, value] of changes) {
      size += Number(value !== undefined) - Number(this.get(key) !== undefined);
      recent.set(key, value);
    }
    const next = new LayeredMap(this.base, recent, size);
    return recent.size * 4 > this.base.size ? LayeredMap.of(next.entries()) : next;
  }
}
