import { reading } from "../checkpoint/commit";
import type { SourcePaths, WantedKinds } from "../checkpoint/znode-source";
import { NoAuthError, NoNodeError, type Stat, type ZooKeeperClient } from "../zookeeper";
import { wentBack } from "./errors";
import type { KnownZnode, Manifest } from "./manifest";

/** A znode that differs from the manifest. `mzxid`: its latest write as the walk saw it; undefined where that is not all. */
export interface Different {
  readonly path: string;
  readonly mzxid: bigint | undefined;
}

/** A part of what a walk found: znodes that differ from the manifest, and how many znodes were read for it. */
export interface WalkPortion {
  readonly different: readonly Different[];
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
const PORTION_DIFFERENT = 500;
const PORTION_ZNODES = 5_000;

type Visited = { readonly stat: Stat; readonly children: readonly string[] } | "absent" | "unreadable";

/**
 * Reads every znode of the source and compares its stat with the manifest, znode by znode, and gives what differs in
 * portions; who has enough for the moment takes the next one later. Call it with the watch armed, so that what changes
 * meanwhile is heard. What the manifest learns during the walk counts as found. Throws the client's error.
 */
export async function* walk(
  client: ZooKeeperClient,
  source: WalkedSource,
  manifest: Manifest,
): AsyncGenerator<WalkPortion, void> {
  const { paths, wanted, isExcluded } = source;
  for (const root of paths.roots) await reading(client, () => client.sync(root));
  // No answer from here on is older than this.
  const { lastZxid: begunZxid } = client;
  manifest.beginWalk();
  const hidden: string[] = [];
  let portion = new Portion();
  // Depth first: what waits is then the siblings along one path, not a whole level.
  const waiting = [...paths.roots];
  const underWay: { path: string; read: Promise<Visited | Error> }[] = [];
  while (waiting.length > 0 || underWay.length > 0) {
    while (waiting.length > 0 && underWay.length < READS_IN_FLIGHT) {
      const path = waiting.pop()!;
      underWay.push({ path, read: readZnode(client, path) });
    }
    // Replies come in the order of the requests.
    const { path, read } = underWay.shift()!;
    const znode = await read;
    if (znode instanceof Error) throw znode;
    if (znode === "absent") continue;
    const known = manifest.seen(path);
    portion.znodes += 1;
    if (znode === "unreadable") {
      portion.unreadable.push(path);
      hidden.push(`${path}/`);
    } else {
      if (known && isOlder(znode.stat, known, begunZxid)) throw wentBack(path, known.mzxid, znode.stat.mzxid);
      if (paths.matches(path) && differs(known, znode.stat, wanted))
        portion.different.push({ path, mzxid: wanted.children || wanted.acl ? undefined : znode.stat.mzxid });
      for (const child of znode.children) {
        const childPath = path === "/" ? `/${child}` : `${path}/${child}`;
        if (paths.leadsTo(childPath) && !isExcluded(childPath)) waiting.push(childPath);
      }
    }
    if (portion.isFull) {
      yield portion;
      portion = new Portion();
    }
  }
  yield portion;
  yield* gone(manifest, hidden);
}

/** What is known and was not found. Collected first: the manifest changes between the portions. */
function* gone(manifest: Manifest, hidden: readonly string[]): Generator<WalkPortion, void> {
  const paths = [...manifest.unseen()].filter((path) => !hidden.some((prefix) => path.startsWith(prefix)));
  for (let from = 0; from < paths.length; from += PORTION_DIFFERENT) {
    // Whatever was delivered of it since says at least as much.
    const different = paths.slice(from, from + PORTION_DIFFERENT).map((path) => ({ path, mzxid: 0n }));
    yield { different, znodes: 0, unreadable: [] };
  }
}

class Portion {
  readonly different: Different[] = [];
  readonly unreadable: string[] = [];
  znodes = 0;

  get isFull(): boolean {
    return this.different.length >= PORTION_DIFFERENT || this.znodes >= PORTION_ZNODES;
  }
}

/**
 * Whether the ensemble has forgotten what was delivered of the znode: what was known before the walk began can't be
 * newer than what a server answers that has seen its beginning.
 */
function isOlder(stat: Stat, known: KnownZnode, begunZxid: bigint): boolean {
  if (known.czxid !== stat.czxid) return known.czxid > stat.czxid && known.czxid <= begunZxid;
  return known.mzxid > stat.mzxid && known.mzxid <= begunZxid;
}

/** Whether something happened that the source delivers. What is known may be newer than what the walk has read. */
function differs(known: KnownZnode | undefined, stat: Stat, wanted: WantedKinds): boolean {
  if (!known || known.czxid < stat.czxid) return true;
  if (known.czxid > stat.czxid) return false;
  return (
    (wanted.changed && known.mzxid < stat.mzxid) ||
    (wanted.children && known.cversion < stat.cversion) ||
    (wanted.acl && known.aversion < stat.aversion)
  );
}

/** Resolves with an error instead of rejecting: who waits for it may be at another one. */
function readZnode(client: ZooKeeperClient, path: string): Promise<Visited | Error> {
  // One promise for each of a million reads; only what fails costs more.
  return client.getChildren(path).catch((error: Error) => visitedOr(error) ?? readAgain(client, path));
}

function visitedOr(error: Error): Visited | undefined {
  if (error instanceof NoNodeError) return "absent";
  return error instanceof NoAuthError ? "unreadable" : undefined;
}

async function readAgain(client: ZooKeeperClient, path: string): Promise<Visited | Error> {
  try {
    await client.connected();
    return await reading(client, () => client.getChildren(path));
  } catch (error) {
    return visitedOr(error as Error) ?? (error as Error);
  }
}
