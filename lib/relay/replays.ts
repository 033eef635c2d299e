import { reading } from "../checkpoint/commit";
import type { Watch, WatchNotification, ZooKeeperClient } from "../zookeeper";

/**
 * Hears that dead letters were replayed, which no commit of the relay's own tells: each replay writes the znode at
 * `path`. Calls `wake` with a zxid that has seen it, once at the start, and whenever the version is another one, so
 * events that are missed while a connection is replaced are made up for. Resolves when the signal aborts; rejects with
 * the client's error.
 */
export async function hearReplays(
  client: ZooKeeperClient,
  path: string,
  wake: (zxid: bigint) => void,
  signal: AbortSignal,
): Promise<void> {
  let notify = (): void => undefined;
  let isArmed = false;
  let watch: Watch | undefined;
  const hear = (notification: WatchNotification): void => {
    if (notification.type === "ended") isArmed = false;
    notify();
  };
  signal.addEventListener("abort", () => notify(), { once: true });
  for (let known = -1; !signal.aborted; ) {
    // Before anything is read: what happens from here on comes round again.
    const changed = new Promise<void>((resolve) => {
      notify = resolve;
    });
    if (!isArmed) {
      isArmed = true;
      watch = await reading(client, () => client.addWatch(path, "persistent", hear));
    }
    const stat = await reading(client, () => client.exists(path));
    if (stat && stat.version !== known) {
      known = stat.version;
      wake(client.lastZxid);
    }
    if (!signal.aborted) await changed;
  }
  watch?.remove();
}
