import type { Pane } from "../engine/panes";
import type { Window } from "../engine/windows";

/**
 * Takes one element in one window. Operators push into their consumers; nothing is allocated between. Those on the
 * way of every element are classes: code that was compiled for functions of one bundle is lost when the garbage
 * collector runs between two, and compiling it anew costs more than the bundle.
 */
export interface Receiver {
  receive(value: unknown, timestampMs: number, window: Window, pane: Pane): void;
}

export function fanOut(receivers: readonly Receiver[]): Receiver {
  if (receivers.length === 1) return receivers[0]!;
  if (receivers.length === 2) return new FanOutToTwo(receivers[0]!, receivers[1]!);
  return new FanOut(receivers);
}

class FanOutToTwo implements Receiver {
  constructor(
    private readonly first: Receiver,
    private readonly second: Receiver,
  ) {}

  receive(value: unknown, timestampMs: number, window: Window, pane: Pane): void {
    this.first.receive(value, timestampMs, window, pane);
    this.second.receive(value, timestampMs, window, pane);
  }
}

class FanOut implements Receiver {
  constructor(private readonly receivers: readonly Receiver[]) {}

  receive(value: unknown, timestampMs: number, window: Window, pane: Pane): void {
    for (const receiver of this.receivers) receiver.receive(value, timestampMs, window, pane);
  }
}
