/** Pane information. Beam model: `PaneInfo`. */
export interface Pane {
  readonly index: number;
  readonly nonSpeculativeIndex: number;
  readonly timing: "EARLY" | "ON_TIME" | "LATE" | "UNKNOWN";
  readonly isFirst: boolean;
  readonly isLast: boolean;
}

/** Of an element that no trigger has fired: `PaneInfo.NO_FIRING`. */
export const NO_FIRING: Pane = Object.freeze({
  index: 0,
  nonSpeculativeIndex: 0,
  timing: "UNKNOWN",
  isFirst: true,
  isLast: true,
});

/** The only pane of a window under the default trigger without lateness: `PaneInfo.ON_TIME_AND_ONLY_FIRING`. */
export const ON_TIME_AND_ONLY_FIRING: Pane = Object.freeze({
  index: 0,
  nonSpeculativeIndex: 0,
  timing: "ON_TIME",
  isFirst: true,
  isLast: true,
});
