/**
 * The wire records, in the order of zookeeper.jute, each headed by its grammar. Requests have a writer, replies
 * a reader.
 */
import type { Acl, CreateMode, Stat, WatchedEventType } from "./api";
import type { JuteReader, JuteWriter } from "./codec/jute";
import { MalformedFrameError } from "./codec/jute";

/** ZooDefs.OpCode */
export const OpCode = {
  error: -1,
  create: 1,
  delete: 2,
  exists: 3,
  getData: 4,
  setData: 5,
  sync: 9,
  ping: 11,
  getChildren2: 12,
  check: 13,
  multi: 14,
  create2: 15,
  auth: 100,
  setWatches2: 105,
  addWatch: 106,
  closeSession: -11,
} as const;

/** Xids that are no request's number: ClientCnxn's constants. */
export const Xid = { event: -1, ping: -2, auth: -4, setWatches: -8 } as const;

/** CreateMode's flags */
export const CREATE_FLAGS: Readonly<Record<CreateMode, number>> = {
  persistent: 0,
  ephemeral: 1,
  "persistent-sequential": 2,
  "ephemeral-sequential": 3,
};

/** AddWatchMode */
export const WATCH_MODES = { persistent: 0, persistentRecursive: 1 } as const;

/** Everyone may do everything: ZooDefs.Ids.OPEN_ACL_UNSAFE. */
export const OPEN_ACL: readonly Acl[] = [{ perms: 31, scheme: "world", id: "anyone" }];

/**
 *   Id  = ustring scheme, ustring id
 *   ACL = int perms, Id id
 */
export function writeAcl(writer: JuteWriter, acl: readonly Acl[]): void {
  writer.int(acl.length);
  for (const entry of acl) {
    writer.int(entry.perms);
    writer.ustring(entry.scheme);
    writer.ustring(entry.id);
  }
}

/**
 *   Stat = long czxid, long mzxid, long ctime, long mtime, int version, int cversion, int aversion,
 *          long ephemeralOwner, int dataLength, int numChildren, long pzxid
 */
export function readStat(reader: JuteReader): Stat {
  return {
    czxid: reader.long(),
    mzxid: reader.long(),
    ctime: reader.millis(),
    mtime: reader.millis(),
    version: reader.int(),
    cversion: reader.int(),
    aversion: reader.int(),
    ephemeralOwner: reader.long(),
    dataLength: reader.int(),
    numChildren: reader.int(),
    pzxid: reader.long(),
  };
}

export interface ConnectRequest {
  readonly lastZxidSeen: bigint;
  readonly sessionTimeoutMs: number;
  readonly sessionId: bigint;
  readonly password: Uint8Array;
}

const PROTOCOL_VERSION = 0;

/** ConnectRequest = int protocolVersion, long lastZxidSeen, int timeOut, long sessionId, buffer passwd, boolean readOnly */
export function writeConnectRequest(writer: JuteWriter, request: ConnectRequest): void {
  writer.int(PROTOCOL_VERSION);
  writer.long(request.lastZxidSeen);
  writer.int(request.sessionTimeoutMs);
  writer.long(request.sessionId);
  writer.buffer(request.password);
  writer.boolean(false);
}

export interface ConnectResponse {
  /** What the server grants; 0 or less: the session that was asked for has expired. */
  readonly sessionTimeoutMs: number;
  readonly sessionId: bigint;
  readonly password: Buffer;
}

/** ConnectResponse = int protocolVersion, int timeOut, long sessionId, buffer passwd, [boolean readOnly] */
export function readConnectResponse(reader: JuteReader): ConnectResponse {
  reader.int();
  return { sessionTimeoutMs: reader.int(), sessionId: reader.long(), password: reader.buffer() };
}

const AUTH_TYPE = 0;

/** AuthPacket = int type, ustring scheme, buffer auth */
export function writeAuthPacket(writer: JuteWriter, scheme: string, auth: Uint8Array): void {
  writer.int(AUTH_TYPE);
  writer.ustring(scheme);
  writer.buffer(auth);
}

/** RequestHeader = int xid, int type */
export function writeRequestHeader(writer: JuteWriter, xid: number, opcode: number): void {
  writer.int(xid);
  writer.int(opcode);
}

export interface SetWatches2 {
  readonly relativeZxid: bigint;
  readonly persistent: readonly string[];
  readonly persistentRecursive: readonly string[];
}

