import { decodeFrame, EncodingError, FRAME_HEADER_BYTES, sealFrame } from "./encoding";
import { KEY_GROUPS } from "./layout";

/** Up to this length a loop over characters is faster than a call into native code. */
const WRITTEN_ONE_BY_ONE = 40;

/** One cell of a shard's state, or, without a value, that there is none any more. */
export interface StateCell {
  readonly group: number;
  /** Unique within the shard; bytes as a text, one a character (latin1). */
  readonly id: string;
  /** In the same form, or as bytes. */
  readonly value: string | Uint8Array | undefined;
}

/** The value of a cell that has one, as bytes. */
export function valueBytes({ value }: StateCell): Uint8Array {
  return typeof value === "string" ? Buffer.from(value, "latin1") : value!;
}

/** What a cell adds to a record, in bytes; never less than it does. */
export function cellBytes({ id, value }: StateCell): number {
  return 9 + id.length + (value?.length ?? 0);
}

export function bytesOf(cells: Iterable<StateCell>): number {
  let sum = 0;
  for (const cell of cells) sum += cellBytes(cell);
  return sum;
}

/**
 * Cells as deltas and runs hold them:
 *
 *   payload = number of cells (uint32), cells
 *   cell    = key group (1 byte), length of the id (uint32), id, 1 + length of the value or 0 (uint32), value;
 *             big-endian
 */
export function encodeCells(kind: "stateDelta" | "stateRun", cells: readonly StateCell[]): Buffer {
  const frame = Buffer.allocUnsafe(FRAME_HEADER_BYTES + 4 + bytesOf(cells));
  let offset = frame.writeUInt32BE(cells.length, FRAME_HEADER_BYTES);
  for (const { group, id, value } of cells) {
    offset = frame.writeUInt8(group, offset);
    offset = frame.writeUInt32BE(id.length, offset);
    writeLatin1(frame, offset, id);
    offset = frame.writeUInt32BE(value === undefined ? 0 : value.length + 1, offset + id.length);
    if (value === undefined) continue;
    if (typeof value === "string") writeLatin1(frame, offset, value);
    else frame.set(value, offset);
    offset += value.length;
  }
  sealFrame(kind, frame);
  return frame;
}

function writeLatin1(frame: Buffer, offset: number, text: string): void {
  if (text.length > WRITTEN_ONE_BY_ONE) frame.write(text, offset, "latin1");
  else for (let at = 0; at < text.length; at++) frame[offset + at] = text.charCodeAt(at);
}

/** The cells of the record at `path`, their values parts of its bytes; throws {@link EncodingError}. */
export function decodeCells(kind: "stateDelta" | "stateRun", frame: Uint8Array, path: string): StateCell[] {
  const payload = decodeFrame(kind, frame, path);
  const cells: StateCell[] = [];
  const count = payload.length >= 4 ? payload.readUInt32BE(0) : -1;
  let offset = 4;
  while (offset + 9 <= payload.length) {
    const group = payload.readUInt8(offset);
    const idEnd = offset + 5 + payload.readUInt32BE(offset + 1);
    if (group >= KEY_GROUPS || idEnd + 4 > payload.length) break;
    const length = payload.readUInt32BE(idEnd);
    const end = idEnd + 4 + Math.max(0, length - 1);
    if (end > payload.length) break;
    const value = length === 0 ? undefined : payload.subarray(idEnd + 4, end);
    cells.push({ group, id: payload.toString("latin1", offset + 5, idEnd), value });
    offset = end;
  }
  if (cells.length === count && offset === payload.length) return cells;
  throw new EncodingError(
    path,
    `the record of state announces ${count} cells and holds ${cells.length}`,
    "Nothing was changed. Restore the znode from a backup, or start the pipeline under a new name or root.",
  );
}
