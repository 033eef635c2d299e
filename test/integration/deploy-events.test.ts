/**
 * Events on their whole way, at an emulator of AWS: a queue, a stream, a bus and a caller feed one deployed pipeline that
 * no relay serves, and each record counts once.
 */
import { InvokeCommand, LambdaClient, ListEventSourceMappingsCommand } from "@aws-sdk/client-lambda";
import {
  CreateBucketCommand,
  ListBucketsCommand,
  PutBucketNotificationConfigurationCommand,
  PutObjectCommand,
  S3Client,
} from "@aws-sdk/client-s3";
import { type Emulator, isEmulatorInstalled, startEmulator } from "../../infra/emulator/emulator";
import { createEventServices } from "../../lib/aws/event-services-client";
import { createS3 } from "../../lib/aws/s3-client";
import { blobPrefix } from "../../lib/checkpoint/blobs";
import { pausePipeline, resumePipeline } from "../../lib/checkpoint/control";
import { PipelineLayout } from "../../lib/checkpoint/layout";
import { connect, type ZooKeeperClient } from "../../lib/zookeeper";
import { awsJson } from "../support/aws-query";
import { type AwsRecorder, startRecorder } from "../support/aws-recorder";
import { readTree } from "../support/deployment";
import { expectExact, namesAt, statementsOf } from "../support/exact-grants";
import { ServerlessProject } from "../support/serverless-project";
import { type LocalZooKeeper, startZooKeeper } from "../support/zookeeper-server";

const PIPELINE = `
import * as beam from "apache-beam";
import { definePipeline, json, readEvents, writeToZnodes } from "beamkeeper";

export default definePipeline({
  name: "orders",
  build: (root) => {
    const decode = json<{ key: string; amount: number }>();
    const sources = [
      readEvents({ name: "queue", from: "sqs", queue: "orders-{stage}", decode, delaySeconds: 0 }),
      readEvents({ name: "stream", from: "kinesis", stream: "clicks-{stage}", decode, delaySeconds: 0 }),
      readEvents({ name: "bus", from: "eventbridge", pattern: { source: ["shop"] }, decode, delaySeconds: 0 }),
      readEvents({ from: "direct", decode, delaySeconds: 0 }),
    ];
    const orders = sources.map((source) => root.apply(source).map(({ value: { key, amount } }) => ({ key, amount })));
    const objects = root
      .apply(readEvents({ name: "bucket", from: "s3", bucket: "uploads-{stage}", prefix: "in/", delaySeconds: 0 }))
      .map(({ key }) => ({ key: key === "in/object" ? "bucket" : "wrong", amount: 1 }));
    beam.P([...orders, objects])
      .apply(beam.flatten())
      .apply(beam.windowInto(beam.fixedWindows(1)))
      .apply(beam.groupBy("key").combining("amount", (a: number, b: number) => a + b, "amount"))
      .map(({ key, amount }, { window }) => ({ key, amount, start: window.lookup().start.toNumber() }), { window: beam.windowParam() })
      .apply(writeToZnodes(({ key, amount, start }) => ({ path: \`/totals/\${key}/\${start}\`, data: String(amount) })));
  },
});
`;

const EVENTS = "beamkeeper-local-events";
const COUNT = 40;
const Bucket = "uploads-local";
const ORDERS = new PipelineLayout("/beamkeeper", "orders");
const LOST_BLOB = `blobs/${blobPrefix(ORDERS.epoch(1).source("direct").cursor)}0.lost.0`;

const withEmulator = isEmulatorInstalled() ? describe : describe.skip;

