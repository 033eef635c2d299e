import type { Accumulation, Emit } from "./aggregation";
import { LayeredMap } from "./layered-map";
import {
  close,
  committed,
  forget,
  mergedPane,
  newCell,
  type OpenCell,
  type OpenKey,
  reopened,
} from "./open-cell";
import {
  eventTimers,
  expiryWatermark,
  nextEventTimer,
  nextPane,
  type PaneCell,
  type PaneKey,
  type PaneState,
  paneHold,
} from "./pane-cell";
import { nextProcessingTimer, type PanePlan } from "./pane-plan";
import {
  freshTriggerState,
  type OpenTriggerState,
  openTriggerState,
  type TriggerPlace,
} from "./trigger-machine";
import {
  firingWatermark,
  type IntervalWindow,
  maxTimestamp,
  mergesOf,
  type Window,
  type WindowMerge,
} from "./windows";

export const EMPTY_PANES: PaneState = { watermarkMs: -Infinity, nowMs: undefined, keys: LayeredMap.empty() };

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
export class TentativePanes {
  private readonly touched = new Map<string, OpenKey>();
  private readonly unsettled = new Set<OpenCell>();
  private watermarkMs: number;
  private nowMs: number | undefined;
  /** Elements whose window had expired, or whose trigger had finished. */
  droppedLate = 0;

  constructor(
    private readonly plan: PanePlan,
    private readonly state: PaneState,
    private readonly accumulation: Accumulation,
    private readonly emit: Emit,
    inputWatermarkMs: number,
    nowMs?: number,
    private readonly triggerTime: TriggerTime = "element",
  ) {
    this.watermarkMs = Math.max(state.watermarkMs, inputWatermarkMs);
    this.nowMs = latest(state.nowMs, nowMs);
  }

  add(keyId: string, key: unknown, value: unknown, window: Window, timestampMs: number): void {
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
    this.accumulate(cell, value, timestampMs);
    if (this.triggerTime === "settle") this.unsettled.add(cell);
    else this.fireIfReady(cell);
  }

  /** Asks the triggers of all cells that have had elements since the last time. */
  settle(): void {
    for (const cell of this.unsettled) if (!cell.closed) this.fireIfReady(cell);
    this.unsettled.clear();
  }

  /** Acts on ends and expiries of windows, in the order of time, at most `limit`; true while more is due. */
  advance(watermarkMs: number, limit: number): boolean {
    this.settle();
    this.watermarkMs = Math.max(this.watermarkMs, watermarkMs);
    return this.run(
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
      (cell) => [nextProcessingTimer(cell, this.plan)],
      now,
      limit,
      (_open, cell) => this.fireIfReady(cell),
    );
  }

  /** The state after the bundle. */
  result(): PaneState {
    this.settle();
    const changes = new Map<string, PaneKey | undefined>();
    for (const [keyId, { key, cells }] of this.touched) {
      changes.set(keyId, cells.length === 0 ? undefined : { key, cells: cells.map(committed) });
    }
    return { watermarkMs: this.watermarkMs, nowMs: this.nowMs, keys: this.state.keys.with(changes) };
  }

  private run(
    timers: (cell: PaneCell) => readonly number[],
    until: number,
    limit: number,
    act: (open: OpenKey, cell: OpenCell) => void,
  ): boolean {
    let left = limit;
    for (const { open, cell } of this.due(timers, until)) {
      if (left <= 0) return true;
      left--;
      act(open, cell);
    }
    return false;
  }

  private due(timers: (cell: PaneCell) => readonly number[], until: number): Due[] {
    const isDue = (cell: PaneCell) => timers(cell).some((timeMs) => timeMs <= until);
    for (const [keyId, { key, cells }] of this.state.keys.entries()) {
      if (!this.touched.has(keyId) && cells.some(isDue)) this.openKey(keyId, key);
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
      this.fireIfReady(cell);
      cell.ended = true;
      return;
    }
    if (expiryWatermark(cell.window, this.plan.windowing) > this.watermarkMs) return;
    if (!cell.closed) this.firePane(cell, true);
    open.cells = open.cells.filter((other) => other !== cell);
    this.unsettled.delete(cell);
  }

  private fireIfReady(cell: OpenCell): void {
    const { root } = this.plan.trigger;
    const place = this.place(cell.window);
    const state = this.triggerOf(cell);
    const ready = root.shouldFire(state, place);
    if (place.nowMs !== undefined && root.deadline(state) <= place.nowMs) {
      this.ownTriggerOf(cell).askedMs = place.nowMs;
    }
    if (!ready) return;
    root.onFire(this.ownTriggerOf(cell), place);
    const finished = root.isFinished(this.triggerOf(cell));
    this.firePane(cell, finished);
    if (finished) close(cell);
  }

