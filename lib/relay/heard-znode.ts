import { reading } from "../checkpoint/commit";
import type { Watch, WatchNotification, ZooKeeperClient } from "../zookeeper";

/**
 * Calls `changed` once at the start where the znode is there, and whenever it was written since, so events that are
 * missed while a connection is replaced are made up for. Resolves when the signal aborts; rejects with the client's
 * error, or with that of `changed`.
 */
export async function hearZnode(
  client: ZooKeeperClient,
  path: string,
  changed: () => Promise<void> | void,
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
  for (let known = -1n; !signal.aborted; ) {
    // Before anything is read: what happens from here on comes round again.
    const next = new Promise<void>((resolve) => {
      notify = resolve;
    });
    if (!isArmed) {
      isArmed = true;
      watch = await reading(client, () => client.addWatch(path, "persistent", hear));
    }
    const stat = await reading(client, () => client.exists(path));
    if (stat && stat.mzxid !== known) {
      known = stat.mzxid;
      await changed();
    }
    if (!signal.aborted) await next;
  }
  watch?.remove();
}
