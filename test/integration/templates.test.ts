import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
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
});
