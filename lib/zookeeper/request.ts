import type { Acl, Op, ReadOp, Reconfiguration } from "./api";
import type { JuteReader, JuteWriter } from "./codec/jute";
import { errorFromCode } from "./error-codes";
import type { ZooKeeperError } from "./errors";
import { readMulti, writeMulti } from "./multi";
import { readMultiRead, writeMultiRead } from "./multi-read";
import { withoutChroot } from "./paths";
import {
  OpCode,
  readCreate2Response,
  readGetAclResponse,
  readGetChildren2Response,
  readGetDataResponse,
  readStat,
  readStrings,
  readWhoAmIResponse,
  type SetWatches2,
  writeAuthPacket,
  writeBarePathRequest,
  writeCreateRequest,
  writePathRequest,
  writeReconfigRequest,
  writeSetAclRequest,
  writeSetDataRequest,
  writeSetWatches,
  writeSetWatches2,
  writeTtl,
  writeVersionedPathRequest,
  writeWatchRequest,
} from "./records";

const OPERATION_NAMES: Readonly<Record<number, string>> = {
  [OpCode.create]: "create",
  [OpCode.create2]: "create",
  [OpCode.createContainer]: "create",
  [OpCode.createTtl]: "create",
  [OpCode.delete]: "delete",
  [OpCode.exists]: "exists",
  [OpCode.getData]: "getData",
  [OpCode.setData]: "setData",
  [OpCode.getChildren]: "getChildren",
  [OpCode.getChildren2]: "getChildren",
  [OpCode.sync]: "sync",
  [OpCode.multi]: "multi",
  [OpCode.getAcl]: "getAcl",
  [OpCode.setAcl]: "setAcl",
  [OpCode.multiRead]: "multiRead",
  [OpCode.checkWatches]: "checkWatches",
  [OpCode.removeWatches]: "removeWatches",
  [OpCode.getEphemerals]: "getEphemerals",
  [OpCode.getAllChildrenNumber]: "getAllChildrenNumber",
  [OpCode.whoAmI]: "whoAmI",
  [OpCode.reconfig]: "reconfig",
  [OpCode.addWatch]: "addWatch",
  [OpCode.auth]: "authentication",
  [OpCode.sasl]: "SASL DIGEST-MD5 (which servers in FIPS mode, their default from 3.9, never accept)",
  [OpCode.setWatches]: "setWatches",
  [OpCode.setWatches2]: "setWatches",
  [OpCode.closeSession]: "close",
};

const WRITES: ReadonlySet<number> = new Set([
  OpCode.create,
  OpCode.create2,
  OpCode.createContainer,
  OpCode.createTtl,
  OpCode.delete,
  OpCode.setData,
  OpCode.setAcl,
  OpCode.multi,
  OpCode.reconfig,
]);
const NO_DATA = new Uint8Array(0);
/** About what a request and an operation of a multi take in memory beside paths and values. */
const REQUEST_BYTES = 256;
const OP_BYTES = 64;
const NO_ERROR = 0;
const NO_NODE = -101;

/** What a request carries; which of it depends on the operation. One shape for all keeps the code monomorphic. */
export interface RequestArguments {
  /** As the server knows it, with chroot. */
  readonly path?: string;
  readonly data?: Uint8Array;
  /** A version, create flags, a watch mode or a watcher type. */
  readonly number?: number;
  /** Leave a one-shot watch. */
  readonly watch?: boolean;
  readonly ttlMs?: number;
  readonly acl?: readonly Acl[];
  readonly ops?: readonly Op[];
  readonly reads?: readonly ReadOp[];
  readonly change?: Reconfiguration;
  readonly watches?: SetWatches2;
  readonly scheme?: string;
}

/** A request on its way: what is sent, and whom the reply is for. */
export class Request {
  xid = 0;
  /** The size of its frame, while it is in flight. */
  bytes = 0;
  /** What it counts for while it is queued. */
  queuedBytes = 0;
  /** When it began to wait for a connection. */
  waitingSinceMs = 0;
  /** Ended before its reply, by a signal or a time limit: it is not sent any more, and its reply is skipped. */
  isOver = false;
  /** Called once when it ends, however it does. */
  onSettled: (() => void) | undefined = undefined;

  constructor(
    readonly opcode: number,
    readonly chroot: string,
    readonly args: RequestArguments,
    private readonly onResult: (value: never) => void,
    private readonly onError: (error: ZooKeeperError) => void,
  ) {}

  /** Its number is given to it when it is written. */
  get isSent(): boolean {
    return this.xid !== 0;
  }

  get description(): string {
    return this.path === undefined ? this.name : `${this.name} of ${this.path}`;
  }

  /** About the bytes that it holds while it waits, its objects included; exact enough for a bound. */
  get weight(): number {
    const { path = "", data = NO_DATA, ops = [], reads = [] } = this.args;
    let weight = REQUEST_BYTES + path.length + data.length;
    for (const op of ops) weight += OP_BYTES + op.path.length + ("data" in op ? (op.data?.length ?? 0) : 0);
    for (const read of reads) weight += OP_BYTES + read.path.length;
    return weight;
  }

  resolve(value: unknown): void {
    if (this.isOver) return;
    this.#end();
    this.onResult(value as never);
  }

