import { NodeExistsError, NoNodeError, type ZooKeeperClient } from "../zookeeper";
import { reading } from "./commit";

/**
 * Claims a role that one process has at a time, as an ephemeral znode: false where another one has it, or the parent is
 * gone. A hint against doing things twice, and no lock: what is done has to be right without it.
 *
 * @param me tells this claim from others, so that a lost reply can be found out about.
 */
export async function claim(client: ZooKeeperClient, path: string, me: Buffer): Promise<boolean> {
  try {
    await reading(client, () => client.create(path, me, { mode: "ephemeral" }));
    return true;
  } catch (error) {
    if (error instanceof NoNodeError) return false;
    if (!(error instanceof NodeExistsError)) throw error;
    return isMine(client, path, me);
  }
}

async function isMine(client: ZooKeeperClient, path: string, me: Buffer): Promise<boolean> {
  try {
    return (await reading(client, () => client.getData(path))).data.equals(me);
  } catch (error) {
    if (error instanceof NoNodeError) return false;
    throw error;
  }
}

/** Gives the role up, where it is still had; otherwise its session's end does. */
export async function release(client: ZooKeeperClient, path: string, me: Buffer): Promise<void> {
  if (client.state === "connected" && (await isMine(client, path, me))) await client.delete(path);
}
