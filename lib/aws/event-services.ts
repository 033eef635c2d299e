/** What services tell of the queues, streams, buses and buckets that pipelines read. Nothing of it is changed. */
export interface EventServices {
  /** Undefined where there is none of that name, or ARN. */
  queue(origin: string): Promise<QueueDescription | undefined>;
  /** How long the stream keeps records, in seconds; undefined where there is none of that name, or ARN. */
  stream(origin: string): Promise<{ readonly retentionSeconds: number } | undefined>;
  /** Whether there is a bus of that name, or ARN. */
  hasBus(origin: string): Promise<boolean>;
  /** Whether the bucket sends its events to EventBridge; undefined where there is none of that name. */
  bucket(name: string): Promise<{ readonly tellsEventBridge: boolean } | undefined>;
}

export interface QueueDescription {
  readonly visibilitySeconds: number;
  readonly retentionSeconds: number;
  /** Whether messages that were received too often go somewhere. */
  /** How often a message is received before it goes to the dead-letter queue; undefined where there is none. */
  readonly maxReceives: number | undefined;
}

/**
 * The services of the account and region that the SDK finds; its client is loaded here.
 *
 * @param endpoint of all of them, as AWS_ENDPOINT_URL has it (default: AWS's own).
 */
export async function openEventServices(endpoint: string | undefined): Promise<EventServices> {
  return (await import("./event-services-client.js")).createEventServices(endpoint);
}
