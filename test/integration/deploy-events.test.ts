/**
 * Events on their whole way, at an emulator of AWS: a queue, a stream, a bus and a caller feed one deployed pipeline that
 * no relay serves, and each record counts once.
 */
import { InvokeCommand, LambdaClient } from "@aws-sdk/client-lambda";
import {
  CreateBucketCommand,
  PutBucketNotificationConfigurationCommand,
  PutObjectCommand,
  S3Client,
} from "@aws-sdk/client-s3";
import { type Emulator, isEmulatorInstalled, startEmulator } from "../../infra/emulator/emulator";
import { connect, type ZooKeeperClient } from "../../lib/zookeeper";
import { awsJson } from "../support/aws-query";
import { readTree } from "../support/deployment";
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

const withEmulator = isEmulatorInstalled() ? describe : describe.skip;

withEmulator("a deployment that reads events", () => {
  let ensemble: LocalZooKeeper;
  let emulator: Emulator;
  let project: ServerlessProject;
  let client: ZooKeeperClient;
  let lambda: LambdaClient;
  let s3: S3Client;
  let queueUrl: string;

  beforeAll(async () => {
    [ensemble, emulator] = await Promise.all([startZooKeeper(), startEmulator()]);
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
  }, 120_000);

  afterAll(async () => {
    lambda?.destroy();
    s3?.destroy();
    await client?.close();
    await emulator?.stop();
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

  test("is made, with what its sources need", async () => {
    expect(await project.serverless("deploy", "--stage", "local")).toMatch(
      /deployed to stack beamkeeper-local/,
    );
  }, 120_000);

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
  }, 180_000);

  test("is removed, with its mappings, rules and queues", async () => {
    await project.serverless("remove", "--stage", "local");
    const queues = (await aws("sqs", "AmazonSQS.ListQueues", {})) as { QueueUrls?: string[] };
    expect(queues.QueueUrls).toEqual([queueUrl]);
  }, 120_000);
});
