import { decodeFrame, EncodingError, FRAME_HEADER_BYTES, sealFrame } from "./encoding";

/** An encoded element on its way to a shard. */
export interface SegmentElement {
  readonly bytes: Uint8Array;
  readonly timestampMs: number;
}

/** Elements that travel together, with the smallest of their times. */
export interface SegmentDraft {
  readonly data: Buffer;
  readonly minTimestampMs: number;
  readonly elements: number;
}

/*
 * segment = frame of: count (uint32), then for each element its length (uint32) and its bytes; big-endian.
 */
const COUNT_BYTES = 4;
const LENGTH_BYTES = 4;
const FIRST_SIZE_BYTES = 1024;

/** Up to this length a loop over bytes is faster than a call into native code. */
export const COPIED_ONE_BY_ONE = 96;

/** What an element of so many bytes adds to a segment. */
export function segmentElementBytes(length: number): number {
  return LENGTH_BYTES + length;
}

/** A segment that grows, written as it will be stored. */
export class SegmentBuilder {
  private frame: Buffer;
  private size = FRAME_HEADER_BYTES + COUNT_BYTES;
  private count = 0;
  private minTimestampMs = Number.POSITIVE_INFINITY;

  /** @param expectedBytes what it will be about, so that it need not grow. */
  constructor(expectedBytes = 0) {
    this.frame = Buffer.allocUnsafe(Math.max(FIRST_SIZE_BYTES, expectedBytes));
  }

  /** Whether one more element of so many bytes leaves it within a size; the first one always fits. */
  hasRoom(length: number, segmentSizeBytes: number): boolean {
    return this.count === 0 || this.size + segmentElementBytes(length) <= segmentSizeBytes;
  }

  /** Takes in the bytes from `start` to before `end`. */
  add(bytes: Uint8Array, start: number, end: number, timestampMs: number): void {
    const length = end - start;
    const at = this.size;
    const next = at + segmentElementBytes(length);
    if (next > this.frame.length) this.grow(next);
    const { frame } = this;
    frame[at] = length >>> 24;
    frame[at + 1] = length >>> 16;
    frame[at + 2] = length >>> 8;
    frame[at + 3] = length;
    if (length > COPIED_ONE_BY_ONE) frame.set(bytes.subarray(start, end), at + LENGTH_BYTES);
    else for (let from = start, to = at + LENGTH_BYTES; from < end; ) frame[to++] = bytes[from++]!;
    this.size = next;
    this.count += 1;
    if (timestampMs < this.minTimestampMs) this.minTimestampMs = timestampMs;
  }

  /** The segment as it is to be stored. The builder is used up. */
  finish(): SegmentDraft {
    const data = this.frame.subarray(0, this.size);
    data.writeUInt32BE(this.count, FRAME_HEADER_BYTES);
    sealFrame("segment", data);
    return { data, minTimestampMs: this.minTimestampMs, elements: this.count };
  }

  private grow(needed: number): void {
    const grown = Buffer.allocUnsafe(Math.max(needed, 2 * this.frame.length));
    this.frame.copy(grown, 0, 0, this.size);
    this.frame = grown;
  }
}

/**
 * Cuts elements into segments of at most `segmentSizeBytes` each, in order. An element that is larger than
 * that gets a segment of its own.
 */
export function cutSegments(elements: readonly SegmentElement[], segmentSizeBytes: number): SegmentDraft[] {
  const drafts: SegmentDraft[] = [];
  let open = new SegmentBuilder();
  for (const { bytes, timestampMs } of elements) {
    if (!open.hasRoom(bytes.length, segmentSizeBytes)) {
      drafts.push(open.finish());
      open = new SegmentBuilder();
    }
    open.add(bytes, 0, bytes.length, timestampMs);
  }
  if (elements.length > 0) drafts.push(open.finish());
  return drafts;
}

export function encodeSegment(elements: readonly SegmentElement[]): SegmentDraft {
  const builder = new SegmentBuilder();
  for (const { bytes, timestampMs } of elements) builder.add(bytes, 0, bytes.length, timestampMs);
  return builder.finish();
}

/** The elements of a segment as they lie one behind the other in its bytes. */
export class Segment {
  constructor(
    readonly bytes: Buffer,
    private readonly ends: readonly number[],
  ) {}

  get length(): number {
    return this.ends.length;
  }

  /** Where an element begins in `bytes`. */
  start(index: number): number {
    return (index === 0 ? COUNT_BYTES : this.ends[index - 1]!) + LENGTH_BYTES;
  }

  /** Where it ends. */
  end(index: number): number {
    return this.ends[index]!;
  }

  /** The element's own bytes, not copied. */
  at(index: number): Buffer {
    return this.bytes.subarray(this.start(index), this.end(index));
  }

  /** All from one on. */
  from(index: number): Buffer[] {
    return Array.from({ length: Math.max(0, this.length - index) }, (_, place) => this.at(index + place));
  }
}

/** The segment at `path`; throws {@link EncodingError}. */
export function readSegment(frame: Uint8Array, path: string): Segment {
  const payload = decodeFrame("segment", frame, path);
  const ends: number[] = [];
  let offset = COUNT_BYTES;
  const count = payload.length >= COUNT_BYTES ? payload.readUInt32BE(0) : 0;
  while (offset + LENGTH_BYTES <= payload.length) {
    const end = offset + LENGTH_BYTES + payload.readUInt32BE(offset);
    if (end > payload.length) break;
    ends.push(end);
    offset = end;
  }
  if (ends.length !== count || offset !== payload.length) {
    throw new EncodingError(
      path,
      `the segment announces ${count} elements and holds ${ends.length}`,
      "It was not consumed. Restore the znode from a backup, or delete it to give its elements up.",
    );
  }
  return new Segment(payload, ends);
}

/** The encoded elements of the segment at `path`; throws {@link EncodingError}. */
export function decodeSegment(frame: Uint8Array, path: string): Buffer[] {
  return readSegment(frame, path).from(0);
}
