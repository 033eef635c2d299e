import type { Pane } from "./panes";
import type { Windowing } from "./windowing";
import { assigner, firingWatermark, GLOBAL_WINDOW, maxTimestamp, type Window, windowName } from "./windows";

/** A side input of a transform, as the transform knows it. */
export interface SideInput {
  /** The name under which the transform looks it up. */
  readonly tag: string;
  /** The side window that a window of the main input looks at. Beam model: `WindowMappingFn`. */
  readonly mapWindow: (main: Window) => Window;
  /** How long after its end a side window is still looked at, in ms. */
  readonly latenessMs: number;
}

/** The newest pane of a side input in one window. */
export interface View {
  readonly tag: string;
  readonly window: Window;
  readonly values: readonly unknown[];
}

/** An element that waits until its side inputs are ready. */
export interface ParkedElement {
  readonly value: unknown;
  readonly timestampMs: number;
  readonly window: Window;
  readonly pane: Pane;
}

/** What one shard keeps for a transform with side inputs. Immutable. */
export interface SideInputState {
  readonly watermarkMs: number;
  /** By tag and window. */
  readonly views: ReadonlyMap<string, View>;
  /** By the side window that they wait for, in the order in which they came. */
  readonly parked: ReadonlyMap<string, Parked>;
}

export interface Parked {
  /** The smallest watermark at which the side window has ended: nothing more comes for it on time. */
  readonly readyMs: number;
  readonly elements: readonly ParkedElement[];
}

export const NO_SIDE_INPUTS: SideInputState = {
  watermarkMs: -Infinity,
  views: new Map(),
  parked: new Map(),
};

export type Process = (value: unknown, timestampMs: number, window: Window, pane: Pane) => void;

/**
 * The side window of a main window: the one of the main window's last timestamp, of several the earliest.
 * Beam model: `WindowFn.getDefaultWindowMappingFn`.
 */
export function windowMapping({ windowFn }: Windowing): (main: Window) => Window {
  if (windowFn.kind === "global") return () => GLOBAL_WINDOW;
  const assign = assigner(windowFn);
  return (main) => {
    const assigned = assign(maxTimestamp(main), undefined, main);
    if ("kind" in assigned) return assigned;
    return assigned.reduce((first, each) => (maxTimestamp(each) < maxTimestamp(first) ? each : first));
  };
}

/**
 * Elements and side inputs as one bundle sees them. An element is processed when each side input has a pane for its
 * window, or the side window has ended without one; until then it is parked and holds the watermark. Beam model:
 * "side inputs are ready". Later panes replace earlier ones, for elements that come after them.
 */
export class TentativeSideInputs {
  private readonly views: Map<string, View>;
  private readonly parked: Map<string, Parked>;
  /** Lists of this bundle's own, that it may add to. */
  private readonly owned = new Set<readonly ParkedElement[]>();
  private watermarkMs: number;
  /** Elements whose side windows are forgotten already. */
  droppedLate = 0;

  constructor(
    private readonly sides: readonly SideInput[],
    state: SideInputState,
    private readonly process: Process,
    watermarkMs: number,
  ) {
    this.views = new Map(state.views);
    this.parked = new Map(state.parked);
    this.watermarkMs = Math.max(state.watermarkMs, watermarkMs);
  }

  /** What a side input holds for a main window. */
  lookup(tag: string, main: Window): readonly unknown[] {
    const side = this.sides.find((each) => each.tag === tag)!;
    return this.views.get(viewName(tag, side.mapWindow(main)))?.values ?? [];
  }

  /** A pane of a side input, with the elements that have waited for it. */
  addPane(tag: string, values: readonly unknown[], window: Window): void {
    const name = viewName(tag, window);
    this.views.set(name, { tag, window, values });
    this.release(name, Infinity);
  }

  add(element: ParkedElement): void {
    if (this.sides.some((side) => this.isForgotten(side.mapWindow(element.window), side))) this.droppedLate++;
    else this.processOrPark(element);
  }

  private processOrPark(element: ParkedElement): void {
    for (const side of this.sides) {
      const window = side.mapWindow(element.window);
      const name = viewName(side.tag, window);
      const readyMs = firingWatermark(window);
      if (this.views.has(name) || readyMs <= this.watermarkMs) continue;
      this.park(name, readyMs, element);
      return;
    }
    this.process(element.value, element.timestampMs, element.window, element.pane);
  }

  private park(name: string, readyMs: number, element: ParkedElement): void {
    const waiting = this.parked.get(name)?.elements ?? [];
    if (this.owned.has(waiting)) (waiting as ParkedElement[]).push(element);
    else {
      const elements = [...waiting, element];
      this.owned.add(elements);
      this.parked.set(name, { readyMs, elements });
    }
  }

  /** Processes what has waited for windows that have now ended, at most `limit` elements; true while more is due. */
  advance(watermarkMs: number, limit: number): boolean {
    this.watermarkMs = Math.max(this.watermarkMs, watermarkMs);
    let left = limit;
    for (const [name, { readyMs }] of [...this.parked].sort((a, b) => a[1].readyMs - b[1].readyMs)) {
      if (readyMs > this.watermarkMs) break;
      left -= this.release(name, left);
      if (left <= 0 && this.isDue()) return true;
    }
    return false;
  }

  /** The state after the bundle, without the windows that no element can look at any more. */
  result(): SideInputState {
    let needed: Set<string> | undefined;
    for (const [name, { tag, window }] of this.views) {
      const side = this.sides.find((each) => each.tag === tag);
      if (side !== undefined && !this.isForgotten(window, side)) continue;
      needed ??= this.viewsOfParked();
      if (!needed.has(name)) this.views.delete(name);
    }
    return { watermarkMs: this.watermarkMs, views: this.views, parked: this.parked };
  }

  private release(name: string, limit: number): number {
    const waiting = this.parked.get(name);
    if (waiting === undefined) return 0;
    const released = waiting.elements.slice(0, limit);
    if (released.length === waiting.elements.length) this.parked.delete(name);
    else this.parked.set(name, { ...waiting, elements: waiting.elements.slice(released.length) });
    for (const element of released) this.processOrPark(element);
    return released.length;
  }

  /** An element may wait for one side input when another's window ends. */
  private viewsOfParked(): Set<string> {
    const needed = new Set<string>();
    for (const { elements } of this.parked.values())
      for (const { window } of elements)
        for (const side of this.sides) needed.add(viewName(side.tag, side.mapWindow(window)));
    return needed;
  }

  /** No element looks at the window any more; at the global one they do for ever. */
  private isForgotten(window: Window, { latenessMs }: SideInput): boolean {
    return window.kind !== "global" && firingWatermark(window) + latenessMs <= this.watermarkMs;
  }

  private isDue(): boolean {
    return nextTimerOfParked({ parked: this.parked }) <= this.watermarkMs;
  }
}

/** The smallest output time that is held back: of the elements that wait. Infinity if none does. */
export function holdOfParked({ parked }: Pick<SideInputState, "parked">): number {
  let hold = Infinity;
  for (const { elements } of parked.values())
    for (const { timestampMs } of elements) hold = Math.min(hold, timestampMs);
  return hold;
}

/** The smallest watermark at which an element need not wait any longer. Infinity if none waits. */
export function nextTimerOfParked({ parked }: Pick<SideInputState, "parked">): number {
  let next = Infinity;
  for (const { readyMs } of parked.values()) next = Math.min(next, readyMs);
  return next;
}

export function viewName(tag: string, window: Window): string {
  return `${windowName(window)} ${tag}`;
}
