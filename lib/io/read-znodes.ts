import { create, type PCollection, type PTransform, type Root, withName } from "apache-beam";
import {
  type ReadContext,
  type ReadPiece,
  type SplittableSource,
  splittableRead,
  type ZnodeStat,
} from "../beam/splittable";
import { byName } from "./file-pattern";
import { InputFileError } from "./input-errors";

/** A znode as it was when it was read. */
export interface Znode {
  readonly path: string;
  readonly data: Uint8Array;
  readonly version: number;
  readonly czxid: bigint;
  readonly mzxid: bigint;
  readonly ctimeMs: number;
  readonly mtimeMs: number;
  readonly numChildren: number;
  readonly isEphemeral: boolean;
}

/** A znode alone, or with all that is below it and was not read yet: what comes after `after` in the order of the walk. */
interface Subtree {
  readonly path: string;
  readonly after: string | null;
  readonly isAlone: boolean;
}

// A subtree is divided until there are so many, so that shards have something to share.
const PARTS = 64;
const PIECE_ZNODES = 256;

/**
 * Reads a znode and all that is below it, each once, as it is at that moment: a bounded source. What is created, changed
 * or deleted while the read goes on may or may not be seen; for all changes there is `readZnodeChanges`. Beamkeeper's own
 * znodes are left out, and what may not be read is an error. Event time is the beginning of time.
 *
 * @param path an absolute path, without wildcards.
 * @throws TypeError if the path is none. A path that does not exist is an InputFileError when it is read.
 */
export function readZnodes(path: string): PTransform<Root, PCollection<Znode>> {
  if (typeof path !== "string" || !/^(\/|(\/[^/\0]+)+)$/.test(path) || path.includes("*"))
    throw new TypeError(`readZnodes: ${JSON.stringify(path)} is not an absolute path of a znode`);
  return withName("readZnodes", (root: Root) => root.apply(create([path])).apply(splittableRead(SOURCE)));
}

const SOURCE: SplittableSource<string, Subtree, Znode> = {
  name: "znodes",
  async split(path, context) {
    const alone: string[] = [];
    let whole = [path];
    if ((await childrenOf(path, context)) === undefined)
      throw new InputFileError(`readZnodes: there is no znode ${path}`);
    while (whole.length > 0 && whole.length < PARTS) {
      const below = await Promise.all(whole.map((each) => childrenOf(each, context)));
      alone.push(...whole);
      whole = below.flatMap((children) => children ?? []);
    }
    return [
      ...alone.map((each): Subtree => ({ path: each, after: null, isAlone: true })),
      ...whole.map((each): Subtree => ({ path: each, after: null, isAlone: false })),
    ];
  },
  async *read(subtree, context): AsyncGenerator<ReadPiece<Subtree, Znode>> {
    let paths: string[] = [];
    const piece = async (): Promise<Znode[]> => {
      const found = await Promise.all(paths.map((path) => readZnode(path, context)));
      return found.filter((znode) => znode !== undefined);
    };
    for await (const path of walk(subtree, context)) {
      paths.push(path);
      if (paths.length < PIECE_ZNODES) continue;
      yield { records: await piece(), rest: { ...subtree, after: path } };
      paths = [];
    }
    yield { records: await piece(), rest: undefined };
  },
};

/** A znode before what is below it, siblings by name: an order that a path alone tells one's place in. */
async function* walk({ path, after, isAlone }: Subtree, context: ReadContext): AsyncGenerator<string> {
  if (after === null) yield path;
  if (isAlone) return;
  for (const child of (await childrenOf(path, context)) ?? []) {
    // What comes before the place and is not above it has been read, with all below it.
    const isAbove = after !== null && (after === child || after.startsWith(`${child}/`));
    if (after !== null && !isAbove && isBefore(child, after)) continue;
    yield* walk({ path: child, after: isAbove ? after : null, isAlone: false }, context);
  }
}

/** Whether a path comes before another one in the walk, name by name. */
function isBefore(path: string, other: string): boolean {
  const [names, others] = [path.split("/"), other.split("/")];
  const at = names.findIndex((name, index) => name !== others[index]);
  return at >= 0 && others[at] !== undefined && names[at]! < others[at];
}

/** The paths of the children in their order; undefined where the znode is gone. */
async function childrenOf(path: string, { znodes, root }: ReadContext): Promise<string[] | undefined> {
  const found = await unlessGone(() => znodes.getChildren(path));
  return found?.children
    .map((name) => ({ name }))
    .sort(byName)
    .map(({ name }) => (path === "/" ? `/${name}` : `${path}/${name}`))
    .filter((child) => child !== root && child !== "/zookeeper");
}

async function readZnode(path: string, { znodes }: ReadContext): Promise<Znode | undefined> {
  const found = await unlessGone(() => znodes.getData(path));
  return found && toZnode(path, found.data, found.stat);
}

function toZnode(path: string, data: Buffer, stat: ZnodeStat): Znode {
  const { version, czxid, mzxid, ctime, mtime, numChildren, ephemeralOwner } = stat;
  const times = { ctimeMs: ctime, mtimeMs: mtime };
  return { path, data, version, czxid, mzxid, ...times, numChildren, isEphemeral: ephemeralOwner !== 0n };
}

/** A znode that is deleted while the read goes on is none of the snapshot's. */
async function unlessGone<T>(read: () => Promise<T>): Promise<T | undefined> {
  try {
    return await read();
  } catch (error) {
    if (error instanceof Error && error.name === "NoNodeError") return undefined;
    throw error;
  }
}