withEmulator("a deployment that reads events", () => {
  let ensemble: LocalZooKeeper;
  let emulator: Emulator;
  let recorder: AwsRecorder;
  let project: ServerlessProject;
  let client: ZooKeeperClient;
  let lambda: LambdaClient;
  let s3: S3Client;
  let queueUrl: string;
  /** The deployment's bucket. */
  let output: string;

  beforeAll(async () => {
    recorder = await startRecorder();
    const functions = { AWS_ENDPOINT_URL: recorder.url };
    [ensemble, emulator] = await Promise.all([startZooKeeper(), startEmulator(functions)]);
    recorder.forwardTo(emulator.endpoint);
    Object.assign(process.env, emulator.environment);
    lambda = new LambdaClient({});
    s3 = new S3Client({ forcePathStyle: true });
    client = await connect({ connectString: ensemble.connectString });
    await client.create("/totals");
    project = new ServerlessProject({ ...emulator.environment, ZOOKEEPER_CONNECT: ensemble.connectString });
    project.removeFolder("pipelines");
    project.write("pipelines/orders.ts", PIPELINE);
    const queue = await aws("sqs", "AmazonSQS.CreateQueue", { QueueName: "orders-local" });
    queueUrl = (queue as { QueueUrl: string }).QueueUrl;
    await s3.send(new CreateBucketCommand({ Bucket }));
    const NotificationConfiguration = { EventBridgeConfiguration: {} };
    await s3.send(new PutBucketNotificationConfigurationCommand({ Bucket, NotificationConfiguration }));
    await aws("kinesis", "Kinesis_20131202.CreateStream", { StreamName: "clicks-local", ShardCount: 2 });
  });

  afterAll(async () => {
    lambda?.destroy();
    s3?.destroy();
    await client?.close();
    await emulator?.stop();
    await recorder?.close();
    await ensemble?.stop();
    project?.remove();
  });

  async function aws(service: string, target: string, parameters: object): Promise<unknown> {
    const text = await awsJson(emulator.endpoint, service, target, parameters);
    return text === "" ? undefined : JSON.parse(text);
  }

  async function invoke(event: object): Promise<unknown> {
    const Payload = Buffer.from(JSON.stringify(event));
    const answer = await lambda.send(new InvokeCommand({ FunctionName: EVENTS, Payload }));
    return JSON.parse(Buffer.from(answer.Payload ?? []).toString("utf8"));
  }

  /** The sums by key, over all windows, once there are so many in all. */
  async function totals(count: number): Promise<Record<string, number>> {
    for (;;) {
      const sums: Record<string, number> = {};
      for (const [path, text] of await readTree(client, "/totals")) {
        const key = path.split("/")[1]!;
        sums[key] = (sums[key] ?? 0) + Number(text);
      }
      const all = Object.values(sums).reduce((sum, each) => sum + each, 0);
      if (all >= count) return sums;
      await new Promise((done) => setTimeout(done, 100));
    }
  }

  const order = (key: string): string => JSON.stringify({ key, amount: 1 });
  const numbers = Array.from({ length: COUNT }, (_, n) => n);

  test("what it reads is described before, for a check", async () => {
    const services = createEventServices(emulator.endpoint);
    const queue = { visibilitySeconds: 30, retentionSeconds: 345_600, maxReceives: undefined };
    expect(await services.queue("orders-local")).toEqual(queue);
    expect(await services.queue("arn:aws:sqs:us-east-1:000000000000:orders-local")).toEqual(queue);
    expect(await services.stream("clicks-local")).toEqual({ retentionSeconds: 86_400 });
    expect(await services.bucket(Bucket)).toEqual({ tellsEventBridge: true });
    expect(await services.hasBus("default")).toBe(true);
    expect(await services.queue("none")).toBeUndefined();
    expect(await services.stream("none")).toBeUndefined();
    expect(await services.bucket("none")).toBeUndefined();
    expect(await services.hasBus("none")).toBe(false);
  });

  test("is made, with what its sources need", async () => {
    expect(await project.serverless("deploy", "--stage", "local")).toMatch(
      /deployed to stack beamkeeper-local/,
    );
    const { Buckets = [] } = await s3.send(new ListBucketsCommand({}));
    output = Buckets.map(({ Name }) => Name!).find((name) => name.includes("output"))!;
    // As an invocation leaves it that dies before its commit.
    await createS3({ pathStyle: true }).put(output, LOST_BLOB, Buffer.from("lost"));
  });

  test("takes messages, records, events and direct events, each once; windows close by the driver", async () => {
    for (let from = 0; from < COUNT; from += 10)
      await aws("sqs", "AmazonSQS.SendMessageBatch", {
        QueueUrl: queueUrl,
        Entries: numbers.slice(from, from + 10).map((n) => ({ Id: `m-${n}`, MessageBody: order("queue") })),
      });
    await aws("kinesis", "Kinesis_20131202.PutRecords", {
      StreamName: "clicks-local",
      Records: numbers.map((n) => ({
        PartitionKey: `k-${n}`,
        Data: Buffer.from(order("stream")).toString("base64"),
      })),
    });
    for (let from = 0; from < COUNT; from += 10)
      await aws("events", "AWSEvents.PutEvents", {
        Entries: numbers
          .slice(from, from + 10)
          .map(() => ({ Source: "shop", DetailType: "Order", Detail: order("bus") })),
      });
    for (const Key of ["in/object", "in/object", "out/object"])
      await s3.send(new PutObjectCommand({ Bucket, Key, Body: "any" }));
    const events = numbers.map((n) => ({ id: `e-${n}`, data: { key: "direct", amount: 1 } }));
    expect(await invoke({ source: "direct", events })).toEqual({
      accepted: COUNT,
      duplicates: 0,
      rejected: [],
    });
    expect(await invoke({ source: "direct", events })).toEqual({
      accepted: 0,
      duplicates: COUNT,
      rejected: [],
    });
    const each = { queue: COUNT, stream: COUNT, bus: COUNT, direct: COUNT, bucket: 2 };
    expect(await totals(4 * COUNT + 2)).toEqual(each);
    // Nothing more is on its way.
    const more = await invoke({
      source: "direct",
      events: [{ id: "last", data: { key: "last", amount: 1 } }],
    });
    expect(more).toMatchObject({ accepted: 1 });
    expect(await totals(4 * COUNT + 3)).toEqual({ ...each, last: 1 });
  });

  test("what a paused pipeline refuses, the queue delivers again, and it counts once", async () => {
    const before = await totals(4 * COUNT + 3);
    const VisibilityTimeout = "1";
    await aws("sqs", "AmazonSQS.SetQueueAttributes", {
      QueueUrl: queueUrl,
      Attributes: { VisibilityTimeout },
    });
    await pausePipeline(client, ORDERS);
    const Entries = numbers.slice(0, 10).map((n) => ({ Id: `r-${n}`, MessageBody: order("again") }));
    await aws("sqs", "AmazonSQS.SendMessageBatch", { QueueUrl: queueUrl, Entries });
    const results = async (): Promise<(string | undefined)[]> => {
      const { EventSourceMappings = [] } = await lambda.send(new ListEventSourceMappingsCommand({}));
      return EventSourceMappings.map(({ LastProcessingResult }) => LastProcessingResult);
    };
    while (!(await results()).some((each) => each?.includes("partial failures")))
      await new Promise((done) => setTimeout(done, 100));
    await resumePipeline(client, ORDERS);
    expect(await totals(4 * COUNT + 13)).toEqual({ ...before, again: 10 });
  });

  test.each([
    ["events", ["Log", "TellOfFailures", "ReadQueues", "ReadStreams", "TellOfGivenUp"]],
    ["driver", ["Log", "TellOfFailures"]],
  ])("grants the %s function what it does, and does what it grants", async (name, byLambdaItself) => {
    // Larger than a segment: it goes to the blob store.
    const large = { key: "large", amount: 1, text: "large ".repeat(30_000) };
    await invoke({ source: "direct", events: [{ id: `large for ${name}`, data: large }] });
    const role = `${name[0]!.toUpperCase()}${name.slice(1)}Role`;
    const own = statementsOf(project, role).filter(({ Sid }) => !byLambdaItself.includes(Sid));
    const calls = recorder.calls.filter(({ caller }) => caller === `beamkeeper-local-${name}`);
    expectExact(own, calls, namesAt(output));
    expect(recorder.calls.filter(({ caller }) => caller === "unknown")).toEqual([]);
  });

  test("is removed, with its mappings, rules and queues", async () => {
    await project.serverless("remove", "--stage", "local");
    const queues = (await aws("sqs", "AmazonSQS.ListQueues", {})) as { QueueUrls?: string[] };
    expect(queues.QueueUrls).toEqual([queueUrl]);
  });
});
