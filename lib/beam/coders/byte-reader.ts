import { isAscii } from "node:buffer";
import { CorruptEncodingError } from "../errors";
import { copyBytes, putLatin1 } from "./byte-writer";

/** Texts of at most this many bytes are looked up among the last ones read: names of properties and keys recur. */
const RECURRING_TEXT_BYTES = 24;
const REMEMBERED_TEXTS = 2048;
const remembered: string[] = new Array(REMEMBERED_TEXTS).fill("");
/** Their bytes, each in its own place: bytes are compared faster than characters. */
const rememberedBytes = new Uint8Array(REMEMBERED_TEXTS * RECURRING_TEXT_BYTES);

/**
 * Longer texts are cut from pages of this size, which cost one call into native code for many texts. Whoever keeps
 * such a text keeps its page in memory.
 */
const PAGE_BYTES = 4096;
const SCRATCH_SIZE_BYTES = 256;
const LONGEST_PAGED_TEXT_BYTES = PAGE_BYTES / 4;

/** Buffers have these methods without the checks of `toString`; they are not in the types. */
interface RawBuffer extends Buffer {
  utf8Slice(start: number, end: number): string;
  latin1Slice(start: number, end: number): string;
}

/** Reads what `ByteWriter` wrote; every length is checked against what is left before anything is allocated. */
export class ByteReader {
  /** Of the last `reset`: where its bytes begin in its memory, all of which `buffer` then is. */
  private given: Uint8Array | undefined;
  private givenStart = 0;
  private memory: ArrayBufferLike | undefined;
  /** Where the bytes to be read begin in `buffer`, for messages. */
  private origin = 0;
  private buffer: RawBuffer;
  private opened: DataView | undefined;
  private position: number;
  private limit: number;
  /** Of `resetToText`. */
  private scratch: RawBuffer | undefined;
  private page = "";
  private pageStart = 0;
  private pageEnd = 0;
  private isPageAscii = false;

  /** Reads from `start` to before `end`. */
  constructor(
    bytes: Uint8Array,
    /** What the bytes are, for messages. */
    private readonly subject: string,
    start = 0,
    end = bytes.length,
  ) {
    this.buffer = (
      Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    ) as RawBuffer;
    this.position = start;
    this.limit = end;
  }

  /**
   * Reads other bytes from now on: from `start` to before `end`. Much cheaper than another reader where they lie in the
   * same memory as those before, in whatever view.
   */
  reset(bytes: Uint8Array, start: number, end: number): void {
    // Asking a view for its memory costs more than all the rest, and neighbours mostly come in one view.
    if (bytes !== this.given) this.take(bytes);
    this.origin = this.givenStart + start;
    this.position = this.origin;
    this.limit = this.givenStart + end;
  }

  private take(bytes: Uint8Array): void {
    this.given = bytes;
    this.givenStart = bytes.byteOffset;
    // What lies beside the bytes before may have been written since.
    this.pageStart = 0;
    this.pageEnd = 0;
    if (bytes.buffer === this.memory) return;
    this.memory = bytes.buffer;
    this.buffer = Buffer.from(bytes.buffer) as RawBuffer;
    this.opened = undefined;
  }

  /** Reads the bytes of a text, one a character (latin1), from now on. What is read must not keep `all`. */
  resetToText(text: string): this {
    if (this.scratch === undefined || this.scratch.length < text.length)
      this.scratch = Buffer.allocUnsafeSlow(Math.max(SCRATCH_SIZE_BYTES, 2 * text.length)) as RawBuffer;
    putLatin1(this.scratch, text);
    // The same memory has other bytes now.
    this.pageEnd = 0;
    this.reset(this.scratch, 0, text.length);
    return this;
  }

  get remaining(): number {
    return this.limit - this.position;
  }

  /** Where it stands in its bytes. */
  get offset(): number {
    return this.position;
  }

  /** What it reads from; from `offset` on, `remaining` bytes of it are left. */
  get all(): Buffer {
    return this.buffer;
  }

  /** Of `all`; made when it is first asked for. */
  get view(): DataView {
    this.opened ??= new DataView(this.buffer.buffer, this.buffer.byteOffset, this.buffer.length);
    return this.opened;
  }

  /** Passes over bytes. */
  pass(length: number): void {
    this.need(length);
    this.position += length;
  }

  byte(): number {
    if (this.position >= this.limit) this.need(1);
    return this.buffer[this.position++]!;
  }

  /** Passes over two bytes if they are these. */
  skip(first: number, second: number): boolean {
    const { position, buffer } = this;
    if (position + 2 > this.limit || buffer[position] !== first || buffer[position + 1] !== second)
      return false;
    this.position += 2;
    return true;
  }

