/** Encodings are cut from slabs of this size; larger ones get a buffer of their own. */
const SLAB_SIZE_BYTES = 16 * 1024;

/** A slab with less room than this is given up for a new one. */
const SLAB_ROOM_BYTES = 512;

/** Up to this length a loop over characters is faster than a call into native code. */
export const SHORT_TEXT_LENGTH = 20;

/** Above this it is not worth the room to guess how many bytes a text takes. */
const LONG_TEXT_LENGTH = 16 * 1024;

/** Above this a call into native code is faster than a loop over bytes. */
const COPIED_BY_NATIVE_CODE = 96;

/** Buffers have these methods without the checks of `write`, and three times as fast; they are not in the types. */
interface RawBuffer extends Buffer {
  utf8Write(text: string, offset: number, length: number): number;
  latin1Slice(start: number, end: number): string;
  latin1Write(text: string, offset: number, length: number): number;
}

/**
 * A buffer that grows. What was taken is never written to again: the next encoding begins behind it, so that most
 * need no copy of their own.
 */
export class ByteWriter {
  private buffer: RawBuffer;
  /** Of the same bytes: numbers are written through it in one instruction. */
  view: DataView;
  private start = 0;
  private position = 0;

  /** @param sizeBytes what it has room for before it grows: a slab, or for a single encoding little. */
  constructor(sizeBytes = SLAB_SIZE_BYTES) {
    this.buffer = Buffer.allocUnsafeSlow(sizeBytes) as RawBuffer;
    this.view = viewOf(this.buffer);
  }

  /** Of the encoding so far. */
  get length(): number {
    return this.position - this.start;
  }

  /** Begins another encoding. */
  reset(): void {
    const { length } = this.buffer;
    if (length - this.position < SLAB_ROOM_BYTES || length > SLAB_SIZE_BYTES) {
      this.buffer = Buffer.allocUnsafeSlow(SLAB_SIZE_BYTES) as RawBuffer;
      this.view = viewOf(this.buffer);
      this.position = 0;
    }
    this.start = this.position;
  }

  /** What it writes to. Of a writer that has never been reset the encoding begins at its first byte. */
  get all(): Buffer {
    return this.buffer;
  }

  /** Room for this many bytes, which the caller fills in `all` and `view` from the place that it gets. */
  claim(size: number): number {
    this.reserve(size);
    const at = this.position;
    this.position += size;
    return at;
  }

  /** Takes back what was written beyond this length. */
  truncate(length: number): void {
    this.position = this.start + length;
  }

  /** The encoding so far. A large one is copied where more would be kept in memory with it than it is long. */
  take(): Buffer {
    const bytes = this.buffer.subarray(this.start, this.position);
    const { length } = this.buffer;
    return length > SLAB_SIZE_BYTES && length > 2 * bytes.length ? Buffer.from(bytes) : bytes;
  }

  /** The encoding so far as a text, one character a byte (latin1): no copy of it is kept elsewhere. */
  takeText(): string {
    const text = this.buffer.latin1Slice(this.start, this.position);
    this.position = this.start;
    return text;
  }

  /** A number made from bytes of the encoding so far, which `read` must not keep. */
  digest(from: number, read: (bytes: Uint8Array, start: number, end: number) => number): number {
    return read(this.buffer, this.start + from, this.position);
  }

  byte(value: number): void {
    this.reserve(1);
    this.buffer[this.position++] = value;
  }

  /** An unsigned integer below 2^53, seven bits a byte, lowest first. */
  varint(value: number): void {
    this.reserve(8);
    this.putVarint(value);
  }

  /** A byte and a varint. */
  tagged(tag: number, value: number): void {
    this.reserve(9);
    this.buffer[this.position++] = tag;
    this.putVarint(value);
  }

  private putVarint(value: number): void {
    const { buffer } = this;
    let rest = value;
    for (; rest > 0x7fffffff; rest = Math.floor(rest / 128)) buffer[this.position++] = (rest % 128) | 0x80;
    for (; rest > 0x7f; rest >>>= 7) buffer[this.position++] = (rest & 0x7f) | 0x80;
    buffer[this.position++] = rest;
  }

  double(value: number): void {
    this.reserve(8);
    this.view.setFloat64(this.position, value);
    this.position += 8;
  }

  float(value: number): void {
    this.reserve(4);
    this.position = this.buffer.writeFloatBE(value, this.position);
  }

  int16(value: number): void {
    this.reserve(2);
    this.position = this.buffer.writeInt16BE(value, this.position);
  }

