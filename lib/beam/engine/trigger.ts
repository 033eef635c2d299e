/** A trigger of the Beam model as plain data; times in milliseconds. Beam model: `Trigger` in beam_runner_api.proto. */
export type Trigger =
  | { readonly kind: "default" | "always" | "never" | "afterSynchronizedProcessingTime" }
  | { readonly kind: "elementCount"; readonly count: number }
  | { readonly kind: "afterProcessingTime"; readonly transforms: readonly TimestampTransform[] }
  | { readonly kind: "afterEndOfWindow"; readonly early?: Trigger; readonly late?: Trigger }
  | { readonly kind: "afterAll" | "afterAny" | "afterEach"; readonly parts: readonly Trigger[] }
  | { readonly kind: "orFinally"; readonly main: Trigger; readonly until: Trigger }
  | { readonly kind: "repeatedly"; readonly part: Trigger };

/** Moves the time of a pane's first element on to the time at which the trigger fires. */
export type TimestampTransform =
  | { readonly kind: "delay"; readonly delayMs: number }
  | { readonly kind: "alignTo"; readonly periodMs: number; readonly offsetMs: number };

export const DEFAULT_TRIGGER: Trigger = Object.freeze({ kind: "default" });

/**
 * The trigger of what comes out of a grouping: it passes each pane of the first grouping on without waiting for
 * more. Beam model: `Trigger.getContinuationTrigger`.
 */
export function continuationOf(trigger: Trigger): Trigger {
  switch (trigger.kind) {
    case "elementCount":
      return { kind: "elementCount", count: 1 };
    case "afterProcessingTime":
      return { kind: "afterSynchronizedProcessingTime" };
    case "afterEndOfWindow": {
      const { early, late } = trigger;
      return {
        kind: "afterEndOfWindow",
        ...(early === undefined ? {} : { early: continuationOf(early) }),
        ...(late === undefined ? {} : { late: continuationOf(late) }),
      };
    }
    case "afterAll":
    case "afterAny":
      return { kind: trigger.kind, parts: trigger.parts.map(continuationOf) };
    case "afterEach":
      // The first grouping has put the panes in order; what follows passes on whichever comes.
      return { kind: "repeatedly", part: { kind: "afterAny", parts: trigger.parts.map(continuationOf) } };
    case "orFinally":
      return {
        kind: "repeatedly",
        part: { kind: "orFinally", main: continuationOf(trigger.main), until: continuationOf(trigger.until) },
      };
    case "repeatedly":
      return { kind: "repeatedly", part: continuationOf(trigger.part) };
    default:
      return trigger;
  }
}

/** For messages; triggers with equal descriptions are the same. */
export function describeTrigger(trigger: Trigger): string {
  switch (trigger.kind) {
    case "elementCount":
      return `elementCount(${trigger.count})`;
    case "afterProcessingTime":
      return `afterProcessingTime(${trigger.transforms.map(describeTransform).join(", ")})`;
    case "afterEndOfWindow": {
      const parts = [
        trigger.early === undefined ? [] : [`early: ${describeTrigger(trigger.early)}`],
        trigger.late === undefined ? [] : [`late: ${describeTrigger(trigger.late)}`],
      ];
      return `afterEndOfWindow(${parts.flat().join(", ")})`;
    }
    case "afterAll":
    case "afterAny":
    case "afterEach":
      return `${trigger.kind}(${trigger.parts.map(describeTrigger).join(", ")})`;
    case "orFinally":
      return `orFinally(${describeTrigger(trigger.main)}, ${describeTrigger(trigger.until)})`;
    case "repeatedly":
      return `repeatedly(${describeTrigger(trigger.part)})`;
    default:
      return trigger.kind;
  }
}

function describeTransform(transform: TimestampTransform): string {
  return transform.kind === "delay"
    ? `${transform.delayMs} ms`
    : `aligned to ${transform.periodMs} ms + ${transform.offsetMs} ms`;
}
