import { reading } from "../checkpoint/commit";
import { leadsToSource, matchesSource, watchRoot, type ZnodeSource } from "../checkpoint/znode-source";
import { NoAuthError, NoNodeError, type ZooKeeperClient } from "../zookeeper";
import type { Manifest } from "./manifest";

/** What a walk found: paths that differ from the manifest, and how many znodes it read. */
export interface WalkResult {
  readonly different: readonly string[];
  readonly znodes: number;
  /** Paths that could not be read for lack of rights: what is below them is unknown, never deleted. */
  readonly unreadable: readonly string[];
}

// Requests that are under way at once; enough to hide the round trip, few enough to leave the server to others.
const READS_IN_FLIGHT = 256;

/**
 * Reads every znode of the source and compares its stat with the manifest, znode by znode. Call it with the
 * watch armed, so that what changes meanwhile is heard. Rejects with the client's error.
 */
export async function walk(
  client: ZooKeeperClient,
  source: ZnodeSource,
  manifest: Manifest,
  isExcluded: (path: string) => boolean,
  signal: AbortSignal,
): Promise<WalkResult> {
  const found = new Set<string>();
  const different: string[] = [];
  const unreadable: string[] = [];
  const root = watchRoot(source);
  await reading(client, () => client.sync(root));
  for (let level = [root]; level.length > 0 && !signal.aborted; ) {
    const next: string[] = [];
    for (let from = 0; from < level.length; from += READS_IN_FLIGHT) {
      const visit = async (path: string): Promise<void> => {
        const znode = await readZnode(client, path);
        if (znode === "absent") return;
        found.add(path);
        if (znode === "unreadable") {
          unreadable.push(path);
          return;
        }
        if (matchesSource(source, path) && manifest.get(path)?.mzxid !== znode.mzxid) different.push(path);
        for (const child of znode.children) {
          const childPath = path === "/" ? `/${child}` : `${path}/${child}`;
          if (leadsToSource(source, childPath) && !isExcluded(childPath)) next.push(childPath);
        }
      };
      await Promise.all(level.slice(from, from + READS_IN_FLIGHT).map(visit));
    }
    level = next;
  }
  const hidden = (path: string): boolean => unreadable.some((prefix) => path.startsWith(`${prefix}/`));
  for (const path of manifest.paths()) if (!found.has(path) && !hidden(path)) different.push(path);
  return { different, znodes: found.size, unreadable };
}

type Visited = { readonly mzxid: bigint; readonly children: readonly string[] } | "absent" | "unreadable";

async function readZnode(client: ZooKeeperClient, path: string): Promise<Visited> {
  try {
    const { children, stat } = await reading(client, () => client.getChildren(path));
    return { mzxid: stat.mzxid, children };
  } catch (error) {
    if (error instanceof NoNodeError) return "absent";
    if (error instanceof NoAuthError) return "unreadable";
    throw error;
  }
}
