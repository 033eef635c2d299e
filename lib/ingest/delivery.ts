import * as z from "zod/mini";
import type { EventService } from "../checkpoint/event-source";
import { UnknownEventError } from "./errors";

/** What one invocation of the events function was given, whatever service gave it. */
export interface Delivery {
  readonly from: EventService;
  /** In the service's order. */
  readonly records: readonly DeliveredRecord[];
  /** The source, where the event names it; else the origin of each record tells. */
  readonly to?: { readonly pipeline?: string | undefined; readonly source: string };
  /** Of direct events: those that can't be taken as they are. */
  readonly rejected: readonly RejectedEvent[];
}

/** An event of EventBridge that a rule passed on, with the source that the rule is for. */
export interface PassedOnEvent {
  readonly to: { readonly pipeline: string; readonly source: string };
  readonly record: DeliveredRecord;
  /** As S3's own notification would have it, where it tells of an object. */
  readonly object: DeliveredRecord | undefined;
}

export interface RejectedEvent {
  /** The event's place in the list. */
  readonly index: number;
  readonly reason: string;
}

/** A record in a form that all services share. */
export interface DeliveredRecord {
  /** The ARN of the queue or stream, or the name of the bucket; "" where it has none. */
  readonly origin: string;
  /** The service's own id. */
  readonly id: string;
  readonly data: Buffer;
  readonly key: string | null;
  readonly attributes: Readonly<Record<string, string>>;
  readonly arrivalMs: number;
  /** Its own event time, where the service's form has a place for it. */
  readonly timestampMs?: number;
  readonly position?: { readonly shard: string; readonly sequence: string };
  /** What an answer to the service calls it. */
  readonly item: string;
}

const text = z.string();
const optionalText = z.optional(z.nullable(text));

const sqsRecord = z.object({
  messageId: text,
  body: text,
  attributes: z.object({ SentTimestamp: text, MessageGroupId: z.optional(text) }),
  messageAttributes: z.optional(
    z.record(text, z.object({ stringValue: optionalText, binaryValue: optionalText })),
  ),
  eventSourceARN: text,
});

const kinesisRecord = z.object({
  eventID: text,
  eventSourceARN: text,
  kinesis: z.object({
    partitionKey: text,
    sequenceNumber: text.check(z.regex(/^\d+$/)),
    data: text,
    approximateArrivalTimestamp: z.number(),
  }),
});

const s3Record = z.object({
  eventName: text,
  eventTime: text,
  s3: z.object({
    bucket: z.object({ name: text }),
    object: z.object({
      key: text,
      size: z.optional(z.number()),
      eTag: optionalText,
      versionId: optionalText,
      sequencer: optionalText,
    }),
  }),
});

const bridgedEvent = z.object({
  id: text,
  source: text,
  "detail-type": text,
  time: text,
  account: z.optional(text),
  region: z.optional(text),
  resources: z.optional(z.array(text)),
  detail: z.unknown(),
});

const s3Detail = z.object({
  bucket: z.object({ name: text }),
  object: z.object({
    key: text,
    size: z.optional(z.number()),
    etag: optionalText,
    "version-id": optionalText,
    sequencer: optionalText,
  }),
});

const wrappedEvent = z.object({ pipeline: text, source: text, event: bridgedEvent });

const directEvents = z.object({
  pipeline: z.optional(text),
  source: text,
  events: z.array(z.unknown()),
});

const MAX_ID_LENGTH = 1_024;
const directEvent = z.object({
  id: text.check(z.minLength(1), z.maxLength(MAX_ID_LENGTH)),
  data: z.optional(z.unknown()),
  base64: z.optional(text),
  key: z.optional(text),
  time: z.optional(z.union([text, z.number()])),
  attributes: z.optional(z.record(text, text)),
});

/**
 * Reads what Lambda passed on: a batch of SQS or of Kinesis, a notification of S3, or direct events
 * {pipeline?, source, events}. Throws {@link UnknownEventError}.
 *
 * @param nowMs when direct events have arrived.
 */
export function readDelivery(event: unknown, nowMs: number): Delivery {
  const { records, ...delivery } = readAny(event, nowMs);
  // What has no time that can be read arrives now.
  const timed = records.map((each) =>
    Number.isFinite(each.arrivalMs) ? each : { ...each, arrivalMs: nowMs },
  );
  return { ...delivery, records: timed };
}

