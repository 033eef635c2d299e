import { ON_TIME_AND_ONLY_FIRING, type Pane } from "./panes";
import { type DueRows, NO_TIMES, REMOVED, type RowChange, Rows, type RowTimes } from "./rows";
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
  /** What `extract` takes in place of an accumulator that has no encoding of its own. */
  plain?(accumulator: unknown): unknown;
}

/** What is kept of one key in one window. */
export interface Cell {
  readonly key: unknown;
  readonly window: Window;
  readonly accumulator: unknown;
}

/** How cells are kept between bundles: as rows of whatever form, each with an id that equal keys and windows share. */
export interface CellCodec<V> {
  id(key: unknown, window: Window): string;
  encode(id: string, cell: Cell): V;
  /** A cell of its own: whoever gets it may change its accumulator. */
  decode(id: string, value: V): Cell;
  /** The same where an equal key and window are known already. */
  reopen(id: string, value: V, key: unknown, window: Window): Cell;
}

/** The state of one shard of an aggregate stage. See `Rows` for what becomes of it when a bundle follows. */
export interface AggregateState<V> {
  /** The highest input watermark that the shard has acted on; a lower one never takes it back. */
  readonly watermarkMs: number;
  readonly rows: Rows<V>;
}

export const EMPTY_AGGREGATE: AggregateState<never> = { watermarkMs: -Infinity, rows: Rows.empty() };

/** Takes panes: what a grouping gives of a key and window. */
export interface Emitter {
  emit(key: unknown, value: unknown, timestampMs: number, window: Window, pane: Pane): void;
}

/** The identity of a key: what equal keys share and different keys do not. */
export type KeyId = string | number;

interface OpenCell {
  readonly id: string;
  readonly key: unknown;
  readonly window: Window;
  /** Its place in the order in which cells came. */
  readonly order: number;
  accumulator: unknown;
}

const FIRED = undefined;
// New cells come after all that the state has.
const NEW_CELLS = 2 ** 52;

/**
 * Grouping by key and window under the default trigger without lateness, as one bundle sees it.
 *
 * A window fires once, when the watermark passes its last timestamp; each key gives one pane with the time of the
 * end of the window. An element is late, and dropped, when its window had already ended at the watermark.
 * Fires in the order of time, then in the order in which keys came. Beam model: `DefaultTrigger`, output time
 * END_OF_WINDOW.
 */
export class TentativeAggregation<V> {
  /** Cells that this bundle has touched, by id; undefined where it has fired one. */
  private readonly touched = new Map<string, OpenCell | undefined>();
  /** The same by window and key's identity, for the inner loop. */
  private readonly byWindow = new Map<string, Map<KeyId, OpenCell>>();
  private readonly dueRows: DueRows;
  /** Touched cells that are due at `dueAtMs`, the next one last. */
  private dueCells: OpenCell[] = [];
  private dueAtMs = -Infinity;
  /** The next of the rows that are not touched, decoded. */
  private upcoming: OpenCell | undefined;
  private watermarkMs: number;
  private lastWindow: Window | undefined;
  private lastCells: Map<KeyId, OpenCell> = new Map();
  private timedWindow: Window | undefined;
  private times: RowTimes = NO_TIMES;
  private came = 0;
  droppedLate = 0;

  constructor(
    private readonly state: AggregateState<V>,
    private readonly accumulation: Accumulation,
    private readonly codec: CellCodec<V>,
    inputWatermarkMs: number,
  ) {
    this.watermarkMs = Math.max(state.watermarkMs, inputWatermarkMs);
    this.dueRows = state.rows.due("timerMs", this.touched);
  }

  add(keyId: KeyId, key: unknown, value: unknown, window: Window): void {
    if (maxTimestamp(window) < this.watermarkMs) {
      this.droppedLate++;
      return;
    }
    const cells = this.cellsOf(window);
    let cell = cells.get(keyId);
    if (cell === undefined) {
      cell = this.open(key, window);
      cells.set(keyId, cell);
    }
    cell.accumulator = this.accumulation.add(cell.accumulator, value);
  }

