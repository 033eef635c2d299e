import type { PaneCell } from "./pane-cell";
import type { OpenTriggerState } from "./trigger-machine";
import type { Window } from "./windows";

/** A cell while a bundle changes it. */
export type OpenCell = { -readonly [K in keyof PaneCell]: PaneCell[K] } & {
  readonly key: unknown;
  trigger: OpenTriggerState | undefined;
  /** The accumulator is this bundle's own, not the committed one. */
  owned: boolean;
  /** The trigger's state likewise. */
  ownTrigger: boolean;
};

export interface OpenKey {
  readonly key: unknown;
  cells: OpenCell[];
}

export function newCell(key: unknown, window: Window, ended: boolean): OpenCell {
  return {
    key,
    window,
    closed: false,
    ended,
    filled: false,
    accumulator: undefined,
    pending: false,
    elementHoldMs: undefined,
    endHeld: false,
    trigger: undefined,
    pane: undefined,
    owned: false,
    ownTrigger: false,
  };
}

/** Only that it is closed is remembered. */
export function close(cell: OpenCell): void {
  forget(cell);
  cell.closed = true;
  cell.pane = undefined;
  cell.trigger = undefined;
  cell.ownTrigger = false;
  cell.endHeld = false;
}

export function forget(cell: OpenCell): void {
  cell.filled = false;
  cell.accumulator = undefined;
  cell.owned = false;
}

/** Panes are counted on, so that no two of a key and window have the same index; a window that goes on is early again. */
export function mergedPane(sources: readonly OpenCell[], ended: boolean): PaneCell["pane"] {
  const panes = sources.map(({ pane }) => pane).filter((pane) => pane !== undefined);
  if (panes.length === 0) return undefined;
  const timings = panes.map(({ timing }) => timing);
  return {
    index: Math.max(...panes.map(({ index }) => index)),
    spoken: Math.max(...panes.map(({ spoken }) => spoken)),
    timing: ended && timings.some((timing) => timing !== "EARLY") ? "LATE" : "EARLY",
  };
}

/** Written out, as is the reverse: copying by spread takes several times as long. */
export function committed(cell: OpenCell): PaneCell {
  return {
    window: cell.window,
    closed: cell.closed,
    ended: cell.ended,
    filled: cell.filled,
    accumulator: cell.accumulator,
    pending: cell.pending,
    elementHoldMs: cell.elementHoldMs,
    endHeld: cell.endHeld,
    trigger: cell.trigger,
    pane: cell.pane,
  };
}

/** A committed cell, whose accumulator and trigger are copied before they are changed. */
export function reopened(key: unknown, cell: PaneCell): OpenCell {
  return {
    key,
    window: cell.window,
    closed: cell.closed,
    ended: cell.ended,
    filled: cell.filled,
    accumulator: cell.accumulator,
    pending: cell.pending,
    elementHoldMs: cell.elementHoldMs,
    endHeld: cell.endHeld,
    trigger: cell.trigger as OpenTriggerState | undefined,
    pane: cell.pane,
    owned: false,
    ownTrigger: false,
  };
}
