import { NoNodeError, NotEmptyError, type ZooKeeperClient } from "../zookeeper";

/** Deletes a znode and everything below it; absent is fine. */
export async function removeTree(client: ZooKeeperClient, path: string): Promise<void> {
  try {
    const { children } = await client.getChildren(path);
    for (const child of children) await removeTree(client, `${path}/${child}`);
    await client.delete(path);
  } catch (error) {
    if (error instanceof NotEmptyError) return removeTree(client, path);
    if (!(error instanceof NoNodeError)) throw error;
  }
}
