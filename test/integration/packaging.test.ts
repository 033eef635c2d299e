import { spawnSync } from "node:child_process";
import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { zipEntries } from "../support/zip-entries";

const PROJECT = join(__dirname, "../..");
const PACKAGED = join(PROJECT, ".serverless");
const SERVERLESS = join(PROJECT, "node_modules/serverless/bin/serverless.js");
/** Code of one function, minified. */
const LARGEST_FUNCTION_BYTES = 1_200_000;

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

/** The environment of someone who has nothing set up: no ensemble, no credentials, no settings of AWS's tools. */
function bareEnvironment(): NodeJS.ProcessEnv {
  const kept = Object.entries(process.env).filter(
    ([name]) => !/^(AWS_|ZOOKEEPER_|BEAMKEEPER_|SLS_)/.test(name),
  );
  const nowhere = join(PACKAGED, "there-is-no-such-file");
  return { ...Object.fromEntries(kept), AWS_SHARED_CREDENTIALS_FILE: nowhere, AWS_CONFIG_FILE: nowhere };
}

beforeAll(() => {
  rmSync(PACKAGED, { recursive: true, force: true });
  const run = spawnSync(process.execPath, [SERVERLESS, "package", "--stage", "local"], {
    cwd: PROJECT,
    env: bareEnvironment(),
    encoding: "utf8",
    timeout: 60_000,
  });
  output = run.stdout + run.stderr;
  if (run.status !== 0) throw new Error(`packaging failed:\n${output}`);
  template = JSON.parse(readFileSync(join(PACKAGED, "cloudformation-template-update-stack.json"), "utf8"));
});

function functionProperties(name: string): Json & { Environment: { Variables: Record<string, string> } } {
  return template.Resources[`${name}LambdaFunction`]!.Properties as never;
}

function statementsOf(role: string): readonly Statement[] {
  const { Policies } = template.Resources[role]!.Properties as {
    Policies: readonly { PolicyDocument: { Statement: readonly Statement[] } }[];
  };
  return Policies.flatMap(({ PolicyDocument }) => PolicyDocument.Statement);
}

test("packaging says nothing but what it did", () => {
  expect(output).toMatch(/Service packaged/);
  expect(output.split("\n").filter(Boolean).length).toBeLessThanOrEqual(2);
});

test.each(["relay", "bundle"])("the package of %s is its code and its map, and small", (name) => {
  const entries = zipEntries(join(PACKAGED, `${name}.zip`));
  expect([...entries.keys()].sort()).toEqual([`functions/${name}.js`, `functions/${name}.js.map`]);
  const bytes = entries.get(`functions/${name}.js`)!;
  process.stdout.write(`${name}: ${(bytes / 1000).toFixed(0)} KB of code\n`);
  expect(bytes).toBeLessThan(LARGEST_FUNCTION_BYTES);
});

test("the relay invokes the bundle function of its own stage, and may invoke nothing else", () => {
  const name = "beamkeeper-local-bundle";
  expect(functionProperties("Bundle").FunctionName).toBe(name);
  expect(functionProperties("Relay").Environment.Variables.BEAMKEEPER_BUNDLE_FUNCTION).toBe(name);
  const allowed = statementsOf("RelayRole").filter(({ Action }) => !String(Action).startsWith("logs:"));
  expect(allowed).toEqual([
    {
      Effect: "Allow",
      Action: "lambda:InvokeFunction",
      Resource: { "Fn::GetAtt": ["BundleLambdaFunction", "Arn"] },
    },
  ]);
});

test("no role names a wildcard, and each writes its own log only", () => {
  const roles = Object.keys(template.Resources).filter(
    (name) => template.Resources[name]!.Type === "AWS::IAM::Role",
  );
  expect(roles.sort()).toEqual(["BundleRole", "RelayRole"]);
  for (const role of roles) {
    const statements = statementsOf(role);
    expect(JSON.stringify(statements)).not.toContain("*");
    const logs = statements.filter(({ Action }) => String(Action).startsWith("logs:"));
    expect(logs.map((statement) => statement.Resource)).toEqual([
      { "Fn::GetAtt": [role.replace("Role", "LogGroup"), "Arn"] },
    ]);
  }
});

test("the relay is always on: started each minute, two at most, never retried", () => {
  const { Properties } = template.Resources.RelayLambdaEvConf!;
  expect(Properties).toMatchObject({ MaximumEventAgeInSeconds: 60, MaximumRetryAttempts: 0 });
  expect(functionProperties("Relay")).toMatchObject({ Timeout: 900, ReservedConcurrentExecutions: 1 });
  expect(template.Resources.RelayEventsRuleSchedule1!.Properties.ScheduleExpression).toBe("rate(1 minute)");
});

test("a deployment without an ensemble is refused by the template", () => {
  const { AllowedPattern, Default } = template.Parameters.ZookeeperConnect!;
  const pattern = new RegExp(AllowedPattern);
  expect(Default).toBe("");
  for (const bad of ["", " ", "/chroot", "a:1,,b:2", "a:1/with space"]) expect(bad).not.toMatch(pattern);
  for (const good of ["a:1", "a:1,b:2", "a:1,b:2/chroot/deep", "[::1]:2181"]) expect(good).toMatch(pattern);
});