  /** Fires what is due, at most `limit` panes; true while more is due. */
  advance(watermarkMs: number, limit: number, out: Emitter): boolean {
    this.watermarkMs = Math.max(this.watermarkMs, watermarkMs);
    this.findDueCells();
    for (let left = limit; ; left--) {
      const cell = this.nextDue();
      if (cell === undefined) return false;
      if (left === 0) return true;
      if (cell === this.dueCells.at(-1)) this.dueCells.pop();
      this.touched.set(cell.id, FIRED);
      const value = this.accumulation.extract(cell.accumulator);
      out.emit(cell.key, value, maxTimestamp(cell.window), cell.window, ON_TIME_AND_ONLY_FIRING);
    }
  }

  /** The state after the bundle. */
  result(): AggregateState<V> {
    const changes = new Map<string, RowChange<V>>();
    for (const [id, cell] of this.touched) {
      if (cell !== FIRED || this.state.rows.get(id) !== undefined) changes.set(id, this.change(cell));
    }
    return { watermarkMs: this.watermarkMs, rows: this.state.rows.with(changes) };
  }

  private change(cell: OpenCell | undefined): RowChange<V> {
    if (cell === FIRED) return REMOVED;
    return { value: this.codec.encode(cell.id, cell), times: this.timesOf(cell.window) };
  }

  /** Of neighbours in one window the same object. */
  private timesOf(window: Window): RowTimes {
    if (window !== this.timedWindow) this.times = timesOfWindow(window);
    this.timedWindow = window;
    return this.times;
  }

  private cellsOf(window: Window): Map<KeyId, OpenCell> {
    if (window === this.lastWindow) return this.lastCells;
    const name = windowName(window);
    let cells = this.byWindow.get(name);
    if (cells === undefined) {
      cells = new Map();
      this.byWindow.set(name, cells);
    }
    this.lastWindow = window;
    this.lastCells = cells;
    return cells;
  }

  private open(key: unknown, window: Window): OpenCell {
    const id = this.codec.id(key, window);
    const row = this.state.rows.get(id);
    const cell =
      row === undefined
        ? { id, key, window, order: NEW_CELLS + this.came++, accumulator: this.accumulation.create() }
        : this.opened(id, this.codec.reopen(id, row, key, window));
    this.touched.set(id, cell);
    return cell;
  }

  private opened(id: string, { key, window, accumulator }: Cell): OpenCell {
    return { id, key, window, order: this.state.rows.orderOf(id), accumulator };
  }

  /** A window that has ended takes no more elements, so what is due at a watermark is known when it comes. */
  private findDueCells(): void {
    if (this.dueAtMs === this.watermarkMs) return;
    this.dueAtMs = this.watermarkMs;
    this.dueCells = [];
    for (const cell of this.touched.values()) {
      if (cell !== FIRED && firingWatermark(cell.window) <= this.watermarkMs) this.dueCells.push(cell);
    }
    this.dueCells.sort((a, b) => inOrder(b, a));
  }

  /** Of touched and untouched cells the one that fires next, opened. */
  private nextDue(): OpenCell | undefined {
    const touched = this.dueCells.at(-1);
    const id = this.dueRows.next(this.watermarkMs);
    if (id === undefined) return touched;
    if (this.upcoming?.id !== id)
      this.upcoming = this.opened(id, this.codec.decode(id, this.state.rows.get(id)!));
    return touched !== undefined && inOrder(touched, this.upcoming) < 0 ? touched : this.upcoming;
  }
}

/** The times of a row, from its window. */
export function timesOfWindow(window: Window): RowTimes {
  return { timerMs: firingWatermark(window), holdMs: maxTimestamp(window), clockMs: Infinity };
}

function inOrder(a: OpenCell, b: OpenCell): number {
  return firingWatermark(a.window) - firingWatermark(b.window) || a.order - b.order;
}

/** The smallest output time that the state holds back: the end of its first window. Infinity if there is none. */
export function holdOf(state: AggregateState<unknown>): number {
  return state.rows.least("holdMs");
}

/** The smallest watermark at which the state fires. Infinity if there is nothing to fire. */
export function nextTimerOf(state: AggregateState<unknown>): number {
  return state.rows.least("timerMs");
}
