import { NoNodeError, type Stat, type ZooKeeperClient } from "../zookeeper";
import { reading } from "./commit";
import { type ShardLayout, segmentNames } from "./layout";
import { decodeHead, type Head } from "./records";

/** One shard, looked at closely. The parts are read one after the other, while the shard may go on. */
export interface ShardInspection {
  readonly head: Head;
  readonly version: number;
  /** When the last commit took effect, on the ensemble's clock, in ms. */
  readonly committedMs: number;
  /** Segments in the inbox, oldest append first; of long inboxes the first {@link SHOWN_SEGMENTS}. */
  readonly segments: readonly InspectedSegment[];
  readonly backlog: number;
  /** The znodes that hold its state, and their bytes. */
  readonly state: { readonly znodes: number; readonly bytes: number };
}

export interface InspectedSegment {
  readonly name: string;
  readonly minTimestampMs: number;
  /** When it was appended, on the ensemble's clock, in ms. */
  readonly appendedMs: number;
  readonly bytes: number;
}

export const SHOWN_SEGMENTS = 20;

/** Rejects with EncodingError, NoNodeError where there is no such shard, or the client's error. */
export async function inspectShard(client: ZooKeeperClient, layout: ShardLayout): Promise<ShardInspection> {
  const { data, stat } = await reading(client, () => client.getData(layout.head));
  const inbox = await reading(client, () => client.getChildren(layout.inbox));
  const names = segmentNames(inbox.children);
  const segments = await Promise.all(
    names.slice(0, SHOWN_SEGMENTS).map(async ({ name, minTimestampMs }) => {
      const found = await statOf(client, `${layout.inbox}/${name}`);
      return found && { name, minTimestampMs, appendedMs: found.ctime, bytes: found.dataLength };
    }),
  );
  return {
    head: decodeHead(data, layout.head),
    version: stat.version,
    committedMs: stat.mtime,
    segments: segments.filter((segment) => segment !== undefined),
    backlog: names.length,
    state: await treeSize(client, layout.state),
  };
}

/** The znode and all below it; what vanishes meanwhile is left out. */
async function treeSize(client: ZooKeeperClient, path: string): Promise<{ znodes: number; bytes: number }> {
  const stat = await statOf(client, path);
  if (!stat) return { znodes: 0, bytes: 0 };
  let size = { znodes: 1, bytes: stat.dataLength };
  for (const child of stat.numChildren > 0 ? await childrenOf(client, path) : []) {
    const below = await treeSize(client, `${path}/${child}`);
    size = { znodes: size.znodes + below.znodes, bytes: size.bytes + below.bytes };
  }
  return size;
}

async function statOf(client: ZooKeeperClient, path: string): Promise<Stat | undefined> {
  return (await reading(client, () => client.exists(path))) ?? undefined;
}

async function childrenOf(client: ZooKeeperClient, path: string): Promise<string[]> {
  try {
    return (await reading(client, () => client.getChildren(path))).children;
  } catch (error) {
    if (error instanceof NoNodeError) return [];
    throw error;
  }
}
