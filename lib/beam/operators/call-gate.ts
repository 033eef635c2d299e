import type { SetAside, SetAsidePane } from "../api";

/**
 * Counts the calls of a stateful DoFn in a bundle: for an element, a timer, the expiry of a window. It knows which one
 * is under way when user code fails, and keeps those back that are to be set aside. See `PaneGate`.
 */
export class CallGate {
  readonly setAside: SetAsidePane[] = [];
  /** Calls so far, the one under way included. */
  count = 0;
  /** The call under way; still set when it failed. */
  current: number | undefined;

  constructor(private readonly aside: SetAside) {}

  /** Begins a call; true where it is not to be made. */
  enter(): boolean {
    this.current = this.count++;
    return this.aside === "all" || (this.aside.size > 0 && this.aside.has(this.current));
  }

  leave(): void {
    this.current = undefined;
  }

  keep(call: Omit<SetAsidePane, "number">): void {
    this.setAside.push({ ...call, number: this.current! });
  }
}
