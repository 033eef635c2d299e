import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { JuteReader, MalformedFrameError } from "./codec/jute";
import { OpCode } from "./records";

/**
 * A server's transaction log, as FileTxnLog writes it:
 *
 *   file   = header, entry..., zeros (the file is allocated ahead)
 *   header = magic "ZKLG" (int), version 2 (int), database id (long)
 *   entry  = Adler-32 of the record (long), length (int), record, 'B'
 *   record = client id (long), cxid (int), zxid (long), time (long), type (int), body, [digest]
 *
 * Only what was committed, or is about to be, is in it; reads and refused single requests leave an error record.
 */
const MAGIC = 0x5a4b4c47;
const VERSION = 2;
const HEADER_BYTES = 16;
const END_OF_ENTRY = 0x42;
const CREATE_SESSION = -10;
const DELETE_CONTAINER = 20;

/** What one operation of a transaction did. `version` is the znode's after it; for `check` the one that was required. */
export type LoggedOp =
  | { readonly type: "create"; readonly path: string; readonly data: Buffer; readonly isEphemeral: boolean }
  | { readonly type: "delete"; readonly path: string }
  | { readonly type: "setData"; readonly path: string; readonly data: Buffer; readonly version: number }
  | { readonly type: "check"; readonly path: string; readonly version: number }
  | { readonly type: "other"; readonly opcode: number };

/** One transaction, with its operations; none where the leader refused it, or it was about a session. */
export interface LoggedTransaction {
  readonly zxid: bigint;
  /** Milliseconds since 1970 on the leader's clock. */
  readonly timeMs: number;
  readonly isMulti: boolean;
  /** The session ended: its ephemerals went with it. The log does not always name them. */
  readonly isSessionEnd: boolean;
  readonly sessionId: bigint;
  readonly ops: readonly LoggedOp[];
}

/** The file is no transaction log, or it is damaged before its end. */
export class TransactionLogError extends Error {
  override readonly name = "TransactionLogError";
}

/**
 * The transactions of one server, in the order of their zxids: the files `log.*` of its data directory. Throws
 * {@link TransactionLogError}.
 */
export function readTransactionLogs(directory: string): LoggedTransaction[] {
  const folder = statSync(join(directory, "version-2"), { throwIfNoEntry: false })
    ? join(directory, "version-2")
    : directory;
  const names = readdirSync(folder).filter((name) => /^log\.[0-9a-f]+$/.test(name));
  if (names.length === 0) throw new TransactionLogError(`${folder} holds no transaction log (log.*)`);
  const byStart = names.sort((a, b) => Number.parseInt(a.slice(4), 16) - Number.parseInt(b.slice(4), 16));
  const transactions: LoggedTransaction[] = [];
  for (const name of byStart) {
    const path = join(folder, name);
    for (const transaction of readTransactionLog(readFileSync(path), path)) transactions.push(transaction);
  }
  return transactions;
}

/** The transactions of one file. An entry that is cut off at its end was never committed by this server. */
export function readTransactionLog(file: Buffer, path: string): LoggedTransaction[] {
  if (file.length === 0) return [];
  if (file.length < HEADER_BYTES || file.readInt32BE(0) !== MAGIC)
    throw new TransactionLogError(`${path} is no transaction log: it does not begin with ZKLG`);
  const version = file.readInt32BE(4);
  if (version !== VERSION)
    throw new TransactionLogError(`${path} has version ${version} of the log; this code reads ${VERSION}`);
  const transactions: LoggedTransaction[] = [];
  for (let offset = HEADER_BYTES; offset + 12 <= file.length; ) {
    const checksum = file.readBigInt64BE(offset);
    const length = file.readInt32BE(offset + 8);
    const start = offset + 12;
    // What was allocated ahead, and an entry whose writing was interrupted.
    if (length === 0 || start + length >= file.length) break;
    const record = file.subarray(start, start + length);
    if (file[start + length] !== END_OF_ENTRY) break;
    if (BigInt(adler32(record)) !== checksum)
      throw new TransactionLogError(`${path}: the entry at byte ${offset} is damaged (its checksum differs)`);
    transactions.push(decodeTransaction(record, `${path} at byte ${offset}`));
    offset = start + length + 1;
  }
  return transactions;
}

