import type { ZooKeeper } from "../index";
import { type LineOptions, type Turn, takeTurn } from "./line";

/**
 * A lock at a path: resolves when this client holds it, alone among all that use this function on the path.
 * `release` it by `leave`. What is done under it may come late (a pause of the process, a slow network), so let it
 * carry `fence`, and refuse a lower one than was seen.
 */
export function acquireLock(client: ZooKeeper, path: string, options: LineOptions = {}): Promise<Turn> {
  return takeTurn(client, path, options);
}

/** Runs work under the lock. Its signal aborts when the lock is lost; the lock is released when the work ends. */
export async function withLock<T>(
  client: ZooKeeper,
  path: string,
  work: (turn: Turn) => Promise<T>,
  options: LineOptions = {},
): Promise<T> {
  const turn = await acquireLock(client, path, options);
  try {
    return await work(turn);
  } finally {
    await turn.leave();
  }
}
