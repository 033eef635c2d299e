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
/** A buffer that has grown to this is kept for the next tick; a greater one was for a single large request. */
const KEPT_SIZE_BYTES = 1024 * 1024;
const INT_BYTES = 4;
const LONG_BYTES = 8;
/** A UTF-16 code unit takes at most three bytes in UTF-8. */
const MAX_UTF8_BYTES_PER_UNIT = 3;
/** Shorter texts are copied faster here than by a call into Node. */
const SHORT_TEXT = 64;
const LAST_ASCII = 0x7f;

function viewOf(bytes: Buffer): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/**
 * Encodes requests one behind the other into one buffer, so that all requests of one tick leave in one write.
 * The buffer is used again once the kernel has taken its bytes.
 */
export class JuteWriter {
  #buffer: Buffer = Buffer.allocUnsafeSlow(CHUNK_SIZE_BYTES);
  /** Numbers are written through a view, which is compiled in place; Buffer's methods are calls. */
  #view = viewOf(this.#buffer);
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
    this.#view.setInt32(this.#offset, value);
    this.#offset += INT_BYTES;
  }

  long(value: bigint): void {
    this.#reserve(LONG_BYTES);
    this.#view.setBigInt64(this.#offset, value);
    this.#offset += LONG_BYTES;
  }

  boolean(value: boolean): void {
    this.#reserve(1);
    this.#buffer[this.#offset++] = value ? 1 : 0;
  }

  buffer(value: Uint8Array): void {
    if (!(value instanceof Uint8Array)) throw new TypeError(`bytes are ${typeof value}, not a Uint8Array`);
    this.#reserve(INT_BYTES + value.length);
    this.#view.setInt32(this.#offset, value.length);
    this.#buffer.set(value, this.#offset + INT_BYTES);
    this.#offset += INT_BYTES + value.length;
  }

  ustring(value: string): void {
    if (typeof value !== "string") throw new TypeError(`text is ${typeof value}, not a string`);
    this.#reserve(INT_BYTES + value.length * MAX_UTF8_BYTES_PER_UNIT);
    const at = this.#offset + INT_BYTES;
    const written = this.#writeAscii(value, at) ? value.length : this.#buffer.write(value, at);
    this.#view.setInt32(this.#offset, written);
    this.#offset = at + written;
  }

  /** False: the text is long, or not ASCII, and what was written of it does not count. */
  #writeAscii(value: string, at: number): boolean {
    if (value.length > SHORT_TEXT) return false;
    for (let index = 0; index < value.length; index += 1) {
      const code = value.charCodeAt(index);
      if (code > LAST_ASCII) return false;
      this.#buffer[at + index] = code;
    }
    return true;
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
    this.#view.setInt32(this.#start + position, length);
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
    if (this.#buffer.length > KEPT_SIZE_BYTES) this.#use(Buffer.allocUnsafeSlow(CHUNK_SIZE_BYTES));
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
    this.#use(Buffer.allocUnsafeSlow(size));
    this.#buffer.set(pending);
    this.#start = 0;
    this.#offset = pending.length;
  }

  #use(buffer: Buffer): void {
    this.#buffer = buffer;
    this.#view = viewOf(buffer);
  }
}

/** A frame that isn't what the protocol says. The connection that it came from can't be trusted any more. */
export class MalformedFrameError extends Error {
  override readonly name = "MalformedFrameError";
}

/** Decodes one frame. Everything that it returns is a copy, so the frame's buffer may be used again. */
export class JuteReader {
  #buffer: Buffer = Buffer.alloc(0);
  /** Of all the memory that the buffer is a part of, so that one view serves all reads of a connection. */
  #view = new DataView(this.#buffer.buffer);
  #base = 0;
  #offset = 0;
  #end = 0;

  /** Reads the bytes from `offset` to `end` from now on. One reader serves all frames of a connection. */
  reset(buffer: Buffer, offset: number, end: number): this {
    this.#buffer = buffer;
    if (this.#view.buffer !== buffer.buffer) this.#view = new DataView(buffer.buffer);
    this.#base = buffer.byteOffset;
    this.#offset = offset;
    this.#end = end;
    return this;
  }

  get remaining(): number {
    return this.#end - this.#offset;
  }

  int(): number {
    return this.#view.getInt32(this.#base + this.#advance(INT_BYTES));
  }

  long(): bigint {
    return this.#view.getBigInt64(this.#base + this.#advance(LONG_BYTES));
  }

  /** A long that is known to be a time in milliseconds, which a number holds exactly. */
  millis(): number {
    const at = this.#base + this.#advance(LONG_BYTES);
    return this.#view.getInt32(at) * 2 ** 32 + this.#view.getUint32(at + INT_BYTES);
  }

  boolean(): boolean {
    return this.#buffer[this.#advance(1)] !== 0;
  }

  /** A null buffer is read as an empty one: znodes created without data have it. */
  buffer(): Buffer {
    const length = this.#length();
    const at = this.#advance(length);
    const copy = Buffer.allocUnsafe(length);
    this.#buffer.copy(copy, 0, at, at + length);
    return copy;
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
