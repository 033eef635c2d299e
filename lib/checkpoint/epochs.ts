import {
  ConnectionLossError,
  MultiError,
  NodeExistsError,
  NoNodeError,
  NotEmptyError,
  type Op,
  SessionExpiredError,
  type ZooKeeperClient,
} from "../zookeeper";
import { type BlobStore, blobPrefix } from "./blobs";
import { operationsBytes, reading } from "./commit";
import type { PipelineLayout, ScopeLayout } from "./layout";
import type { NewZnode } from "./redistribution";

const MAX_OPS = 200;

/** Creates the znode of a new epoch under the first number that was never used, and returns it. */
export async function newEpoch(
  client: ZooKeeperClient,
  layout: PipelineLayout,
  after: number,
): Promise<number> {
  const { children } = await reading(client, () => client.getChildren(layout.epochs));
  for (let epoch = Math.max(after, ...children.map(Number)) + 1; ; epoch++) {
    try {
      await client.create(layout.epoch(epoch).path);
      return epoch;
    } catch (error) {
      // After a lost reply it may be ours or another's: the next number is nobody's.
      if (!(error instanceof NodeExistsError || isLoss(error))) throw error;
      await client.connected();
    }
  }
}

/**
 * Writes the znodes in multis of a bounded size, each of which checks the generation. Only one writer has this epoch, and
 * it names every znode, so a multi that is sent again after a lost reply finds its own. Rejects with MultiError when
 * the generation has changed.
 */
export async function writeZnodes(
  client: ZooKeeperClient,
  check: Op,
  znodes: AsyncIterable<NewZnode>,
  maxBytes: number,
): Promise<void> {
  let ops: Op[] = [];
  let bytes = 0;
  for await (const { path, data, isThere } of znodes) {
    const op: Op = isThere ? { type: "setData", path, data } : { type: "create", path, data };
    const size = operationsBytes([op]);
    if (ops.length === MAX_OPS || bytes + size > maxBytes) {
      if (ops.length > 0) await send(client, [check, ...ops]);
      ops = [];
      bytes = 0;
    }
    ops.push(op);
    bytes += size;
  }
  if (ops.length > 0) await send(client, [check, ...ops]);
}

async function send(client: ZooKeeperClient, ops: readonly Op[]): Promise<void> {
  for (let losses = 0; ; losses++) {
    try {
      await client.multi(ops);
      return;
    } catch (error) {
      const isOurs = losses > 0 && error instanceof MultiError && error.cause instanceof NodeExistsError;
      if (isOurs) return;
      if (!isLoss(error)) throw error;
      await client.connected();
    }
  }
}

/** Removes a scope and its blobs, in multis of a bounded size; absent is fine, and it may be repeated. */
export async function removeScope(
  client: ZooKeeperClient,
  blobs: BlobStore,
  scope: ScopeLayout,
): Promise<void> {
  for (;;) {
    const paths = await listTree(client, scope.path);
    if (paths.length === 0) return;
    for (const fence of paths.filter(isFence))
      for (const name of await blobs.list(blobPrefix(fence))) await blobs.delete(name);
    await removeAll(client, paths);
  }
}

function isFence(path: string): boolean {
  return /\/stages\/[^/]+\/\d+$|\/sources\/[^/]+$/.test(path);
}

/** Children before their parents. Stops at what others have changed; the caller lists again. */
async function removeAll(client: ZooKeeperClient, paths: readonly string[]): Promise<void> {
  for (let next = 0; next < paths.length; next += MAX_OPS) {
    const ops = paths.slice(next, next + MAX_OPS).map((path): Op => ({ type: "delete", path }));
    try {
      await client.multi(ops);
    } catch (error) {
      const isOther =
        error instanceof MultiError &&
        (error.cause instanceof NoNodeError || error.cause instanceof NotEmptyError);
      if (!isOther && !isLoss(error)) throw error;
      await client.connected();
      return;
    }
  }
}

async function listTree(client: ZooKeeperClient, path: string): Promise<string[]> {
  try {
    const { children } = await reading(client, () => client.getChildren(path));
    const below: string[] = [];
    for (const child of children) below.push(...(await listTree(client, `${path}/${child}`)));
    return [...below, path];
  } catch (error) {
    if (error instanceof NoNodeError) return [];
    throw error;
  }
}

function isLoss(error: unknown): boolean {
  return error instanceof ConnectionLossError || error instanceof SessionExpiredError;
}