  int32(value: number): void {
    this.reserve(4);
    this.position = this.buffer.writeInt32BE(value, this.position);
  }

  uint64(value: bigint): void {
    this.reserve(8);
    this.position = this.buffer.writeBigUInt64BE(BigInt.asUintN(64, value), this.position);
  }

  /** A signed integer of 64 bits in two's complement, seven bits a byte, lowest first: negative ones take ten bytes. */
  varint64(value: bigint): void {
    let rest = BigInt.asUintN(64, value);
    for (; rest > 0x7fn; rest >>= 7n) this.byte(Number(rest & 0x7fn) | 0x80);
    this.byte(Number(rest));
  }

  bytes(value: Uint8Array): void {
    this.reserve(value.length);
    this.buffer.set(value, this.position);
    this.position += value.length;
  }

  /** Length in bytes, then UTF-8. The text must be well formed. */
  utf8(text: string): void {
    const length = Buffer.byteLength(text, "utf8");
    this.varint(length);
    this.reserve(length);
    this.position += this.buffer.utf8Write(text, this.position, length);
  }

  /** A byte, then a text as `utf8` writes it; false, with nothing written, where that is not ASCII or is long. */
  taggedAscii(tag: number, text: string): boolean {
    const { length } = text;
    if (length > SHORT_TEXT_LENGTH) return this.longAscii(tag, text);
    this.reserve(length + 2);
    if (!putShortAscii(this.buffer, this.position, tag, text)) return false;
    this.position += length + 2;
    return true;
  }

  /** It is written before it is known to be ASCII, since that costs as little as finding out. */
  private longAscii(tag: number, text: string): boolean {
    const { length } = text;
    if (length > LONG_TEXT_LENGTH) return false;
    const before = this.length;
    this.tagged(tag, length);
    this.reserve(length * 3);
    const written = this.buffer.utf8Write(text, this.position, length * 3);
    if (written === length) this.position += length;
    else this.truncate(before);
    return written === length;
  }

  /** A part of other bytes. */
  part(bytes: Uint8Array, start: number, end: number): void {
    const size = end - start;
    this.reserve(size);
    const { buffer, position } = this;
    copyBytes(bytes, start, end, buffer, position);
    this.position = position + size;
  }

  /** Length in bytes, then UTF-16 with the low byte first: what any JavaScript string has. */
  utf16(text: string): void {
    this.varint(text.length * 2);
    this.reserve(text.length * 2);
    this.position += this.buffer.write(text, this.position, "utf16le");
  }

  private reserve(size: number): void {
    const needed = this.position + size;
    if (needed <= this.buffer.length) return;
    this.grow(needed);
  }

  /** Only the encoding in hand moves on, to the beginning of the larger buffer. */
  private grow(needed: number): void {
    const length = this.position - this.start;
    const size = Math.max(needed - this.start, length * 2);
    const grown = Buffer.allocUnsafeSlow(size) as RawBuffer;
    this.buffer.copy(grown, 0, this.start, this.position);
    this.buffer = grown;
    this.view = viewOf(grown);
    this.start = 0;
    this.position = length;
  }
}

/**
 * What `taggedAscii` writes of a text of at most `SHORT_TEXT_LENGTH` characters, where there is room for two bytes more
 * than it has characters; false where it is not ASCII.
 */
export function putShortAscii(target: Uint8Array, at: number, tag: number, text: string): boolean {
  const { length } = text;
  for (let i = 0; i < length; i++) {
    const code = text.charCodeAt(i);
    if (code > 0x7f) return false;
    target[at + 2 + i] = code;
  }
  target[at] = tag;
  target[at + 1] = length;
  return true;
}

/** The bytes of a text of one character a byte (latin1), to the beginning of `target`, which has room for them. */
export function putLatin1(target: Buffer, text: string): void {
  const { length } = text;
  if (length > SHORT_TEXT_LENGTH) (target as RawBuffer).latin1Write(text, 0, length);
  else for (let i = 0; i < length; i++) target[i] = text.charCodeAt(i);
}

function viewOf({ buffer, byteOffset, length }: Buffer): DataView {
  return new DataView(buffer, byteOffset, length);
}

/** Bytes of `source` from `start` to before `end`, to `at` in `target`. */
export function copyBytes(
  source: Uint8Array,
  start: number,
  end: number,
  target: Uint8Array,
  at: number,
): void {
  const size = end - start;
  if (size > COPIED_BY_NATIVE_CODE) target.set(source.subarray(start, end), at);
  else for (let i = 0; i < size; i++) target[at + i] = source[start + i]!;
}
