import type { PlannedEventSource } from "../checkpoint/event-source";
import type { Clock } from "../clock";
import type { Log } from "../log";
import {
  type DeliveredRecord,
  type Delivery,
  type RejectedEvent,
  readDelivery,
  readPassedOn,
} from "./delivery";
import { RecordsRefusedError, UnknownEventError } from "./errors";
import { type IncomingRecord, type IntakeResult, incoming } from "./incoming";
import type { EventIntake } from "./intake";

/** A source of a deployed pipeline, and what takes records into it. */
export interface DeployedSource {
  readonly pipeline: string;
  readonly planned: PlannedEventSource;
  readonly intake: Pick<EventIntake, "take">;
}

export interface IngestionOptions {
  readonly sources: readonly DeployedSource[];
  /** Stands for `{stage}` in the names of queues, streams and buckets. */
  readonly stage: string;
  /** Sees to it that the shards of a pipeline are called, now that there is something in their inboxes. Never rejects. */
  readonly wake: (pipeline: string) => Promise<void>;
  readonly clock: Clock;
  readonly log: Log;
}

/** What Lambda expects of a function that reports what it could not take of a batch. */
export interface BatchResponse {
  readonly batchItemFailures: readonly { readonly itemIdentifier: string }[];
}

/** What whoever sent direct events hears. */
export interface DirectResponse {
  readonly accepted: number;
  /** Those that had been taken before. */
  readonly duplicates: number;
  /** Those that can't be taken as they are: sending them again does not help. */
  readonly rejected: readonly RejectedEvent[];
}

/** The records of one delivery that go to one source. */
interface Share {
  readonly source: DeployedSource;
  readonly records: readonly IncomingRecord[];
}

/**
 * Takes what one event brings into the sources that read it, each record once, and answers as its service expects:
 *
 * - SQS: the messages that were not taken, which come again; of a FIFO queue all from the first one on.
 * - Kinesis: the first record that was not taken, from which on the stream is delivered again.
 * - events of EventBridge, and those of S3 that come with it, through a queue: as of SQS.
 * - a notification of S3: rejects, so that Lambda delivers it again.
 * - direct: a {@link DirectResponse}; rejects where something that could be taken was not.
 *
 * Rejects with UnknownEventError, RecordsRefusedError, or the client's error. A batch of which nothing could be taken
 * rejects, too, unless it is refused: then the alarms of the function's errors hear of it.
 */
export async function ingest(
  { sources, stage, wake, clock, log }: IngestionOptions,
  event: unknown,
): Promise<BatchResponse | DirectResponse | undefined> {
  const delivery = readDelivery(event, clock.now());
  const shares = divide(delivery, sources, stage);
  const results = await Promise.all(
    shares.map(async ({ source, records }) => ({
      source,
      ...(await source.intake.take(source.planned, records)),
    })),
  );
  const fed = new Set(results.filter(({ accepted }) => accepted > 0).map(({ source }) => source.pipeline));
  await Promise.all([...fed].map(wake));
  for (const { source, refused, reason, accepted, duplicates } of results) {
    const fields = { pipeline: source.pipeline, source: source.planned.source.name, accepted, duplicates };
    if (reason)
      log("warn", "records were refused, and are to come again", {
        ...fields,
        refused: refused.length,
        error: reason,
      });
    else log("debug", "records were taken", fields);
  }
  return answer(delivery, results);
}

function divide(delivery: Delivery, sources: readonly DeployedSource[], stage: string): Share[] {
  const { from, records, to } = delivery;
  if (to) {
    const source = named(sources, from, to);
    return [{ source, records: records.map((each) => incoming(source.planned.source, each)) }];
  }
  const shares = new Map<DeployedSource, IncomingRecord[]>();
  const give = (source: DeployedSource, record: DeliveredRecord): void => {
    const mine = shares.get(source) ?? [];
    shares.set(source, mine);
    mine.push(incoming(source.planned.source, record));
  };
  for (const record of records) {
    const readers = sources.filter(
      ({ planned }) => planned.source.from === from && reads(planned, record, stage),
    );
    for (const reader of readers) give(reader, record);
    if (readers.length === 0) give(...passedOn(sources, from, record));
  }
  return [...shares].map(([source, mine]) => ({ source, records: mine }));
}

