import { createRequire } from "node:module";
import { join } from "node:path";
import { compilePipeline, definePipeline, readJsonLines, readText, readZnodes } from "beamkeeper";
import { inputPatterns } from "../../lib/io/read-text";

interface Statement {
  readonly Sid: string;
  readonly Action: string;
  readonly Resource: unknown;
  readonly Condition?: unknown;
}

const { grantInputs } = createRequire(__filename)(join(__dirname, "../../infra/serverless/resources.js")) as {
  grantInputs(template: unknown, pipelines: readonly { readonly inputs: readonly string[] }[]): void;
};

/** What the bundle function may do for pipelines with these inputs. */
function granted(...inputs: readonly string[]): Statement[] {
  const statements: Statement[] = [];
  const Policies = [{ PolicyDocument: { Statement: statements } }];
  grantInputs({ Resources: { BundleRole: { Properties: { Policies } } } }, [{ inputs }]);
  return statements;
}

const arn = (name: string) => ({ "Fn::Join": ["", ["arn:", { Ref: "AWS::Partition" }, `:s3:::${name}`]] });

test("what a pipeline reads in S3 is known where it is built", () => {
  const { stages } = compilePipeline(
    definePipeline({
      name: "inputs",
      build: (root) => {
        root.apply(readText(["s3://a/x/*.txt", "local/*.txt"]));
        root.apply(readJsonLines("s3://b/y.jsonl"));
        root.apply(readZnodes("/z"));
      },
    }),
  );
  const reads = stages.flatMap(({ splitting }) => (splitting?.phase === "read" ? [splitting] : []));
  expect(reads.flatMap(({ source }) => inputPatterns(source.config))).toEqual([
    "s3://a/x/*.txt",
    "local/*.txt",
    "s3://b/y.jsonl",
  ]);
});

test("the bundle function may read and list that, up to the first wildcard, and nothing else", () => {
  expect(granted("s3://a/x/*.txt", "local/*.txt", "s3://b", "s3://a/y.jsonl")).toEqual([
    expect.objectContaining({
      Action: "s3:GetObject",
      Resource: [arn("a/x/*"), arn("a/y.jsonl*"), arn("b/*")],
    }),
    expect.objectContaining({
      Action: "s3:ListBucket",
      Resource: arn("a"),
      Condition: { StringLike: { "s3:prefix": ["x/*", "y.jsonl*"] } },
    }),
    expect.objectContaining({ Action: "s3:ListBucket", Resource: arn("b") }),
  ]);
});

test("pipelines that read nothing in S3 get no right", () => {
  expect(granted("local/*.txt")).toEqual([]);
});
