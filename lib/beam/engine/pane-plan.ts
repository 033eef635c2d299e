import { holdOfCell, nextEventTimer, type PaneCell, type PaneState } from "./pane-cell";
import type { RowTimes } from "./rows";
import { type CompiledTrigger, compileTrigger } from "./trigger-machine";
import { mergesWindows, type Windowing } from "./windowing";

/** A windowing strategy, ready to run. */
export interface PanePlan {
  readonly windowing: Windowing;
  readonly trigger: CompiledTrigger;
  readonly merging: boolean;
}

export function planPanes(windowing: Windowing): PanePlan {
  const merging = mergesWindows(windowing);
  return { windowing, trigger: compileTrigger(windowing.trigger, merging), merging };
}

/** The smallest output time that the state holds back; Infinity if there is none. */
export function holdOfPanes(state: PaneState<unknown>): number {
  return state.rows.least("holdMs");
}

/** The smallest watermark at which the state has something to do; Infinity if there is none. */
export function nextTimerOfPanes(state: PaneState<unknown>): number {
  return state.rows.least("timerMs");
}

/** The smallest processing time at which a delay ends; Infinity if none. */
export function nextProcessingTimerOfPanes(state: PaneState<unknown>): number {
  return state.rows.least("clockMs");
}

/** When the cell's trigger has to be asked next. */
export function nextProcessingTimer({ closed, trigger }: PaneCell, plan: PanePlan): number {
  return closed || trigger === undefined ? Infinity : plan.trigger.root.deadline(trigger);
}

/** The times of a key's row. Accumulators do not matter. */
export function timesOfCells(cells: readonly PaneCell[], plan: PanePlan): RowTimes {
  let timerMs = Infinity;
  let holdMs = Infinity;
  let clockMs = Infinity;
  for (const cell of cells) {
    timerMs = Math.min(timerMs, nextEventTimer(cell, plan.windowing));
    holdMs = Math.min(holdMs, holdOfCell(cell, plan.windowing));
    clockMs = Math.min(clockMs, nextProcessingTimer(cell, plan));
  }
  return { timerMs, holdMs, clockMs };
}
