import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { CFN_LINT, isEmulatorInstalled } from "../../infra/emulator/emulator";
import { ServerlessProject } from "../support/serverless-project";

const TEMPLATES = join(__dirname, "../../infra/cloudformation");

const withLinter = isEmulatorInstalled() ? describe : describe.skip;

withLinter("the linter of CloudFormation's templates", () => {
  let project: ServerlessProject;

  beforeAll(async () => {
    project = new ServerlessProject({ ZOOKEEPER_CONNECT: "zk1:2181" });
    const params = { subnetIds: "subnet-1", securityGroupIds: "sg-1", zookeeperParameter: "/zookeeper" };
    const options = Object.entries({ ...params, alarmEmail: "someone@example.com" });
    await project.serverless(
      "package",
      "--stage",
      "prod",
      ...options.map(([key, value]) => `--param=${key}=${value}`),
    );
  }, 120_000);

  afterAll(() => project?.remove());

  function lint(...args: string[]): string {
    const run = spawnSync(CFN_LINT, ["--regions", "us-east-1", ...args], { encoding: "utf8" });
    return run.error ? String(run.error) : run.stdout + run.stderr;
  }

  test("has nothing to say of the network and the ensemble", () => {
    const files = readdirSync(TEMPLATES).map((name) => join(TEMPLATES, name));
    expect(files.length).toBe(2);
    expect(lint(...files)).toBe("");
  });

  test("has nothing to say of what is deployed", () => {
    expect(lint(project.path(".serverless/cloudformation-template-update-stack.json"))).toBe("");
  });
});
