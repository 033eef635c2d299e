import type { MultiResult, Op, OpResult } from "./api";
import type { JuteReader, JuteWriter } from "./codec/jute";
import { Code, errorFromCode } from "./error-codes";
import { InvalidArgumentError, MultiError } from "./errors";
import { checkPath, withChroot, withoutChroot } from "./paths";
import {
  CREATE_FLAGS,
  checkTtl,
  createOpcode,
  isSequential,
  OPEN_ACL,
  OpCode,
  readCreate2Response,
  readMultiHeader,
  readStat,
  unexpected,
  writeCreateRequest,
  writeMultiHeader,
  writeSetDataRequest,
  writeTtl,
  writeVersionedPathRequest,
} from "./records";

const ANY_VERSION = -1;
const NO_DATA = new Uint8Array(0);
const OP_CODES = {
  delete: OpCode.delete,
  setData: OpCode.setData,
  check: OpCode.check,
} as const;

/** Rejects operations that the server would reject, naming the place of the first one. */
export function checkOps(ops: readonly Op[]): void {
  ops.forEach((op, index) => {
    if (op.type !== "create" && !(op.type in OP_CODES)) {
      throw new InvalidArgumentError(
        `Operation ${index} of the multi has the unknown type ${(op as Op).type}.`,
        "terminal",
      );
    }
    try {
      checkPath(op.path, op.type === "create" && isSequential(op.mode));
      if (op.type === "create") checkTtl(op.mode, op.ttlMs);
    } catch (error) {
      throw new InvalidArgumentError(
        `Operation ${index} of the multi: ${(error as Error).message}`,
        "terminal",
        undefined,
        op.path,
      );
    }
  });
}

/** MultiTransactionRecord = (MultiHeader, request)*, MultiHeader{type -1, done} */
export function writeMulti(writer: JuteWriter, chroot: string, ops: readonly Op[]): void {
  for (const op of ops) {
    const opcode = op.type === "create" ? createOpcode(op.mode ?? "persistent") : OP_CODES[op.type];
    writeMultiHeader(writer, opcode, false);
    writeOp(writer, withChroot(chroot, op.path), op);
  }
  writeMultiHeader(writer, OpCode.error, true);
}

function writeOp(writer: JuteWriter, path: string, op: Op): void {
  switch (op.type) {
    case "create": {
      const flags = CREATE_FLAGS[op.mode ?? "persistent"];
      writeCreateRequest(writer, path, op.data ?? NO_DATA, op.acl ?? OPEN_ACL, flags);
      if (op.ttlMs !== undefined) writeTtl(writer, op.ttlMs);
      break;
    }
    case "setData":
      writeSetDataRequest(writer, path, op.data, op.version ?? ANY_VERSION);
      break;
    default:
      writeVersionedPathRequest(writer, path, op.version ?? ANY_VERSION);
  }
}

/**
 *   MultiResponse = (MultiHeader, result)*, MultiHeader{type -1, done}
 *   result        = Create2Response | CreateResponse | SetDataResponse | nothing | ErrorResponse (type -1) = int err
 *
 * When the multi failed, every operation has an ErrorResponse: 0 before the one that failed, its code, and -2
 * (RuntimeInconsistency) behind it.
 */
export function readMulti(
  reader: JuteReader,
  chroot: string,
  ops: readonly Op[],
  zxid: bigint,
): MultiResult | MultiError {
  const results: OpResult[] = [];
  let failure: MultiError | undefined;
  let error: MultiError | undefined;
  for (let index = 0; ; index += 1) {
    const header = readMultiHeader(reader);
    if (header.done) break;
    const op = ops[index] ?? unexpected(`more results than the ${ops.length} operations of the multi`);
    if (header.type === OpCode.error) {
      // Read in any case: the results behind the one that failed have codes, too.
      const code = reader.int();
      if (code !== Code.ok) error ??= failureOf(code, index, op);
      if (code !== Code.ok && code !== Code.runtimeInconsistency) failure ??= failureOf(code, index, op);
    } else results.push(readResult(reader, header.type, chroot));
  }
  // Where no operation has an error of its own, the first one that was not applied stands for all.
  if (failure ?? error) return (failure ?? error)!;
  if (results.length !== ops.length)
    unexpected(`${results.length} results for ${ops.length} operations of a multi`);
  return { zxid, results };
}

function failureOf(code: number, index: number, op: Op): MultiError {
  const cause = errorFromCode(code, op.type, op.path, true);
  return new MultiError(
    `Operation ${index} of the multi failed, so none was applied: ${cause.message}`,
    index,
    cause,
  );
}

function readResult(reader: JuteReader, type: number, chroot: string): OpResult {
  switch (type) {
    // What 3.8 answers to a create2 inside a multi.
    case OpCode.create:
      return { type: "create", path: withoutChroot(chroot, reader.ustring()), stat: undefined };
    case OpCode.create2:
    case OpCode.createContainer:
    case OpCode.createTtl: {
      const { path, stat } = readCreate2Response(reader);
      return { type: "create", path: withoutChroot(chroot, path), stat };
    }
    case OpCode.setData:
      return { type: "setData", stat: readStat(reader) };
    case OpCode.delete:
      return { type: "delete" };
    case OpCode.check:
      return { type: "check" };
    default:
      return unexpected(`a result of type ${type} in a multi`);
  }
}
