import type { Pane } from "../engine/panes";
import type { Window } from "../engine/windows";

/** Takes one element in one window. Operators push into their consumers' receivers; nothing is allocated between. */
export type Receiver = (value: unknown, timestampMs: number, window: Window, pane: Pane) => void;

export function fanOut(receivers: readonly Receiver[]): Receiver {
  if (receivers.length === 0) return () => {};
  if (receivers.length === 1) return receivers[0]!;
  if (receivers.length === 2) return fanOutToTwo(receivers[0]!, receivers[1]!);
  return (value, timestampMs, window, pane) => {
    for (const receiver of receivers) receiver(value, timestampMs, window, pane);
  };
}

function fanOutToTwo(first: Receiver, second: Receiver): Receiver {
  return (value, timestampMs, window, pane) => {
    first(value, timestampMs, window, pane);
    second(value, timestampMs, window, pane);
  };
}
