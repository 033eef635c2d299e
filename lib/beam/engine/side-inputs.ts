import type { Pane } from "./panes";
import { type DueRows, NO_TIMES, REMOVED, type RowChange, type Rows, type RowTimes } from "./rows";
import type { Windowing } from "./windowing";
import { assigner, firingWatermark, GLOBAL_WINDOW, isSame, maxTimestamp, type Window } from "./windows";

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

/** Elements that wait for a view. They are numbered, and kept in blocks that are called by the number of their first. */
export interface Wait {
  /** The smallest watermark at which the side window has ended: nothing more comes for it on time. */
  readonly readyMs: number;
  /** The numbers of the first one and of the next that comes. */
  readonly first: number;
  readonly next: number;
}

/** A block as it is kept, with the smallest time of its elements. */
export interface EncodedBlock<V> {
  readonly row: V;
  readonly elements: number;
  readonly holdMs: number;
}

/** A wait as one bundle has it: what it has parked is encoded when it ends, if it waits still. */
interface OpenWait extends Wait {
  first: number;
  next: number;
  readonly parked: ParkedElement[];
}

/** How views, waits and the elements that wait are kept between bundles: as rows of whatever form. */
export interface SideInputCodec<V> {
  viewId(tag: string, window: Window): string;
  /** Of the elements that wait for a view. */
  waitId(viewId: string): string;
  blockId(viewId: string, number: number): string;
  /** Undefined for a row that is no wait. */
  viewIdOfWait(id: string): string | undefined;
  encodeView(view: View): V;
  /** Not to be changed: the same row may give the same view. */
  decodeView(row: V): View;
  encodeWait(wait: Wait): V;
  decodeWait(row: V): Wait;
  /** As many blocks as it takes, in order. */
  encodeBlocks(elements: readonly ParkedElement[]): Iterable<EncodedBlock<V>>;
  decodeBlock(row: V): ParkedElement[];
}

/** What one shard keeps for a transform with side inputs. See `Rows`; a view's `clockMs` is when it is forgotten. */
export interface SideInputState<V> {
  readonly watermarkMs: number;
  readonly rows: Rows<V>;
}

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
export class TentativeSideInputs<V> {
  private readonly changes = new Map<string, RowChange<V>>();
  /** By the ids of their views. */
  private readonly waits = new Map<string, OpenWait>();
  private readonly dueWaits: DueRows;
  /** By tag, what the last element looked at: the next one mostly looks at the same. */
  private readonly looked = new Map<string, Looked>();
  private watermarkMs: number;
  /** Elements whose side windows are forgotten already. */
  droppedLate = 0;

  constructor(
    private readonly sides: readonly SideInput[],
    private readonly state: SideInputState<V>,
    private readonly codec: SideInputCodec<V>,
    private readonly process: Process,
    watermarkMs: number,
  ) {
    this.watermarkMs = Math.max(state.watermarkMs, watermarkMs);
    this.dueWaits = state.rows.due("timerMs", { has: (id) => this.waits.has(codec.viewIdOfWait(id)!) });
  }

  /** What a side input holds for a main window. */
  lookup(tag: string, main: Window): readonly unknown[] {
    const side = this.sides.find((each) => each.tag === tag)!;
    const row = this.row(this.lookAt(side, main).id);
    return row === undefined ? NO_VALUES : this.codec.decodeView(row).values;
  }

  private lookAt(side: SideInput, main: Window): Looked {
    const last = this.looked.get(side.tag);
    if (last !== undefined && isSame(last.main, main)) return last;
    const window = side.mapWindow(main);
    const readyMs = firingWatermark(window);
    const looked = {
      main,
      id: this.codec.viewId(side.tag, window),
      readyMs,
      forgottenMs: forgottenMs(window, side),
    };
    this.looked.set(side.tag, looked);
    return looked;
  }

