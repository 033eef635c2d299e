import type { EventService, PlannedEventSource } from "../../lib/checkpoint/event-source";
import { RecordsRefusedError } from "../../lib/ingest/errors";
import type { IncomingRecord, IntakeResult } from "../../lib/ingest/incoming";
import { ingest } from "../../lib/ingest/ingestion";
import { silent } from "../../lib/log";
import {
  bridged,
  kinesisRecord,
  notification,
  objectCreated,
  passedOn,
  sqsMessage,
} from "../support/service-events";

const REFUSED = new RecordsRefusedError("the pipeline is paused", "retryable");

interface Sink {
  readonly taken: string[];
  /** What is refused from so many records on, and why. */
  refuse?: { from: number; reason: Error };
}

/** Sources of which each takes what it is given, or refuses some. */
function deployed(
  sources: readonly {
    pipeline: string;
    name: string;
    from: EventService;
    origin?: string;
    prefix?: string;
  }[],
) {
  const woken: string[] = [];
  const sinks = new Map<string, Sink>();
  const all = sources.map(({ pipeline, name, from, origin, prefix }) => {
    const sink: Sink = { taken: [] };
    sinks.set(`${pipeline}/${name}`, sink);
    const settings = {
      rememberMs: 1,
      delayMs: 1,
      ...(origin ? { origin } : {}),
      ...(prefix ? { prefix } : {}),
    };
    const planned: PlannedEventSource = { id: name, source: { name, from }, settings, consumers: [name] };
    const take = async (_planned: unknown, records: readonly IncomingRecord[]): Promise<IntakeResult> => {
      const { from: first, reason } = sink.refuse ?? { from: records.length, reason: undefined };
      sink.taken.push(...records.slice(0, first).map(({ record }) => record.id));
      return {
        accepted: Math.min(first, records.length),
        duplicates: 0,
        refused: records.slice(first),
        reason,
      };
    };
    return { pipeline, planned, intake: { take } };
  });
  const clock = {
    now: () => 1_763_000_000_000,
    sleep: async () => undefined,
    random: () => 0,
    uniqueId: () => "id",
  };
  const wake = async (pipeline: string): Promise<void> => void woken.push(pipeline);
  const send = (event: unknown) => ingest({ sources: all, stage: "dev", wake, clock, log: silent }, event);
  return { send, sinks, woken };
}

const QUEUE = { pipeline: "p", name: "orders", from: "sqs", origin: "orders-{stage}" } as const;
const batch = { Records: ["m-1", "m-2", "m-3"].map((id) => sqsMessage(id, id)) };
const STREAM = {
  pipeline: "p",
  name: "clicks",
  from: "kinesis",
  origin: "arn:aws:kinesis:eu-central-1:123456789012:stream/clicks",
} as const;
const stream = {
  Records: ["11", "12", "13"].map((sequence) => kinesisRecord("shardId-0", sequence, Buffer.from(sequence))),
};

test("a queue is found by its name and the stage; all that was taken is reported as done", async () => {
  const { send, sinks, woken } = deployed([QUEUE, { ...QUEUE, pipeline: "q", origin: "orders-prod" }]);
  expect(await send(batch)).toEqual({ batchItemFailures: [] });
  expect(sinks.get("p/orders")!.taken).toEqual(["m-1", "m-2", "m-3"]);
  expect(sinks.get("q/orders")!.taken).toEqual([]);
  expect(woken).toEqual(["p"]);
});

test("of SQS every message that was not taken is to come again, of Kinesis the stream from the first on", async () => {
  const queue = deployed([QUEUE]);
  queue.sinks.get("p/orders")!.refuse = { from: 1, reason: REFUSED };
  expect(await queue.send(batch)).toEqual({
    batchItemFailures: [{ itemIdentifier: "m-2" }, { itemIdentifier: "m-3" }],
  });
  const shard = deployed([STREAM, { ...STREAM, pipeline: "q" }]);
  shard.sinks.get("p/clicks")!.refuse = { from: 2, reason: REFUSED };
  shard.sinks.get("q/clicks")!.refuse = { from: 1, reason: REFUSED };
  expect(await shard.send(stream)).toEqual({ batchItemFailures: [{ itemIdentifier: "12" }] });
});