function readAny(event: unknown, nowMs: number): Delivery {
  const given = (typeof event === "object" && event !== null ? event : {}) as Record<string, unknown>;
  if (Array.isArray(given.Records)) return readBatch(given.Records);
  // S3 tries a notification when it is set up.
  if (given.Event === "s3:TestEvent") return { from: "s3", records: [], rejected: [] };
  if ("events" in given) return readDirect(read(directEvents, event, "{pipeline?, source, events}"), nowMs);
  throw new UnknownEventError(
    "the event is none of SQS, Kinesis or S3, nor {pipeline?, source, events}; nothing was taken",
  );
}

function read<T extends z.ZodMiniType>(schema: T, value: unknown, what: string): z.infer<T> {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const problems = parsed.error.issues.map(({ path, message }) => `${path.join(".")}: ${message}`);
  throw new UnknownEventError(`the event is not ${what}: ${problems.join("; ")}. Nothing was taken.`);
}

function readBatch(records: readonly unknown[]): Delivery {
  const kinds = new Set(records.map((each) => (each as { eventSource?: unknown } | null)?.eventSource));
  const [kind] = kinds;
  if (kinds.size === 1 && kind === "aws:sqs")
    return batch("sqs", read(z.array(sqsRecord), records, "a batch of SQS").map(fromSqs));
  if (kinds.size === 1 && kind === "aws:kinesis")
    return batch("kinesis", read(z.array(kinesisRecord), records, "a batch of Kinesis").map(fromKinesis));
  if (kinds.size === 1 && kind === "aws:s3")
    return batch("s3", read(z.array(s3Record), records, "a notification of S3").map(fromS3));
  throw new UnknownEventError(`the event has records of ${[...kinds].join(", ")}; nothing was taken`);
}

function batch(from: EventService, records: readonly DeliveredRecord[]): Delivery {
  return { from, records, rejected: [] };
}

function fromSqs(record: z.infer<typeof sqsRecord>): DeliveredRecord {
  const { messageId, body, attributes, messageAttributes = {}, eventSourceARN } = record;
  const own = Object.entries(messageAttributes).map(([name, { stringValue, binaryValue }]) => [
    name,
    stringValue ?? binaryValue ?? "",
  ]);
  return {
    origin: eventSourceARN,
    id: messageId,
    data: Buffer.from(body, "utf8"),
    key: attributes.MessageGroupId ?? null,
    attributes: Object.fromEntries(own),
    arrivalMs: Number(attributes.SentTimestamp),
    item: messageId,
  };
}

function fromKinesis({ eventID, eventSourceARN, kinesis }: z.infer<typeof kinesisRecord>): DeliveredRecord {
  const { partitionKey, sequenceNumber: sequence, data, approximateArrivalTimestamp } = kinesis;
  const [shard = ""] = eventID.split(":");
  return {
    origin: eventSourceARN,
    id: eventID,
    data: Buffer.from(data, "base64"),
    key: partitionKey,
    attributes: { shard, sequence },
    arrivalMs: Math.round(approximateArrivalTimestamp * 1000),
    position: { shard: `${eventSourceARN}/${shard}`, sequence },
    item: sequence,
  };
}

/** What S3 tells of an object, by a notification or through EventBridge. */
interface ObjectEvent {
  readonly kind: string;
  readonly bucket: string;
  readonly key: string;
  readonly sizeBytes: number | undefined;
  readonly eTag: string | null | undefined;
  readonly versionId: string | null | undefined;
  readonly sequencer: string | null | undefined;
}

function fromObject(object: ObjectEvent, time: string): DeliveredRecord {
  const { kind, bucket, key, versionId, sequencer } = object;
  const known = Object.entries(object).filter(([, value]) => value !== undefined && value !== null);
  const attributes = Object.fromEntries(known.map(([name, value]) => [name, String(value)]));
  // Without either it has happened at its time.
  const which = sequencer || versionId ? [versionId ?? "", sequencer ?? ""] : [time];
  return {
    origin: bucket,
    id: JSON.stringify([kind, bucket, key, ...which]),
    data: Buffer.from(JSON.stringify(Object.fromEntries(known))),
    key,
    attributes,
    arrivalMs: Date.parse(time),
    item: key,
  };
}

