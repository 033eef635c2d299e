/** Numbers by slot, in memory of eight bytes each. */
export class Column {
  private numbers = new Float64Array(16);

  get(slot: number): number {
    return this.numbers[slot]!;
  }

  set(slot: number, value: number): void {
    if (slot >= this.numbers.length) {
      const grown = new Float64Array(grownTo(slot));
      grown.set(this.numbers);
      this.numbers = grown;
    }
    this.numbers[slot] = value;
  }
}

const ABSENT = -1;

/**
 * Slots in the order of a time each: a binary heap that knows the place of every slot, so that a change costs the
 * logarithm of the size. A slot whose time is Infinity is not held. Equal times keep the order that `orders` gives.
 */
export class TimeIndex {
  private readonly times = new Column();
  private heap = new Int32Array(16);
  private places = new Int32Array(16).fill(ABSENT);
  private size = 0;

  constructor(private readonly orders: Column) {}

  set(slot: number, timeMs: number): void {
    const place = this.placeOf(slot);
    if (timeMs === Infinity) {
      if (place !== ABSENT) this.removeAt(place);
      return;
    }
    if (place !== ABSENT && this.times.get(slot) === timeMs) return;
    this.times.set(slot, timeMs);
    if (place !== ABSENT) this.settle(place);
    else {
      this.reserve(slot);
      this.put(this.size++, slot);
      this.rise(this.size - 1);
    }
  }

  /** The smallest time of any slot; Infinity if there is none. */
  get leastOfAll(): number {
    return this.size === 0 ? Infinity : this.times.get(this.heap[0]!);
  }

  /** The smallest time of a slot that is not left out; costs in proportion to how many are. Infinity if none. */
  least(leftOut: LeftOutSlots): number {
    const first = new Frontier(this, leftOut).peek();
    return first === undefined ? Infinity : this.times.get(first);
  }

  /** For `Frontier`: the slot at a place of the heap, undefined beyond its end. */
  at(place: number): number | undefined {
    return place < this.size ? this.heap[place]! : undefined;
  }

  timeOf(slot: number): number {
    return this.placeOf(slot) === ABSENT ? Infinity : this.times.get(slot);
  }

  isBefore(a: number, b: number): boolean {
    const difference = this.times.get(a) - this.times.get(b);
    return difference !== 0 ? difference < 0 : this.orders.get(a) < this.orders.get(b);
  }

  private placeOf(slot: number): number {
    return slot < this.places.length ? this.places[slot]! : ABSENT;
  }

  private removeAt(place: number): void {
    this.places[this.heap[place]!] = ABSENT;
    this.size--;
    if (place === this.size) return;
    this.put(place, this.heap[this.size]!);
    this.settle(place);
  }

  private settle(place: number): void {
    const slot = this.heap[place]!;
    this.rise(place);
    this.sink(this.places[slot]!);
  }

  private rise(from: number): void {
    const slot = this.heap[from]!;
    let place = from;
    for (; place > 0; ) {
      const above = (place - 1) >> 1;
      if (!this.isBefore(slot, this.heap[above]!)) break;
      this.put(place, this.heap[above]!);
      place = above;
    }
    this.put(place, slot);
  }

  private sink(from: number): void {
    const slot = this.heap[from]!;
    let place = from;
    for (;;) {
      let below = 2 * place + 1;
      if (below >= this.size) break;
      if (below + 1 < this.size && this.isBefore(this.heap[below + 1]!, this.heap[below]!)) below++;
      if (!this.isBefore(this.heap[below]!, slot)) break;
      this.put(place, this.heap[below]!);
      place = below;
    }
    this.put(place, slot);
  }

  private put(place: number, slot: number): void {
    this.heap[place] = slot;
    this.places[slot] = place;
  }

  private reserve(slot: number): void {
    if (this.size === this.heap.length) this.heap = grown(this.heap, this.size, ABSENT);
    if (slot >= this.places.length) this.places = grown(this.places, slot, ABSENT);
  }
}

/** Slots that are passed over. */
export interface LeftOutSlots {
  has(slot: number): boolean;
}

/**
 * Walks the slots of an index in order without changing it. The index must stay as it is meanwhile; what is left out
 * may become more. Where slots came in the order of their times, as most do, a step costs a comparison; else the
 * logarithm of the steps so far.
 */
export class Frontier {
  // Places of the index's heap: what is above each of them has been taken.
  /** Those that came in order, from `head` on. */
  private readonly queue: number[] = [];
  private head = 0;
  /** The others, themselves a heap. */
  private readonly open: number[] = [];

  constructor(
    private readonly index: TimeIndex,
    private readonly leftOut: LeftOutSlots,
  ) {
    this.add(0);
  }

  /** The next slot, without taking it. */
  peek(): number | undefined {
    for (;;) {
      const place = this.first();
      if (place === undefined) return undefined;
      const slot = this.index.at(place)!;
      if (!this.leftOut.has(slot)) return slot;
      this.take(place);
    }
  }

  private first(): number | undefined {
    const { queue, head, open } = this;
    if (head === queue.length) return open[0];
    const queued = queue[head]!;
    return open.length > 0 && this.isBefore(open[0]!, queued) ? open[0] : queued;
  }

  private take(place: number): void {
    const { queue, open } = this;
    if (this.head < queue.length && place === queue[this.head]) this.head++;
    else {
      const last = open.pop()!;
      if (open.length > 0) this.sink(last);
    }
    this.add(2 * place + 1);
    this.add(2 * place + 2);
  }

  private add(place: number): void {
    const { queue } = this;
    if (this.index.at(place) === undefined) return;
    if (queue.length > 0 && this.isBefore(place, queue[queue.length - 1]!)) this.rise(place);
    else queue.push(place);
  }

  private rise(added: number): void {
    const { open } = this;
    let at = open.length;
    for (; at > 0; ) {
      const above = (at - 1) >> 1;
      if (!this.isBefore(added, open[above]!)) break;
      open[at] = open[above]!;
      at = above;
    }
    open[at] = added;
  }

  private sink(moved: number): void {
    const { open } = this;
    let at = 0;
    for (;;) {
      let below = 2 * at + 1;
      if (below >= open.length) break;
      if (below + 1 < open.length && this.isBefore(open[below + 1]!, open[below]!)) below++;
      if (!this.isBefore(open[below]!, moved)) break;
      open[at] = open[below]!;
      at = below;
    }
    open[at] = moved;
  }

  private isBefore(a: number, b: number): boolean {
    return this.index.isBefore(this.index.at(a)!, this.index.at(b)!);
  }
}

function grown(numbers: Int32Array, needed: number, filling: number): Int32Array<ArrayBuffer> {
  const larger = new Int32Array(grownTo(needed)).fill(filling, numbers.length);
  larger.set(numbers);
  return larger;
}

/** By half, so that a million rows do not take twice their memory. */
function grownTo(slot: number): number {
  return Math.max(16, Math.ceil((slot + 1) * 1.5));
}
