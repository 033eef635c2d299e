import { reading } from "../checkpoint/commit";
import type { SourcePaths } from "../checkpoint/znode-source";
import { NoAuthError, NoNodeError, type ZooKeeperClient } from "../zookeeper";

/** What of the tree is delivered. */
export interface SnapshotTree {
  readonly paths: SourcePaths;
  readonly isExcluded: (path: string) => boolean;
}

// Lists of children that are asked for ahead of their turn, on each level.
const LISTS_AHEAD = 32;

/**
 * The paths of a source at and below `path`, in an order that every relay finds again: a znode before those below it,
 * siblings by name. Those up to `after`, itself included, are left out without being read. What comes or goes
 * meanwhile may be in it or not. Throws the client's error.
 */
export async function* snapshotPaths(
  client: ZooKeeperClient,
  tree: SnapshotTree,
  path: string,
  after: string | undefined,
): AsyncGenerator<string, void> {
  const starts = tree.paths.roots
    .flatMap((root) => (isAtOrBelow(root, path) ? [root] : isAtOrBelow(path, root) ? [path] : []))
    .filter((start) => tree.paths.leadsTo(start) && !tree.isExcluded(start))
    .sort();
  const begun = starts.findIndex((start) => after !== undefined && isAtOrBelow(after, start));
  for (const [index, start] of starts.entries()) {
    if (index < begun) continue;
    const names = index === begun ? namesBelow(after!, start) : undefined;
    yield* below(client, tree, start, names, list(client, start));
  }
}

/** `after`: names that lead from here to the last path that is done; undefined where none at or below is. */
async function* below(
  client: ZooKeeperClient,
  tree: SnapshotTree,
  path: string,
  after: readonly string[] | undefined,
  listed: Promise<readonly string[] | Error>,
): AsyncGenerator<string, void> {
  const names = await listed;
  if (names instanceof Error) throw names;
  if (after === undefined && tree.paths.matches(path)) yield path;
  const [first, ...others] = after ?? [];
  const rest = names
    .filter((name) => first === undefined || name >= first)
    .map((name) => ({ name, child: path === "/" ? `/${name}` : `${path}/${name}` }))
    .filter(({ child }) => tree.paths.leadsTo(child) && !tree.isExcluded(child));
  const lists: Promise<readonly string[] | Error>[] = [];
  for (const [index, { name, child }] of rest.entries()) {
    while (lists.length < rest.length && lists.length <= index + LISTS_AHEAD)
      lists.push(list(client, rest[lists.length]!.child));
    yield* below(client, tree, child, name === first ? others : undefined, lists[index]!);
  }
}

/** The names, sorted; none where the znode is gone or may not be read. */
async function list(client: ZooKeeperClient, path: string): Promise<readonly string[] | Error> {
  try {
    const { children } = await reading(client, () => client.getChildren(path));
    return [...children].sort();
  } catch (error) {
    if (error instanceof NoNodeError || error instanceof NoAuthError) return [];
    return error as Error;
  }
}

function isAtOrBelow(path: string, start: string): boolean {
  return path === start || path.startsWith(start === "/" ? "/" : `${start}/`);
}

function namesBelow(path: string, start: string): string[] {
  return path
    .slice(start === "/" ? 0 : start.length)
    .split("/")
    .filter(Boolean);
}
