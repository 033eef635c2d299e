import { LayeredMap } from "./layered-map";
import { ON_TIME_AND_ONLY_FIRING, type Pane } from "./panes";
import { firingWatermark, maxTimestamp, type Window, windowName } from "./windows";

/** How the values of one key and window come together. Beam model: `CombineFn`, `GroupByKey`. */
export interface Accumulation {
  create(): unknown;
  add(accumulator: unknown, value: unknown): unknown;
  extract(accumulator: unknown): unknown;
  /** An accumulator that `add` may change while the original stays as it is. */
  copy(accumulator: unknown): unknown;
  /** One accumulator of several, all of which it may change. */
  merge(accumulators: readonly unknown[]): unknown;
}

/** What is kept of one key in one window. */
export interface Cell {
  readonly key: unknown;
  readonly accumulator: unknown;
}

export interface WindowState {
  readonly window: Window;
  /** By the key's identity, a string that equal keys share. */
  readonly cells: LayeredMap<Cell>;
}

/** The state of one shard of an aggregate stage. Immutable. */
export interface AggregateState {
  /** The highest input watermark that the shard has acted on; a lower one never takes it back. */
  readonly watermarkMs: number;
  /** Live windows by name. */
  readonly windows: ReadonlyMap<string, WindowState>;
}

export const EMPTY_AGGREGATE: AggregateState = { watermarkMs: -Infinity, windows: new Map() };

export type Emit = (key: unknown, value: unknown, timestampMs: number, window: Window, pane: Pane) => void;

interface OpenCell {
  readonly key: unknown;
  accumulator: unknown;
}

interface OpenWindow {
  readonly window: Window;
  readonly committed: LayeredMap<Cell>;
  /** Cells that this bundle has touched; undefined where it has fired one. */
  readonly touched: Map<string, OpenCell | undefined>;
  /** What is still to fire, once the window has ended. */
  firing: Iterator<[string, Cell]> | undefined;
  upcoming: [string, Cell] | undefined;
  done: boolean;
}

/**
 * Grouping by key and window under the default trigger without lateness, as one bundle sees it.
 *
 * A window fires once, when the watermark passes its last timestamp; each key gives one pane with the time of the
 * end of the window. An element is late, and dropped, when its window had already ended at the watermark.
 * Fires in the order of time, then in the order in which keys came. Beam model: `DefaultTrigger`, output time
 * END_OF_WINDOW.
 */
export class TentativeAggregation {
  private readonly open = new Map<string, OpenWindow>();
  private watermarkMs: number;
  private lastWindow: Window | undefined;
  private lastOpen: OpenWindow | undefined;
  droppedLate = 0;

  constructor(
    private readonly state: AggregateState,
    private readonly accumulation: Accumulation,
    inputWatermarkMs: number,
  ) {
    this.watermarkMs = Math.max(state.watermarkMs, inputWatermarkMs);
  }

  add(keyId: string, key: unknown, value: unknown, window: Window): void {
    if (maxTimestamp(window) < this.watermarkMs) {
      this.droppedLate++;
      return;
    }
    const cell = this.cell(this.windowOf(window), keyId, key);
    cell.accumulator = this.accumulation.add(cell.accumulator, value);
  }

  /** Fires what is due, at most `limit` panes; true while more is due. */
  advance(watermarkMs: number, limit: number, emit: Emit): boolean {
    this.watermarkMs = Math.max(this.watermarkMs, watermarkMs);
    let left = limit;
    for (const open of this.dueWindows()) {
      for (let next = this.peek(open); next !== undefined; next = this.peek(open)) {
        if (left === 0) return true;
        left--;
        open.upcoming = undefined;
        this.fire(open, next, emit);
      }
      open.done = true;
    }
    return false;
  }

