import { readDelivery, readPassedOn } from "../../lib/ingest/delivery";
import { UnknownEventError } from "../../lib/ingest/errors";
import { incoming } from "../../lib/ingest/incoming";
import {
  bridged,
  kinesisRecord,
  notification,
  objectCreated,
  passedOn,
  sqsMessage,
} from "../support/service-events";

const NOW_MS = 1_763_000_000_000;

test("a batch of SQS: the message's id, its body, its attributes, its group as the key", () => {
  const fifo = sqsMessage("m-2", "two", { group: "customer-7", attributes: { trace: "t-1" } });
  const { from, records } = readDelivery({ Records: [sqsMessage("m-1", '{"a":1}'), fifo] }, NOW_MS);
  expect(from).toBe("sqs");
  expect(
    records.map(({ id, data, key, arrivalMs, item }) => [id, data.toString(), key, arrivalMs, item]),
  ).toEqual([
    ["m-1", '{"a":1}', null, 1_762_900_000_123, "m-1"],
    ["m-2", "two", "customer-7", 1_762_900_000_123, "m-2"],
  ]);
  expect(records[1]!.attributes).toEqual({ trace: "t-1" });
  expect(records[0]!.origin).toBe("arn:aws:sqs:eu-central-1:123456789012:orders-dev");
});

test("a batch of Kinesis: shard and sequence number, the partition key as the key, the bytes as they were", () => {
  const { records } = readDelivery(
    {
      Records: [
        kinesisRecord(
          "shardId-000000000003",
          "49590338271490256608559692538361571095921575989136588898",
          Buffer.from([0, 255]),
        ),
      ],
    },
    NOW_MS,
  );
  const [record] = records;
  expect(record).toMatchObject({
    key: "user-1",
    data: Buffer.from([0, 255]),
    arrivalMs: 1_762_900_001_500,
    position: {
      shard: "arn:aws:kinesis:eu-central-1:123456789012:stream/clicks/shardId-000000000003",
      sequence: "49590338271490256608559692538361571095921575989136588898",
    },
    item: "49590338271490256608559692538361571095921575989136588898",
  });
});

test("an object of S3 is the same by a notification and through EventBridge", () => {
  const object = { key: "in/a b+c.json", versionId: "v1", sequencer: "0055AED6DCD90281E5" };
  const notified = readDelivery(
    { Records: [notification("ObjectCreated:Put", { ...object, key: "in/a+b%2Bc.json" })] },
    NOW_MS,
  );
  const event = bridged({ source: "aws.s3", type: "Object Created", detail: objectCreated(object) });
  const passed = readPassedOn(readDelivery(passedOn("m-1", "p", "s", event), NOW_MS).records[0]!)!.object!;
  expect(notified.records[0]!.id).toBe(passed.id);
  expect(JSON.parse(notified.records[0]!.data.toString())).toEqual(JSON.parse(passed.data.toString()));
  expect(notified.records[0]).toMatchObject({
    key: "in/a b+c.json",
    origin: "uploads",
    attributes: { sizeBytes: "17" },
  });
  expect(
    readDelivery({ Service: "Amazon S3", Event: "s3:TestEvent", Bucket: "uploads" }, NOW_MS).records,
  ).toEqual([]);
  // An object that is written again, or deleted, is another event.
  const others = [
    notification("ObjectCreated:Put", { ...object, sequencer: "0055AED6DCD9028200" }),
    notification("ObjectRemoved:Delete", object),
  ];
  const ids = readDelivery({ Records: others }, NOW_MS).records.map(({ id }) => id);
  expect(new Set([...ids, notified.records[0]!.id]).size).toBe(3);
});

