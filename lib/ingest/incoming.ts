import { MAX_TIMESTAMP_MS, MIN_TIMESTAMP_MS } from "../beam/engine/time";
import type { EventRecord } from "../checkpoint/event-record";
import type { EventSource } from "../checkpoint/event-source";
import { type DeliveredRecord, parseOrNull, readTime } from "./delivery";

/** A record as a service gave it. */
export interface IncomingRecord {
  readonly record: Omit<EventRecord, "text">;
  /** Its own event time, in ms; undefined where it has that of its arrival. */
  readonly timestampMs: number | undefined;
  /** Of a stream: it was taken if a later one of its shard was. */
  readonly position?: { readonly shard: string; readonly sequence: string };
  /** Whether its id is to be remembered. */
  readonly isKnownById: boolean;
  /** What an answer to the service calls it. */
  readonly item: string;
}

/** What became of records, in their order. */
export interface IntakeResult {
  /** What was appended now. */
  readonly accepted: number;
  /** What had been appended before, by this or another invocation. */
  readonly duplicates: number;
  /** What was neither, with all that comes after it: it is to be delivered again. */
  readonly refused: readonly IncomingRecord[];
  /** Why; undefined where nothing was refused. */
  readonly reason: Error | undefined;
}

/** The record as a source takes it: with the id and the time that its attributes name. */
export function incoming(source: EventSource, delivered: DeliveredRecord): IncomingRecord {
  const { data, key, attributes, arrivalMs, position, item } = delivered;
  const lookUp = attributeReader(delivered);
  const own = source.idAttribute === undefined ? undefined : lookUp(source.idAttribute);
  const hasOwn = own !== undefined && own !== "";
  const timeMs =
    source.timestampAttribute === undefined ? undefined : readTime(lookUp(source.timestampAttribute));
  const timestampMs = timeMs ?? delivered.timestampMs;
  const id = hasOwn ? String(own) : delivered.id;
  return {
    record: { id, from: source.from, data, key, attributes, arrivalMs },
    timestampMs: timestampMs === undefined ? undefined : inModel(timestampMs),
    ...(position ? { position } : {}),
    isKnownById: hasOwn || position === undefined,
    item,
  };
}

function inModel(ms: number): number {
  return Math.min(MAX_TIMESTAMP_MS, Math.max(MIN_TIMESTAMP_MS, Math.floor(ms)));
}

/** Looks an attribute up, else a field of the data. The data is parsed when it is needed first. */
function attributeReader({
  attributes,
  data,
}: DeliveredRecord): (name: string) => string | number | undefined {
  let parsed: { readonly value: unknown } | undefined;
  return (name) => {
    if (Object.hasOwn(attributes, name)) return attributes[name];
    parsed ??= { value: parseOrNull(data) };
    let value = parsed.value;
    for (const part of name.split(".")) {
      if (typeof value !== "object" || value === null || !Object.hasOwn(value, part)) return undefined;
      value = (value as Record<string, unknown>)[part];
    }
    return typeof value === "string" || typeof value === "number" ? value : undefined;
  };
}
