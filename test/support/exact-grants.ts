import { readFileSync } from "node:fs";
import type { RecordedCall } from "./aws-recorder";
import { allows, type Names, type Statement } from "./iam-policy";
import type { ServerlessProject } from "./serverless-project";

/** The statements of a role in the template that was deployed last, those apart whose condition does not hold. */
export function statementsOf(
  project: ServerlessProject,
  role: string,
  conditions: readonly string[] = [],
): Statement[] {
  const text = readFileSync(project.path(".serverless/cloudformation-template-update-stack.json"), "utf8");
  const { Policies } = JSON.parse(text).Resources[role].Properties;
  return Policies[0].PolicyDocument.Statement.flatMap(
    (each: Statement & { "Fn::If"?: [string, Statement] }) => {
      const [condition, chosen] = each["Fn::If"] ?? ["", each];
      return condition === "" || conditions.includes(condition) ? [chosen] : [];
    },
  );
}

/** What a template's functions stand for in a deployment of the stage `local` at the emulator. */
export function namesAt(bucket: string): Names {
  const ofFunction = (name: string) =>
    `arn:aws:lambda:us-east-1:000000000000:function:beamkeeper-local-${name}`;
  return {
    "AWS::Partition": "aws",
    "AWS::Region": "us-east-1",
    "AWS::AccountId": "000000000000",
    "OutputBucket.Arn": `arn:aws:s3:::${bucket}`,
    "BundleLambdaFunction.Arn": ofFunction("bundle"),
    "DriverLambdaFunction.Arn": ofFunction("driver"),
  };
}

/** Fails unless the statements grant each of the calls, and each action of theirs is one of the calls. */
export function expectExact(
  statements: readonly Statement[],
  calls: readonly RecordedCall[],
  names: Names,
): void {
  const isGranted = (call: RecordedCall): boolean => statements.some((each) => allows(each, call, names));
  expect(calls.filter((call) => !isGranted(call))).toEqual([]);
  for (const statement of statements)
    for (const action of [statement.Action].flat())
      expect([
        statement.Sid,
        action,
        calls.some((call) => call.action === action && allows(statement, call, names)),
      ]).toEqual([statement.Sid, action, true]);
}
