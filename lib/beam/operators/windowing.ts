import type { Pane } from "../engine/panes";
import { clampTimestamp } from "../engine/time";
import type { Assignment, Window } from "../engine/windows";
import { SdkLong } from "../graph/window-fn";
import type { Operator } from "./elementwise";
import type { Receiver } from "./receiver";
import { elementText, type UserCode } from "./user-code";
import { toMillis } from "./windowed-value";

/** An element that is in several windows goes on once for each. */
export class WindowIntoOperator implements Operator {
  constructor(
    private readonly assign: Assignment,
    private readonly code: UserCode,
    private readonly next: Receiver,
  ) {}

  receive(value: unknown, timestampMs: number, window: Window, pane: Pane): void {
    const { assign, next } = this;
    let assigned: Window | readonly Window[];
    try {
      assigned = assign(timestampMs, value, window);
    } catch (error) {
      throw this.code.failure(error, value);
    }
    if ("kind" in assigned) next.receive(value, timestampMs, assigned, pane);
    else for (const each of assigned) next.receive(value, timestampMs, each, pane);
  }
}

/** The user's function gets the element and its time as a Long, and gives the new time as a Long or in milliseconds. */
export class AssignTimestampsOperator implements Operator {
  private lastMs = 0;
  private last = SdkLong.fromNumber(0);

  constructor(
    private readonly fn: (element: unknown, timestamp: unknown) => unknown,
    private readonly code: UserCode,
    private readonly next: Receiver,
  ) {}

  receive(value: unknown, timestampMs: number, window: Window, pane: Pane): void {
    const { fn } = this;
    // Neighbours from one read often have one time.
    if (timestampMs !== this.lastMs) {
      this.last = SdkLong.fromNumber(timestampMs);
      this.lastMs = timestampMs;
    }
    let assigned: unknown;
    try {
      assigned = fn(value, this.last);
    } catch (error) {
      throw this.code.failure(error, value);
    }
    const millis = toMillis(assigned);
    if (Number.isNaN(millis)) {
      throw this.code.refusal(
        `gave ${elementText(assigned)} instead of a timestamp (a Long, or milliseconds)`,
        value,
      );
    }
    this.next.receive(value, clampTimestamp(millis), window, pane);
  }
}
