/**
 * What a pipeline reads of what a service gives to Lambda, as `readEvents` declares it: plain data, part of the graph's
 * fingerprint. Pure.
 */
export interface EventSource {
  /** Unique in the pipeline. */
  readonly name: string;
  readonly from: EventService;
  /** Where a record's id is, instead of the service's own. */
  readonly idAttribute?: string;
  /** Where a record's event time is, instead of when the service got it. */
  readonly timestampAttribute?: string;
}

export const EVENT_SERVICES = ["sqs", "kinesis", "s3", "eventbridge", "direct"] as const;

/** Who gives the events. `direct`: whoever invokes the function, with ids of its own. */
export type EventService = (typeof EVENT_SERVICES)[number];

/** What may be changed while the pipeline lives. */
export interface EventSourceSettings {
  /** The queue, stream or bucket: a name, or an ARN. `{stage}` stands for the deployment's stage. */
  readonly origin?: string;
  /** Of EventBridge: which events, in its own language. */
  readonly pattern?: Readonly<Record<string, unknown>>;
  /** Of EventBridge: the name or the ARN of the bus. Default: the account's default bus. */
  readonly bus?: string;
  /** Of S3: what the keys of objects begin with. Default: "". */
  readonly prefix?: string;
  /** How long ids are remembered, in ms. */
  readonly rememberMs: number;
  /** How far the watermark stays behind the arrival of records at the service, in ms. */
  readonly delayMs: number;
  /** Records that one invocation is given at most. Default: the service's. */
  readonly batchSize?: number;
  /** How long Lambda waits for a batch to get full, in seconds. Default: 0. */
  readonly batchWindowSeconds?: number;
}

const DAY_MS = 24 * 3_600_000;

/** Of the queue between a rule of EventBridge and the events function: infra/serverless/events.js. */
const QUEUE_RETENTION_MS = 4 * DAY_MS;

/**
 * How long a service may deliver a record again, and some more: the longest retention of a queue is 14 days. Of a stream
 * the highest sequence number of each shard is kept instead, as long as the longest retention (365 days).
 */
export const REMEMBER_MS: Readonly<Record<EventService, number>> = {
  sqs: 15 * DAY_MS,
  kinesis: 2 * DAY_MS,
  s3: QUEUE_RETENTION_MS + DAY_MS,
  eventbridge: QUEUE_RETENTION_MS + DAY_MS,
  direct: 2 * DAY_MS,
};

/** Default of how far the watermark stays behind. */
export const DELAY_MS = 10_000;

/** A source with its place in the pipeline. */
export interface PlannedEventSource {
  /** Names its znodes. */
  readonly id: string;
  readonly source: EventSource;
  readonly settings: EventSourceSettings;
  /** The stages that read it. */
  readonly consumers: readonly string[];
}
