import { randomFillSync } from "node:crypto";

/** Time and chance, passed in wherever they matter, so that a simulator can replace them. */
export interface Clock {
  /** Milliseconds since 1970. */
  now(): number;
  /** Resolves after `ms`, or at once when the signal aborts. Never rejects. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
  /** A number in [0, 1). */
  random(): number;
  /** An identifier that no other call in any process returns: 16 lower-case hexadecimal digits. */
  uniqueId(): string;
}

const ID_BYTES = 8;
/** Drawn for many ids at once: the call costs more than the bytes. */
const drawn = Buffer.allocUnsafeSlow(512 * ID_BYTES);
let used = drawn.length;

function uniqueId(): string {
  if (used === drawn.length) {
    randomFillSync(drawn);
    used = 0;
  }
  used += ID_BYTES;
  return drawn.toString("hex", used - ID_BYTES, used);
}

export const systemClock: Clock = {
  now: () => Date.now(),
  sleep(ms, signal) {
    if (signal?.aborted) return Promise.resolve();
    return new Promise((resolve) => {
      const end = (): void => {
        clearTimeout(timer);
        signal?.removeEventListener("abort", end);
        resolve();
      };
      // A timer of more than 31 bits would fire at once; who wakes early looks again.
      const timer = setTimeout(end, Math.min(ms, 2 ** 31 - 1));
      signal?.addEventListener("abort", end, { once: true });
    });
  },
  random: () => Math.random(),
  uniqueId,
};
