/**
 * The wire records, in the order of zookeeper.jute, each headed by its grammar. Requests have a writer, replies
 * a reader.
 */
import type { Acl, CreateMode, Reconfiguration, Stat, WatchedEventType, WatchKind } from "./api";
import type { JuteReader, JuteWriter } from "./codec/jute";
import { MalformedFrameError } from "./codec/jute";
import { InvalidArgumentError } from "./errors";

/** ZooDefs.OpCode. In an enum, whose values a bundler writes where they are used: the switches over them become tables. */
export enum OpCode {
  error = -1,
  create = 1,
  delete = 2,
  exists = 3,
  getData = 4,
  setData = 5,
  getAcl = 6,
  setAcl = 7,
  getChildren = 8,
  sync = 9,
  ping = 11,
  getChildren2 = 12,
  check = 13,
  multi = 14,
  create2 = 15,
  reconfig = 16,
  checkWatches = 17,
  removeWatches = 18,
  createContainer = 19,
  createTtl = 21,
  multiRead = 22,
  auth = 100,
  setWatches = 101,
  sasl = 102,
  getEphemerals = 103,
  getAllChildrenNumber = 104,
  setWatches2 = 105,
  addWatch = 106,
  whoAmI = 107,
  closeSession = -11,
}

/** Xids that are no request's number: ClientCnxn's constants. */
export enum Xid {
  event = -1,
  ping = -2,
  auth = -4,
  setWatches = -8,
}

/** CreateMode's flags */
export const CREATE_FLAGS: Readonly<Record<CreateMode, number>> = {
  persistent: 0,
  ephemeral: 1,
  "persistent-sequential": 2,
  "ephemeral-sequential": 3,
  container: 4,
  "persistent-ttl": 5,
  "persistent-sequential-ttl": 6,
};

/** The opcode that creates a znode of this mode, alone and inside a multi. */
export function createOpcode(mode: CreateMode): number {
  if (mode === "container") return OpCode.createContainer;
  return mode.endsWith("ttl") ? OpCode.createTtl : OpCode.create2;
}

/** The greatest that EphemeralType.TTL can hold: five bytes. */
const MAX_TTL_MS = 2 ** 40 - 1;

/** Rejects a time to live that is missing, or that the mode has no use for. */
export function checkTtl(mode: CreateMode | undefined, ttlMs: number | undefined): void {
  const needsTtl = mode?.endsWith("ttl") ?? false;
  if (!needsTtl && ttlMs === undefined) return;
  if (needsTtl && Number.isInteger(ttlMs) && ttlMs! > 0 && ttlMs! <= MAX_TTL_MS) return;
  const reason = needsTtl
    ? `needs a ttlMs from 1 to ${MAX_TTL_MS}, and it is ${ttlMs}`
    : "has no time to live: choose persistent-ttl, or leave ttlMs away";
  throw new InvalidArgumentError(`The mode ${mode ?? "persistent"} ${reason}.`, "terminal");
}

/** Rejects a mode that the first create of the protocol has no form for. */
export function checkPlain(mode: CreateMode): void {
  if (createOpcode(mode) === OpCode.create2) return;
  throw new InvalidArgumentError(`The mode ${mode} needs create, which gives the stat as well.`, "terminal");
}

export function isSequential(mode: CreateMode | undefined): boolean {
  return mode?.includes("sequential") ?? false;
}

/** AddWatchMode */
export const WATCH_MODES = { persistent: 0, persistentRecursive: 1 } as const;

/** Watcher.WatcherType */
export const WATCHER_TYPES: Readonly<Record<WatchKind, number>> = {
  children: 1,
  data: 2,
  any: 3,
  persistent: 4,
  persistentRecursive: 5,
};

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

const MIN_ACL_BYTES = 12;

export function readAcl(reader: JuteReader): Acl[] {
  const count = reader.count(MIN_ACL_BYTES);
  const acl: Acl[] = [];
  for (let index = 0; index < count; index += 1) {
    acl.push({ perms: reader.int(), scheme: reader.ustring(), id: reader.ustring() });
  }
  return acl;
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
  /** A server without a quorum will do. */
  readonly canBeReadOnly?: boolean;
}

const PROTOCOL_VERSION = 0;

/** ConnectRequest = int protocolVersion, long lastZxidSeen, int timeOut, long sessionId, buffer passwd, boolean readOnly */
export function writeConnectRequest(writer: JuteWriter, request: ConnectRequest): void {
  writer.int(PROTOCOL_VERSION);
  writer.long(request.lastZxidSeen);
  writer.int(request.sessionTimeoutMs);
  writer.long(request.sessionId);
  writer.buffer(request.password);
  writer.boolean(request.canBeReadOnly ?? false);
}

export interface ConnectResponse {
  /** What the server grants; 0 or less: the session that was asked for has expired. */
  readonly sessionTimeoutMs: number;
  readonly sessionId: bigint;
  readonly password: Buffer;
  /** The server has no quorum and takes reads only. */
  readonly isReadOnly: boolean;
}

/** ConnectResponse = int protocolVersion, int timeOut, long sessionId, buffer passwd, [boolean readOnly] */
export function readConnectResponse(reader: JuteReader): ConnectResponse {
  reader.int();
  const [sessionTimeoutMs, sessionId, password] = [reader.int(), reader.long(), reader.buffer()];
  return { sessionTimeoutMs, sessionId, password, isReadOnly: reader.remaining > 0 && reader.boolean() };
}

export interface SetWatches {
  /** One-shot watches of what has changed since then fire at once. */
  readonly relativeZxid: bigint;
  readonly data: readonly string[];
  readonly exist: readonly string[];
  readonly child: readonly string[];
}

export interface SetWatches2 extends SetWatches {
  readonly persistent: readonly string[];
  readonly persistentRecursive: readonly string[];
}

