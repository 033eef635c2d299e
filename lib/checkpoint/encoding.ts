import { crc32 } from "node:zlib";

/**
 * Every znode that Beamkeeper writes for itself has this frame:
 *
 *   frame = magic "BK" (2 bytes), version (1 byte), kind (1 byte), crc32 of the payload (4 bytes, big-endian), payload
 *
 * The version belongs to the kind: a change of one record's form leaves the others readable.
 */
export const FRAME_HEADER_BYTES = 8;
/** "BK" */
const MAGIC = [0x42, 0x4b] as const;

/** The kinds of record and the version of each that this code writes; it reads no other. */
export const RECORD_KINDS = {
  generation: { tag: 1, version: 1 },
  cursor: { tag: 2, version: 1 },
  manifest: { tag: 3, version: 2 },
  "manifest-index": { tag: 11, version: 1 },
  head: { tag: 4, version: 2 },
  segment: { tag: 5, version: 1 },
  stateDelta: { tag: 6, version: 2 },
  output: { tag: 7, version: 1 },
  stateRun: { tag: 10, version: 1 },
  blob: { tag: 12, version: 1 },
  "snapshot-request": { tag: 13, version: 1 },
  "dead-letter": { tag: 16, version: 1 },
  relay: { tag: 20, version: 1 },
  run: { tag: 24, version: 1 },
  schedule: { tag: 25, version: 1 },
  "event-ids": { tag: 28, version: 1 },
  "event-id-run": { tag: 29, version: 1 },
  graph: { tag: 30, version: 1 },
} as const;

export type RecordKind = keyof typeof RECORD_KINDS;

/** A znode of Beamkeeper's own whose content cannot be used. Terminal: reading it again gives the same bytes. */
export class EncodingError extends Error {
  override readonly name = "EncodingError";
  constructor(
    readonly path: string,
    problem: string,
    remedy: string,
  ) {
    super(`${path}: ${problem}. ${remedy}`);
  }
}

/** What can be done about a record of this kind that can't be used. */
function restoring(kind: RecordKind): string {
  const isOfSource = kind === "cursor" || kind === "manifest" || kind === "manifest-index";
  const anew = isOfSource
    ? 'pause the pipeline and begin the source again with "beamkeeper reset"'
    : "start the pipeline under a new name or root";
  return `Nothing was changed. Restore the znode from a backup, or ${anew}.`;
}

/** Frames a payload. */
export function encodeFrame(kind: RecordKind, payload: Uint8Array): Buffer {
  const frame = Buffer.allocUnsafe(FRAME_HEADER_BYTES + payload.length);
  frame.set(payload, FRAME_HEADER_BYTES);
  sealFrame(kind, frame);
  return frame;
}

/** Writes the header of a frame whose payload is in its place already. */
export function sealFrame(kind: RecordKind, frame: Buffer): void {
  const { tag, version } = RECORD_KINDS[kind];
  frame[0] = MAGIC[0];
  frame[1] = MAGIC[1];
  frame[2] = version;
  frame[3] = tag;
  frame.writeUInt32BE(crc32(frame.subarray(FRAME_HEADER_BYTES)), 4);
}

/** The payload of the frame found at `path`; throws {@link EncodingError} for anything but an intact frame of this kind. */
export function decodeFrame(kind: RecordKind, frame: Uint8Array, path: string): Buffer {
  const bytes = Buffer.from(frame.buffer, frame.byteOffset, frame.byteLength);
  const { tag, version } = RECORD_KINDS[kind];
  if (bytes.length < FRAME_HEADER_BYTES || bytes[0] !== MAGIC[0] || bytes[1] !== MAGIC[1]) {
    throw new EncodingError(
      path,
      `this is not a ${kind} record (${bytes.length} bytes without Beamkeeper's header)`,
      restoring(kind),
    );
  }
  if (bytes[3] !== tag)
    throw new EncodingError(path, `expected a ${kind} record, found kind ${bytes[3]}`, restoring(kind));
  if (bytes[2] !== version) {
    throw new EncodingError(
      path,
      `the ${kind} record has version ${bytes[2]}, this code reads version ${version}`,
      "Nothing was changed. Run the version of Beamkeeper that wrote it, or a newer one.",
    );
  }
  const payload = bytes.subarray(FRAME_HEADER_BYTES);
  if (crc32(payload) !== bytes.readUInt32BE(4)) {
    throw new EncodingError(
      path,
      `the ${kind} record is corrupt (its checksum does not match)`,
      restoring(kind),
    );
  }
  return payload;
}

/** Whether a frame says that it is of this kind. */
export function isRecord(kind: RecordKind, frame: Uint8Array): boolean {
  return (
    frame.length >= FRAME_HEADER_BYTES &&
    frame[0] === MAGIC[0] &&
    frame[1] === MAGIC[1] &&
    frame[3] === RECORD_KINDS[kind].tag
  );
}

/** Segments, deltas and runs of state begin with how many elements or cells they have. */
export function countItems(frame: Buffer): number {
  return frame.readUInt32BE(FRAME_HEADER_BYTES);
}

export function encodeJson(kind: RecordKind, value: unknown): Buffer {
  const text = JSON.stringify(value);
  const frame = Buffer.allocUnsafe(FRAME_HEADER_BYTES + Buffer.byteLength(text));
  frame.write(text, FRAME_HEADER_BYTES);
  sealFrame(kind, frame);
  return frame;
}

export function decodeJson(kind: RecordKind, frame: Uint8Array, path: string): unknown {
  const payload = decodeFrame(kind, frame, path);
  try {
    return JSON.parse(payload.toString("utf8"));
  } catch {
    throw new EncodingError(path, `the ${kind} record is not JSON`, restoring(kind));
  }
}

/** A time in JSON, which has no infinities. */
export type JsonTime = number | "+inf" | "-inf";

export function toJsonTime(ms: number): JsonTime {
  if (ms === Number.POSITIVE_INFINITY) return "+inf";
  return ms === Number.NEGATIVE_INFINITY ? "-inf" : ms;
}

export function fromJsonTime(time: JsonTime): number {
  if (time === "+inf") return Number.POSITIVE_INFINITY;
  return time === "-inf" ? Number.NEGATIVE_INFINITY : time;
}
