import { NoNodeError, type Stat, type ZooKeeperClient } from "../zookeeper";
import type { BlobStore } from "./blobs";
import { reading } from "./commit";
import { type ShardLayout, segmentNames } from "./layout";
import { decodeHead, type Head } from "./records";
import { valueBytes } from "./state-record";
import { loadState, readHead } from "./stored-state";

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

/** What is told of one row of a shard's state. */
export interface DescribedRow {
  readonly kind: string;
  /** When it is due, in ms; undefined of what is not. */
  readonly atMs?: number;
}

/** Rows of a shard's state: so many of each kind, those that are due first where they are, else as they come. */
export interface StateRows<R extends DescribedRow> {
  readonly rows: readonly R[];
  /** How many there are, by kind. */
  readonly counts: Readonly<Record<string, number>>;
}

// Each is moved on its way to its place, so that a shard of any size takes little memory.
const INSPECTED_ROWS = 1_000;

/**
 * Describes the state of a shard, at most `limit` rows of each kind (at most 1,000). Undefined where commits came again and
 * again while it was read. Rejects with EncodingError, NoNodeError, or the client's error.
 */
export async function inspectState<R extends DescribedRow>(
  client: ZooKeeperClient,
  blobs: BlobStore,
  layout: ShardLayout,
  limit: number,
  describe: (shared: Uint8Array | undefined, id: string, value: Uint8Array) => R,
): Promise<StateRows<R> | undefined> {
  const most = Math.min(limit, INSPECTED_ROWS);
  for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
    const kinds = new Map<string, { count: number; readonly rows: R[] }>();
    const current = await readHead(client, layout);
    const { shared: text } = current.head.state;
    const shared = text === null ? undefined : Buffer.from(text, "base64");
    const loaded = await loadState(client, blobs, layout, current, (cell) =>
      keep(kinds, describe(shared, cell.id, valueBytes(cell)), most),
    );
    if (loaded === undefined) continue;
    const counts = Object.fromEntries([...kinds].map(([kind, { count }]) => [kind, count]));
    return { rows: [...kinds.values()].flatMap(({ rows }) => rows), counts };
  }
  return undefined;
}

const MAX_ATTEMPTS = 10;

function keep<R extends DescribedRow>(
  kinds: Map<string, { count: number; readonly rows: R[] }>,
  row: R,
  most: number,
): void {
  const kind = kinds.get(row.kind) ?? { count: 0, rows: [] };
  kinds.set(row.kind, kind);
  kind.count += 1;
  const { rows } = kind;
  const dueMs = (each: R): number => each.atMs ?? Number.POSITIVE_INFINITY;
  if (rows.length === most && dueMs(row) >= dueMs(rows.at(-1)!)) return;
  let at = rows.length;
  while (at > 0 && dueMs(rows[at - 1]!) > dueMs(row)) at -= 1;
  rows.splice(at, 0, row);
  if (rows.length > most) rows.pop();
}

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
