import { MalformedFrameError } from "./jute";

/**
 * The largest reply that is accepted. A server bounds requests by jute.maxbuffer (1 MiB), but not its replies:
 * the list of a znode's children can be far longer. 64 MiB holds over a million children with names of 50
 * bytes; a longer announcement means that the stream is corrupt.
 */
export const MAX_FRAME_BYTES = 64 * 1024 * 1024;

const LENGTH_BYTES = 4;

/** Receives a frame; its bytes are valid only during the call. */
export type FrameListener = (buffer: Buffer, offset: number, end: number) => void;

/**
 * Cuts a byte stream into frames: `int length, bytes`. One deframer belongs to one socket, so bytes of a broken
 * connection never meet those of its successor.
 *
 * Whole frames are handed on where they lie. The bytes of a frame that is still incomplete are kept as they
 * arrive, so an announced length alone never allocates anything.
 */
export class Deframer {
  #parts: Buffer[] = [];
  #partsLength = 0;

  constructor(
    private readonly listener: FrameListener,
    private readonly maxFrameBytes: number = MAX_FRAME_BYTES,
  ) {}

  /** Takes bytes in; the chunk may be overwritten after the call. */
  push(chunk: Buffer): void {
    if (this.#partsLength === 0) {
      this.#keep(chunk, this.#deliver(chunk));
      return;
    }
    const rest = this.#completeFrame(chunk);
    if (rest < 0) return;
    const tail = chunk.subarray(rest);
    this.#keep(tail, this.#deliver(tail));
  }

  /** Hands on all whole frames of a chunk, and returns where the first incomplete one begins. */
  #deliver(chunk: Buffer): number {
    let offset = 0;
    while (chunk.length - offset >= LENGTH_BYTES) {
      const begin = offset + LENGTH_BYTES;
      const end = begin + this.#checked(chunk.readInt32BE(offset));
      if (end > chunk.length) break;
      this.listener(chunk, begin, end);
      offset = end;
    }
    return offset;
  }

  /** Completes the kept frame from a chunk: returns how many bytes it took, or -1 when it is still incomplete. */
  #completeFrame(chunk: Buffer): number {
    let taken = 0;
    if (this.#partsLength < LENGTH_BYTES) {
      taken = Math.min(LENGTH_BYTES - this.#partsLength, chunk.length);
      this.#keep(chunk.subarray(0, taken), 0);
      if (this.#partsLength < LENGTH_BYTES) return -1;
      this.#parts = [Buffer.concat(this.#parts, this.#partsLength)];
    }
    const length = this.#checked(this.#parts[0]!.readInt32BE(0));
    const missing = LENGTH_BYTES + length - this.#partsLength;
    if (chunk.length - taken < missing) {
      this.#keep(chunk, taken);
      return -1;
    }
    this.#keep(chunk.subarray(0, taken + missing), taken);
    const frame = Buffer.concat(this.#parts, this.#partsLength);
    this.#parts = [];
    this.#partsLength = 0;
    this.listener(frame, LENGTH_BYTES, frame.length);
    return taken + missing;
  }

  #keep(chunk: Buffer, from: number): void {
    if (from >= chunk.length) return;
    const part = Buffer.from(chunk.subarray(from));
    this.#parts.push(part);
    this.#partsLength += part.length;
    // The first part holds the length, so that it is found without joining all parts.
    if (this.#parts.length === 2 && this.#parts[0]!.length < LENGTH_BYTES) {
      this.#parts = [Buffer.concat(this.#parts, this.#partsLength)];
    }
  }

  #checked(length: number): number {
    if (length >= 0 && length <= this.maxFrameBytes) return length;
    throw new MalformedFrameError(
      `The server announces a frame of ${length} bytes, and the limit is ${this.maxFrameBytes}.`,
    );
  }
}
