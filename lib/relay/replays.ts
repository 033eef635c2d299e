import type { ZooKeeperClient } from "../zookeeper";
import { hearZnode } from "./heard-znode";

/**
 * Hears that dead letters were replayed, which no commit of the relay's own tells: each replay writes the znode at
 * `path`. Calls `wake` with a zxid that has seen it, once at the start and after each write. Resolves when the signal
 * aborts; rejects with the client's error.
 */
export function hearReplays(
  client: ZooKeeperClient,
  path: string,
  wake: (zxid: bigint) => void,
  signal: AbortSignal,
): Promise<void> {
  return hearZnode(client, path, () => wake(client.lastZxid), signal);
}