function decodeTransaction(record: Buffer, place: string): LoggedTransaction {
  const reader = new JuteReader().reset(record, 0, record.length);
  try {
    const sessionId = reader.long();
    reader.int();
    const zxid = reader.long();
    const timeMs = Number(reader.long());
    const type = reader.int();
    const isMulti = type === OpCode.multi;
    const ops = isMulti ? multiOps(reader) : singleOp(type, reader);
    return { zxid, timeMs, isMulti, isSessionEnd: type === OpCode.closeSession, sessionId, ops };
  } catch (error) {
    if (!(error instanceof MalformedFrameError)) throw error;
    throw new TransactionLogError(`${place}: ${error.message}`);
  }
}

/**
 * MultiTxn = vector of Txn {type (int), data (buffer)}. A multi that the leader refused is logged, too: with its
 * operations up to the one that failed, and an error record for that one and each behind it. It had no effect.
 */
function multiOps(reader: JuteReader): LoggedOp[] {
  const ops: LoggedOp[] = [];
  let isRefused = false;
  for (let count = reader.int(); count > 0; count--) {
    const type = reader.int();
    const data = reader.buffer();
    isRefused ||= type === OpCode.error;
    if (!isRefused) ops.push(...singleOp(type, new JuteReader().reset(data, 0, data.length)));
  }
  return isRefused ? [] : ops;
}

function singleOp(type: number, reader: JuteReader): LoggedOp[] {
  switch (type) {
    case OpCode.error:
    case OpCode.closeSession:
    case CREATE_SESSION:
      return [];
    case OpCode.create:
    case OpCode.create2:
    case OpCode.createContainer:
    case OpCode.createTtl:
      return [create(reader, type)];
    case OpCode.delete:
    case DELETE_CONTAINER:
      return [{ type: "delete", path: reader.ustring() }];
    case OpCode.setData:
    case OpCode.reconfig:
      return [{ type: "setData", path: reader.ustring(), data: reader.buffer(), version: reader.int() }];
    case OpCode.check:
      // The server logs the version that a change would have given.
      return [{ type: "check", path: reader.ustring(), version: reader.int() - 1 }];
    default:
      return [{ type: "other", opcode: type }];
  }
}

/** CreateTxn = path, data, acl, ephemeral (boolean), parent's cversion; containers and TTL znodes lack the boolean. */
function create(reader: JuteReader, type: number): LoggedOp {
  const path = reader.ustring();
  const data = reader.buffer();
  for (let count = reader.int(); count > 0; count--) {
    reader.int();
    reader.ustring();
    reader.ustring();
  }
  const hasOwner = type === OpCode.create || type === OpCode.create2;
  return { type: "create", path, data, isEphemeral: hasOwner && reader.boolean() };
}

const ADLER_MODULUS = 65_521;
// So many bytes can be added up before the sums leave 32 bits.
const ADLER_BLOCK_BYTES = 3_800;

/** RFC 1950, section 8.2. */
export function adler32(bytes: Uint8Array): number {
  let a = 1;
  let b = 0;
  for (let start = 0; start < bytes.length; start += ADLER_BLOCK_BYTES) {
    const end = Math.min(bytes.length, start + ADLER_BLOCK_BYTES);
    for (let index = start; index < end; index++) {
      a += bytes[index]!;
      b += a;
    }
    a %= ADLER_MODULUS;
    b %= ADLER_MODULUS;
  }
  return ((b << 16) | a) >>> 0;
}

/**
 * The transactions of an ensemble from the logs of several of its servers: each zxid once. Throws
 * {@link TransactionLogError} where two servers hold different transactions under one zxid.
 */
export function mergeTransactions(logs: readonly (readonly LoggedTransaction[])[]): LoggedTransaction[] {
  const byZxid = new Map<bigint, LoggedTransaction>();
  for (const transaction of logs.flat()) {
    const known = byZxid.get(transaction.zxid);
    if (known && known.timeMs !== transaction.timeMs)
      throw new TransactionLogError(
        `two servers hold different transactions under the zxid 0x${transaction.zxid.toString(16)}; wait until all have caught up`,
      );
    byZxid.set(transaction.zxid, transaction);
  }
  return [...byZxid.values()].sort((a, b) => (a.zxid < b.zxid ? -1 : a.zxid > b.zxid ? 1 : 0));
}
