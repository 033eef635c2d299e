import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { embeddedMetrics } from "../../lib/relay/metric-formats";
import { RelayMetrics } from "../../lib/relay/metrics";
import { EVENTS_PIPELINE, ServerlessProject } from "../support/serverless-project";
import { unzip, zipEntries } from "../support/zip-entries";

/** Code of one function, minified, without the AWS clients beside it: against accidents; the budget is the benchmark's. */
const LARGEST_FUNCTION_BYTES = 800_000;

/** Where the bundle function has what loads models. */
const RUNTIMES = "functions/node_modules/";
/** The WebAssembly and its code. */
const LARGEST_RUNTIME_BYTES = 16_000_000;

const SECRET = "arn:aws:secretsmanager:us-east-1:000000000000:secret:zookeeper";
const SOURCES = {
  sourceEnsembles: '{"kafka":{"connect":"k:2181"}}',
  sourceSecretArns: "arn:aws:secretsmanager:eu-central-1:1:secret:kafka",
};

/** Judges two latencies with the model, as `onnxHandler` does. */
const PROBE = `
const { readFileSync } = require("node:fs");
import("onnxruntime-web").then(async ({ InferenceSession, Tensor }) => {
  const session = await InferenceSession.create(new Uint8Array(readFileSync(process.argv[2])));
  const input = new Tensor("float32", Float32Array.from([20, 90]), [2, 1]);
  const given = await session.run({ [session.inputNames[0]]: input });
  const scores = [...given[session.outputNames[0]].data];
  const from = require.resolve("onnxruntime-web");
  await session.release();
  process.stdout.write(JSON.stringify({ from, scores }));
});
`;

type Json = Record<string, unknown>;

interface Resource {
  readonly Type: string;
  readonly Properties: Json;
}

interface Statement {
  readonly Action: string | readonly string[];
  readonly Resource: unknown;
}

let output: string;
let template: {
  readonly Resources: Record<string, Resource>;
  readonly Parameters: Record<string, { readonly AllowedPattern: string; readonly Default: string }>;
};

let project: ServerlessProject;

beforeAll(async () => {
  project = new ServerlessProject();
  project.write(
    "pipelines/elsewhere.ts",
    pipelineText("elsewhere", 'writeToText("s3://elsewhere/lines/part")'),
  );
  project.write(
    "pipelines/nightly.ts",
    scheduledText("nightly", '{ cron: "30 2 * * ? *", timeZone: "Europe/Berlin", end: "2199-01-01" }'),
  );
  project.write("pipelines/orders.ts", EVENTS_PIPELINE);
  project.write("pipelines/anomalies.ts", 'export { default } from "./latency-model/pipeline";\n');
  project.write("pipelines/over.ts", scheduledText("over", '{ rate: "1 day", end: "2026-02-01" }'));
  const params = {
    subnetIds: "subnet-1,subnet-2",
    securityGroupIds: "sg-1",
    zookeeperSecretArn: SECRET,
    ...SOURCES,
  };
  const options = Object.entries(params).map(([name, value]) => `--param=${name}=${value}`);
  output = await project.serverless("package", "--stage", "local", ...options);
  template = JSON.parse(
    readFileSync(project.path(".serverless/cloudformation-template-update-stack.json"), "utf8"),
  );
});

afterAll(() => project?.remove());

function pipelineText(name: string, sink: string): string {
  return `import * as beam from "apache-beam";
import { definePipeline, readZnodeChanges, writeToText } from "beamkeeper";
export default definePipeline({
  name: ${JSON.stringify(name)},
  build: (root) =>
    root.apply(readZnodeChanges("/app")).apply(beam.windowInto(beam.fixedWindows(1))).map((change) => change.path).apply(${sink}),
});
`;
}

function functionProperties(name: string): Json & { Environment: { Variables: Record<string, string> } } {
  return template.Resources[`${name}LambdaFunction`]!.Properties as never;
}

function statementsOf(role: string): readonly Statement[] {
  const { Policies } = template.Resources[role]!.Properties as {
    Policies: readonly { PolicyDocument: { Statement: readonly Statement[] } }[];
  };
  // What depends on a condition is looked at on its own.
  return Policies.flatMap(({ PolicyDocument }) => PolicyDocument.Statement).filter(
    (each) => "Action" in each,
  );
}

