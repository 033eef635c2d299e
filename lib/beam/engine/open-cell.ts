import type { PaneCell } from "./pane-cell";
import type { OpenTriggerState } from "./trigger-machine";
import type { Window } from "./windows";

/** A cell while a bundle changes it. What is decoded from a row is the bundle's own. */
export type OpenCell = { -readonly [K in keyof PaneCell]: PaneCell[K] } & {
  trigger: OpenTriggerState | undefined;
};

export interface OpenKey {
  readonly id: string;
  readonly key: unknown;
  cells: OpenCell[];
  /** Something of it has been changed. */
  changed: boolean;
}

export function newCell(window: Window, ended: boolean): OpenCell {
  return {
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
  };
}

/** Only that it is closed is remembered. */
export function close(cell: OpenCell): void {
  forget(cell);
  cell.closed = true;
  cell.pane = undefined;
  cell.trigger = undefined;
  cell.endHeld = false;
}

export function forget(cell: OpenCell): void {
  cell.filled = false;
  cell.accumulator = undefined;
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
