import type { ReadZnode } from "../beam/async-fn";
import { reading } from "../checkpoint/commit";
import { NoNodeError, type ZooKeeperClient } from "../zookeeper";

/** Reads the znodes that transforms follow. Rejects with the client's error; a znode that is not there is undefined. */
export function followedZnodes(client: ZooKeeperClient): ReadZnode {
  return async (path) => {
    try {
      const { data, stat } = await reading(client, () => client.getData(path));
      return { data, text: data.toString("utf8"), mzxid: stat.mzxid };
    } catch (error) {
      if (error instanceof NoNodeError) return undefined;
      throw error;
    }
  };
}