function scheduledText(name: string, schedule: string, source = "readRun()"): string {
  return `import { definePipeline, readRun, readZnodeChanges, writeToZnodes } from "beamkeeper";
export default definePipeline({
  name: ${JSON.stringify(name)},
  schedule: ${schedule},
  build: (root) => root.apply(${source}).apply(writeToZnodes(() => ({ path: "/results/one", data: "" }))),
});
`;
}

test("packaging says what it did, which schedule has ended, and nothing else", () => {
  expect(output).toMatch(/Service packaged/);
  expect(output).toMatch(/The schedule of "over" has ended: no tick comes any more, and none is deployed/);
  expect(output.split("\n").filter(Boolean).length).toBeLessThanOrEqual(4);
});

test("a schedule of a pipeline is one of EventBridge Scheduler, in its time zone", () => {
  const schedules = Object.values(template.Resources).filter(
    ({ Type }) => Type === "AWS::Scheduler::Schedule",
  );
  expect(schedules.map(({ Properties }) => Properties)).toEqual([
    {
      Description: "Runs of the pipeline nightly",
      ScheduleExpression: "cron(30 2 * * ? *)",
      ScheduleExpressionTimezone: "Europe/Berlin",
      EndDate: "2199-01-01T00:00:00.000Z",
      FlexibleTimeWindow: { Mode: "OFF" },
      Target: {
        Arn: { "Fn::GetAtt": ["BatchLambdaFunction", "Arn"] },
        RoleArn: { "Fn::GetAtt": ["ScheduleRole", "Arn"] },
        Input: '{"pipeline":"nightly","tick":"<aws.scheduler.scheduled-time>"}',
        RetryPolicy: { MaximumEventAgeInSeconds: 60, MaximumRetryAttempts: 3 },
      },
    },
  ]);
});

test("relay and batch function are told the version of the bundle function that belongs to them", () => {
  const versions = Object.entries(template.Resources).filter(
    ([, { Type }]) => Type === "AWS::Lambda::Version",
  );
  expect(versions.map(([, { Properties }]) => Properties.FunctionName)).toEqual([
    { Ref: "BundleLambdaFunction" },
  ]);
  const version = { "Fn::GetAtt": [versions[0]![0], "Version"] };
  for (const name of ["Relay", "Batch", "Driver"])
    expect(functionProperties(name).Environment.Variables.BEAMKEEPER_BUNDLE_VERSION).toEqual(version);
});

test("another network makes another version of the same code", () => {
  const { nameBundleVersion } = require(project.path("infra/serverless/resources.js"));
  const nameWith = (subnets: string): string | undefined => {
    const Resources = {
      BundleLambdaFunction: { Properties: { VpcConfig: { SubnetIds: [subnets] }, Tags: [subnets] } },
      Old: {
        Type: "AWS::Lambda::Version",
        Properties: { FunctionName: { Ref: "BundleLambdaFunction" }, CodeSha256: "same" },
      },
    };
    const Outputs = { Version: { Value: { Ref: "Old" } } };
    nameBundleVersion({ Resources, Outputs });
    expect(Object.keys(Resources)).toContain(Outputs.Version.Value.Ref);
    return Object.keys(Resources).find((name) => name.startsWith("BundleLambdaVersion"));
  };
  expect(nameWith("subnet-1")).toBeDefined();
  expect(nameWith("subnet-1")).toBe(nameWith("subnet-1"));
  expect(nameWith("subnet-2")).not.toBe(nameWith("subnet-1"));
});

test.each(["relay", "bundle", "batch", "events", "driver"])(
  "the package of %s is its code and its map, and small; clients and what few pipelines need lie beside it",
  (name) => {
    const entries = zipEntries(project.path(`.serverless/${name}.zip`));
    const names = [...entries.keys()]
      .filter((each) => !each.startsWith(RUNTIMES))
      .map((each) => each.replace(/-[A-Z0-9]{8}(\.c?js)$/, "-HASH$1"))
      .sort();
    const beside = [
      "lambda-client.js",
      "s3-client.js",
      "secret-client.js",
      "parameter-client.js",
      "croner.cjs",
    ];
    expect(names).toEqual(
      [`${name}.js`, `${name}.js.map`, ...beside.map((each) => each.replace(/\./, "-HASH."))]
        .map((each) => `functions/${each}`)
        .sort(),
    );
    const bytes = entries.get(`functions/${name}.js`)!;
    process.stdout.write(`${name}: ${(bytes / 1000).toFixed(0)} KB of code\n`);
    expect(bytes).toBeLessThan(LARGEST_FUNCTION_BYTES);
  },
);

