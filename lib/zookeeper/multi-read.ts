import type { ReadOp, ReadResult } from "./api";
import type { JuteReader, JuteWriter } from "./codec/jute";
import { errorFromCode } from "./error-codes";
import { InvalidArgumentError } from "./errors";
import { checkPath, withChroot } from "./paths";
import {
  OpCode,
  readMultiHeader,
  readStat,
  readStrings,
  unexpected,
  writeMultiHeader,
  writePathRequest,
} from "./records";

const OP_CODES = { getData: OpCode.getData, getChildren: OpCode.getChildren } as const;

/** Rejects reads that the server would reject, naming the place of the first one. */
export function checkReads(reads: readonly ReadOp[]): void {
  reads.forEach((read, index) => {
    if (!(read.type in OP_CODES)) {
      throw new InvalidArgumentError(
        `Operation ${index} of the multiRead has the unknown type ${read.type}.`,
        "terminal",
      );
    }
    checkPath(read.path);
  });
}

/** MultiTransactionRecord = (MultiHeader, GetDataRequest | GetChildrenRequest)*, MultiHeader{type -1, done} */
export function writeMultiRead(writer: JuteWriter, chroot: string, reads: readonly ReadOp[]): void {
  for (const { type, path } of reads) {
    writeMultiHeader(writer, OP_CODES[type], false);
    writePathRequest(writer, withChroot(chroot, path), false);
  }
  writeMultiHeader(writer, OpCode.error, true);
}

/** MultiResponse = (MultiHeader, GetDataResponse | GetChildrenResponse | ErrorResponse)*, MultiHeader{type -1, done} */
export function readMultiRead(reader: JuteReader, reads: readonly ReadOp[]): ReadResult[] {
  const results: ReadResult[] = [];
  for (let header = readMultiHeader(reader); !header.done; header = readMultiHeader(reader)) {
    const read = reads[results.length] ?? unexpected(`more results than the ${reads.length} reads`);
    results.push(readResult(reader, header.type, read));
  }
  if (results.length !== reads.length) unexpected(`${results.length} results for ${reads.length} reads`);
  return results;
}

function readResult(reader: JuteReader, type: number, read: ReadOp): ReadResult {
  switch (type) {
    case OpCode.getData:
      return { type: "getData", data: reader.buffer(), stat: readStat(reader) };
    case OpCode.getChildren:
      return { type: "getChildren", children: readStrings(reader) };
    case OpCode.error:
      return { type: "error", error: errorFromCode(reader.int(), read.type, read.path, false) };
    default:
      return unexpected(`a result of type ${type} in a multiRead`);
  }
}