  /** Emits the cell's pane if there is one to emit, and starts the next. */
  private firePane(cell: OpenCell, isLast: boolean): void {
    const { windowing } = this.plan;
    const ended = this.hasEnded(cell.window);
    const pane = nextPane(cell, ended, isLast);
    const emptyOnTime = pane.timing === "ON_TIME" && windowing.emptyOnTimePanes && cell.endHeld;
    if (cell.pending || emptyOnTime || (isLast && windowing.emptyFinalPanes)) {
      const timestampMs = Math.min(paneHold(cell), maxTimestamp(cell.window));
      const spoken = (cell.pane?.spoken ?? 0) + (pane.timing === "EARLY" ? 0 : 1);
      cell.pane = { index: pane.index, spoken, timing: pane.timing };
      this.emitPane(cell, timestampMs, pane, isLast);
    }
    cell.pending = false;
    cell.elementHoldMs = undefined;
    cell.endHeld = windowing.emptyOnTimePanes && !ended && this.plan.trigger.root.hasOnTimePane();
    if (isLast || !windowing.accumulating) forget(cell);
  }

  private emitPane(
    cell: OpenCell,
    timestampMs: number,
    pane: ReturnType<typeof nextPane>,
    isLast: boolean,
  ): void {
    const { accumulation } = this;
    const keeps = this.plan.windowing.accumulating && !isLast;
    let accumulator = cell.accumulator;
    if (!cell.filled) accumulator = accumulation.create();
    // Extracting may change an accumulator: a committed one must outlive the bundle, a kept one the pane.
    else if (!cell.owned || keeps) accumulator = accumulation.copy(accumulator);
    const value = accumulation.extract(accumulator);
    this.emit(cell.key, value, timestampMs, cell.window, pane);
  }

  private accumulate(cell: OpenCell, value: unknown, timestampMs: number): void {
    const { accumulation } = this;
    if (!cell.filled) cell.accumulator = accumulation.create();
    else if (!cell.owned) cell.accumulator = accumulation.copy(cell.accumulator);
    cell.accumulator = accumulation.add(cell.accumulator, value);
    cell.filled = true;
    cell.owned = true;
    cell.pending = true;
    this.hold(cell, timestampMs);
    this.plan.trigger.root.onElement(this.ownTriggerOf(cell), this.place(cell.window));
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
    const merged = this.mergedCell(open.key, sources, to);
    open.cells = [
      ...open.cells.filter((cell) => !sources.includes(cell) && !isSame(cell.window, to)),
      merged,
    ];
    for (const source of sources) {
      if (this.unsettled.delete(source)) this.unsettled.add(merged);
    }
  }

  private mergedCell(key: unknown, sources: readonly OpenCell[], window: Window): OpenCell {
    const { root } = this.plan.trigger;
    const ended = this.hasEnded(window);
    const trigger = this.plan.trigger.stateless ?? freshTriggerState(this.plan.trigger);
    root.onMerge(
      sources.map((source) => this.triggerOf(source)),
      trigger,
      this.place(window),
    );
    const filled = sources.filter((source) => source.filled);
    const own = filled.map(({ owned, accumulator }) =>
      owned ? accumulator : this.accumulation.copy(accumulator),
    );
    return {
      ...newCell(key, window, ended),
      filled: filled.length > 0,
      accumulator: own.length > 1 ? this.accumulation.merge(own) : own[0],
      owned: true,
      pending: sources.some(({ pending }) => pending),
      elementHoldMs: this.mergedHold(sources, window),
      endHeld: sources.some(({ endHeld }) => endHeld),
      trigger,
      ownTrigger: true,
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

  private ownTriggerOf(cell: OpenCell): OpenTriggerState {
    const state = this.triggerOf(cell);
    if (cell.ownTrigger || this.plan.trigger.stateless !== undefined) return state;
    cell.ownTrigger = true;
    cell.trigger = openTriggerState(state);
    return cell.trigger;
  }

  private openKey(keyId: string, key: unknown): OpenKey {
    let open = this.touched.get(keyId);
    if (open === undefined) {
      const before = this.state.keys.get(keyId);
      const ownKey = before === undefined ? key : before.key;
      open = { key: ownKey, cells: (before?.cells ?? []).map((cell) => reopened(ownKey, cell)) };
      this.touched.set(keyId, open);
    }
    return open;
  }

  private newCell(open: OpenKey, window: Window): OpenCell {
    const cell = newCell(open.key, window, this.hasEnded(window));
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
