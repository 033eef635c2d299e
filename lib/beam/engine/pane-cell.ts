import type { Pane } from "./panes";
import type { Rows } from "./rows";
import { MAX_TIMESTAMP_MS } from "./time";
import type { TriggerState } from "./trigger-machine";
import type { Windowing } from "./windowing";
import { firingWatermark, maxTimestamp, type Window } from "./windows";

/** What is kept of one key in one window whose trigger may fire more than once. */
export interface PaneCell {
  readonly window: Window;
  /** The trigger has finished; what comes is dropped until the window expires. */
  readonly closed: boolean;
  /** The end of the window has been acted on. */
  readonly ended: boolean;
  /** There is an accumulator. */
  readonly filled: boolean;
  readonly accumulator: unknown;
  /** Elements have come since the last pane. */
  readonly pending: boolean;
  /** The output time of the elements since the last pane, as far as they came in time to have one. */
  readonly elementHoldMs: number | undefined;
  /** The end of the window is held for an on-time pane. */
  readonly endHeld: boolean;
  /** Undefined where the trigger has nothing to remember yet. */
  readonly trigger: TriggerState | undefined;
  /** The pane that was emitted last. */
  readonly pane: LastPane | undefined;
}

export interface LastPane {
  readonly index: number;
  /** How many panes have not been early. */
  readonly spoken: number;
  readonly timing: Pane["timing"];
}

export interface PaneKey {
  readonly key: unknown;
  readonly cells: readonly PaneCell[];
}

/** How the cells of a key are kept between bundles: as a row of whatever form, with an id that equal keys share. */
export interface PaneCodec<V> {
  id(key: unknown): string;
  encode(id: string, key: unknown, cells: readonly PaneCell[]): V;
  /** Cells of one's own: whoever gets them may change them. */
  decode(id: string, value: V): { readonly key: unknown; readonly cells: PaneCell[] };
}

/** The state of one shard of an aggregate stage whose windows may give several panes. See `Rows`. */
export interface PaneState<V> {
  /** The highest input watermark that the shard has acted on; a lower one never takes it back. */
  readonly watermarkMs: number;
  /** The latest processing time that the shard was told; undefined before the first. */
  readonly nowMs: number | undefined;
  /** By key. */
  readonly rows: Rows<V>;
}

/** The smallest watermark at which the window is forgotten: its end plus the allowed lateness. */
export function expiryWatermark(window: Window, { allowedLatenessMs }: Windowing): number {
  return Math.min(firingWatermark(window) + allowedLatenessMs, MAX_TIMESTAMP_MS);
}

/** The watermarks at which the cell has something to do: the end of its window, unless acted on, and its expiry. */
export function eventTimers(cell: PaneCell, windowing: Windowing): readonly number[] {
  const expiry = expiryWatermark(cell.window, windowing);
  const end = firingWatermark(cell.window);
  return cell.ended || cell.closed || end === expiry ? [expiry] : [end, expiry];
}

/** The smallest of them. */
export function nextEventTimer(cell: PaneCell, windowing: Windowing): number {
  const end = firingWatermark(cell.window);
  return cell.ended || cell.closed ? Math.min(end + windowing.allowedLatenessMs, MAX_TIMESTAMP_MS) : end;
}

/**
 * The output time of the cell's next pane before clamping: its elements', or the end of the window for an on-time
 * pane; Infinity if it holds neither. Beam model: `WatermarkHold`.
 */
export function paneHold(cell: PaneCell): number {
  const end = cell.endHeld ? maxTimestamp(cell.window) : Infinity;
  return Math.min(cell.elementHoldMs ?? Infinity, end);
}

/**
 * What the cell holds the output watermark at. Late elements, and a final pane that comes even if empty, hold the
 * time of expiry, so that their pane is not dropped further down.
 */
export function holdOfCell(cell: PaneCell, windowing: Windowing): number {
  if (cell.closed) return Infinity;
  const hold = paneHold(cell);
  if (hold !== Infinity || windowing.allowedLatenessMs === 0) return hold;
  if (!cell.pending && !windowing.emptyFinalPanes) return Infinity;
  return Math.min(maxTimestamp(cell.window) + windowing.allowedLatenessMs, MAX_TIMESTAMP_MS);
}

/** Beam model: `PaneInfoTracker.describePane`. Panes are EARLY*, then ON_TIME at most once, then LATE*. */
export function nextPane(cell: PaneCell, ended: boolean, isLast: boolean): Pane {
  const { pane: before } = cell;
  const onlyEarlySoFar = before === undefined || before.timing === "EARLY";
  // Without a hold the output watermark may have passed the end: nothing can be on time any more.
  const late = !onlyEarlySoFar || (ended && paneHold(cell) === Infinity);
  const timing = late ? "LATE" : ended ? "ON_TIME" : "EARLY";
  const index = before === undefined ? 0 : before.index + 1;
  const spoken = before?.spoken ?? 0;
  return {
    index,
    nonSpeculativeIndex: timing === "EARLY" ? -1 : spoken,
    timing,
    isFirst: index === 0,
    isLast,
  };
}