/** Events of EventBridge come through a queue, each with the source that it is for. */
function passedOn(
  sources: readonly DeployedSource[],
  from: Delivery["from"],
  record: DeliveredRecord,
): [DeployedSource, DeliveredRecord] {
  const event = from === "sqs" ? readPassedOn(record) : undefined;
  if (!event)
    throw new UnknownEventError(
      `no pipeline of this deployment reads ${record.origin} by readEvents({ from: "${from}" }); nothing was taken`,
    );
  return event.object && isNamed(sources, "s3", event.to)
    ? [named(sources, "s3", event.to), event.object]
    : [named(sources, "eventbridge", event.to), event.record];
}

function isNamed(
  sources: readonly DeployedSource[],
  from: Delivery["from"],
  { pipeline, source }: { readonly pipeline: string; readonly source: string },
): boolean {
  return sources.some(
    (each) =>
      each.pipeline === pipeline && each.planned.source.name === source && each.planned.source.from === from,
  );
}

function named(
  sources: readonly DeployedSource[],
  from: Delivery["from"],
  { pipeline, source: name }: NonNullable<Delivery["to"]>,
): DeployedSource {
  const isNamed = (each: DeployedSource): boolean =>
    each.planned.source.name === name && (pipeline === undefined || each.pipeline === pipeline);
  const found = sources.filter(isNamed);
  const [source] = found;
  const of = pipeline === undefined ? "" : ` of the pipeline "${pipeline}"`;
  if (!source) {
    const known =
      sources.map((each) => `${each.planned.source.name} of ${each.pipeline}`).join(", ") || "none";
    throw new UnknownEventError(`there is no source "${name}"${of} in this deployment; it has ${known}`);
  }
  if (found.length > 1)
    throw new UnknownEventError(
      `several pipelines have a source "${name}": ${found.map((each) => each.pipeline).join(", ")}; name the pipeline`,
    );
  const { from: declared } = source.planned.source;
  if (from !== "direct" && declared !== from)
    throw new UnknownEventError(
      `the source "${name}" of ${source.pipeline} reads ${declared}, and not ${from}`,
    );
  return source;
}

/** Whether the record's queue, stream or bucket is that of the source. */
function reads({ settings }: PlannedEventSource, { origin, key }: DeliveredRecord, stage: string): boolean {
  const wanted = originOf(settings.origin ?? "", stage);
  const isSame = origin === wanted || (!wanted.startsWith("arn:") && origin.split(/[:/]/).at(-1) === wanted);
  return isSame && (settings.prefix === undefined || (key ?? "").startsWith(settings.prefix));
}

export function originOf(origin: string, stage: string): string {
  return origin.replaceAll("{stage}", stage);
}

function answer(
  { from, records, rejected }: Delivery,
  results: readonly IntakeResult[],
): BatchResponse | DirectResponse | undefined {
  const refused = new Set(results.flatMap((result) => result.refused.map(({ item }) => item)));
  const reasons = results.flatMap(({ reason }) => (reason ? [reason] : []));
  if (from === "sqs" || from === "kinesis") {
    const outage = reasons.find((reason) => !(reason instanceof RecordsRefusedError));
    if (outage && refused.size === records.length) throw outage;
    const failed = records
      .filter(({ item }) => refused.has(item))
      .map(({ item }) => ({ itemIdentifier: item }));
    return { batchItemFailures: from === "kinesis" ? failed.slice(0, 1) : failed };
  }
  if (reasons[0]) throw reasons[0];
  if (from !== "direct") return undefined;
  const sum = (name: "accepted" | "duplicates"): number => results.reduce((all, each) => all + each[name], 0);
  return { accepted: sum("accepted"), duplicates: sum("duplicates"), rejected };
}
