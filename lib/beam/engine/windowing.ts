import { continuationOf, DEFAULT_TRIGGER, type Trigger } from "./trigger";
import { isMerging, type WindowFn } from "./windows";

/** How elements are grouped in time. Beam model: `WindowingStrategy`. */
export interface Windowing {
  readonly windowFn: WindowFn;
  readonly trigger: Trigger;
  /** Panes hold all elements of their window so far, instead of those since the last pane. */
  readonly accumulating: boolean;
  readonly allowedLatenessMs: number;
  readonly outputTime: "END_OF_WINDOW" | "EARLIEST" | "LATEST";
  /** Beam model: `OnTimeBehavior` FIRE_ALWAYS. */
  readonly emptyOnTimePanes: boolean;
  /** Beam model: `ClosingBehavior` EMIT_ALWAYS. */
  readonly emptyFinalPanes: boolean;
  /** The windows have been merged by a grouping; they merge no further. Beam model: `MergeStatus` ALREADY_MERGED. */
  readonly alreadyMerged: boolean;
}

export function defaultWindowing(windowFn: WindowFn): Windowing {
  return {
    windowFn,
    trigger: DEFAULT_TRIGGER,
    accumulating: false,
    allowedLatenessMs: 0,
    outputTime: "END_OF_WINDOW",
    emptyOnTimePanes: true,
    emptyFinalPanes: true,
    alreadyMerged: false,
  };
}

export function mergesWindows({ windowFn, alreadyMerged }: Windowing): boolean {
  return isMerging(windowFn) && !alreadyMerged;
}

/** Each window gives one pane, at its end, at its last timestamp: then there is nothing to remember but values. */
export function firesOnceAtTheEnd(windowing: Windowing): boolean {
  const { trigger, allowedLatenessMs, outputTime } = windowing;
  const atTheEnd =
    trigger.kind === "default" ||
    (trigger.kind === "afterEndOfWindow" && trigger.early === undefined && trigger.late === undefined);
  return atTheEnd && allowedLatenessMs === 0 && outputTime === "END_OF_WINDOW" && !mergesWindows(windowing);
}

/** The windowing of what a grouping gives. Beam model: `GroupByKey.updateWindowingStrategy`. */
export function windowingAfterGrouping(windowing: Windowing): Windowing {
  return {
    ...windowing,
    trigger: continuationOf(windowing.trigger),
    alreadyMerged: windowing.alreadyMerged || isMerging(windowing.windowFn),
  };
}