  /** A pane of a side input, with the elements that have waited for it. */
  addPane(tag: string, values: readonly unknown[], window: Window): void {
    const id = this.codec.viewId(tag, window);
    const times = timesOfView(this.sides, tag, window);
    this.changes.set(id, { value: this.codec.encodeView({ tag, window, values }), times });
    this.release(id, Infinity);
  }

  add(element: ParkedElement): void {
    if (this.sides.some((side) => this.isForgotten(this.lookAt(side, element.window)))) this.droppedLate++;
    else this.processOrPark(element);
  }

  private processOrPark(element: ParkedElement): void {
    for (const side of this.sides) {
      const { id, readyMs } = this.lookAt(side, element.window);
      if (this.row(id) !== undefined || readyMs <= this.watermarkMs) continue;
      this.park(id, readyMs, element);
      return;
    }
    this.process(element.value, element.timestampMs, element.window, element.pane);
  }

  private park(viewId: string, readyMs: number, element: ParkedElement): void {
    let wait = this.waitOf(viewId);
    if (wait === undefined) {
      wait = { readyMs, first: 0, next: 0, parked: [] };
      this.waits.set(viewId, wait);
    }
    wait.parked.push(element);
  }

  /** Processes what has waited for windows that have now ended, at most `limit` elements; true while more is due. */
  advance(watermarkMs: number, limit: number): boolean {
    this.watermarkMs = Math.max(this.watermarkMs, watermarkMs);
    let left = limit;
    for (let due = this.nextDue(); due !== undefined; due = this.nextDue()) {
      if (left <= 0) return true;
      left -= this.release(due, left);
    }
    return false;
  }

  /** The state after the bundle, without the windows that no element can look at any more. */
  result(): SideInputState<V> {
    for (const [viewId, wait] of this.waits) this.sealWait(viewId, wait);
    this.forgetViews();
    const isNews = ([id, { value }]: [string, RowChange<V>]): boolean =>
      value !== undefined || this.state.rows.get(id) !== undefined;
    const changes = new Map([...this.changes].filter(isNews));
    return { watermarkMs: this.watermarkMs, rows: this.state.rows.with(changes) };
  }

  /** The view whose elements have to wait no longer, the earliest first. */
  private nextDue(): string | undefined {
    const untouched = this.dueWaits.next(this.watermarkMs);
    let earliest = untouched === undefined ? undefined : this.codec.viewIdOfWait(untouched);
    let readyMs = untouched === undefined ? Infinity : this.codec.decodeWait(this.row(untouched)!).readyMs;
    for (const [viewId, wait] of this.waits) {
      if (isOver(wait) || wait.readyMs > this.watermarkMs || wait.readyMs >= readyMs) continue;
      earliest = viewId;
      readyMs = wait.readyMs;
    }
    return earliest;
  }

  private release(viewId: string, limit: number): number {
    const wait = this.waitOf(viewId);
    if (wait === undefined) return 0;
    const released: ParkedElement[] = [];
    while (wait.first < wait.next && released.length < limit)
      for (const element of this.takeBlock(viewId, wait, limit - released.length)) released.push(element);
    for (const element of wait.parked.splice(0, limit - released.length)) released.push(element);
    for (const element of released) this.processOrPark(element);
    return released.length;
  }

  /** The first block, or so many elements of it. */
  private takeBlock(viewId: string, wait: OpenWait, limit: number): ParkedElement[] {
    const id = this.codec.blockId(viewId, wait.first);
    const block = this.codec.decodeBlock(this.row(id)!);
    this.changes.set(id, REMOVED);
    const rest = block.splice(limit);
    wait.first += block.length;
    this.keepBlocks(viewId, wait.first, rest);
    return block;
  }

  /** @returns the number behind the last of them. */
  private keepBlocks(viewId: string, from: number, elements: readonly ParkedElement[]): number {
    let number = from;
    for (const { row, elements: count, holdMs } of this.codec.encodeBlocks(elements)) {
      this.changes.set(this.codec.blockId(viewId, number), { value: row, times: { ...NO_TIMES, holdMs } });
      number += count;
    }
    return number;
  }

