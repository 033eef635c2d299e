import { decodeFrame, EncodingError, encodeFrame } from "../checkpoint/encoding";
import type { KnownZnode, ManifestUpdate } from "./manifest";

/**
 * One record of a stored manifest, a delta or a chunk of the snapshot:
 *
 *   rows = row*
 *   row  = bytes that the path shares with the row before (varint), length of the rest (varint), the rest,
 *          1 (byte), czxid, mzxid (int64, big-endian), version, cversion, aversion (zigzag varints)
 *        | shared, length, rest, 0 (byte), zxid of the read that missed it (int64): the znode is gone
 */
export function encodeUpdates(updates: Iterable<ManifestUpdate>): Buffer {
  const writer = new RowWriter();
  for (const update of updates) writer.add(update);
  return encodeFrame("manifest", writer.bytes);
}

// Varints of the path, the flag, two zxids, three versions.
const MAX_ROW_BYTES = 5 + 5 + 1 + 16 + 15;

class RowWriter {
  private buffer = Buffer.allocUnsafe(1_024);
  private end = 0;
  private before = Buffer.alloc(0);

  get bytes(): Buffer {
    return this.buffer.subarray(0, this.end);
  }

  add([path, known, zxid]: ManifestUpdate): void {
    const bytes = Buffer.from(path, "utf8");
    this.reserve(bytes.length + MAX_ROW_BYTES);
    let shared = 0;
    while (shared < bytes.length && shared < this.before.length && bytes[shared] === this.before[shared])
      shared += 1;
    this.varint(shared);
    this.varint(bytes.length - shared);
    this.end += bytes.copy(this.buffer, this.end, shared);
    this.buffer[this.end++] = known ? 1 : 0;
    this.before = bytes;
    if (!known) {
      this.end = this.buffer.writeBigInt64BE(zxid, this.end);
      return;
    }
    this.end = this.buffer.writeBigInt64BE(known.czxid, this.end);
    this.end = this.buffer.writeBigInt64BE(known.mzxid, this.end);
    for (const version of [known.version, known.cversion, known.aversion])
      this.varint(((version << 1) ^ (version >> 31)) >>> 0);
  }

  private varint(value: number): void {
    let rest = value;
    while (rest > 127) {
      this.buffer[this.end++] = (rest & 127) | 128;
      rest >>>= 7;
    }
    this.buffer[this.end++] = rest;
  }

  private reserve(bytes: number): void {
    if (this.end + bytes <= this.buffer.length) return;
    const larger = Buffer.allocUnsafe(Math.max(this.buffer.length * 2, this.end + bytes));
    this.buffer.copy(larger, 0, 0, this.end);
    this.buffer = larger;
  }
}

/** The rows of the record found at `path`; throws EncodingError. */
export function decodeUpdates(frame: Uint8Array, path: string): ManifestUpdate[] {
  const payload = decodeFrame("manifest", frame, path);
  const updates: ManifestUpdate[] = [];
  const reader = new RowReader(payload, path);
  while (!reader.isAtEnd) updates.push(reader.next());
  return updates;
}

/** A cold start reads a million rows: nothing is made for a row but its path and what is known of it. */
class RowReader {
  private at = 0;
  /** The bytes of the path before, of which the next one shares the first. */
  private path = Buffer.alloc(256);
  private pathLength = 0;

  constructor(
    private readonly payload: Buffer,
    private readonly record: string,
  ) {}

  get isAtEnd(): boolean {
    return this.at >= this.payload.length;
  }

  next(): ManifestUpdate {
    const shared = this.varint();
    const rest = this.varint();
    if (shared > this.pathLength) throw this.broken();
    const from = this.take(rest);
    this.pathLength = shared + rest;
    if (this.pathLength > this.path.length)
      this.path = Buffer.concat([this.path.subarray(0, shared)], this.pathLength * 2);
    this.payload.copy(this.path, shared, from, from + rest);
    const znode = this.path.toString("utf8", 0, this.pathLength);
    if (this.payload[this.take(1)] === 0) return [znode, null, this.payload.readBigInt64BE(this.take(8))];
    return [znode, this.known()];
  }

  private known(): KnownZnode {
    const zxids = this.take(16);
    return {
      czxid: this.payload.readBigInt64BE(zxids),
      mzxid: this.payload.readBigInt64BE(zxids + 8),
      version: this.zigzag(),
      cversion: this.zigzag(),
      aversion: this.zigzag(),
    };
  }

  private zigzag(): number {
    const value = this.varint();
    return (value >>> 1) ^ -(value & 1);
  }

  private varint(): number {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = this.payload[this.take(1)]!;
      value |= (byte & 127) << shift;
      if (byte < 128) return value >>> 0;
      if (shift > 28) throw this.broken();
    }
  }

  /** Where so many bytes begin, which are read next. */
  private take(bytes: number): number {
    const from = this.at;
    if (from + bytes > this.payload.length) throw this.broken();
    this.at = from + bytes;
    return from;
  }

  private broken(): EncodingError {
    return new EncodingError(
      this.record,
      `the manifest record is broken at byte ${this.at} of ${this.payload.length}`,
      'Nothing was changed. Restore the znode from a backup, or pause the pipeline and begin the source again with "beamkeeper reset".',
    );
  }
}