test("a batch that is refused is reported; one that nothing could be taken of for another reason is an error", async () => {
  const queue = deployed([QUEUE]);
  const sink = queue.sinks.get("p/orders")!;
  sink.refuse = { from: 0, reason: REFUSED };
  expect(await queue.send(batch)).toMatchObject({ batchItemFailures: { length: 3 } });
  sink.refuse = { from: 0, reason: new Error("no server answers") };
  await expect(queue.send(batch)).rejects.toThrow("no server answers");
  sink.refuse = { from: 2, reason: new Error("no server answers") };
  expect(await queue.send(batch)).toEqual({ batchItemFailures: [{ itemIdentifier: "m-3" }] });
  expect(queue.woken).toEqual(["p"]);
});

test("what Lambda delivers again only if it fails, fails where it was not taken", async () => {
  const bucket = { pipeline: "p", name: "uploads", from: "s3", origin: "uploads", prefix: "in/" } as const;
  const { send, sinks } = deployed([bucket]);
  const put = { Records: [notification("ObjectCreated:Put", { key: "in/a", sequencer: "1" })] };
  expect(await send(put)).toBeUndefined();
  expect(sinks.get("p/uploads")!.taken.length).toBe(1);
  sinks.get("p/uploads")!.refuse = { from: 0, reason: REFUSED };
  await expect(send(put)).rejects.toThrow(REFUSED.message);
  const elsewhere = { Records: [notification("ObjectCreated:Put", { key: "out/a", sequencer: "1" })] };
  await expect(send(elsewhere)).rejects.toThrow("no pipeline of this deployment reads uploads");
});

test("events of EventBridge are given to the source that their rule is for, and stay in the queue where they are refused", async () => {
  const bus = { pipeline: "p", name: "bus", from: "eventbridge" } as const;
  const { send, sinks } = deployed([bus, { pipeline: "p", name: "uploads", from: "s3", origin: "uploads" }]);
  const object = bridged({
    source: "aws.s3",
    type: "Object Created",
    detail: objectCreated({ key: "in/b", sequencer: "2" }),
  });
  const order = bridged({ source: "shop", type: "Order Placed", detail: {} });
  const Records = [
    ...passedOn("m-1", "p", "uploads", object).Records,
    ...passedOn("m-2", "p", "bus", order).Records,
    ...passedOn("m-3", "p", "bus", object).Records,
  ];
  sinks.get("p/bus")!.refuse = { from: 1, reason: REFUSED };
  expect(await send({ Records })).toEqual({ batchItemFailures: [{ itemIdentifier: "m-3" }] });
  expect(sinks.get("p/uploads")!.taken).toEqual(['["ObjectCreated","uploads","in/b","","2"]']);
  expect(sinks.get("p/bus")!.taken).toEqual([order.id]);
  await expect(send(passedOn("m-4", "p", "other", order))).rejects.toThrow('there is no source "other"');
});

test("direct events are answered with numbers; a source has to be named so that it is known which", async () => {
  const direct = { pipeline: "p", name: "in", from: "direct" } as const;
  const { send, sinks } = deployed([direct, { ...direct, pipeline: "q" }, QUEUE]);
  const events = [{ id: "a", data: 1 }, {}];
  expect(await send({ pipeline: "q", source: "in", events })).toEqual({
    accepted: 1,
    duplicates: 0,
    rejected: [{ index: 1, reason: expect.any(String) }],
  });
  expect(sinks.get("q/in")!.taken).toEqual(["a"]);
  await expect(send({ source: "in", events })).rejects.toThrow("several pipelines have a source");
  await expect(send({ source: "out", events })).rejects.toThrow("it has in of p, in of q, orders of p");
  // An operator may give a source what its service did not.
  expect(await send({ source: "orders", events })).toMatchObject({ accepted: 1 });
  expect(sinks.get("p/orders")!.taken).toEqual(["a"]);
  sinks.get("p/in")!.refuse = { from: 0, reason: REFUSED };
  await expect(send({ pipeline: "p", source: "in", events })).rejects.toThrow(REFUSED.message);
});