function writePaths(writer: JuteWriter, paths: readonly string[]): void {
  writer.int(paths.length);
  for (const path of paths) writer.ustring(path);
}

/**
 *   SetWatches = long relativeZxid, vector<ustring> dataWatches, vector<ustring> existWatches,
 *                vector<ustring> childWatches
 */
export function writeSetWatches(writer: JuteWriter, watches: SetWatches): void {
  writer.long(watches.relativeZxid);
  writePaths(writer, watches.data);
  writePaths(writer, watches.exist);
  writePaths(writer, watches.child);
}

/** SetWatches2 = SetWatches, vector<ustring> persistentWatches, vector<ustring> persistentRecursiveWatches */
export function writeSetWatches2(writer: JuteWriter, watches: SetWatches2): void {
  writeSetWatches(writer, watches);
  writePaths(writer, watches.persistent);
  writePaths(writer, watches.persistentRecursive);
}

/** RequestHeader = int xid, int type */
export function writeRequestHeader(writer: JuteWriter, xid: number, opcode: number): void {
  writer.int(xid);
  writer.int(opcode);
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

const AUTH_TYPE = 0;

/** AuthPacket = int type, ustring scheme, buffer auth */
export function writeAuthPacket(writer: JuteWriter, scheme: string, auth: Uint8Array): void {
  writer.int(AUTH_TYPE);
  writer.ustring(scheme);
  writer.buffer(auth);
}

/** GetDataRequest, GetChildrenRequest, GetChildren2Request, ExistsRequest = ustring path, boolean watch */
export function writePathRequest(writer: JuteWriter, path: string, watch: boolean): void {
  writer.ustring(path);
  writer.boolean(watch);
}

/** SyncRequest, GetACLRequest, GetEphemeralsRequest, GetAllChildrenNumberRequest = ustring path */
export function writeBarePathRequest(writer: JuteWriter, path: string): void {
  writer.ustring(path);
}

const NULL_LENGTH = -1;
const ANY_CONFIG = -1n;

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

/** ReconfigRequest = ustring joiningServers, ustring leavingServers, ustring newMembers, long curConfigId */
export function writeReconfigRequest(writer: JuteWriter, change: Reconfiguration): void {
  for (const servers of [change.joining, change.leaving, change.members]) {
    // Null says that there is none; an empty list would be a malformed one.
    if (servers === undefined) writer.int(NULL_LENGTH);
    else writer.ustring(servers);
  }
  writer.long(change.fromVersion ?? ANY_CONFIG);
}

/** CreateRequest, CreateContainerRequest = ustring path, buffer data, vector<ACL> acl, int flags */
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

/** CreateTTLRequest = CreateRequest, long ttl */
export function writeTtl(writer: JuteWriter, ttlMs: number): void {
  writer.long(BigInt(ttlMs));
}

/** DeleteRequest, CheckVersionRequest = ustring path, int version */
export function writeVersionedPathRequest(writer: JuteWriter, path: string, version: number): void {
  writer.ustring(path);
  writer.int(version);
}

/** SetACLRequest = ustring path, vector<ACL> acl, int version */
export function writeSetAclRequest(
  writer: JuteWriter,
  path: string,
  acl: readonly Acl[],
  version: number,
): void {
  writer.ustring(path);
  writeAcl(writer, acl);
  writer.int(version);
}

/** AddWatchRequest = ustring path, int mode; CheckWatchesRequest, RemoveWatchesRequest = ustring path, int type */
export function writeWatchRequest(writer: JuteWriter, path: string, mode: number): void {
  writer.ustring(path);
  writer.int(mode);
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

/** CreateResponse = ustring path; Create2Response = ustring path, Stat stat */
export function readCreate2Response(reader: JuteReader): { path: string; stat: Stat } {
  return { path: reader.ustring(), stat: readStat(reader) };
}

/** GetDataResponse = buffer data, Stat stat. The zxid is the reply header's. */
export function readGetDataResponse(
  reader: JuteReader,
  zxid: bigint,
): { data: Buffer; stat: Stat; zxid: bigint } {
  return { data: reader.buffer(), stat: readStat(reader), zxid };
}

const MIN_USTRING_BYTES = 4;

/** GetChildrenResponse, GetEphemeralsResponse = vector<ustring> */
export function readStrings(reader: JuteReader): string[] {
  const count = reader.count(MIN_USTRING_BYTES);
  const strings = new Array<string>(count);
  for (let index = 0; index < count; index += 1) strings[index] = reader.ustring();
  return strings;
}

/** GetChildren2Response = vector<ustring> children, Stat stat */
export function readGetChildren2Response(
  reader: JuteReader,
  zxid: bigint,
): { children: string[]; stat: Stat; zxid: bigint } {
  return { children: readStrings(reader), stat: readStat(reader), zxid };
}

/** GetACLResponse = vector<ACL> acl, Stat stat */
export function readGetAclResponse(reader: JuteReader): { acl: Acl[]; stat: Stat } {
  return { acl: readAcl(reader), stat: readStat(reader) };
}

/**
 *   ClientInfo     = ustring authScheme, ustring user
 *   WhoAmIResponse = vector<ClientInfo> clientInfo
 */
export function readWhoAmIResponse(reader: JuteReader): { scheme: string; user: string }[] {
  const count = reader.count(2 * MIN_USTRING_BYTES);
  const identities: { scheme: string; user: string }[] = [];
  for (let index = 0; index < count; index += 1) {
    identities.push({ scheme: reader.ustring(), user: reader.ustring() });
  }
  return identities;
}

/** A reply of another shape than the request asks for. */
export function unexpected(what: string): never {
  throw new MalformedFrameError(`The server's reply has ${what}.`);
}
