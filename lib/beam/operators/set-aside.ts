import type { PanePosition, SetAside, SetAsidePane } from "../api";
import {
  decodeInboxElement,
  encodeElement,
  encodeReplay,
  type ShuffledElement,
} from "../coders/element-coder";
import type { Accumulation, Emitter } from "../engine/aggregation";
import type { Pane } from "../engine/panes";
import type { Window } from "../engine/windows";
import { elementText } from "./user-code";

/**
 * Stands between the grouping of a bundle and the transforms behind it: counts the panes, knows which one is under
 * way when user code fails, and keeps those back that are to be set aside. The state moves on either way.
 */
export class PaneGate implements Emitter {
  readonly accumulation: Accumulation;
  readonly setAside: SetAsidePane[] = [];
  /** Panes so far, the one under way included. */
  count = 0;
  /** The pane under way; still set when it failed. */
  current: number | undefined;
  private held: { readonly accumulator: unknown } | undefined;

  constructor(
    private readonly own: Accumulation,
    private readonly next: Emitter,
    private readonly aside: SetAside,
  ) {
    this.accumulation = new Gated(own, this, aside === "all");
  }

  emit(key: unknown, value: unknown, timestampMs: number, window: Window, pane: Pane): void {
    this.current ??= this.count++;
    const place = { timestampMs, window, pane };
    if (!this.isAside(this.current)) this.next.emit(key, value, timestampMs, window, pane);
    else if (this.held) this.setAside.push(this.keep(this.held.accumulator, key, place));
    else this.setAside.push(this.keepElement({ key, value, ...place }));
    this.held = undefined;
    this.current = undefined;
  }

  /** A pane begins. */
  extract(accumulator: unknown): unknown {
    this.current = this.count++;
    if (!this.isAside(this.current)) return this.own.extract(accumulator);
    this.held = { accumulator };
    return undefined;
  }

  private isAside(pane: number): boolean {
    return this.aside === "all" || this.aside.has(pane);
  }

  /** An element that had waited for a side input: it comes back as the element that it was. */
  private keepElement(element: ShuffledElement): SetAsidePane {
    const { key, value, ...place } = element;
    const position: PanePosition = { key: elementText(key), ...place };
    const bytes = encodeElement(element);
    return { kind: "element", number: this.current!, position, text: elementText(value), bytes };
  }

  private keep(accumulator: unknown, key: unknown, place: Omit<PanePosition, "key">): SetAsidePane {
    const number = this.current!;
    const position: PanePosition = { key: elementText(key), ...place };
    try {
      const value = this.own.extract(this.own.copy(accumulator));
      const bytes = encodeReplay("pane", { key, value, ...place });
      return { kind: "pane", number, position, text: elementText(value), bytes };
    } catch {
      // The CombineFn's extractOutput fails, or what it gives has no encoding; its accumulator has one.
      const value = this.own.plain ? this.own.plain(accumulator) : accumulator;
      const bytes = encodeReplay("timer", { key, value, ...place });
      return { kind: "timer", number, position, text: elementText(value), bytes };
    }
  }
}

/** An accumulation whose panes go through a gate. */
class Gated implements Accumulation {
  constructor(
    private readonly own: Accumulation,
    private readonly gate: PaneGate,
    private readonly isAllAside: boolean,
  ) {}

  create(): unknown {
    return this.own.create();
  }
  add(accumulator: unknown, value: unknown): unknown {
    return this.own.add(accumulator, value);
  }
  extract(accumulator: unknown): unknown {
    return this.gate.extract(accumulator);
  }
  /** What is set aside is not changed, so that an accumulator that can't be copied stops nothing. */
  copy(accumulator: unknown): unknown {
    return this.isAllAside ? accumulator : this.own.copy(accumulator);
  }
  merge(accumulators: readonly unknown[]): unknown {
    return this.own.merge(accumulators);
  }
}

/** What an inbox holds, for a person, in at most some 400 characters; says so where the bytes are nothing known. */
export function describeInboxElement(bytes: Uint8Array): { kind: SetAsidePane["kind"]; text: string } {
  try {
    const { form, key, value, timestampMs } = decodeInboxElement(bytes);
    const keyText = key === undefined ? "" : `${elementText(key)}: `;
    return {
      kind: form === "gathered" ? "element" : form,
      text: `${keyText}${elementText(value)} at ${timestampMs} ms`,
    };
  } catch (error) {
    return {
      kind: "element",
      text: `${bytes.length} bytes that are no element: ${(error as Error).message}`,
    };
  }
}
