import {
  BadVersionError,
  ConnectionLossError,
  MultiError,
  type MultiResult,
  NodeExistsError,
  NoNodeError,
  NotConnectedError,
  type Op,
  SessionExpiredError,
  type ZooKeeperClient,
} from "../zookeeper";
import type { CommitHistory } from "./records";

/** Defaults of the sizes that a commit is cut to. */
export const COMMIT_SIZE_BYTES = 512 * 1024;
export const SEGMENT_SIZE_BYTES = 128 * 1024;
/** After this many lost replies of the same multi it is not sent again as it is. */
export const MAX_LOSSES = 3;
/** A read that has broken its connection this often in a row is given up: the next server would drop it as well. */
export const MAX_READ_LOSSES = 10;

// A create of the record costs its path, data, ACL and two headers on the wire.
const OP_OVERHEAD_BYTES = 96;

/** Bytes that the operations take in a request, never less than what is sent. */
export function operationsBytes(ops: readonly Op[]): number {
  return ops.reduce((sum, op) => sum + OP_OVERHEAD_BYTES + Buffer.byteLength(op.path) + dataBytes(op), 0);
}

function dataBytes(op: Op): number {
  return (op.type === "create" || op.type === "setData") && op.data ? op.data.length : 0;
}

/**
 * One fenced multi. `fence` is the znode (head or cursor) whose version admits exactly one such multi and whose
 * record will hold `commitId`. `own` are the operations on Beamkeeper's own znodes, the fence among them;
 * `user` are the user's writes, which may fail for reasons of the user's.
 */
export interface FencedMulti {
  readonly commitId: string;
  readonly fence: { readonly path: string; readonly decode: (data: Buffer, path: string) => CommitHistory };
  readonly own: readonly Op[];
  readonly user: readonly Op[];
}

/**
 * `committed`: all took effect, and `mtimeMs` and `version` are the fence's after it; `overtaken` when others have
 * committed on top since, so that nothing held in memory is current. `rejected`: nothing did and
 * never will, since the fence or the generation moved on. `conflict`: nothing did, since the user's operation at
 * `index` failed.
 */
export type CommitOutcome =
  | {
      readonly kind: "committed";
      readonly zxid: bigint;
      readonly version: number;
      readonly mtimeMs: number;
      readonly overtaken: boolean;
    }
  | { readonly kind: "rejected"; readonly cause: Error }
  | { readonly kind: "conflict"; readonly index: number; readonly cause: MultiError };

/** The reply was lost three times and the fence shows no trace of the commit: a server may drop what it can't take. */
export class CommitLostError extends Error {
  override readonly name = "CommitLostError";
  constructor(
    readonly fencePath: string,
    readonly losses: number,
    readonly bytes: number,
    cause: unknown,
  ) {
    super(
      `${fencePath}: the connection was lost ${losses} times while a commit of ${bytes} bytes was under way, and it did not take effect. ` +
        "Check the ensemble, and that jute.maxbuffer of every server is above the commit size.",
      { cause },
    );
  }
}

/**
 * Sends the multi and finds out what became of it.
 *
 * Inputs: a fenced multi. Outputs: a {@link CommitOutcome}. A lost reply is ambiguous: the same multi is sent
 * again, and from then on what happened is decided by the commit ids in the fence, never by the second error,
 * because the first copy may have taken effect and others may have committed on top. The multi can be repeated
 * safely: its fence check admits it once.
 * Rejects with {@link CommitLostError} after three losses, or with the client's error when no server answers.
 */
export async function sendFenced(client: ZooKeeperClient, multi: FencedMulti): Promise<CommitOutcome> {
  const ops = [...multi.own, ...multi.user];
  for (let losses = 0; ; ) {
    try {
      return committed(multi, await client.multi(ops));
    } catch (error) {
      if (error instanceof MultiError) return await refused(client, multi, error, losses > 0);
      if (!isLoss(error)) throw error;
      losses += 1;
      await client.connected();
      if (losses < MAX_LOSSES) continue;
      const found = await findCommit(client, multi);
      if (found) return found;
      throw new CommitLostError(multi.fence.path, losses, operationsBytes(ops), error);
    }
  }
}

function isLoss(error: unknown): boolean {
  return (
    error instanceof ConnectionLossError ||
    error instanceof SessionExpiredError ||
    error instanceof NotConnectedError
  );
}

function committed(multi: FencedMulti, result: MultiResult): CommitOutcome {
  const index = multi.own.findIndex((op) => op.type === "setData" && op.path === multi.fence.path);
  const fence = result.results[index];
  if (fence?.type !== "setData") throw new Error(`a commit on ${multi.fence.path} must write its fence`);
  return {
    kind: "committed",
    zxid: result.zxid,
    version: fence.stat.version,
    mtimeMs: fence.stat.mtime,
    overtaken: false,
  };
}

async function refused(
  client: ZooKeeperClient,
  multi: FencedMulti,
  error: MultiError,
  afterLoss: boolean,
): Promise<CommitOutcome> {
  const found = afterLoss ? await findCommit(client, multi) : undefined;
  if (found) return found;
  if (error.index >= multi.own.length)
    return { kind: "conflict", index: error.index - multi.own.length, cause: error };
  if (!isExpectedRefusal(error.cause)) throw error;
  return { kind: "rejected", cause: error };
}

function isExpectedRefusal(cause: Error): boolean {
  return cause instanceof BadVersionError || cause instanceof NoNodeError || cause instanceof NodeExistsError;
}

/** A read broke its connection too often in a row: the server, or something before it, does not let the answer through. */
export class ReadLostError extends Error {
  override readonly name = "ReadLostError";
  readonly outcome = "retryable";
  constructor(
    readonly losses: number,
    cause: Error,
  ) {
    super(
      `the connection was lost ${losses} times in a row while the same read was under way (${cause.message}). Nothing was changed. ` +
        "Check that the client's limit for an answer and jute.maxbuffer of every server are above the znode's size.",
      { cause },
    );
  }
}

/**
 * Repeats reads over lost connections while servers answer again in between, up to {@link MAX_READ_LOSSES} losses in
 * a row. Rejects with what the reads reject with, {@link ReadLostError}, or NotConnectedError when no server answers
 * in time.
 */
export async function reading<T>(client: ZooKeeperClient, read: () => Promise<T>): Promise<T> {
  for (let losses = 1; ; losses++) {
    try {
      return await read();
    } catch (error) {
      if (!(error instanceof ConnectionLossError || error instanceof SessionExpiredError)) throw error;
      if (losses >= MAX_READ_LOSSES) throw new ReadLostError(losses, error);
      await client.connected();
    }
  }
}

/** Looks for the commit's id in the fence; the refusal came through the ensemble, so the read can't be older than it. */
async function findCommit(client: ZooKeeperClient, multi: FencedMulti): Promise<CommitOutcome | undefined> {
  const { path, decode } = multi.fence;
  const { data, stat } = await reading(client, async () => {
    await client.sync(path);
    return client.getData(path);
  });
  const { ids } = decode(data, path);
  if (!ids.includes(multi.commitId)) return undefined;
  return {
    kind: "committed",
    zxid: stat.mzxid,
    version: stat.version,
    mtimeMs: stat.mtime,
    overtaken: ids[0] !== multi.commitId,
  };
}
