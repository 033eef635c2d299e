import { type PCollection, type PTransform, type Root, withName } from "apache-beam";
import { readPrimitive } from "../beam/primitives";
import type { EventRecord } from "../checkpoint/event-record";
import {
  DELAY_MS,
  EVENT_SERVICES,
  type EventService,
  type EventSource,
  type EventSourceSettings,
  REMEMBER_MS,
} from "../checkpoint/event-source";
import type { Decoder } from "./decode";

interface CommonOptions {
  /** Names the source: letters, digits, `-`, `_` and `.`; unique in the pipeline. Default: the service's name. */
  readonly name?: string;
  /**
   * Where a record's id is, instead of the service's own: an attribute of the record, else a field of its data, with dots
   * for fields of fields, where the data is JSON. A record without it has the service's id. Default: the service's.
   */
  readonly idAttribute?: string;
  /**
   * Where a record's event time is: ms since 1970, or an ISO 8601 text. Such a record may be late. A record without it
   * has the time of its arrival. Default: the arrival at the service, or the watermark where that is later.
   */
  readonly timestampAttribute?: string;
  /**
   * For how many seconds ids are remembered; a record that comes again after that counts twice. May be changed.
   * Default: 15 days for a queue, 5 for S3 and EventBridge, 2 for direct events.
   */
  readonly rememberSeconds?: number;
  /**
   * How many seconds the watermark stays behind the arrival of records at the service: as much later than its own time a
   * record may arrive without being late. May be changed. Default: 10, and `batchWindowSeconds`.
   */
  readonly delaySeconds?: number;
}

interface BatchedOptions {
  /** Records that one invocation gets at most. Default: 10 for a queue, 100 for a stream. */
  readonly batchSize?: number;
  /** How many seconds Lambda waits for a batch to get full, 0 to 300. Default: 0. */
  readonly batchWindowSeconds?: number;
}

/** Names and ARNs may hold `{stage}`, for the stage of the deployment; like all of these they may be changed. */
export type ReadEventsOptions = CommonOptions &
  (
    | ({
        readonly from: "sqs" /** The name or the ARN of the queue. */;
        readonly queue: string;
      } & BatchedOptions)
    | ({
        readonly from: "kinesis";
        /** The name or the ARN of the stream. */
        readonly stream: string;
      } & BatchedOptions)
    | {
        readonly from: "s3";
        /** The name of the bucket. It has to send its events to EventBridge, or to the function. */
        readonly bucket: string;
        /** Only objects whose keys begin with this. Default: all. */
        readonly prefix?: string;
      }
    | {
        readonly from: "eventbridge";
        /** An event pattern of EventBridge. */
        readonly pattern: Readonly<Record<string, unknown>>;
        /** The name or the ARN of the bus. Default: the account's default bus. */
        readonly bus?: string;
      }
    | { readonly from: "direct" }
  );

/** A record with its data decoded. */
export interface DecodedEventRecord<T> extends EventRecord {
  readonly value: T;
}

/** A record whose data is not what the pipeline expects. Terminal: it is the same the next time. */
export class EventDecodeError extends Error {
  override readonly name = "EventDecodeError";
  readonly outcome = "terminal";
  constructor(
    readonly id: string,
    readonly format: string,
    { from, data }: EventRecord,
    cause: unknown,
  ) {
    const why = cause instanceof Error ? cause.message : String(cause);
    super(
      `the record ${id} of ${from} (${data.length} bytes) is not ${format}: ${why}. ` +
        "Read `bytes()` and decode it in the pipeline, or correct what is sent and replay the dead letter.",
      { cause },
    );
  }
}

/**
 * Reads what a service gives to Lambda, or callers of the function do: an unbounded source with one element for each
 * record, each record once, however often it is delivered. The events function takes the records: see docs/events.md.
 *
 * The event time is that of the arrival, or what `timestampAttribute` says, in the global window.
 *
 * @throws TypeError if an option is missing or has the wrong form. Data that can't be decoded is an EventDecodeError when
 * the element is processed: it is retried and set aside like what the pipeline's own code fails on.
 */
export function readEvents<T>(
  options: ReadEventsOptions & { readonly decode: Decoder<T> },
): PTransform<Root, PCollection<DecodedEventRecord<T>>>;
export function readEvents(options: ReadEventsOptions): PTransform<Root, PCollection<EventRecord>>;
export function readEvents(
  options: ReadEventsOptions & { readonly decode?: Decoder<unknown> },
): PTransform<Root, PCollection<EventRecord>> {
  const source = sourceOf(options);
  const tuning = settingsOf(source.from, options);
  const { decode } = options;
  // What holds it is named like the source, and so is the stage then.
  const read = readPrimitive<EventRecord>(decode === undefined ? source.name : "read", {
    kind: "events",
    config: source,
    tuning,
    bounded: false,
  });
  if (decode === undefined) return read;
  if (typeof decode?.decode !== "function")
    throw problem(source.name, "decode must be a decoder such as json()");
  return withName(source.name, (root: Root) =>
    root
      .apply(read)
      .map((record): EventRecord => ({ ...record, value: decoded(decode, record) }) as EventRecord),
  );
}

