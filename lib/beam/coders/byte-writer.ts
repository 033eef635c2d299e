const INITIAL_SIZE_BYTES = 256;

/** Buffers have these methods without the checks of `write`, and three times as fast; they are not in the types. */
interface RawBuffer extends Buffer {
  utf8Write(text: string, offset: number, length: number): number;
  latin1Write(text: string, offset: number, length: number): number;
}

/** A buffer that grows. Reused from one encoding to the next, so `take` copies. */
export class ByteWriter {
  private buffer = Buffer.allocUnsafe(INITIAL_SIZE_BYTES) as RawBuffer;
  private position = 0;

  get length(): number {
    return this.position;
  }

  reset(): void {
    this.position = 0;
  }

  /** The bytes since `start`. */
  take(start = 0): Buffer {
    return Buffer.from(this.buffer.subarray(start, this.position));
  }

  byte(value: number): void {
    this.reserve(1);
    this.buffer[this.position++] = value;
  }

  /** An unsigned integer below 2^53, seven bits a byte, lowest first. */
  varint(value: number): void {
    this.reserve(8);
    let rest = value;
    while (rest > 0x7f) {
      this.buffer[this.position++] = (rest % 128) | 0x80;
      rest = Math.floor(rest / 128);
    }
    this.buffer[this.position++] = rest;
  }

  double(value: number): void {
    this.reserve(8);
    this.position = this.buffer.writeDoubleBE(value, this.position);
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
    if (length === text.length) this.buffer.latin1Write(text, this.position, length);
    else this.buffer.utf8Write(text, this.position, length);
    this.position += length;
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
    const grown = Buffer.allocUnsafe(Math.max(needed, this.buffer.length * 2)) as RawBuffer;
    this.buffer.copy(grown, 0, 0, this.position);
    this.buffer = grown;
  }
}
