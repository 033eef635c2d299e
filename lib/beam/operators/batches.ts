import type { BatchSettings } from "../async-fn";
import type { Pane } from "../engine/panes";
import { type Window, windowName } from "../engine/windows";
import type { Operator } from "./elementwise";
import { sizeOf } from "./outputs";
import type { Receiver } from "./receiver";

/**
 * Cuts what comes in into batches. A batch is given when there is more than enough for it, so that what is left at the
 * end is no smaller than `minElements` where that can be.
 */
export class Batches<T> {
  private items: T[] = [];
  private sizes: number[] = [];
  private bytes = 0;

  constructor(
    private readonly settings: BatchSettings,
    private readonly elementOf: (item: T) => unknown,
  ) {}

  get length(): number {
    return this.items.length;
  }

  /** What is complete with this item; undefined while nothing is. */
  add(item: T): T[] | undefined {
    const { minElements, maxElements, maxBytes } = this.settings;
    const size = this.size(item);
    const complete =
      this.items.length > 0 && this.bytes + size > maxBytes ? this.take(this.length) : undefined;
    this.items.push(item);
    this.sizes.push(size);
    this.bytes += size;
    if (complete !== undefined) return complete;
    const slack = minElements === 1 ? 0 : minElements;
    return this.items.length >= maxElements + slack ? this.take(maxElements) : undefined;
  }

  /** The rest, as one batch, or as two where that is too much for one. */
  *rest(): Generator<T[]> {
    if (this.length > this.settings.maxElements) yield this.take(Math.ceil(this.length / 2));
    if (this.length > 0) yield this.take(this.length);
  }

  private take(count: number): T[] {
    const taken = this.items.splice(0, count);
    for (const size of this.sizes.splice(0, count)) this.bytes -= size;
    return taken;
  }

  private size(item: T): number {
    const { maxBytes, sizeOf: measure = sizeOf } = this.settings;
    return maxBytes === Number.POSITIVE_INFINITY ? 0 : measure(this.elementOf(item));
  }
}

interface Batched {
  readonly value: unknown;
  readonly timestampMs: number;
  readonly pane: Pane;
}

/**
 * Arrays of elements of one window, which have the time of their earliest element, so that none is held back less. The
 * pane of a batch is that of its first element.
 */
export function batchOperator(settings: BatchSettings, next: Receiver): Operator {
  const windows = new Map<string, { readonly window: Window; readonly batches: Batches<Batched> }>();
  const emit = (items: readonly Batched[], window: Window): void => {
    const timestampMs = items.reduce((least, item) => Math.min(least, item.timestampMs), Infinity);
    next.receive(
      items.map(({ value }) => value),
      timestampMs,
      window,
      items[0]!.pane,
    );
  };
  return {
    receive(value, timestampMs, window, pane) {
      const name = windowName(window);
      let of = windows.get(name);
      if (of === undefined) {
        of = { window, batches: new Batches<Batched>(settings, (item) => item.value) };
        windows.set(name, of);
      }
      const complete = of.batches.add({ value, timestampMs, pane });
      if (complete !== undefined) emit(complete, window);
    },
    finish() {
      for (const { window, batches } of windows.values())
        for (const items of batches.rest()) emit(items, window);
    },
  };
}
