import type { WatchListener, WatchNotification } from "../../lib/zookeeper";

/** Keeps what a watch hears, and waits for it without sleeping. */
export class WatchRecorder {
  readonly heard: WatchNotification[] = [];
  #waiting: { isEnough: () => boolean; done: () => void }[] = [];

  readonly listener: WatchListener = (notification) => {
    this.heard.push(notification);
    const ready = this.#waiting.filter(({ isEnough }) => isEnough());
    this.#waiting = this.#waiting.filter((waiter) => !ready.includes(waiter));
    for (const { done } of ready) done();
  };

  /** Resolves as soon as the condition holds; the test's own time limit is the deadline. */
  until(isEnough: () => boolean): Promise<void> {
    if (isEnough()) return Promise.resolve();
    return new Promise((done) => this.#waiting.push({ isEnough, done }));
  }

  untilHeard(count: number): Promise<void> {
    return this.until(() => this.heard.length >= count);
  }

  /** Something of this type was heard. */
  untilType(type: WatchNotification["type"]): Promise<void> {
    return this.until(() => this.heard.some((notification) => notification.type === type));
  }

  /** In short: `created /a`, `gap`, `ended expired`. */
  get summary(): string[] {
    return this.heard.map((notification) => {
      if (notification.type === "event") return `${notification.event.type} ${notification.event.path}`;
      return notification.type === "gap" ? "gap" : `ended ${notification.reason}`;
    });
  }
}
