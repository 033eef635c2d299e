const INITIAL_CAPACITY = 64;

/** A queue in a ring: constant time at both ends, and no garbage while its size stays the same. */
export class Fifo<T> {
  #items: (T | undefined)[] = new Array(INITIAL_CAPACITY);
  #head = 0;
  #size = 0;

  get size(): number {
    return this.#size;
  }

  push(item: T): void {
    if (this.#size === this.#items.length) this.#grow();
    this.#items[(this.#head + this.#size) & (this.#items.length - 1)] = item;
    this.#size += 1;
  }

  peek(): T | undefined {
    return this.#items[this.#head];
  }

  shift(): T | undefined {
    const item = this.#items[this.#head];
    if (this.#size === 0) return undefined;
    this.#items[this.#head] = undefined;
    this.#head = (this.#head + 1) & (this.#items.length - 1);
    this.#size -= 1;
    return item;
  }

  /** Takes everything out. */
  drain(): T[] {
    const items: T[] = [];
    for (let item = this.shift(); item !== undefined; item = this.shift()) items.push(item);
    return items;
  }

  /** The capacity stays a power of two, so that a mask wraps an index. */
  #grow(): void {
    const old = this.#items;
    this.#items = new Array(old.length * 2);
    for (let index = 0; index < this.#size; index += 1) {
      this.#items[index] = old[(this.#head + index) & (old.length - 1)];
    }
    this.#head = 0;
  }
}