function fromS3({ eventName, eventTime, s3: { bucket, object } }: z.infer<typeof s3Record>): DeliveredRecord {
  const { size: sizeBytes, eTag, versionId, sequencer } = object;
  const [kind = eventName] = eventName.split(":");
  // As in the query of a URL.
  const key = decodeURIComponent(object.key.replaceAll("+", " "));
  return fromObject({ kind, bucket: bucket.name, key, sizeBytes, eTag, versionId, sequencer }, eventTime);
}

/**
 * A message of the queue between a rule and the function: {pipeline, source, event}, as the deployed rules write it.
 * Undefined where it is something else.
 */
export function readPassedOn({ data, item }: DeliveredRecord): PassedOnEvent | undefined {
  const parsed = wrappedEvent.safeParse(parseOrNull(data));
  if (!parsed.success) return undefined;
  const { pipeline, source, event } = parsed.data;
  const object = objectOf(event);
  const record = { ...fromBridge(event), item };
  return { to: { pipeline, source }, record, object: object && { ...object, item } };
}

function objectOf(event: z.infer<typeof bridgedEvent>): DeliveredRecord | undefined {
  const parsed = s3Detail.safeParse(event.source === "aws.s3" ? event.detail : undefined);
  if (!parsed.success) return undefined;
  const { bucket, object } = parsed.data;
  const { key, size: sizeBytes, etag: eTag, "version-id": versionId, sequencer } = object;
  const kind = event["detail-type"].replaceAll(" ", "");
  return fromObject({ kind, bucket: bucket.name, key, sizeBytes, eTag, versionId, sequencer }, event.time);
}

function fromBridge(event: z.infer<typeof bridgedEvent>): DeliveredRecord {
  const { id, source, time, account = "", region = "", resources = [], detail } = event;
  return {
    origin: "",
    id,
    data: Buffer.from(JSON.stringify(detail ?? null)),
    key: null,
    attributes: {
      source,
      "detail-type": event["detail-type"],
      account,
      region,
      resources: resources.join(","),
    },
    arrivalMs: Date.parse(time),
    item: id,
  };
}

function readDirect({ pipeline, source, events }: z.infer<typeof directEvents>, nowMs: number): Delivery {
  const records: DeliveredRecord[] = [];
  const rejected: RejectedEvent[] = [];
  events.forEach((event, index) => {
    const record = fromDirect(event, index, nowMs);
    if (typeof record === "string") rejected.push({ index, reason: record });
    else records.push(record);
  });
  return { from: "direct", records, to: { pipeline, source }, rejected };
}

/** The record, or why it is none. */
function fromDirect(event: unknown, index: number, nowMs: number): DeliveredRecord | string {
  const parsed = directEvent.safeParse(event);
  if (!parsed.success)
    return `an event is {id, data or base64, key?, time?, attributes?}, with an id of 1 to ${MAX_ID_LENGTH} characters`;
  const { id, data, base64, key = null, time, attributes = {} } = parsed.data;
  if ((data === undefined) === (base64 === undefined)) return "an event has either data or base64";
  const timestampMs = time === undefined ? undefined : readTime(time);
  if (time !== undefined && timestampMs === undefined)
    return "time must be ms since 1970 or an ISO 8601 text";
  const encoded =
    typeof data === "string" ? Buffer.from(data, "utf8") : Buffer.from(JSON.stringify(data) ?? "");
  return {
    origin: "",
    id,
    data: base64 === undefined ? encoded : Buffer.from(base64, "base64"),
    key,
    attributes,
    arrivalMs: nowMs,
    ...(timestampMs === undefined ? {} : { timestampMs }),
    item: String(index),
  };
}

/** A time in ms, from a number of ms or an ISO 8601 text; undefined where it is neither. */
export function readTime(value: unknown): number | undefined {
  const isNumber =
    typeof value === "number" || (typeof value === "string" && /^-?\d{1,16}(\.\d+)?$/.test(value));
  const ms = isNumber ? Number(value) : typeof value === "string" ? Date.parse(value) : Number.NaN;
  return Number.isFinite(ms) ? ms : undefined;
}

/** What the bytes are as JSON; null where they are none. */
export function parseOrNull(data: Buffer): unknown {
  try {
    return JSON.parse(data.toString("utf8"));
  } catch {
    return null;
  }
}
