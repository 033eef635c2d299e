import type { ZooKeeperClient } from "../zookeeper";
import { type BlobStore, missingBlob, openRecord, type StoredRecord } from "./blobs";
import { reading } from "./commit";

/**
 * The record of a znode, wherever it lies. A blob goes only after the znode that referred to it, so a blob that is
 * gone is asked for again: then either the znode is gone as well, or someone took the blob away.
 * Rejects with NoNodeError, {@link EncodingError}, or the client's error.
 */
export async function readRecord(
  client: ZooKeeperClient,
  blobs: BlobStore,
  path: string,
): Promise<StoredRecord> {
  const { data } = await reading(client, () => client.getData(path));
  const record = await openRecord(blobs, data, path);
  if (record) return record;
  await reading(client, async () => {
    await client.sync(path);
    return client.getData(path);
  });
  throw missingBlob(path);
}