function decoded<T>(decoder: Decoder<T>, record: EventRecord): T {
  try {
    return decoder.decode(record.data, record.id);
  } catch (error) {
    throw new EventDecodeError(record.id, decoder.format, record, error);
  }
}

const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/;

function sourceOf(options: ReadEventsOptions): EventSource {
  const from: EventService | undefined = options?.from;
  if (!EVENT_SERVICES.includes(from))
    throw new TypeError(`readEvents: from must be one of ${EVENT_SERVICES.join(", ")}`);
  const { name = from, idAttribute, timestampAttribute } = options;
  if (typeof name !== "string" || !NAME.test(name))
    throw new TypeError('readEvents: a name has 1 to 100 letters, digits, "-", "_" and "."');
  for (const [option, value] of Object.entries({ idAttribute, timestampAttribute }))
    if (value !== undefined && (typeof value !== "string" || value === ""))
      throw problem(name, `${option} must be the name of an attribute, or of a field`);
  return {
    name,
    from,
    // What is not said is not part of the pipeline's fingerprint.
    ...(idAttribute === undefined ? {} : { idAttribute }),
    ...(timestampAttribute === undefined ? {} : { timestampAttribute }),
  };
}

/** The option that says where records come from. */
const ORIGIN = { sqs: "queue", kinesis: "stream", s3: "bucket" } as const;
const MAX_BATCH = { sqs: 10_000, kinesis: 10_000 } as const;

function settingsOf(from: EventService, options: ReadEventsOptions): EventSourceSettings {
  const { name = from } = options;
  const given = options as unknown as Readonly<Record<string, unknown>>;
  const text = (option: string, isNeeded: boolean): string | undefined => {
    const value = given[option];
    if (value === undefined && !isNeeded) return undefined;
    if (typeof value === "string" && value !== "") return value;
    throw problem(name, `${option} must be a text`);
  };
  const number = (option: string, least: number, most: number): number | undefined => {
    const value = given[option];
    if (value === undefined) return undefined;
    if (typeof value === "number" && value >= least && value <= most) return value;
    throw problem(name, `${option} must be a number from ${least} to ${most}`);
  };
  const originOption = ORIGIN[from as keyof typeof ORIGIN];
  const origin = originOption && text(originOption, true);
  const pattern = from === "eventbridge" ? given.pattern : undefined;
  if (from === "eventbridge" && (typeof pattern !== "object" || pattern === null || Array.isArray(pattern)))
    throw problem(name, 'pattern must be an event pattern, such as { source: ["shop"] }');
  const optional = {
    bus: from === "eventbridge" ? text("bus", false) : undefined,
    prefix: from === "s3" ? text("prefix", false) : undefined,
    batchSize:
      from in MAX_BATCH ? number("batchSize", 1, MAX_BATCH[from as keyof typeof MAX_BATCH]) : undefined,
    batchWindowSeconds: from in MAX_BATCH ? number("batchWindowSeconds", 0, 300) : undefined,
    origin,
    pattern: pattern as EventSourceSettings["pattern"],
  };
  const { batchSize = 0, batchWindowSeconds = 0 } = optional;
  if (from === "sqs" && batchSize > 10 && batchWindowSeconds < 1)
    throw problem(name, "a batchSize above 10 needs batchWindowSeconds of 1 or more");
  const rememberSeconds = number("rememberSeconds", 1, 366 * 86_400);
  const delaySeconds = number("delaySeconds", 0, 86_400);
  return {
    ...(Object.fromEntries(Object.entries(optional).filter(([, value]) => value !== undefined)) as Pick<
      EventSourceSettings,
      "origin"
    >),
    rememberMs: rememberSeconds === undefined ? REMEMBER_MS[from] : rememberSeconds * 1000,
    // What waits for a batch to get full comes so much later than it arrives.
    delayMs:
      delaySeconds === undefined ? DELAY_MS + (optional.batchWindowSeconds ?? 0) * 1000 : delaySeconds * 1000,
  };
}

function problem(name: string, what: string): TypeError {
  return new TypeError(`readEvents("${name}"): ${what}`);
}
