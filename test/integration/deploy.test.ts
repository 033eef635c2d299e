/**
 * The whole way, at an emulator of AWS: deploy, write znodes with another client, look at the results in ZooKeeper and
 * in S3, invoke by hand, wait for the schedule, deploy other code while it runs, remove. The oracle of the example
 * knows only the writer's log and the results.
 */
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { appendFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { gzipSync } from "node:zlib";
import {
  GetFunctionCommand,
  InvokeCommand,
  LambdaClient,
  ListFunctionsCommand,
} from "@aws-sdk/client-lambda";
import { CreateBucketCommand, ListBucketsCommand, S3Client } from "@aws-sdk/client-s3";
import { PutParameterCommand, SSMClient } from "@aws-sdk/client-ssm";
import { type Emulator, isEmulatorInstalled, startEmulator } from "../../infra/emulator/emulator";
import { createS3 } from "../../lib/aws/s3-client";
import { blobPrefix } from "../../lib/checkpoint/blobs";
import { PipelineLayout } from "../../lib/checkpoint/layout";
import { readRun, readScheduleRecord } from "../../lib/checkpoint/run";
import { readGeneration } from "../../lib/checkpoint/scope";
import { isSettled, readStatus } from "../../lib/checkpoint/status";
import { connect, type ZooKeeperClient } from "../../lib/zookeeper";
import { awsGet, awsJson, awsQuery } from "../support/aws-query";
import { type AwsRecorder, startRecorder } from "../support/aws-recorder";
import { ensembleTime, readTree, temporaryFolder } from "../support/deployment";
import { expectExact, namesAt, statementsOf } from "../support/exact-grants";
import { ServerlessProject } from "../support/serverless-project";
import { type LocalZooKeeper, startZooKeeper } from "../support/zookeeper-server";

const DEMO = join(__dirname, "../../infra/demo");
const RELAY = "beamkeeper-local-relay";
const PARAMETER = "/beamkeeper/local/zookeeper";
const CREDENTIALS = "beamkeeper:a-word-that-nobody-logs";
const BATCH = "beamkeeper-local-batch";
const BUNDLE = "beamkeeper-local-bundle";
const TICKS = new PipelineLayout("/beamkeeper", "ticks");
const SUMMARY = new PipelineLayout("/beamkeeper", "znode-summary");
const COUNT = new PipelineLayout("/beamkeeper", "znode-count");
/** How long an invocation of the relay lasts: short enough to wait for its end, later long enough not to. */
const SHORT_RUN_MS = 12_000;
const LONG_RUN_MS = 120_000;

/** Another pipeline, which the second deployment has and the first has not. */
const COUNT_PIPELINE = `
import * as beam from "apache-beam";
import { definePipeline, readZnodeChanges, writeToText } from "beamkeeper";

export default definePipeline({
  name: "znode-count",
  build: (root) =>
    root
      .apply(readZnodeChanges("/app"))
      .map((change) => ({ path: change.path, count: 1 }))
      .apply(beam.windowInto(beam.fixedWindows(1)))
      .apply(beam.groupBy("path").combining("count", (a: number, b: number) => a + b, "count"))
      .apply(writeToText("s3://elsewhere/counts/part")),
});
`;

/** A bounded one, with a schedule: each run writes a znode and a text, and what it reads from a bucket. */
const TICKS_PIPELINE = `
import * as beam from "apache-beam";
import { definePipeline, readJsonLines, readRun, readText, writeToText, writeToZnodes } from "beamkeeper";

export default definePipeline({
  name: "ticks",
  schedule: { rate: "1 minute" },
  build: (root) => {
    const runs = root.apply(readRun());
    runs.apply(writeToZnodes(({ run, cause }) => ({ path: \`/ticks/\${run}\`, data: cause }), { mode: "create" }));
    runs
      .apply(beam.windowInto(beam.fixedWindows(60)))
      .map(({ run }) => run)
      .apply(writeToText("ticks/run"));
    const lines = root.apply(readText("s3://inputs/in/*.txt", { splitBytes: 1_000 }));
    const words = root.apply(readJsonLines<{ word: string }>("s3://inputs/in/*.jsonl.gz")).map(({ word }) => word);
    beam.P([lines, words]).apply(beam.flatten()).apply(writeToText("lines/part"));
  },
});
`;
/** What lies in the bucket: some 4 KB of text, which is read in several parts. */
const LINES = Array.from({ length: 300 }, (_, line) => `line number ${line}`);
const WORDS = ["Arc", "Öl", "線"];

const LOST_BLOB = `blobs/${blobPrefix(SUMMARY.epoch(1).source("readZnodeChanges").cursor)}0.lost.0`;

const withEmulator = isEmulatorInstalled() ? describe : describe.skip;

withEmulator("a deployment", () => {
  let ensemble: LocalZooKeeper;
  let emulator: Emulator;
  let recorder: AwsRecorder;
  let s3: S3Client;
  let project: ServerlessProject;
  let client: ZooKeeperClient;
  let lambda: LambdaClient;
  let folder: ReturnType<typeof temporaryFolder>;
  let writerLog: string;
  let bucket: string;

  beforeAll(async () => {
    folder = temporaryFolder();
    writerLog = join(folder.path, "writer.log");
    recorder = await startRecorder();
    // The functions' calls go through the recorder; the emulator checks them against their roles' policies.
    // Segments so small that a chunk of the manifest of some hundred long paths is larger.
    const functions = { AWS_ENDPOINT_URL: recorder.url, BEAMKEEPER_SEGMENT_SIZE_BYTES: "16384" };
    [ensemble, emulator] = await Promise.all([startZooKeeper(), startEmulator(functions)]);
    recorder.forwardTo(emulator.endpoint);
    // As AWS's own tools have it; jest gives each test file an environment of its own.
    Object.assign(process.env, emulator.environment);
    lambda = new LambdaClient({});
    s3 = new S3Client({ forcePathStyle: true });
    client = await connect({
      connectString: ensemble.connectString,
      authentication: [{ scheme: "digest", auth: CREDENTIALS }],
    });
    const secret = JSON.stringify({ authentication: [{ scheme: "digest", auth: CREDENTIALS }] });
    await new SSMClient({}).send(
      new PutParameterCommand({ Name: PARAMETER, Value: secret, Type: "SecureString" }),
    );
    project = new ServerlessProject({ ...emulator.environment, ZOOKEEPER_CONNECT: ensemble.connectString });
    project.write("pipelines/ticks.ts", TICKS_PIPELINE);
    await client.create("/app");
    await client.create("/ticks");
  });

  afterAll(async () => {
    lambda?.destroy();
    s3?.destroy();
    await client?.close();
    await emulator?.stop();
    await recorder?.close();
    await ensemble?.stop();
    project?.remove();
    folder?.remove();
  });

  function deploy(relayRunMs: number): Promise<string> {
    const params = { zookeeperParameter: PARAMETER, relayRunMs: String(relayRunMs) };
    const options = Object.entries(params).map(([name, value]) => `--param=${name}=${value}`);
    return project.serverless("deploy", "--stage", "local", ...options);
  }

  async function invokeRelay(type: "Event" | "RequestResponse", event: object = {}) {
    const Payload = Buffer.from(JSON.stringify(event));
    const answer = await lambda.send(
      new InvokeCommand({ FunctionName: RELAY, InvocationType: type, Payload }),
    );
    const text = Buffer.from(answer.Payload ?? []).toString("utf8");
    return { error: answer.FunctionError, payload: text === "" ? undefined : JSON.parse(text) };
  }

  /** Lets the example's writer write below the path, with its own client. */
  async function write(root: string, seconds: number, deletes: number): Promise<void> {
    const options = {
      deletes,
      connect: ensemble.connectString,
      log: writerLog,
      root,
      seconds,
      writes: seconds * 40,
      znodes: 60,
    };
    const args = Object.entries(options).flatMap(([name, value]) => [`--${name}`, String(value)]);
    const { code, output } = await runDemo("writer.mjs", args);
    if (code !== 0) throw new Error(`the writer failed: ${output}`);
  }

  /** Until the relay has read all znodes: the watermark waits for that. */
  async function untilWatching(): Promise<void> {
    for (let isWatching = false; !isWatching; ) {
      await new Promise((done) => setTimeout(done, 100));
      const sources = (await readStatus(client, SUMMARY))?.sources ?? [];
      isWatching = sources.some(({ watermarkMs }) => watermarkMs > Number.NEGATIVE_INFINITY);
    }
  }

  /** Until everything up to now is processed and published. */
  async function settled(...layouts: PipelineLayout[]): Promise<void> {
    const untilMs = Math.ceil(((await ensembleTime(client)) + 1) / 1000) * 1000;
    for (const layout of layouts) {
      for (let status = await readStatus(client, layout); !(status && isSettled(status, untilMs)); ) {
        await new Promise((done) => setTimeout(done, 100));
        status = await readStatus(client, layout);
      }
    }
  }

  /** The oracle's report on everything that has been written so far. */
  async function judge(): Promise<{ problems: string[]; written: number; files: number }> {
    const files = join(folder.path, "downloaded");
    mkdirSync(files, { recursive: true });
    const objects = createS3({ pathStyle: true });
    for (const key of await objects.list(bucket, "output/znode-summary/"))
      writeFileSync(join(files, basename(key)), (await objects.get(bucket, key))!);
    const { output } = await runDemo("oracle.mjs", [
      ...["--connect", ensemble.connectString, "--log", writerLog, "--files", files],
    ]);
    return JSON.parse(output);
  }

  /** Results as the pipeline wrote them; the later code marks its own. */
  async function results(): Promise<{ path: string; build?: number; values: string[] }[]> {
    const texts = [...(await readTree(client, "/summaries")).values()].filter((text) => text !== "");
    return texts.map((text) => JSON.parse(text));
  }

  test("is made from nothing but a folder of pipelines", async () => {
    const json = WORDS.map((word) => JSON.stringify({ word })).join("\n");
    await s3.send(new CreateBucketCommand({ Bucket: "inputs" }));
    const inputs = createS3({ pathStyle: true });
    await inputs.put("inputs", "in/lines.txt", Buffer.from(LINES.join("\n")));
    await inputs.put("inputs", "in/words.jsonl.gz", gzipSync(json));
    expect(await deploy(SHORT_RUN_MS)).toMatch(/deployed to stack beamkeeper-local/);
    bucket = (await buckets()).find((name) => name.includes("output"))!;
    expect(bucket).toBeDefined();
  });

  test("is invoked by hand: results come to ZooKeeper and to S3, each value once", async () => {
    // As a relay leaves it that dies before its commit.
    const objects = createS3({ pathStyle: true });
    await objects.put(bucket, LOST_BLOB, Buffer.from("lost"));
    const invoked = invokeRelay("RequestResponse", { pipeline: "znode-summary" });
    await untilWatching();
    expect(await objects.list(bucket, LOST_BLOB)).toEqual([]);
    await write("/app", 6, 0.1);
    expect(await invoked).toMatchObject({
      error: undefined,
      payload: { "znode-summary": { reason: "signal", failing: [] } },
    });
    const { error, payload } = await invokeRelay("RequestResponse", { pipeline: "other" });
    expect(error).toBe("Unhandled");
    expect(payload.errorMessage).toMatch(
      /^there is no pipeline "other" in this deployment; it has .*\bznode-summary\b/,
    );
  });

  test("is started by its schedule, with the credentials of its secret", async () => {
    const acl = [{ perms: 31, scheme: "digest", id: digest(CREDENTIALS) }];
    await client.create("/app/guarded", Buffer.from("only for members"), { acl });
    logWrite("/app/guarded", "only for members");
    // Larger than a segment: the relay gives it to the bundle function through S3.
    const large = "large ".repeat(30_000);
    await client.create("/app/large", Buffer.from(large));
    logWrite("/app/large", large);
    // A chunk of their manifest is larger than a segment as well: the next relay reads it from S3.
    const wide = Array.from({ length: 260 }, (_, index) => `/app/${`wide-${index}-`.repeat(64)}`);
    await Promise.all(wide.map((path) => client.create(path, Buffer.from("wide"))));
    for (const path of wide) logWrite(path, "wide");
    await settled(SUMMARY);
    expect(await judge()).toMatchObject({ problems: [], written: 242 + 260 });
    expect((await results()).find(({ path }) => path === "/app/guarded")?.values).toEqual([
      "only for members",
    ]);
    expect((await results()).every(({ build }) => build === undefined)).toBe(true);
  });

  test("a schedule of EventBridge Scheduler starts a run, whose results come to ZooKeeper and to S3", async () => {
    const events = (operation: string, parameters: object): Promise<string> =>
      awsJson(emulator.endpoint, "events", `AWSEvents.${operation}`, parameters);
    const { Configuration } = await lambda.send(new GetFunctionCommand({ FunctionName: BATCH }));
    const TargetArn = Configuration!.FunctionArn!;
    const [Name] = JSON.parse(await events("ListRuleNamesByTarget", { TargetArn })).RuleNames;
    // Without its own look each minute, only a schedule makes the batch function start anything.
    await events("DisableRule", { Name });
    const before = (await readScheduleRecord(client, TICKS))?.record.ended ?? [];
    const objects = createS3({ pathStyle: true });
    const written = async (prefix: string): Promise<string[]> => {
      const keys = await objects.list(bucket, `output/${prefix}`);
      const texts = keys.map(async (key) => (await objects.get(bucket, key))!.toString("utf8"));
      return (await Promise.all(texts)).join("").trim().split("\n");
    };
    let run: string | undefined;
    while (run === undefined) {
      await new Promise((done) => setTimeout(done, 200));
      const { ended = [] } = (await readScheduleRecord(client, TICKS))?.record ?? {};
      run = ended.find((id) => !before.includes(id));
    }
    await events("EnableRule", { Name });
    expect(await readRun(client, TICKS, run)).toMatchObject({ state: "succeeded", cause: "schedule" });
    expect((await readTree(client, "/ticks")).get(`/${run}`)).toBe("schedule");
    const runs = await written("ticks/");
    expect(runs).toContain(run);
    expect(new Set(runs).size).toBe(runs.length);
    // The run's id stands in the names of its files.
    expect((await written(`lines/part-${run}`)).sort()).toEqual([...LINES, ...WORDS].sort());
  });

  test("is replaced by other code while it runs; nothing is lost, and nothing comes twice", async () => {
    const file = "pipelines/znode-summary.ts";
    const before = readFileSync(project.path(file), "utf8");
    project.write(
      file,
      before.replace("            missed,\n", "            missed,\n            build: 2,\n"),
    );
    expect(readFileSync(project.path(file), "utf8")).not.toBe(before);
    project.write("pipelines/znode-count.ts", COUNT_PIPELINE);
    await s3.send(new CreateBucketCommand({ Bucket: "elsewhere" }));
    // Nothing is deleted, so that every value is counted exactly, also those that are overwritten while no relay runs.
    await Promise.all([deploy(LONG_RUN_MS), write("/app/again", 15, 0)]);
    await invokeRelay("Event");
    await write("/app/at-last", 3, 0);
    await settled(SUMMARY, COUNT);
    const report = await judge();
    expect(report).toMatchObject({ problems: [], written: 242 + 260 + 600 + 120 });
    const byCode = (build?: number) => (result: { build?: number }) => result.build === build;
    const all = await results();
    expect(all.filter(byCode()).length).toBeGreaterThan(0);
    expect(all.filter(byCode(2)).length).toBeGreaterThan(0);
    const counted = await createS3({ pathStyle: true }).list("elsewhere", "counts/part");
    expect(counted.length).toBeGreaterThan(0);
    expect((await readGeneration(client, SUMMARY))!.generation.code).toEqual({
      function: BUNDLE,
      version: "2",
    });
    const versions = recorder.calls.filter(({ resource }) => resource.startsWith(`function:${BUNDLE}`));
    expect(new Set(versions.map(({ resource }) => resource))).toEqual(
      new Set([`function:${BUNDLE}:1`, `function:${BUNDLE}:2`]),
    );
    expect(emulator.log()).not.toContain("a-word-that-nobody-logs");
  });

  test.each([
    ["relay", ["Log", "TellOfFailures"]],
    ["batch", ["Log", "TellOfFailures"]],
    ["bundle", ["Log"]],
  ])("grants the %s what it does, and does what it grants", (name, byLambdaItself) => {
    const role = `${name[0]!.toUpperCase()}${name.slice(1)}Role`;
    const statements = statementsOf(project, role, ["HasParameter"]);
    const own = statements.filter(({ Sid }) => !byLambdaItself.includes(Sid));
    const calls = recorder.calls.filter(({ caller }) => caller === `beamkeeper-local-${name}`);
    expectExact(own, calls, namesAt(bucket));
    expect(recorder.calls.filter(({ caller }) => caller === "unknown")).toEqual([]);
  });

  test("is removed, and leaves nothing", async () => {
    expect((await buckets()).length).toBe(4);
    const output = await project.serverless("remove", "--stage", "local");
    expect(output).toMatch(/Removed \d+ objects from the bucket/);
    expect(await buckets()).toEqual(["elsewhere", "inputs"]);
    expect((await lambda.send(new ListFunctionsCommand({}))).Functions).toEqual([]);
    for (const [service, call, part] of LEFT_OVERS) {
      const found = (await awsQuery(emulator.endpoint, service, call)).match(new RegExp(`<${part}>`, "g"));
      expect([service, found]).toEqual([service, null]);
    }
    expect(JSON.parse(await awsGet(emulator.endpoint, "scheduler", "/schedules")).Schedules).toEqual([]);
  });

  async function buckets(): Promise<string[]> {
    const { Buckets = [] } = await s3.send(new ListBucketsCommand({}));
    return Buckets.map(({ Name }) => Name!).sort();
  }

  function logWrite(path: string, value: string): void {
    const now = Date.now();
    const line = { op: "create", path, value, sentMs: now, ackMs: now, mtimeMs: null };
    appendFileSync(writerLog, `${JSON.stringify(line)}\n`);
  }
});

/** What a deployment consists of besides its functions and its bucket: service, the call that lists, what is found. */
const LEFT_OVERS = [
  ["cloudformation", "Action=ListStackResources&StackName=beamkeeper-local", "PhysicalResourceId"],
  ["iam", "Action=ListRoles&Version=2010-05-08", "RoleName"],
  ["sqs", "Action=ListQueues", "QueueUrl"],
  ["sns", "Action=ListTopics", "TopicArn"],
  ["monitoring", "Action=DescribeAlarms", "AlarmName"],
] as const;

/** user:password -> user:base64(SHA-1(user:password)), as the servers' DigestAuthenticationProvider makes it. */
function digest(credentials: string): string {
  return `${credentials.split(":")[0]}:${createHash("sha1").update(credentials).digest("base64")}`;
}

function runDemo(script: string, args: readonly string[]): Promise<{ code: number | null; output: string }> {
  const child = spawn(process.execPath, [join(DEMO, script), ...args], { stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.on("data", (chunk: Buffer) => {
      output += chunk.toString();
    });
  }
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code) => resolve({ code, output }));
  });
}