  varint(): number {
    const first = this.byte();
    if (first < 0x80) return first;
    const second = this.byte();
    if (second < 0x80) return (first & 0x7f) | (second << 7);
    const third = this.byte();
    if (third < 0x80) return (first & 0x7f) | ((second & 0x7f) << 7) | (third << 14);
    this.position -= 3;
    let value = 0;
    let scale = 1;
    for (let i = 0; i < 8; i++) {
      const byte = this.byte();
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value <= Number.MAX_SAFE_INTEGER ? value : this.fail("a number is too large");
      scale *= 128;
    }
    return this.fail("a number is too long");
  }

  /** A count of things that take at least `size` bytes each, so it can't exceed what is left. */
  count(size = 1): number {
    const count = this.varint();
    if (count * size > this.remaining)
      this.fail(`${count} items are announced, ${this.remaining} bytes are left`);
    return count;
  }

  double(): number {
    this.need(8);
    const value = this.view.getFloat64(this.position);
    this.position += 8;
    return value;
  }

  float(): number {
    this.need(4);
    const value = this.buffer.readFloatBE(this.position);
    this.position += 4;
    return value;
  }

  int16(): number {
    this.need(2);
    const value = this.buffer.readInt16BE(this.position);
    this.position += 2;
    return value;
  }

  int32(): number {
    this.need(4);
    const value = this.buffer.readInt32BE(this.position);
    this.position += 4;
    return value;
  }

  uint64(): bigint {
    this.need(8);
    const value = this.buffer.readBigUInt64BE(this.position);
    this.position += 8;
    return value;
  }

  varint64(): bigint {
    let value = 0n;
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const byte = this.byte();
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return BigInt.asIntN(64, value);
    }
    return this.fail("a number is too long");
  }

  /** All that is left, copied. */
  rest(): Buffer {
    const value = Buffer.from(this.buffer.subarray(this.position, this.limit));
    this.position = this.limit;
    return value;
  }

  /** A copy, so that a small value does not hold a large buffer in memory. */
  bytes(): Buffer {
    const length = this.count();
    const value = Buffer.from(this.buffer.subarray(this.position, this.position + length));
    this.position += length;
    return value;
  }

  utf8(): string {
    const length = this.count();
    const start = this.position;
    this.position += length;
    if (length <= RECURRING_TEXT_BYTES) return this.recurring(start, length);
    if (length <= LONGEST_PAGED_TEXT_BYTES) return this.paged(start, start + length);
    return this.buffer.utf8Slice(start, start + length);
  }

  utf16(): string {
    const length = this.count();
    const value = this.buffer.toString("utf16le", this.position, this.position + length);
    this.position += length;
    return value;
  }

  end(): void {
    if (this.remaining > 0) this.fail(`${this.remaining} bytes follow the end`);
  }

  fail(what: string): never {
    throw new CorruptEncodingError(
      `${this.subject} is damaged at byte ${this.position - this.origin} of ${this.limit - this.origin}: ${what}`,
    );
  }

  private paged(start: number, end: number): string {
    if (start < this.pageStart || end > this.pageEnd) this.turnPage(start);
    if (!this.isPageAscii) {
      const { buffer } = this;
      for (let i = start; i < end; i++) if (buffer[i]! > 0x7f) return buffer.utf8Slice(start, end);
    }
    return this.page.substring(start - this.pageStart, end - this.pageStart);
  }

  private turnPage(start: number): void {
    const { buffer } = this;
    this.pageStart = start;
    const end = this.given === undefined ? buffer.length : this.givenStart + this.given.length;
    this.pageEnd = Math.min(start + PAGE_BYTES, end);
    this.page = buffer.latin1Slice(start, this.pageEnd);
    this.isPageAscii = isAscii(buffer.subarray(start, this.pageEnd));
  }

  private recurring(start: number, length: number): string {
    const { buffer } = this;
    let hash = length;
    for (let i = start; i < start + length; i++) {
      const byte = buffer[i]!;
      if (byte > 0x7f) return buffer.utf8Slice(start, start + length);
      hash = Math.imul(hash ^ byte, 0x01000193);
    }
    const slot = (hash ^ (hash >>> 15)) & (REMEMBERED_TEXTS - 1);
    const known = remembered[slot]!;
    const place = slot * RECURRING_TEXT_BYTES;
    if (known.length === length && this.isAt(place, start, length)) return known;
    const text = buffer.latin1Slice(start, start + length);
    remembered[slot] = text;
    copyBytes(buffer, start, start + length, rememberedBytes, place);
    return text;
  }

  private isAt(place: number, start: number, length: number): boolean {
    const { buffer } = this;
    for (let i = 0; i < length; i++) if (rememberedBytes[place + i] !== buffer[start + i]) return false;
    return true;
  }

  private need(size: number): void {
    if (this.remaining < size) this.fail(`it ends where ${size} more bytes were expected`);
  }
}