test("an event of EventBridge comes through a queue: its detail, its id, what it says of itself, and its source", () => {
  const event = bridged({ source: "shop", type: "Order Placed", detail: { order: 7 } });
  const [message] = readDelivery(passedOn("m-1", "p", "s", event), NOW_MS).records;
  expect(readPassedOn(message!)).toEqual({
    to: { pipeline: "p", source: "s" },
    object: undefined,
    record: {
      ...{ origin: "", key: null, item: "m-1", id: "6a7e8feb-b491-4cf7-a9f1-bf3703467718" },
      data: Buffer.from('{"order":7}'),
      attributes: {
        ...{ source: "shop", "detail-type": "Order Placed", resources: "arn:a,arn:b" },
        ...{ account: "123456789012", region: "eu-central-1" },
      },
      arrivalMs: Date.parse("2025-11-11T10:00:00Z"),
    },
  });
  expect(
    readPassedOn(readDelivery({ Records: [sqsMessage("m-2", "{}")] }, NOW_MS).records[0]!),
  ).toBeUndefined();
});

test("direct events: each needs an id; those that are none are told apart from those that are taken", () => {
  const events = [
    { id: "a", data: { x: 1 } },
    { id: "b", data: "text", key: "k", time: "2025-11-11T10:00:00Z" },
    { id: "c", base64: "AP8=", time: 5 },
    { id: "", data: 1 },
    { data: 1 },
    { id: "d" },
    { id: "e", data: 1, time: "yesterday" },
    "text",
  ];
  const { records, rejected } = readDelivery({ source: "s", events }, NOW_MS);
  expect(
    records.map(({ id, data, key, timestampMs, arrivalMs }) => [
      id,
      data.toString("latin1"),
      key,
      timestampMs,
      arrivalMs,
    ]),
  ).toEqual([
    ["a", '{"x":1}', null, undefined, NOW_MS],
    ["b", "text", "k", Date.parse("2025-11-11T10:00:00Z"), NOW_MS],
    ["c", "\0\xff", null, 5, NOW_MS],
  ]);
  expect(rejected.map(({ index }) => index)).toEqual([3, 4, 5, 6, 7]);
});

test.each([
  ["nothing", undefined],
  ["a text", "text"],
  ["records of two services", { Records: [sqsMessage("m", "b"), { eventSource: "aws:kinesis" }] }],
  ["records of another service", { Records: [{ eventSource: "aws:dynamodb" }] }],
  ["a message without a body", { Records: [{ ...sqsMessage("m", "b"), body: undefined }] }],
  ["events without a source", { events: [] }],
])("%s is refused as a whole", (_what, event) => {
  expect(() => readDelivery(event, NOW_MS)).toThrow(UnknownEventError);
});

test("a time that can't be read is that of the delivery", () => {
  const message = sqsMessage("m", "b");
  const event = { Records: [{ ...message, attributes: { ...message.attributes, SentTimestamp: "soon" } }] };
  expect(readDelivery(event, NOW_MS).records[0]!.arrivalMs).toBe(NOW_MS);
});

describe("ids and times of a record's own", () => {
  const source = { name: "s", from: "sqs", idAttribute: "order.id", timestampAttribute: "at" } as const;
  const take = (body: string, attributes: Record<string, string> = {}) =>
    incoming(
      source,
      readDelivery({ Records: [sqsMessage("m-1", body, { attributes })] }, NOW_MS).records[0]!,
    );

  test("come from an attribute, else from a field of the data", () => {
    expect(take('{"order":{"id":42},"at":"2025-11-11T10:00:00.5Z"}')).toMatchObject({
      record: { id: "42" },
      timestampMs: Date.parse("2025-11-11T10:00:00.5Z"),
    });
    expect(take('{"order":{"id":42}}', { "order.id": "x", at: "1762900000000" })).toMatchObject({
      record: { id: "x" },
      timestampMs: 1_762_900_000_000,
    });
  });

  test("are the service's where there is none, or none that can be used", () => {
    for (const body of [
      "no JSON",
      "null",
      "[]",
      '{"order":null,"at":{}}',
      '{"order":{"id":""},"at":"never"}',
    ])
      expect(take(body)).toMatchObject({ record: { id: "m-1" }, timestampMs: undefined, isKnownById: true });
  });

  test("stay within what Beam knows", () => {
    expect(take('{"at":1e300}').timestampMs).toBe(9223372036854774);
    expect(take('{"at":-1e300}').timestampMs).toBe(-9223372036854774);
  });
});