  reject(error: ZooKeeperError): void {
    if (this.isOver) return;
    this.#end();
    this.onError(error);
  }

  #end(): void {
    this.isOver = true;
    if (this.onSettled !== undefined) this.onSettled();
  }

  get name(): string {
    return OPERATION_NAMES[this.opcode] ?? `operation ${this.opcode}`;
  }

  get isWrite(): boolean {
    return WRITES.has(this.opcode);
  }

  /** The path as the user knows it. */
  get path(): string | undefined {
    return this.args.path === undefined ? undefined : withoutChroot(this.chroot, this.args.path);
  }

  /** Ends the request by the server's reply, whose body the reader is at. */
  settle(code: number, zxid: bigint, reader: JuteReader): void {
    if (this.isOver) return;
    if (code === NO_ERROR) {
      const result = this.#read(zxid, reader);
      if (result instanceof Error) this.#rejectAt(zxid, result as ZooKeeperError);
      else this.resolve(result);
    } else if (code === NO_NODE && this.opcode === OpCode.exists) {
      this.resolve(null);
    } else {
      this.#rejectAt(zxid, errorFromCode(code, this.name, this.path, this.isWrite));
    }
  }

  #rejectAt(zxid: bigint, error: ZooKeeperError): void {
    error.zxid = zxid;
    this.reject(error);
  }

  write(writer: JuteWriter): void {
    const { path = "", data = NO_DATA, number = 0, acl = [], watch = false } = this.args;
    switch (this.opcode) {
      case OpCode.exists:
      case OpCode.getData:
      case OpCode.getChildren:
      case OpCode.getChildren2:
        writePathRequest(writer, path, watch);
        break;
      case OpCode.setData:
        writeSetDataRequest(writer, path, data, number);
        break;
      case OpCode.create:
      case OpCode.create2:
      case OpCode.createContainer:
        writeCreateRequest(writer, path, data, acl, number);
        break;
      case OpCode.createTtl:
        writeCreateRequest(writer, path, data, acl, number);
        writeTtl(writer, this.args.ttlMs ?? 0);
        break;
      case OpCode.delete:
        writeVersionedPathRequest(writer, path, number);
        break;
      case OpCode.multi:
        writeMulti(writer, this.chroot, this.args.ops!);
        break;
      case OpCode.multiRead:
        writeMultiRead(writer, this.chroot, this.args.reads!);
        break;
      case OpCode.sync:
      case OpCode.getAcl:
      case OpCode.getEphemerals:
      case OpCode.getAllChildrenNumber:
        writeBarePathRequest(writer, path);
        break;
      case OpCode.setAcl:
        writeSetAclRequest(writer, path, acl, number);
        break;
      case OpCode.addWatch:
      case OpCode.checkWatches:
      case OpCode.removeWatches:
        writeWatchRequest(writer, path, number);
        break;
      default:
        this.#writeRarely(writer);
    }
  }

  #writeRarely(writer: JuteWriter): void {
    switch (this.opcode) {
      case OpCode.auth:
        writeAuthPacket(writer, this.args.scheme!, this.args.data!);
        break;
      case OpCode.sasl:
        writer.buffer(this.args.data!);
        break;
      case OpCode.setWatches:
        writeSetWatches(writer, this.args.watches!);
        break;
      case OpCode.setWatches2:
        writeSetWatches2(writer, this.args.watches!);
        break;
      case OpCode.reconfig:
        writeReconfigRequest(writer, this.args.change!);
        break;
      default:
    }
  }

  #read(zxid: bigint, reader: JuteReader): unknown {
    switch (this.opcode) {
      case OpCode.exists:
      case OpCode.setData:
      case OpCode.setAcl:
        return readStat(reader);
      case OpCode.getData:
      case OpCode.reconfig:
        return readGetDataResponse(reader, zxid);
      case OpCode.getChildren:
        return readStrings(reader);
      case OpCode.getChildren2:
        return readGetChildren2Response(reader, zxid);
      case OpCode.create:
        return withoutChroot(this.chroot, reader.ustring());
      case OpCode.create2:
      case OpCode.createContainer:
      case OpCode.createTtl: {
        const { path, stat } = readCreate2Response(reader);
        return { path: withoutChroot(this.chroot, path), stat };
      }
      case OpCode.multi:
        return readMulti(reader, this.chroot, this.args.ops!, zxid);
      case OpCode.multiRead:
        return { zxid, results: readMultiRead(reader, this.args.reads!) };
      case OpCode.getAcl:
        return readGetAclResponse(reader);
      case OpCode.getEphemerals:
        return this.#belowChroot(readStrings(reader));
      case OpCode.getAllChildrenNumber:
        return reader.int();
      case OpCode.whoAmI:
        return readWhoAmIResponse(reader);
      case OpCode.sasl:
        return reader.buffer();
      default:
        return undefined;
    }
  }

  /** The server compares text: below the prefix /app it finds /apple/x, too. */
  #belowChroot(paths: readonly string[]): string[] {
    const inside = paths.filter((path) => path.startsWith(`${this.chroot}/`));
    return inside.map((path) => withoutChroot(this.chroot, path));
  }
}
