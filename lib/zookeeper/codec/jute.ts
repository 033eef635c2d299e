/**
 * The primitives of ZooKeeper's jute encoding, big-endian:
 *
 *   int     = 4 bytes          long   = 8 bytes          boolean = 1 byte
 *   buffer  = int length (-1: null), bytes
 *   ustring = int length (-1: null), UTF-8 bytes
 *   vector  = int count (-1: null), elements
 */

/** Holds several hundred small requests; a larger request gets a buffer of its own size. */
const CHUNK_SIZE_BYTES = 64 * 1024;
const INT_BYTES = 4;
const LONG_BYTES = 8;
/** A UTF-16 code unit takes at most three bytes in UTF-8. */
const MAX_UTF8_BYTES_PER_UNIT = 3;

/**
 * Encodes requests one behind the other into one buffer, so that all requests of one tick leave in one write.
 * The buffer is used again once the kernel has taken its bytes.
 */
export class JuteWriter {
  #buffer: Buffer = Buffer.allocUnsafeSlow(CHUNK_SIZE_BYTES);
  /** Where the bytes begin that were not taken yet. */
  #start = 0;
  #offset = 0;

  /** The place of the next byte, counted from the bytes not taken: stays right when the buffer grows. */
  get position(): number {
    return this.#offset - this.#start;
  }

  /** Drops what was written behind a position. */
  rewind(position: number): void {
    this.#offset = this.#start + position;
  }

  /** Throws a RangeError for what is no int32, NaN included, which would silently become 0. */
  int(value: number): void {
    if (value !== (value | 0)) throw new RangeError(`${value} is not a whole number of 32 bits`);
    this.#reserve(INT_BYTES);
    this.#offset = this.#buffer.writeInt32BE(value, this.#offset);
  }

  long(value: bigint): void {
    this.#reserve(LONG_BYTES);
    this.#offset = this.#buffer.writeBigInt64BE(value, this.#offset);
  }

  boolean(value: boolean): void {
    this.#reserve(1);
    this.#buffer[this.#offset++] = value ? 1 : 0;
  }

  buffer(value: Uint8Array): void {
    if (!(value instanceof Uint8Array)) throw new TypeError(`bytes are ${typeof value}, not a Uint8Array`);
    this.#reserve(INT_BYTES + value.length);
    this.#offset = this.#buffer.writeInt32BE(value.length, this.#offset);
    this.#buffer.set(value, this.#offset);
    this.#offset += value.length;
  }

  ustring(value: string): void {
    if (typeof value !== "string") throw new TypeError(`text is ${typeof value}, not a string`);
    this.#reserve(INT_BYTES + value.length * MAX_UTF8_BYTES_PER_UNIT);
    const written = this.#buffer.write(value, this.#offset + INT_BYTES);
    this.#buffer.writeInt32BE(written, this.#offset);
    this.#offset += INT_BYTES + written;
  }

  /** Begins a frame: leaves room for its length. Returns what `endFrame` needs. */
  beginFrame(): number {
    const position = this.position;
    this.int(0);
    return position;
  }

  /** Fills in the length of the frame that began at `position`, and returns it. */
  endFrame(position: number): number {
    const length = this.position - position - INT_BYTES;
    this.#buffer.writeInt32BE(length, this.#start + position);
    return length;
  }

  /** The bytes written since the last call; they stay valid until `recycle`. */
  take(): Buffer {
    const bytes = this.#buffer.subarray(this.#start, this.#offset);
    this.#start = this.#offset;
    return bytes;
  }

  /** All bytes taken so far are no longer in use, and so the buffer can be written from its beginning again. */
  recycle(): void {
    if (this.#buffer.length > CHUNK_SIZE_BYTES) this.#buffer = Buffer.allocUnsafeSlow(CHUNK_SIZE_BYTES);
    this.#start = 0;
    this.#offset = 0;
  }

  #reserve(bytes: number): void {
    if (this.#offset + bytes > this.#buffer.length) this.#grow(bytes);
  }

  /** A new buffer, because bytes taken from the old one may still be on their way. */
  #grow(bytes: number): void {
    const pending = this.#buffer.subarray(this.#start, this.#offset);
    const size = Math.max(CHUNK_SIZE_BYTES, 2 * (pending.length + bytes));
    this.#buffer = Buffer.allocUnsafeSlow(size);
    this.#buffer.set(pending);
    this.#start = 0;
    this.#offset = pending.length;
  }
}

/** A frame that isn't what the protocol says. The connection that it came from can't be trusted any more. */
export class MalformedFrameError extends Error {
  override readonly name = "MalformedFrameError";
}

/** Decodes one frame. Everything that it returns is a copy, so the frame's buffer may be used again. */
export class JuteReader {
  #buffer: Buffer = Buffer.alloc(0);
  #offset = 0;
  #end = 0;

  /** Reads the bytes from `offset` to `end` from now on. One reader serves all frames of a connection. */
  reset(buffer: Buffer, offset: number, end: number): this {
    this.#buffer = buffer;
    this.#offset = offset;
    this.#end = end;
    return this;
  }

  get remaining(): number {
    return this.#end - this.#offset;
  }

  int(): number {
    return this.#buffer.readInt32BE(this.#advance(INT_BYTES));
  }

  long(): bigint {
    return this.#buffer.readBigInt64BE(this.#advance(LONG_BYTES));
  }

  /** A long that is known to be a time in milliseconds, which a number holds exactly. */
  millis(): number {
    const at = this.#advance(LONG_BYTES);
    return this.#buffer.readInt32BE(at) * 2 ** 32 + this.#buffer.readUInt32BE(at + INT_BYTES);
  }

  boolean(): boolean {
    return this.#buffer[this.#advance(1)] !== 0;
  }

  /** A null buffer is read as an empty one: znodes created without data have it. */
  buffer(): Buffer {
    const length = this.#length();
    const at = this.#advance(length);
    return Buffer.from(this.#buffer.subarray(at, at + length));
  }

  ustring(): string {
    const length = this.#length();
    const at = this.#advance(length);
    return this.#buffer.toString("utf8", at, at + length);
  }

  /** The count of a vector, checked against the bytes that are there, so that a corrupt one allocates nothing. */
  count(minimumElementBytes: number): number {
    const count = this.#length();
    if (count * minimumElementBytes > this.remaining) this.#fail(`a vector of ${count} elements`);
    return count;
  }

  skip(bytes: number): void {
    this.#advance(bytes);
  }

  #length(): number {
    const length = this.int();
    if (length < -1) this.#fail(`the length ${length}`);
    return Math.max(length, 0);
  }

  #advance(bytes: number): number {
    const at = this.#offset;
    if (at + bytes > this.#end) this.#fail(`${bytes} bytes`);
    this.#offset = at + bytes;
    return at;
  }

  #fail(what: string): never {
    throw new MalformedFrameError(
      `A frame from the server announces ${what}, and ${this.remaining} bytes are left.`,
    );
  }
}
