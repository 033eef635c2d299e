/** Something that is to happen at a time. */
export interface Due {
  readonly atMs: number;
  /** It has happened, or was called off. */
  isOver: boolean;
}

/** What is to happen, the earliest first; what is over is passed over. */
export class DueHeap<T extends Due> {
  private readonly heap: T[] = [];

  /** @param order negative where the first comes before the second. */
  constructor(private readonly order: (a: T, b: T) => number) {}

  push(due: T): void {
    const { heap } = this;
    let at = heap.length;
    for (; at > 0; ) {
      const above = (at - 1) >> 1;
      if (this.order(due, heap[above]!) >= 0) break;
      heap[at] = heap[above]!;
      at = above;
    }
    heap[at] = due;
  }

  /** The first one, without taking it. */
  peek(): T | undefined {
    while (this.heap.length > 0 && this.heap[0]!.isOver) this.take();
    return this.heap[0];
  }

  private take(): void {
    const { heap } = this;
    const last = heap.pop()!;
    if (heap.length === 0) return;
    let at = 0;
    for (;;) {
      let below = 2 * at + 1;
      if (below >= heap.length) break;
      if (below + 1 < heap.length && this.order(heap[below + 1]!, heap[below]!) < 0) below++;
      if (this.order(heap[below]!, last) >= 0) break;
      heap[at] = heap[below]!;
      at = below;
    }
    heap[at] = last;
  }
}
