import type { Accumulation, Emitter, KeyId } from "./aggregation";
import { close, forget, mergedPane, newCell, type OpenCell, type OpenKey } from "./open-cell";
import {
  eventTimers,
  expiryWatermark,
  nextEventTimer,
  nextPane,
  type PaneCell,
  type PaneCodec,
  type PaneState,
  paneHold,
} from "./pane-cell";
import { nextProcessingTimer, type PanePlan, timesOfCells } from "./pane-plan";
import { type DueRows, REMOVED, type RowChange, Rows } from "./rows";
import { freshTriggerState, type OpenTriggerState, type TriggerPlace } from "./trigger-machine";
import {
  firingWatermark,
  type IntervalWindow,
  maxTimestamp,
  mergesOf,
  type Window,
  type WindowMerge,
} from "./windows";

export const EMPTY_PANES: PaneState<never> = { watermarkMs: -Infinity, nowMs: undefined, rows: Rows.empty() };

/**
 * When triggers are asked: after each element, so that panes do not depend on how a bundle was cut, or at
 * `settle`, as Beam does at the end of a bundle.
 */
export type TriggerTime = "element" | "settle";

interface Due {
  readonly timeMs: number;
  readonly open: OpenKey;
  readonly cell: OpenCell;
}

/** Grouping by key and window under any trigger, as one bundle sees it. Beam model: `ReduceFnRunner`. */
export class TentativePanes<V> {
  /** Keys that this bundle has looked at, by the id of their row. */
  private readonly touched = new Map<string, OpenKey>();
  /** The same by the key's identity, for the inner loop. */
  private readonly byKey = new Map<KeyId, OpenKey>();
  private readonly dueByTimer: DueRows;
  private readonly dueByClock: DueRows;
  private readonly unsettled = new Map<OpenCell, OpenKey>();
  private watermarkMs: number;
  private nowMs: number | undefined;
  /** Elements whose window had expired, or whose trigger had finished. */
  droppedLate = 0;

  constructor(
    private readonly plan: PanePlan,
    private readonly state: PaneState<V>,
    private readonly accumulation: Accumulation,
    private readonly codec: PaneCodec<V>,
    private readonly out: Emitter,
    inputWatermarkMs: number,
    nowMs?: number,
    private readonly triggerTime: TriggerTime = "element",
  ) {
    this.watermarkMs = Math.max(state.watermarkMs, inputWatermarkMs);
    this.nowMs = latest(state.nowMs, nowMs);
    this.dueByTimer = state.rows.due("timerMs", this.touched);
    this.dueByClock = state.rows.due("clockMs", this.touched);
  }

  add(keyId: KeyId, key: unknown, value: unknown, window: Window, timestampMs: number): void {
    if (expiryWatermark(window, this.plan.windowing) <= this.watermarkMs) {
      this.droppedLate++;
      return;
    }
    const open = this.openKey(keyId, key);
    // What was due before the element came is done before it.
    const isDue = (cell: OpenCell) => nextEventTimer(cell, this.plan.windowing) <= this.watermarkMs;
    for (let cell = open.cells.find(isDue); cell !== undefined; cell = open.cells.find(isDue)) {
      this.fireDue(open, cell);
    }
    const cell = this.cellFor(open, window);
    if (cell.closed) {
      this.droppedLate++;
      return;
    }
    open.changed = true;
    this.accumulate(cell, value, timestampMs);
    if (this.triggerTime === "settle") this.unsettled.set(cell, open);
    else this.fireIfReady(open, cell);
  }

  /** Asks the triggers of all cells that have had elements since the last time. */
  settle(): void {
    for (const [cell, open] of this.unsettled) if (!cell.closed) this.fireIfReady(open, cell);
    this.unsettled.clear();
  }

  /** Acts on ends and expiries of windows, in the order of time, at most `limit`; true while more is due. */
  advance(watermarkMs: number, limit: number): boolean {
    this.settle();
    this.watermarkMs = Math.max(this.watermarkMs, watermarkMs);
    return this.run(
      this.dueByTimer,
      (cell) => eventTimers(cell, this.plan.windowing),
      this.watermarkMs,
      limit,
      (open, cell) => this.fireDue(open, cell),
    );
  }

  /** Fires the cells whose delays have ended, at most `limit`; true while more are due. */
  advanceClock(nowMs: number, limit: number): boolean {
    this.settle();
    const now = latest(this.nowMs, nowMs)!;
    this.nowMs = now;
    return this.run(
      this.dueByClock,
      (cell) => [nextProcessingTimer(cell, this.plan)],
      now,
      limit,
      (open, cell) => this.fireIfReady(open, cell),
    );
  }

  /** The state after the bundle. */
  result(): PaneState<V> {
    this.settle();
    const changes = new Map<string, RowChange<V>>();
    for (const open of this.touched.values()) {
      if (open.changed && (open.cells.length > 0 || this.state.rows.get(open.id) !== undefined)) {
        changes.set(open.id, this.change(open));
      }
    }
    return { watermarkMs: this.watermarkMs, nowMs: this.nowMs, rows: this.state.rows.with(changes) };
  }