  /** The state after the bundle. */
  result(): AggregateState {
    const windows = new Map(this.state.windows);
    for (const [name, open] of this.open) {
      const cells = open.done ? LayeredMap.empty<Cell>() : open.committed.with(closed(open.touched));
      if (cells.size === 0) windows.delete(name);
      else windows.set(name, { window: open.window, cells });
    }
    return { watermarkMs: this.watermarkMs, windows };
  }

  private fire(open: OpenWindow, [keyId, cell]: [string, Cell], emit: Emit): void {
    // A committed accumulator must outlive this bundle, and extracting may change it.
    const own = open.touched.has(keyId) ? cell.accumulator : this.accumulation.copy(cell.accumulator);
    const value = this.accumulation.extract(own);
    open.touched.set(keyId, undefined);
    emit(cell.key, value, maxTimestamp(open.window), open.window, ON_TIME_AND_ONLY_FIRING);
  }

  private windowOf(window: Window): OpenWindow {
    if (window === this.lastWindow) return this.lastOpen!;
    const name = windowName(window);
    let open = this.open.get(name);
    if (open === undefined) {
      open = {
        window,
        committed: this.state.windows.get(name)?.cells ?? LayeredMap.empty<Cell>(),
        touched: new Map(),
        firing: undefined,
        upcoming: undefined,
        done: false,
      };
      this.open.set(name, open);
    }
    this.lastWindow = window;
    this.lastOpen = open;
    return open;
  }

  private cell(open: OpenWindow, keyId: string, key: unknown): OpenCell {
    let cell = open.touched.get(keyId);
    if (cell === undefined) {
      const before = open.committed.get(keyId);
      cell =
        before === undefined
          ? { key, accumulator: this.accumulation.create() }
          : { key: before.key, accumulator: this.accumulation.copy(before.accumulator) };
      open.touched.set(keyId, cell);
    }
    return cell;
  }

  /** Windows that have ended at the watermark and hold cells, in the order of time. */
  private dueWindows(): OpenWindow[] {
    for (const { window } of this.state.windows.values()) {
      if (firingWatermark(window) <= this.watermarkMs) this.windowOf(window);
    }
    return [...this.open.values()]
      .filter((open) => !open.done && firingWatermark(open.window) <= this.watermarkMs)
      .sort((a, b) => byTime(a.window, b.window));
  }

  /** The next cell to fire. The window has ended, so nothing can be added to it between two calls. */
  private peek(open: OpenWindow): [string, Cell] | undefined {
    open.firing ??= this.liveCells(open);
    if (open.upcoming === undefined) {
      const next = open.firing.next();
      open.upcoming = next.done ? undefined : next.value;
    }
    return open.upcoming;
  }

  private *liveCells(open: OpenWindow): Generator<[string, Cell]> {
    for (const [keyId, cell] of open.committed.entries()) {
      const current = open.touched.has(keyId) ? open.touched.get(keyId) : cell;
      if (current !== undefined) yield [keyId, current];
    }
    for (const [keyId, cell] of open.touched) {
      if (cell !== undefined && open.committed.get(keyId) === undefined) yield [keyId, cell];
    }
  }
}

/** The smallest output time that the state holds back: the end of its first window. Infinity if there is none. */
export function holdOf(state: AggregateState): number {
  let hold = Infinity;
  for (const { window } of state.windows.values()) hold = Math.min(hold, maxTimestamp(window));
  return hold;
}

/** The smallest watermark at which the state fires. Infinity if there is nothing to fire. */
export function nextTimerOf(state: AggregateState): number {
  let next = Infinity;
  for (const { window } of state.windows.values()) next = Math.min(next, firingWatermark(window));
  return next;
}

function byTime(a: Window, b: Window): number {
  const difference = maxTimestamp(a) - maxTimestamp(b);
  if (difference !== 0) return difference;
  return startOf(a) - startOf(b);
}

function startOf(window: Window): number {
  return window.kind === "global" ? -Infinity : window.startMs;
}

function closed(touched: ReadonlyMap<string, OpenCell | undefined>): Map<string, Cell | undefined> {
  return new Map(touched);
}
