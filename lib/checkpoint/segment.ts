import { decodeFrame, EncodingError, encodeFrame } from "./encoding";

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

const FRAME_OVERHEAD_BYTES = 12;
const ELEMENT_OVERHEAD_BYTES = 4;

/** What one element adds to a segment, in bytes. */
export function segmentElementBytes(element: SegmentElement): number {
  return ELEMENT_OVERHEAD_BYTES + element.bytes.length;
}

/**
 * Cuts elements into segments of at most `segmentSizeBytes` each, in order. An element that is larger than
 * that gets a segment of its own.
 */
export function cutSegments(elements: readonly SegmentElement[], segmentSizeBytes: number): SegmentDraft[] {
  const drafts: SegmentDraft[] = [];
  let from = 0;
  let size = FRAME_OVERHEAD_BYTES;
  elements.forEach((element, index) => {
    const bytes = segmentElementBytes(element);
    if (index > from && size + bytes > segmentSizeBytes) {
      drafts.push(encodeSegment(elements.slice(from, index)));
      from = index;
      size = FRAME_OVERHEAD_BYTES;
    }
    size += bytes;
  });
  if (from < elements.length) drafts.push(encodeSegment(elements.slice(from)));
  return drafts;
}

/** payload = count (uint32), then for each element its length (uint32) and its bytes; big-endian. */
export function encodeSegment(elements: readonly SegmentElement[]): SegmentDraft {
  const payload = Buffer.allocUnsafe(
    elements.reduce((sum, element) => sum + segmentElementBytes(element), 4),
  );
  let offset = payload.writeUInt32BE(elements.length, 0);
  let minTimestampMs = Number.POSITIVE_INFINITY;
  for (const { bytes, timestampMs } of elements) {
    offset = payload.writeUInt32BE(bytes.length, offset);
    payload.set(bytes, offset);
    offset += bytes.length;
    minTimestampMs = Math.min(minTimestampMs, timestampMs);
  }
  return { data: encodeFrame("segment", payload), minTimestampMs, elements: elements.length };
}

/** The encoded elements of the segment at `path`; throws {@link EncodingError}. */
export function decodeSegment(frame: Uint8Array, path: string): Buffer[] {
  const payload = decodeFrame("segment", frame, path);
  const elements: Buffer[] = [];
  let offset = 4;
  const count = payload.length >= 4 ? payload.readUInt32BE(0) : 0;
  while (offset + 4 <= payload.length) {
    const end = offset + 4 + payload.readUInt32BE(offset);
    if (end > payload.length) break;
    elements.push(payload.subarray(offset + 4, end));
    offset = end;
  }
  if (elements.length !== count || offset !== payload.length) {
    throw new EncodingError(
      path,
      `the segment announces ${count} elements and holds ${elements.length}`,
      "It was not consumed. Restore the znode from a backup, or delete it to give its elements up.",
    );
  }
  return elements;
}
