import { holdOfCell, nextEventTimer, type PaneCell, type PaneState } from "./pane-cell";
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
export function holdOfPanes(state: PaneState, { windowing }: PanePlan): number {
  return smallest(state, (cell) => holdOfCell(cell, windowing));
}

/** The smallest watermark at which the state has something to do; Infinity if there is none. */
export function nextTimerOfPanes(state: PaneState, { windowing }: PanePlan): number {
  return smallest(state, (cell) => nextEventTimer(cell, windowing));
}

/** The smallest processing time at which a delay ends; Infinity if none. */
export function nextProcessingTimerOfPanes(state: PaneState, plan: PanePlan): number {
  return smallest(state, (cell) => nextProcessingTimer(cell, plan));
}

/** When the cell's trigger has to be asked next. */
export function nextProcessingTimer({ closed, trigger }: PaneCell, plan: PanePlan): number {
  return closed || trigger === undefined ? Infinity : plan.trigger.root.deadline(trigger);
}

function smallest(state: PaneState, of: (cell: PaneCell) => number): number {
  let least = Infinity;
  for (const [, { cells }] of state.keys.entries()) {
    for (const cell of cells) least = Math.min(least, of(cell));
  }
  return least;
}
