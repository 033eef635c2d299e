import type { Acl, Op } from "./api";
import type { JuteReader, JuteWriter } from "./codec/jute";
import { errorFromCode } from "./error-codes";
import type { ZooKeeperError } from "./errors";
import { readMulti, writeMulti } from "./multi";
import { withoutChroot } from "./paths";
import {
  OpCode,
  readCreate2Response,
  readGetChildren2Response,
  readGetDataResponse,
  readStat,
  type SetWatches2,
  writeAddWatchRequest,
  writeAuthPacket,
  writeCreateRequest,
  writePathRequest,
  writeSetDataRequest,
  writeSetWatches2,
  writeSyncRequest,
  writeVersionedPathRequest,
} from "./records";

const OPERATION_NAMES: Readonly<Record<number, string>> = {
  [OpCode.create2]: "create",
  [OpCode.delete]: "delete",
  [OpCode.exists]: "exists",
  [OpCode.getData]: "getData",
  [OpCode.setData]: "setData",
  [OpCode.getChildren2]: "getChildren",
  [OpCode.sync]: "sync",
  [OpCode.multi]: "multi",
  [OpCode.addWatch]: "addWatch",
  [OpCode.auth]: "authentication",
  [OpCode.setWatches2]: "setWatches",
  [OpCode.closeSession]: "close",
};

const WRITES: ReadonlySet<number> = new Set([OpCode.create2, OpCode.delete, OpCode.setData, OpCode.multi]);
const NO_DATA = new Uint8Array(0);
const NO_ERROR = 0;
const NO_NODE = -101;

/** What a request carries; which of it depends on the operation. One shape for all keeps the code monomorphic. */
export interface RequestArguments {
  /** As the server knows it, with chroot. */
  readonly path?: string;
  readonly data?: Uint8Array;
  /** A version, create flags or a watch mode. */
  readonly number?: number;
  readonly acl?: readonly Acl[];
  readonly ops?: readonly Op[];
  readonly watches?: SetWatches2;
  readonly scheme?: string;
}

/** A request on its way: what is sent, and whom the reply is for. */
export class Request {
  xid = 0;
  /** When it began to wait for a connection. */
  waitingSinceMs = 0;

  constructor(
    readonly opcode: number,
    readonly chroot: string,
    readonly args: RequestArguments,
    readonly resolve: (value: never) => void,
    readonly reject: (error: ZooKeeperError) => void,
  ) {}

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
    if (code === NO_ERROR) {
      const result = this.#read(zxid, reader);
      if (result instanceof Error) this.#rejectAt(zxid, result as ZooKeeperError);
      else this.resolve(result as never);
    } else if (code === NO_NODE && this.opcode === OpCode.exists) {
      this.resolve(null as never);
    } else {
      this.#rejectAt(zxid, errorFromCode(code, this.name, this.path, this.isWrite));
    }
  }

  #rejectAt(zxid: bigint, error: ZooKeeperError): void {
    error.zxid = zxid;
    this.reject(error);
  }

  write(writer: JuteWriter): void {
    const { path = "", data = NO_DATA, number = 0, acl = [], ops = [] } = this.args;
    switch (this.opcode) {
      case OpCode.exists:
      case OpCode.getData:
      case OpCode.getChildren2:
        writePathRequest(writer, path);
        break;
      case OpCode.setData:
        writeSetDataRequest(writer, path, data, number);
        break;
      case OpCode.create2:
        writeCreateRequest(writer, path, data, acl, number);
        break;
      case OpCode.delete:
        writeVersionedPathRequest(writer, path, number);
        break;
      case OpCode.multi:
        writeMulti(writer, this.chroot, ops);
        break;
      case OpCode.sync:
        writeSyncRequest(writer, path);
        break;
      case OpCode.addWatch:
        writeAddWatchRequest(writer, path, number);
        break;
      case OpCode.auth:
        writeAuthPacket(writer, this.args.scheme!, data);
        break;
      case OpCode.setWatches2:
        writeSetWatches2(writer, this.args.watches!);
        break;
      default:
    }
  }

  #read(zxid: bigint, reader: JuteReader): unknown {
    switch (this.opcode) {
      case OpCode.exists:
      case OpCode.setData:
        return readStat(reader);
      case OpCode.getData:
        return readGetDataResponse(reader, zxid);
      case OpCode.getChildren2:
        return readGetChildren2Response(reader);
      case OpCode.create2: {
        const { path, stat } = readCreate2Response(reader);
        return { path: withoutChroot(this.chroot, path), stat };
      }
      case OpCode.multi:
        return readMulti(reader, this.chroot, this.args.ops!, zxid);
      default:
        return undefined;
    }
  }
}