  private forgetViews(): void {
    const ended = new Set<string>();
    for (const [id, { value, times }] of this.changes)
      if (value !== undefined && isPast(times.clockMs, this.watermarkMs)) ended.add(id);
    const untouched = this.state.rows.due("clockMs", { has: (id) => this.changes.has(id) || ended.has(id) });
    for (let id = untouched.next(this.watermarkMs); id !== undefined; id = untouched.next(this.watermarkMs))
      ended.add(id);
    if (ended.size === 0) return;
    const needed = this.viewsOfParked();
    for (const id of ended) if (!needed.has(id)) this.changes.set(id, REMOVED);
  }

  /** An element may wait for one side input when another's window ends. */
  private viewsOfParked(): Set<string> {
    const needed = new Set<string>();
    const rows = new Map(this.state.rows.entries());
    for (const [id, { value }] of this.changes) {
      if (value === undefined) rows.delete(id);
      else rows.set(id, value);
    }
    for (const id of rows.keys()) {
      const viewId = this.codec.viewIdOfWait(id);
      if (viewId === undefined) continue;
      const { first, next } = this.waitOf(viewId)!;
      for (let number = first; number < next; ) {
        const block = this.codec.decodeBlock(rows.get(this.codec.blockId(viewId, number))!);
        for (const { window } of block)
          for (const side of this.sides) needed.add(this.codec.viewId(side.tag, side.mapWindow(window)));
        number += block.length;
      }
    }
    return needed;
  }

  private row(id: string): V | undefined {
    const change = this.changes.get(id);
    return change === undefined ? this.state.rows.get(id) : change.value;
  }

  private waitOf(viewId: string): OpenWait | undefined {
    const known = this.waits.get(viewId);
    if (known !== undefined) return known;
    const row = this.row(this.codec.waitId(viewId));
    if (row === undefined) return undefined;
    const wait = { ...this.codec.decodeWait(row), parked: [] };
    this.waits.set(viewId, wait);
    return wait;
  }

  private sealWait(viewId: string, wait: OpenWait): void {
    wait.next = this.keepBlocks(viewId, wait.next, wait.parked.splice(0));
    const id = this.codec.waitId(viewId);
    if (isOver(wait)) this.changes.set(id, REMOVED);
    else {
      const times = { ...NO_TIMES, timerMs: wait.readyMs };
      this.changes.set(id, { value: this.codec.encodeWait(wait), times });
    }
  }

  /** No element looks at the window any more; at the global one they do for ever. */
  private isForgotten({ forgottenMs }: Looked): boolean {
    return isPast(forgottenMs, this.watermarkMs);
  }
}

/** What a window of the main input looks at. */
interface Looked {
  readonly main: Window;
  readonly id: string;
  /** The smallest watermark at which the side window has ended. */
  readonly readyMs: number;
  readonly forgottenMs: number;
}

const NO_VALUES: readonly unknown[] = [];

function isOver({ first, next, parked }: OpenWait): boolean {
  return first === next && parked.length === 0;
}

/** Infinity is never, also at the end of time. */
function isPast(timeMs: number, watermarkMs: number): boolean {
  return timeMs <= watermarkMs && timeMs < Infinity;
}

function forgottenMs(window: Window, { latenessMs }: SideInput): number {
  return window.kind === "global" ? Infinity : firingWatermark(window) + latenessMs;
}

/** A side input that the transform no longer has is forgotten at once. */
export function timesOfView(sides: readonly SideInput[], tag: string, window: Window): RowTimes {
  const side = sides.find((each) => each.tag === tag);
  return { ...NO_TIMES, clockMs: side === undefined ? -Infinity : forgottenMs(window, side) };
}

/** The smallest output time that is held back: of the elements that wait. Infinity if none does. */
export function holdOfParked({ rows }: SideInputState<unknown>): number {
  return rows.least("holdMs");
}

/** The smallest watermark at which an element need not wait any longer. Infinity if none waits. */
export function nextTimerOfParked({ rows }: SideInputState<unknown>): number {
  return rows.least("timerMs");
}
