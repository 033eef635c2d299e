import type { EventService } from "./event-source";
import type { SegmentElement } from "./segment";

/** What a service gave to Lambda: one element for each record that was not there before. */
export interface EventRecord {
  /** By which it is known when it comes again: the service's id, or where `idAttribute` says. */
  readonly id: string;
  readonly from: EventService;
  /** The message's body, the stream's data, EventBridge's `detail`, S3's record as JSON, a direct event's data. */
  readonly data: Buffer;
  /** The data as UTF-8 text. */
  readonly text: string;
  /** Records of one key stay in order: message group, partition key, object key, a direct event's key. Null where there is none. */
  readonly key: string | null;
  /** Message attributes, or what the service says of the record besides its data. */
  readonly attributes: Readonly<Record<string, string>>;
  /** When the service got it, in ms since 1970. */
  readonly arrivalMs: number;
}

/**
 * element = event time (double), tag (1 byte), length of the JSON part (uint32), JSON of everything but the data, data;
 * big-endian. The tag is where a change of a znode has its kind, and is none of these.
 */
const TAG = 0xe5;
const TAG_AT = 8;
const HEADER_BYTES = TAG_AT + 1 + 4;

type Description = Pick<EventRecord, "id" | "from" | "key" | "attributes" | "arrivalMs">;

export function encodeEventRecord(record: Omit<EventRecord, "text">, timestampMs: number): SegmentElement {
  const { id, from, key, attributes, arrivalMs, data } = record;
  const json = Buffer.from(JSON.stringify({ id, from, key, attributes, arrivalMs } satisfies Description));
  const header = Buffer.alloc(HEADER_BYTES);
  header.writeDoubleBE(timestampMs, 0);
  header.writeUInt8(TAG, TAG_AT);
  header.writeUInt32BE(json.length, TAG_AT + 1);
  return { bytes: Buffer.concat([header, json, data]), timestampMs };
}

/** Whether the element of a source is an event's record, and not a change of a znode. */
export function isEventRecord(bytes: Uint8Array, start = 0): boolean {
  return bytes[start + TAG_AT] === TAG;
}

export function decodeEventRecord(bytes: Buffer): { record: EventRecord; timestampMs: number } {
  const dataAt = HEADER_BYTES + bytes.readUInt32BE(TAG_AT + 1);
  const description = JSON.parse(bytes.toString("utf8", HEADER_BYTES, dataAt)) as Description;
  const data = Buffer.from(bytes.subarray(dataAt));
  return {
    record: { ...description, data, text: data.toString("utf8") },
    timestampMs: bytes.readDoubleBE(0),
  };
}

/** What decides on a record's shard. */
export function eventKey({ key, id }: Pick<EventRecord, "key" | "id">): string {
  return key ?? id;
}
