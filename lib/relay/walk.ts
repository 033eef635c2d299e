import { reading } from "../checkpoint/commit";
import type { SourcePaths, WantedKinds } from "../checkpoint/znode-source";
import { NoAuthError, NoNodeError, type Stat, type ZooKeeperClient } from "../zookeeper";
import type { KnownZnode, Manifest } from "./manifest";

/** What a walk found: paths that differ from the manifest, and how many znodes it read. */
export interface WalkResult {
  readonly different: readonly string[];
  readonly znodes: number;
  /** Paths that could not be read for lack of rights: what is below them is unknown, never deleted. */
  readonly unreadable: readonly string[];
}

export interface WalkedSource {
  readonly paths: SourcePaths;
  readonly wanted: WantedKinds;
  /** Beamkeeper's own znodes. */
  readonly isExcluded: (path: string) => boolean;
}

// Requests that are under way at once; enough to hide the round trip, few enough to leave the server to others.
const READS_IN_FLIGHT = 256;

/**
 * Reads every znode of the source and compares its stat with the manifest, znode by znode. Call it with the
 * watch armed, so that what changes meanwhile is heard. Rejects with the client's error.
 */
export async function walk(
  client: ZooKeeperClient,
  source: WalkedSource,
  manifest: Manifest,
  signal: AbortSignal,
): Promise<WalkResult> {
  const { paths, wanted, isExcluded } = source;
  const found = new Set<string>();
  const different: string[] = [];
  const unreadable: string[] = [];
  for (const root of paths.roots) await reading(client, () => client.sync(root));
  for (let level = [...paths.roots]; level.length > 0 && !signal.aborted; ) {
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
        if (paths.matches(path) && differs(manifest.get(path), znode.stat, wanted)) different.push(path);
        for (const child of znode.children) {
          const childPath = path === "/" ? `/${child}` : `${path}/${child}`;
          if (paths.leadsTo(childPath) && !isExcluded(childPath)) next.push(childPath);
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

/** Whether something happened that the source delivers. */
function differs(known: KnownZnode | undefined, stat: Stat, wanted: WantedKinds): boolean {
  if (known?.czxid !== stat.czxid) return true;
  return (
    (wanted.changed && known.mzxid !== stat.mzxid) ||
    (wanted.children && known.cversion !== stat.cversion) ||
    (wanted.acl && known.aversion !== stat.aversion)
  );
}

type Visited = { readonly stat: Stat; readonly children: readonly string[] } | "absent" | "unreadable";

async function readZnode(client: ZooKeeperClient, path: string): Promise<Visited> {
  try {
    return await reading(client, () => client.getChildren(path));
  } catch (error) {
    if (error instanceof NoNodeError) return "absent";
    if (error instanceof NoAuthError) return "unreadable";
    throw error;
  }
}