test("the runtime of a model is in the package of the bundle function alone, as far as Lambda needs it", () => {
  const runtimeOf = (name: string): [string, number][] =>
    [...zipEntries(project.path(`.serverless/${name}.zip`))].filter(([each]) => each.startsWith(RUNTIMES));
  const files = runtimeOf("bundle");
  const web = files
    .map(([each]) => each.slice(RUNTIMES.length))
    .filter((each) => /^onnxruntime-web/.test(each));
  expect(web.sort()).toEqual([
    "onnxruntime-web/dist/ort-wasm-simd-threaded.mjs",
    "onnxruntime-web/dist/ort-wasm-simd-threaded.wasm",
    "onnxruntime-web/dist/ort.node.min.js",
    "onnxruntime-web/dist/ort.node.min.mjs",
    "onnxruntime-web/package.json",
  ]);
  expect(files.reduce((sum, [, bytes]) => sum + bytes, 0)).toBeLessThan(LARGEST_RUNTIME_BYTES);
  for (const other of ["relay", "batch", "events", "driver"]) expect(runtimeOf(other)).toEqual([]);
});

test("a model is loaded from what the package holds, and from nothing else", () => {
  const folder = mkdtempSync(join(tmpdir(), "beamkeeper-package-"));
  try {
    unzip(project.path(".serverless/bundle.zip"), folder);
    expect(readFileSync(join(folder, "functions/bundle.js"), "utf8")).toMatch(/import\("onnxruntime-web"\)/);
    const model = join(folder, "model.onnx");
    execFileSync(process.execPath, [
      project.path("pipelines/latency-model/make-model.mjs"),
      "20",
      "5",
      model,
    ]);
    // Beside the function's file, so that it is found as that finds it.
    writeFileSync(join(folder, "functions/probe.cjs"), PROBE);
    const printed = execFileSync(process.execPath, [join(folder, "functions/probe.cjs"), model], {
      encoding: "utf8",
    });
    const { from, scores } = JSON.parse(printed);
    expect(from).toContain(join(folder, RUNTIMES));
    expect(scores[0]).toBeLessThan(0.5);
    expect(scores[1]).toBeGreaterThan(0.5);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test("what a runtime lacks is said when the deployment is packaged, and of a native one only Linux on arm64 is taken", () => {
  const { copyRuntime } = require(project.path("infra/esbuild/runtimes-plugin.js"));
  const folder = mkdtempSync(join(tmpdir(), "beamkeeper-native-"));
  const write = (file: string, text = "x"): void => {
    mkdirSync(dirname(join(folder, "node_modules", file)), { recursive: true });
    writeFileSync(join(folder, "node_modules", file), text);
  };
  try {
    expect(() => copyRuntime("onnxruntime-node", folder, join(folder, "to"))).toThrow(
      /imports onnxruntime-node, which is not installed: npm install onnxruntime-node/,
    );
    for (const name of ["node", "common"]) write(`onnxruntime-${name}/package.json`, "{}");
    write("onnxruntime-common/dist/cjs/index.js");
    for (const place of ["linux/arm64", "linux/x64", "darwin/arm64"])
      write(`onnxruntime-node/bin/napi-v6/${place}/onnxruntime_binding.node`);
    write("onnxruntime-node/dist/index.js");
    write("onnxruntime-node/dist/index.js.map");
    copyRuntime("onnxruntime-node", folder, join(folder, "to"));
    const copied = readdirSync(join(folder, "to"), { recursive: true, encoding: "utf8" });
    expect(copied.filter((file) => /\.(js|map|node)$/.test(file)).sort()).toEqual([
      "onnxruntime-common/dist/cjs/index.js",
      "onnxruntime-node/bin/napi-v6/linux/arm64/onnxruntime_binding.node",
      "onnxruntime-node/dist/index.js",
    ]);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test("the relay invokes the bundle function of its own stage", () => {
  const name = "beamkeeper-local-bundle";
  expect(functionProperties("Bundle").FunctionName).toBe(name);
  expect(functionProperties("Relay").Environment.Variables.BEAMKEEPER_BUNDLE_FUNCTION).toBe(name);
});

test("no role may do what its function does not; each statement names its resources", () => {
  const granted = (role: string) =>
    statementsOf(role).map(({ Action, Resource }) => [[Action].flat().join(" "), Resource]);
  const below = (path: string) => ({ "Fn::Join": ["", [{ "Fn::GetAtt": ["OutputBucket", "Arn"] }, path]] });
  const versions = { "Fn::Join": ["", [{ "Fn::GetAtt": ["BundleLambdaFunction", "Arn"] }, ":*"]] };
  const callsBundles = [
    ["lambda:InvokeFunction", versions],
    ["sns:Publish", { Ref: "FailureTopic" }],
  ];
  expect(granted("RelayRole")).toEqual([
    ["logs:CreateLogStream logs:PutLogEvents", { "Fn::GetAtt": ["RelayLogGroup", "Arn"] }],
    ...callsBundles,
    ["s3:PutObject s3:GetObject s3:DeleteObject", below("/blobs/*")],
    ["s3:ListBucket", { "Fn::GetAtt": ["OutputBucket", "Arn"] }],
  ]);
  expect(granted("BatchRole")).toEqual([
    ["logs:CreateLogStream logs:PutLogEvents", { "Fn::GetAtt": ["BatchLogGroup", "Arn"] }],
    ...callsBundles,
  ]);
  const place = [{ Ref: "AWS::Region" }, ":", { Ref: "AWS::AccountId" }];
  const queue = { "Fn::Join": ["", ["arn:", { Ref: "AWS::Partition" }, ":sqs:", ...place, ":orders-local"]] };
  const between = Object.keys(template.Resources).filter((name) => /^EventQueue(?!Policy)/.test(name));
  expect(granted("EventsRole")).toEqual([
    ["logs:CreateLogStream logs:PutLogEvents", { "Fn::GetAtt": ["EventsLogGroup", "Arn"] }],
    ["lambda:InvokeFunction", { "Fn::GetAtt": ["DriverLambdaFunction", "Arn"] }],
    ["s3:PutObject", below("/blobs/*")],
    ["sns:Publish", { Ref: "FailureTopic" }],
    [
      "sqs:ReceiveMessage sqs:DeleteMessage sqs:GetQueueAttributes",
      [queue, ...between.map((name) => ({ "Fn::GetAtt": [name, "Arn"] }))],
    ],
    [
      "kinesis:DescribeStream kinesis:DescribeStreamSummary kinesis:GetRecords kinesis:GetShardIterator kinesis:ListShards",
      ["arn:aws:kinesis:us-east-1:000000000000:stream/clicks"],
    ],
    ["sqs:SendMessage", [{ "Fn::GetAtt": ["StreamFailureQueue", "Arn"] }]],
  ]);
  expect(granted("DriverRole")).toEqual([
    ["logs:CreateLogStream logs:PutLogEvents", { "Fn::GetAtt": ["DriverLogGroup", "Arn"] }],
    callsBundles[0],
    ["s3:DeleteObject", below("/blobs/*")],
    ["s3:ListBucket", { "Fn::GetAtt": ["OutputBucket", "Arn"] }],
    callsBundles[1],
  ]);
  expect(granted("ScheduleRole")).toEqual([
    ["lambda:InvokeFunction", { "Fn::GetAtt": ["BatchLambdaFunction", "Arn"] }],
  ]);
  expect(granted("BundleRole")).toEqual([
    ["logs:CreateLogStream logs:PutLogEvents", { "Fn::GetAtt": ["BundleLogGroup", "Arn"] }],
    ["s3:PutObject", [below("/output/*"), below("/blobs/*")]],
    ["s3:GetObject s3:DeleteObject", [below("/output/.temporary/*"), below("/blobs/*")]],
    ["s3:ListBucket", { "Fn::GetAtt": ["OutputBucket", "Arn"] }],
    // The pipeline that writes elsewhere, as far as it does.
    [
      "s3:PutObject",
      [{ "Fn::Join": ["", ["arn:", { Ref: "AWS::Partition" }, ":s3:::elsewhere/lines/part*"]] }],
    ],
  ]);
});

test("sources of events get their mappings, and a rule with a queue where a service would try only for a while", () => {
  const all = (type: string): Json[] =>
    Object.values(template.Resources).flatMap(({ Type, Properties }) => (Type === type ? [Properties] : []));
  const batches = {
    FunctionName: { Ref: "EventsLambdaFunction" },
    FunctionResponseTypes: ["ReportBatchItemFailures"],
  };
  const mappings = all("AWS::Lambda::EventSourceMapping");
  expect(mappings.length).toBe(4);
  for (const mapping of mappings) expect(mapping).toMatchObject(batches);
  expect(mappings).toContainEqual(
    expect.objectContaining({ BatchSize: 50, MaximumBatchingWindowInSeconds: 2 }),
  );
  expect(mappings).toContainEqual(
    expect.objectContaining({
      EventSourceArn: "arn:aws:kinesis:us-east-1:000000000000:stream/clicks",
      StartingPosition: "TRIM_HORIZON",
      ParallelizationFactor: 1,
      BisectBatchOnFunctionError: true,
    }),
  );
  const rules = all("AWS::Events::Rule").filter(({ EventPattern }) => EventPattern !== undefined);
  expect(rules.map(({ EventBusName, EventPattern }) => [EventBusName, EventPattern])).toEqual([
    [
      undefined,
      {
        source: ["aws.s3"],
        "detail-type": ["Object Created"],
        detail: { bucket: { name: ["uploads-local"] }, object: { key: [{ prefix: "in/" }] } },
      },
    ],
    ["shop", { source: ["shop"] }],
  ]);
  expect(JSON.stringify(rules[1])).toContain(
    JSON.stringify('{"pipeline":"orders","source":"bus","event":<aws.events.event.json>}'),
  );
  for (const queue of all("AWS::SQS::Queue").filter(
    ({ VisibilityTimeout }) => VisibilityTimeout !== undefined,
  ))
    expect(queue).toMatchObject({ MessageRetentionPeriod: 345_600, SqsManagedSseEnabled: true });
  // A queue gives no function more time than it hides a message for.
  expect(functionProperties("Events").Timeout).toBe(30);
});

test("a deployment without a source of events has no functions for them", () => {
  const { addEventSources } = require(project.path("infra/serverless/events.js"));
  const Resources = {
    EventsRole: {},
    EventsLambdaFunction: {},
    DriverEventsRuleSchedule1: {},
    RelayRole: {},
  };
  addEventSources({ Resources }, [{ name: "p", eventSources: [] }], { service: "s", stage: "dev" });
  expect(Object.keys(Resources)).toEqual(["RelayRole"]);
});

test("the bucket is encrypted, closed to the public, and emptied of what was broken off", () => {
  const { Properties } = template.Resources.OutputBucket!;
  expect(JSON.stringify(Properties.BucketEncryption)).toContain("AES256");
  expect(Object.values(Properties.PublicAccessBlockConfiguration as Json)).toEqual([true, true, true, true]);
  expect(JSON.stringify(Properties.LifecycleConfiguration)).toContain("AbortIncompleteMultipartUpload");
});

test("what a function fails on is kept, and alarms tell of it", () => {
  expect(template.Resources.RelayLambdaEvConf!.Properties.DestinationConfig).toEqual({
    OnFailure: { Destination: { Ref: "FailureTopic" } },
  });
  const alarms = Object.values(template.Resources).filter(({ Type }) => Type === "AWS::CloudWatch::Alarm");
  expect(alarms.length).toBeGreaterThanOrEqual(4);
  for (const { Properties } of alarms) expect(Properties.AlarmActions).toEqual([{ Ref: "AlarmTopic" }]);
});

test("each pipeline that watches znodes has an alarm on the metric that its relay logs", () => {
  const relay = new RelayMetrics("elsewhere", () => 0);
  relay.source("s").committed({
    ...{ zxid: 2n, mtimeMs: 5, watermarkMs: 3, elements: 0, missed: 0, coalesced: 0 },
  });
  const logged = embeddedMetrics(relay.figures(), "relay", 0, undefined) as Json;
  const { CloudWatchMetrics } = logged._aws as Record<string, Json[]>;
  const [{ Namespace, Dimensions, Metrics }] = CloudWatchMetrics as [Record<string, Json[]>];
  const alarms = Object.values(template.Resources).filter(
    ({ Type, Properties }) => Type === "AWS::CloudWatch::Alarm" && Properties.Namespace === Namespace,
  );
  expect(alarms.map(({ Properties }) => Properties.AlarmName)).toContain("beamkeeper-local-lag-elsewhere");
  // A bounded pipeline has no relay.
  expect(JSON.stringify(alarms)).not.toContain("nightly");
  const { Properties } = alarms.find(({ Properties: { AlarmName } }) =>
    /lag-elsewhere/.test(String(AlarmName)),
  )!;
  expect(Metrics).toContainEqual({ Name: Properties.MetricName, Unit: "Milliseconds" });
  const values = { ...logged, FunctionName: { Ref: "RelayLambdaFunction" } } as Json;
  const names = (Dimensions as unknown as string[][])[0]!;
  expect(Properties.Dimensions).toEqual(names.map((Name) => ({ Name, Value: values[Name] })));
  expect(Properties.Threshold).toBe(300_000);
});

test("the relay alone is told of the ensembles that sources are on, and may read their secrets", () => {
  const told = ["Relay", "Bundle", "Batch"].map((name) => {
    const { Environment } = template.Resources[`${name}LambdaFunction`]!.Properties;
    const role = JSON.stringify(template.Resources[`${name}Role`]!.Properties);
    const { BEAMKEEPER_ENSEMBLES } = (Environment as { Variables: Json }).Variables;
    return [BEAMKEEPER_ENSEMBLES, role.includes(`{"Fn::Split":[",","${SOURCES.sourceSecretArns}"]}`)];
  });
  expect(told).toEqual([
    [SOURCES.sourceEnsembles, true],
    [undefined, false],
    [undefined, false],
  ]);
});

test.each(["Relay", "Bundle", "Batch", "Events", "Driver"])(
  "in a VPC, and with a secret, %s gets the network and the right to read it",
  (name) => {
    const { VpcConfig, Environment } = template.Resources[`${name}LambdaFunction`]!.Properties;
    expect(VpcConfig).toEqual({
      "Fn::If": [
        "InVpc",
        {
          SubnetIds: { "Fn::Split": [",", "subnet-1,subnet-2"] },
          SecurityGroupIds: { "Fn::Split": [",", "sg-1"] },
        },
        { Ref: "AWS::NoValue" },
      ],
    });
    expect((Environment as { Variables: Json }).Variables.ZOOKEEPER_SECRET).toBe(SECRET);
    const role = JSON.stringify(template.Resources[`${name}Role`]!.Properties);
    expect(role).toContain(`"Action":"secretsmanager:GetSecretValue","Resource":"${SECRET}"`);
  },
);

test.each([
  [
    "no pipeline",
    "export const x = 1;\n",
    /pipelines\/wrong\.ts has no pipeline: its default export must be/,
  ],
  [
    "another one's name",
    pipelineText("elsewhere", 'writeToText("x")'),
    /both define the pipeline "elsewhere"/,
  ],
  [
    "what cannot be run",
    pipelineText("wrong", 'writeToText("")'),
    /the pipelines cannot be deployed: .*writeToText: the prefix must be a path/,
  ],
  ["a cron that never fires", scheduledText("wrong", '{ cron: "0 0 30 2 ? *" }'), /never fires after 2026/],
  [
    "a cron that fires no more",
    scheduledText("wrong", '{ cron: "0 0 1 2 ? 2026" }'),
    /pipeline "wrong": cron\(0 0 1 2 \? 2026\) never fires again after .*; mend the expression/,
  ],
  [
    "a zone that is none",
    scheduledText("wrong", '{ cron: "0 0 * * ? *", timeZone: "Mars/Olympus" }'),
    /schedule\.timeZone must be an IANA name such as "Europe\/Berlin"; it is "Mars\/Olympus"/,
  ],
  [
    "a schedule for what never ends",
    scheduledText("wrong", '{ rate: "1 day" }', 'readZnodeChanges("/app")'),
    /pipeline "wrong" has a schedule and watches znodes, so it never ends: leave out the schedule/,
  ],
])("a file with %s is refused before anything is deployed", async (_what, text, message) => {
  project.write("pipelines/wrong.ts", text);
  // Of the copy, which the copy's pipelines import as well.
  const { describePipelines } = require(project.path("infra/serverless/pipelines.js"));
  await expect(describePipelines(project.folder)).rejects.toThrow(message);
});

test("the relay is always on: started each minute, one at work and one standing by, never retried", () => {
  const { Properties } = template.Resources.RelayLambdaEvConf!;
  expect(Properties).toMatchObject({ MaximumEventAgeInSeconds: 60, MaximumRetryAttempts: 0 });
  expect(functionProperties("Relay")).toMatchObject({ Timeout: 900, ReservedConcurrentExecutions: 2 });
  expect(template.Resources.RelayEventsRuleSchedule1!.Properties.ScheduleExpression).toBe("rate(1 minute)");
});

test("a deployment without an ensemble is refused by the template", () => {
  const { AllowedPattern, Default } = template.Parameters.ZookeeperConnect!;
  const pattern = new RegExp(AllowedPattern);
  expect(Default).toBe("");
  for (const bad of ["", " ", "/chroot", "a:1,,b:2", "a:1/with space"]) expect(bad).not.toMatch(pattern);
  for (const good of ["a:1", "a:1,b:2", "a:1,b:2/chroot/deep", "[::1]:2181"]) expect(good).toMatch(pattern);
});