  private change({ id, key, cells }: OpenKey): RowChange<V> {
    if (cells.length === 0) return REMOVED;
    return { value: this.codec.encode(id, key, cells), times: timesOfCells(cells, this.plan) };
  }

  private run(
    rows: DueRows,
    timers: (cell: PaneCell) => readonly number[],
    until: number,
    limit: number,
    act: (open: OpenKey, cell: OpenCell) => void,
  ): boolean {
    let left = limit;
    for (const { open, cell } of this.due(rows, timers, until, limit)) {
      if (left <= 0) return true;
      left--;
      open.changed = true;
      act(open, cell);
    }
    return false;
  }

  /** What is due, in order; of rows that were not touched only as many as are needed to know what more is due. */
  private due(
    rows: DueRows,
    timers: (cell: PaneCell) => readonly number[],
    until: number,
    limit: number,
  ): Due[] {
    for (let opened = 0; opened <= limit; opened++) {
      const id = rows.next(until);
      if (id === undefined) break;
      this.open(id, undefined);
    }
    const due: Due[] = [];
    for (const open of this.touched.values()) {
      for (const cell of open.cells) {
        for (const timeMs of timers(cell)) if (timeMs <= until) due.push({ timeMs, open, cell });
      }
    }
    return due.sort((a, b) => a.timeMs - b.timeMs);
  }

  private fireDue(open: OpenKey, cell: OpenCell): void {
    if (eventTimers(cell, this.plan.windowing).length > 1 && this.hasEnded(cell.window)) {
      open.changed = true;
      this.fireIfReady(open, cell);
      cell.ended = true;
      return;
    }
    if (expiryWatermark(cell.window, this.plan.windowing) > this.watermarkMs) return;
    open.changed = true;
    if (!cell.closed) this.firePane(open, cell, true);
    open.cells = open.cells.filter((other) => other !== cell);
    this.unsettled.delete(cell);
  }

  private fireIfReady(open: OpenKey, cell: OpenCell): void {
    const { root } = this.plan.trigger;
    const place = this.place(cell.window);
    const state = this.triggerOf(cell);
    const ready = root.shouldFire(state, place);
    if (place.nowMs !== undefined && root.deadline(state) <= place.nowMs) state.askedMs = place.nowMs;
    if (!ready) return;
    root.onFire(state, place);
    const finished = root.isFinished(state);
    this.firePane(open, cell, finished);
    if (finished) close(cell);
  }

  /** Emits the cell's pane if there is one to emit, and starts the next. */
  private firePane({ key }: OpenKey, cell: OpenCell, isLast: boolean): void {
    const { windowing } = this.plan;
    const ended = this.hasEnded(cell.window);
    const pane = nextPane(cell, ended, isLast);
    const emptyOnTime = pane.timing === "ON_TIME" && windowing.emptyOnTimePanes && cell.endHeld;
    if (cell.pending || emptyOnTime || (isLast && windowing.emptyFinalPanes)) {
      const timestampMs = Math.min(paneHold(cell), maxTimestamp(cell.window));
      const spoken = (cell.pane?.spoken ?? 0) + (pane.timing === "EARLY" ? 0 : 1);
      cell.pane = { index: pane.index, spoken, timing: pane.timing };
      this.emitPane(key, cell, timestampMs, pane, isLast);
    }
    cell.pending = false;
    cell.elementHoldMs = undefined;
    cell.endHeld = windowing.emptyOnTimePanes && !ended && this.plan.trigger.root.hasOnTimePane();
    if (isLast || !windowing.accumulating) forget(cell);
  }

  private emitPane(
    key: unknown,
    cell: OpenCell,
    timestampMs: number,
    pane: ReturnType<typeof nextPane>,
    isLast: boolean,
  ): void {
    const { accumulation } = this;
    const keeps = this.plan.windowing.accumulating && !isLast;
    let accumulator = cell.accumulator;
    if (!cell.filled) accumulator = accumulation.create();
    // Extracting may change an accumulator, and one that is kept must outlive the pane.
    else if (keeps) accumulator = accumulation.copy(accumulator);
    const value = accumulation.extract(accumulator);
    this.out.emit(key, value, timestampMs, cell.window, pane);
  }

  private accumulate(cell: OpenCell, value: unknown, timestampMs: number): void {
    const { accumulation } = this;
    if (!cell.filled) cell.accumulator = accumulation.create();
    cell.accumulator = accumulation.add(cell.accumulator, value);
    cell.filled = true;
    cell.pending = true;
    this.hold(cell, timestampMs);
    this.plan.trigger.root.onElement(this.triggerOf(cell), this.place(cell.window));
  }