function writePaths(writer: JuteWriter, paths: readonly string[]): void {
  writer.int(paths.length);
  for (const path of paths) writer.ustring(path);
}

/**
 *   SetWatches2 = long relativeZxid, vector<ustring> dataWatches, vector<ustring> existWatches,
 *                 vector<ustring> childWatches, vector<ustring> persistentWatches,
 *                 vector<ustring> persistentRecursiveWatches
 */
export function writeSetWatches2(writer: JuteWriter, watches: SetWatches2): void {
  writer.long(watches.relativeZxid);
  for (let oneShotKind = 0; oneShotKind < 3; oneShotKind += 1) writer.int(0);
  writePaths(writer, watches.persistent);
  writePaths(writer, watches.persistentRecursive);
}

/** GetDataRequest, GetChildren2Request, ExistsRequest = ustring path, boolean watch */
export function writePathRequest(writer: JuteWriter, path: string): void {
  writer.ustring(path);
  writer.boolean(false);
}

/** SyncRequest = ustring path */
export function writeSyncRequest(writer: JuteWriter, path: string): void {
  writer.ustring(path);
}

/** SetDataRequest = ustring path, buffer data, int version */
export function writeSetDataRequest(
  writer: JuteWriter,
  path: string,
  data: Uint8Array,
  version: number,
): void {
  writer.ustring(path);
  writer.buffer(data);
  writer.int(version);
}

/** CreateRequest = ustring path, buffer data, vector<ACL> acl, int flags */
export function writeCreateRequest(
  writer: JuteWriter,
  path: string,
  data: Uint8Array,
  acl: readonly Acl[],
  flags: number,
): void {
  writer.ustring(path);
  writer.buffer(data);
  writeAcl(writer, acl);
  writer.int(flags);
}

/** DeleteRequest, CheckVersionRequest = ustring path, int version */
export function writeVersionedPathRequest(writer: JuteWriter, path: string, version: number): void {
  writer.ustring(path);
  writer.int(version);
}

/** AddWatchRequest = ustring path, int mode */
export function writeAddWatchRequest(writer: JuteWriter, path: string, mode: number): void {
  writer.ustring(path);
  writer.int(mode);
}

/** GetDataResponse = buffer data, Stat stat. The zxid is the reply header's. */
export function readGetDataResponse(
  reader: JuteReader,
  zxid: bigint,
): { data: Buffer; stat: Stat; zxid: bigint } {
  return { data: reader.buffer(), stat: readStat(reader), zxid };
}

const MIN_USTRING_BYTES = 4;

/** GetChildren2Response = vector<ustring> children, Stat stat */
export function readGetChildren2Response(reader: JuteReader): { children: string[]; stat: Stat } {
  const count = reader.count(MIN_USTRING_BYTES);
  const children = new Array<string>(count);
  for (let index = 0; index < count; index += 1) children[index] = reader.ustring();
  return { children, stat: readStat(reader) };
}

/** Create2Response = ustring path, Stat stat */
export function readCreate2Response(reader: JuteReader): { path: string; stat: Stat } {
  return { path: reader.ustring(), stat: readStat(reader) };
}

/** Watcher.Event.EventType; the types of removed watches (5, 6) do not come unasked. */
const EVENT_TYPES: Readonly<Record<number, WatchedEventType>> = {
  1: "created",
  2: "deleted",
  3: "dataChanged",
  4: "childrenChanged",
};

/** WatcherEvent = int type, int state, ustring path. Undefined: an event about the connection, not a znode. */
export function readWatcherEvent(reader: JuteReader): { type: WatchedEventType; path: string } | undefined {
  const type = EVENT_TYPES[reader.int()];
  reader.int();
  const path = reader.ustring();
  return type && { type, path };
}

export interface MultiHeader {
  readonly type: number;
  readonly done: boolean;
  readonly error: number;
}

const NO_ERROR_IN_HEADER = -1;

/** MultiHeader = int type, boolean done, int err */
export function writeMultiHeader(writer: JuteWriter, type: number, done: boolean): void {
  writer.int(type);
  writer.boolean(done);
  writer.int(NO_ERROR_IN_HEADER);
}

export function readMultiHeader(reader: JuteReader): MultiHeader {
  return { type: reader.int(), done: reader.boolean(), error: reader.int() };
}

/** A reply of another shape than the request asks for. */
export function unexpected(what: string): never {
  throw new MalformedFrameError(`The server's reply has ${what}.`);
}
