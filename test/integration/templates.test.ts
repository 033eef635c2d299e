import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { CFN_LINT, isEmulatorInstalled } from "../../infra/emulator/emulator";
import { EVENTS_PIPELINE, ServerlessProject } from "../support/serverless-project";

/**
 * Not taken: a dependency that osls names twice; a parameter that is there to be checked; conditions on what the stage's
 * parameters have made constant.
 */
const NOT_TAKEN = ["--ignore-checks", "W3005", "W2001", "W8003"];
const TEMPLATES = join(__dirname, "../../infra/cloudformation");

const withLinter = isEmulatorInstalled() ? describe : describe.skip;

withLinter("the linter of CloudFormation's templates", () => {
  let project: ServerlessProject;

  beforeAll(async () => {
    project = new ServerlessProject({ ZOOKEEPER_CONNECT: "zk1:2181" });
    project.write(
      "pipelines/nightly.ts",
      `import { definePipeline, readRun, writeToZnodes } from "beamkeeper";
export default definePipeline({
  name: "nightly",
  schedule: { cron: "0/15 2 * * ? *", timeZone: "Europe/Berlin", start: "2199-01-01", end: "2199-02-01" },
  build: (root) => root.apply(readRun()).apply(writeToZnodes(() => ({ path: "/results/one", data: "" }))),
});
`,
    );
    project.write("pipelines/orders.ts", EVENTS_PIPELINE);
    // All of them, so that no part of the template is left empty.
    const account = "us-east-1:000000000000";
    const options = Object.entries({
      alarmEmail: "someone@example.com",
      secretKeyArn: `arn:aws:kms:${account}:key/1`,
      securityGroupIds: "sg-00000001",
      subnetIds: "subnet-00000001,subnet-00000002",
      zookeeperParameter: "/zookeeper",
      zookeeperSecretArn: `arn:aws:secretsmanager:${account}:secret:zookeeper`,
      sourceSecretArns: `arn:aws:secretsmanager:${account}:secret:kafka`,
    });
    await project.serverless(
      "package",
      "--stage",
      "prod",
      ...options.map(([key, value]) => `--param=${key}=${value}`),
    );
  });

  afterAll(() => project?.remove());

  function lint(...args: string[]): string {
    const run = spawnSync(CFN_LINT, ["--regions", "us-east-1", ...args], { encoding: "utf8" });
    return run.error ? String(run.error) : run.stdout + run.stderr;
  }

  test("has nothing to say of the network and the ensemble", () => {
    const files = readdirSync(TEMPLATES).map((name) => join(TEMPLATES, name));
    expect(files.length).toBe(2);
    expect(lint("--", ...files)).toBe("");
  });

  test("has nothing to say of what is deployed", () => {
    const template = project.path(".serverless/cloudformation-template-update-stack.json");
    expect(lint(...NOT_TAKEN, "--", template)).toBe("");
  });

  test("what is given up of a stream goes to a queue with an alarm, and a queue is read by a few at once", () => {
    const template = project.path(".serverless/cloudformation-template-update-stack.json");
    const { Resources } = JSON.parse(readFileSync(template, "utf8"));
    const arn = { "Fn::GetAtt": ["StreamFailureQueue", "Arn"] };
    const all: { Type: string; Properties: Record<string, unknown> }[] = Object.values(Resources);
    const mappings = all.filter(({ Type }) => Type === "AWS::Lambda::EventSourceMapping");
    const [streams, queues] = [true, false].map((isStream) =>
      mappings.filter(({ Properties }) => "StartingPosition" in Properties === isStream),
    );
    expect(streams!.map(({ Properties }) => Properties.DestinationConfig)).toEqual([
      { OnFailure: { Destination: arn } },
    ]);
    expect(queues!.map(({ Properties }) => Properties.ScalingConfig)).toEqual(
      Array(3).fill({ MaximumConcurrency: 5 }),
    );
    expect(Resources.StreamFailureQueue.Properties.MessageRetentionPeriod).toBe(14 * 86_400);
    expect(Resources.StreamFailuresAlarm.Properties.Dimensions).toEqual([
      { Name: "QueueName", Value: { "Fn::GetAtt": ["StreamFailureQueue", "QueueName"] } },
    ]);
    expect(Resources.EventsRole.Properties.Policies[0].PolicyDocument.Statement).toContainEqual({
      ...{ Sid: "TellOfGivenUp", Effect: "Allow", Action: "sqs:SendMessage", Resource: [arn] },
    });
  });
});