  /** Late elements hold nothing: the output watermark may have passed them. */
  private hold(cell: OpenCell, timestampMs: number): void {
    const { outputTime } = this.plan.windowing;
    if (this.hasEnded(cell.window)) return;
    const hold = outputTime === "END_OF_WINDOW" ? maxTimestamp(cell.window) : timestampMs;
    const before = cell.elementHoldMs;
    if (hold >= this.watermarkMs || (before !== undefined && before <= hold)) {
      const latestWins = outputTime === "LATEST";
      cell.elementHoldMs =
        before === undefined ? hold : latestWins ? Math.max(before, hold) : Math.min(before, hold);
    } else cell.endHeld = true;
  }

  /** The cell of an element's window, after the merges that the window brings about. */
  private cellFor(open: OpenKey, window: Window): OpenCell {
    const same = open.cells.find((cell) => isSame(cell.window, window));
    if (same !== undefined || !this.plan.merging || window.kind === "global") {
      return same ?? this.newCell(open, window);
    }
    const active = open.cells.filter((cell) => !cell.closed);
    const windows = [...active.map((cell) => cell.window as IntervalWindow), window];
    let result: Window = window;
    for (const merge of mergesOf(this.plan.windowing.windowFn, windows)) {
      if (merge.from.some((from) => isSame(from, window))) result = merge.to;
      this.merge(open, active, merge);
    }
    return open.cells.find((cell) => isSame(cell.window, result)) ?? this.newCell(open, result);
  }

  private merge(open: OpenKey, active: readonly OpenCell[], { from, to }: WindowMerge): void {
    const sources = active.filter((cell) => from.some((window) => isSame(cell.window, window)));
    const [only] = sources;
    if (only === undefined || (sources.length === 1 && isSame(only.window, to))) return;
    const merged = this.mergedCell(sources, to);
    open.cells = [
      ...open.cells.filter((cell) => !sources.includes(cell) && !isSame(cell.window, to)),
      merged,
    ];
    for (const source of sources) {
      if (this.unsettled.delete(source)) this.unsettled.set(merged, open);
    }
  }

  private mergedCell(sources: readonly OpenCell[], window: Window): OpenCell {
    const { root } = this.plan.trigger;
    const ended = this.hasEnded(window);
    const trigger = this.plan.trigger.stateless ?? freshTriggerState(this.plan.trigger);
    root.onMerge(
      sources.map((source) => this.triggerOf(source)),
      trigger,
      this.place(window),
    );
    const own = sources.filter(({ filled }) => filled).map(({ accumulator }) => accumulator);
    return {
      ...newCell(window, ended),
      filled: own.length > 0,
      accumulator: own.length > 1 ? this.accumulation.merge(own) : own[0],
      pending: sources.some(({ pending }) => pending),
      elementHoldMs: this.mergedHold(sources, window),
      endHeld: sources.some(({ endHeld }) => endHeld),
      trigger,
      pane: mergedPane(sources, ended),
    };
  }

  private mergedHold(sources: readonly OpenCell[], window: Window): number | undefined {
    const holds = sources.map(({ elementHoldMs }) => elementHoldMs).filter((hold) => hold !== undefined);
    if (holds.length === 0) return undefined;
    const { outputTime } = this.plan.windowing;
    if (outputTime === "END_OF_WINDOW") return maxTimestamp(window);
    return outputTime === "LATEST" ? Math.max(...holds) : Math.min(...holds);
  }

  private hasEnded(window: Window): boolean {
    return firingWatermark(window) <= this.watermarkMs;
  }

  private place(window: Window): TriggerPlace {
    return { ended: this.hasEnded(window), nowMs: this.nowMs };
  }

  private triggerOf(cell: OpenCell): OpenTriggerState {
    const { trigger } = this.plan;
    if (trigger.stateless !== undefined) return trigger.stateless;
    cell.trigger ??= freshTriggerState(trigger);
    return cell.trigger;
  }

  private openKey(keyId: KeyId, key: unknown): OpenKey {
    let open = this.byKey.get(keyId);
    if (open === undefined) {
      const id = this.codec.id(key);
      open = this.touched.get(id) ?? this.open(id, key);
      this.byKey.set(keyId, open);
    }
    return open;
  }

  /** The key of a row as this bundle sees it; `key` is for one that has none yet. */
  private open(id: string, key: unknown): OpenKey {
    const row = this.state.rows.get(id);
    const before = row === undefined ? { key, cells: [] } : this.codec.decode(id, row);
    const open = { id, key: before.key, cells: before.cells as OpenCell[], changed: false };
    this.touched.set(id, open);
    return open;
  }

  private newCell(open: OpenKey, window: Window): OpenCell {
    const cell = newCell(window, this.hasEnded(window));
    open.cells.push(cell);
    return cell;
  }
}

function isSame(a: Window, b: Window): boolean {
  if (a === b) return true;
  if (a.kind === "global" || b.kind === "global") return a.kind === b.kind;
  return a.startMs === b.startMs && a.endMs === b.endMs;
}

function latest(before: number | undefined, nowMs: number | undefined): number | undefined {
  if (before === undefined || nowMs === undefined) return nowMs ?? before;
  return Math.max(before, nowMs);
}
