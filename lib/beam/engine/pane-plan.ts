import { holdOfCell, nextEventTimer, type PaneCell, type PaneState } from "./pane-cell";
import { type CompiledTrigger, compileTrigger, type OpenTriggerState } from "./trigger-machine";
import { mergesWindows, type Windowing } from "./windowing";
import { firingWatermark } from "./windows";

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

/** The smallest processing time at which a delay ends, past ones that did not fire left out; Infinity if none. */
export function nextProcessingTimerOfPanes(state: PaneState, plan: PanePlan): number {
  const { root } = plan.trigger;
  return smallest(state, (cell) => {
    if (cell.closed || cell.trigger === undefined) return Infinity;
    const deadline = root.deadline(cell.trigger);
    if (deadline > (state.nowMs ?? -Infinity)) return deadline;
    const place = { ended: firingWatermark(cell.window) <= state.watermarkMs, nowMs: state.nowMs };
    return root.shouldFire(cell.trigger as OpenTriggerState, place) ? deadline : Infinity;
  });
}

function smallest(state: PaneState, of: (cell: PaneCell) => number): number {
  let least = Infinity;
  for (const [, { cells }] of state.keys.entries()) {
    for (const cell of cells) least = Math.min(least, of(cell));
  }
  return least;
}
