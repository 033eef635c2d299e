import { clampTimestamp } from "../engine/time";
import { assigner, type Window, type WindowFn } from "../engine/windows";
import { SdkLong } from "../graph/window-fn";
import type { Operator } from "./elementwise";
import type { Receiver } from "./receiver";
import { elementText, type UserCode } from "./user-code";
import { toMillis } from "./windowed-value";

/** An element that is in several windows goes on once for each. */
export function windowIntoOperator(windowFn: WindowFn, code: UserCode, next: Receiver): Operator {
  const assign = assigner(windowFn);
  return {
    receive(value, timestampMs, window, pane) {
      let assigned: Window | readonly Window[];
      try {
        assigned = assign(timestampMs, value, window);
      } catch (error) {
        throw code.failure(error, value);
      }
      if ("kind" in assigned) next(value, timestampMs, assigned, pane);
      else for (const each of assigned) next(value, timestampMs, each, pane);
    },
  };
}

/** The user's function gets the element and its time as a Long, and gives the new time as a Long or in milliseconds. */
export function assignTimestampsOperator(
  fn: (element: unknown, timestamp: unknown) => unknown,
  code: UserCode,
  next: Receiver,
): Operator {
  let lastMs = 0;
  let last = SdkLong.fromNumber(0);
  return {
    receive(value, timestampMs, window, pane) {
      // Neighbours from one read often have one time.
      if (timestampMs !== lastMs) {
        last = SdkLong.fromNumber(timestampMs);
        lastMs = timestampMs;
      }
      let assigned: unknown;
      try {
        assigned = fn(value, last);
      } catch (error) {
        throw code.failure(error, value);
      }
      const millis = toMillis(assigned);
      if (Number.isNaN(millis)) {
        throw code.refusal(
          `gave ${elementText(assigned)} instead of a timestamp (a Long, or milliseconds)`,
          value,
        );
      }
      next(value, clampTimestamp(millis), window, pane);
    },
  };
}
