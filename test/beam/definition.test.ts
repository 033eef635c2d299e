import * as beam from "apache-beam";
import {
  BuildError,
  compilePipeline,
  definePipeline,
  PipelineDefinitionError,
  UserCodeError,
} from "../../lib/index";
import { at, collect, readTest, runCollecting } from "../support/collect";
import example from "./example-pipeline";

test.each<[string, unknown, string]>([
  ["no object", undefined, "definePipeline needs an object"],
  ["no name", { build() {} }, "the name of a pipeline must be"],
  ["a name with a slash", { name: "a/b", build() {} }, "the name of a pipeline must be"],
  ["no build", { name: "a" }, `pipeline "a": build must be a function`],
  ["no shards", { name: "a", build() {}, shards: 0 }, "shards must be a whole number from 1"],
  [
    "too few writes",
    { name: "a", build() {}, writesPerSecond: 1 },
    "writesPerSecond must be a number from 4",
  ],
  ["half a shard", { name: "a", build() {}, shards: { groupBy: 1.5 } }, `shards of stage "groupBy"`],
])("definePipeline refuses %s", (_, options, message) => {
  expect(() => definePipeline(options as never)).toThrow(PipelineDefinitionError);
  expect(() => definePipeline(options as never)).toThrow(message);
});

test("shards of a stage that is not there are refused, with those that are", () => {
  const definition = definePipeline({ ...example, shards: { grupBy: 2 } });
  expect(() => compilePipeline(definition)).toThrow(
    /"grupBy".*its stages are readZnodeChanges, groupBy, writeToText/,
  );
  expect(compilePipeline({ ...example, shards: { groupBy: 4 } }).shards).toEqual(
    new Map([
      ["readZnodeChanges", 1],
      ["groupBy", 4],
      ["writeToText", 1],
    ]),
  );
});

test("a build that throws keeps its cause, one that is asynchronous is refused", () => {
  const cause = new Error("no such table");
  const thrown = catching(() =>
    compilePipeline({
      name: "p",
      shards: 1,
      build: () => {
        throw cause;
      },
    }),
  );
  expect(thrown).toBeInstanceOf(BuildError);
  expect(thrown).toMatchObject({
    message: `pipeline "p" can't be built: no such table`,
    cause,
    retryable: false,
  });
  expect(() => compilePipeline({ name: "p", shards: 1, build: async () => {} })).toThrow(
    /it must be synchronous/,
  );
  const applyAsync = (root: beam.Root) => root.applyAsync(async (r: beam.Root) => r);
  expect(() => compilePipeline({ name: "p", shards: 1, build: applyAsync })).toThrow(BuildError);
});

test("the design's example compiles into its stages, the same at each build", () => {
  const pipeline = compilePipeline(example);
  expect(
    pipeline.stages.map(({ id, kind, upstream, downstream }) => [id, kind, upstream, downstream]),
  ).toEqual([
    ["readZnodeChanges", "ordinary", [{ type: "source", id: "readZnodeChanges" }], ["groupBy"]],
    ["groupBy", "aggregate", [{ type: "stage", id: "readZnodeChanges" }], ["writeToText"]],
    ["writeToText", "aggregate", [{ type: "stage", id: "groupBy" }], []],
  ]);
  expect(pipeline.sources).toMatchObject([
    {
      id: "readZnodeChanges",
      kind: "znode-changes",
      config: { paths: ["/dubbo/*/providers"], recursive: true, allowFeedback: false },
      consumers: ["readZnodeChanges"],
    },
  ]);
  expect(compilePipeline(example).fingerprint).toBe(pipeline.fingerprint);
});

test("the fingerprint follows the graph, and not the text of functions", () => {
  const compiled = (fn: (n: number) => number, seconds: number, name = "m") =>
    compilePipeline({
      name: "p",
      shards: 1,
      build: (root) =>
        root
          .apply(readTest<number>("in"))
          .map(beam.withName(name, fn))
          .apply(beam.windowInto(beam.fixedWindows(seconds)))
          .apply(collect("out")),
    }).fingerprint;
  const base = compiled((n) => n + 1, 1);
  expect(
    compiled((other) => other * 2 + "a rather long function text, longer than sixty characters".length, 1),
  ).toBe(base);
  expect(compiled((n) => n + 1, 1.5)).not.toBe(base);
  expect(compiled((n) => n + 1, 1, "other")).not.toBe(base);
});

test("two builds at once keep their functions apart", () => {
  let inner: ReturnType<typeof compilePipeline> | undefined;
  const build = (mark: string, nested?: () => void) => (root: beam.Root) => {
    const input = root.apply(readTest<string>("in"));
    nested?.();
    input.map((s) => `${mark}${s}`).apply(collect("out"));
  };
  const outer = compilePipeline({
    name: "outer",
    shards: 1,
    build: build("outer ", () => {
      inner = compilePipeline({ name: "inner", shards: 1, build: build("inner ") });
    }),
  });
  const payload = (pipeline: typeof outer) => {
    const bundle = pipeline.openShard("in").beginBundle(0);
    bundle.processSourceElement("x", 0);
    return bundle.finish().effects[0]!.payload;
  };
  expect([payload(outer), payload(inner!)]).toEqual(["outer x", "inner x"]);
});

test("a PCollection of another pipeline is refused", () => {
  let stolen: beam.PCollection<number> | undefined;
  compilePipeline({
    name: "a",
    shards: 1,
    build: (root) => {
      stolen = root.apply(readTest<number>("in"));
    },
  });
  expect(() =>
    compilePipeline({
      name: "b",
      shards: 1,
      build: () => {
        stolen!.map((n) => n);
      },
    }),
  ).toThrow(/another pipeline/);
});

describe("errors of user code", () => {
  const failing = (build: (input: beam.PCollection<{ n: number; text: string }>) => unknown) =>
    catching(() =>
      runCollecting((root) => build(root.apply(readTest("in"))), "whole", {
        in: [at(0, { n: 7, text: "x".repeat(1000) })],
      }),
    ) as UserCodeError;

  test("name pipeline, transform and element, and keep cause and stack", () => {
    const error = failing((input) =>
      input.map(beam.withName("parse", (row) => explode(row.n))).map((n) => n),
    );
    expect(error).toBeInstanceOf(UserCodeError);
    expect(error).toMatchObject({ pipeline: "test", transform: "map[parse]", retryable: true });
    expect(error.message).toContain("n: 7");
    expect(error.element!.length).toBeLessThanOrEqual(200);
    expect((error.cause as Error).message).toBe("7 is too much");
    expect(error.stack).toContain("explode");
  });

  test("are those of the transform that threw, not of those above it", () => {
    const error = failing((input) =>
      input.flatMap((row) => [row]).apply(beam.parDo({ process: () => explode(1) as never })),
    );
    expect(error.transform).toBe("parDo");
  });

  test("a Promise and a value that is no iterable are refused", () => {
    expect(failing((input) => input.map((row) => Promise.resolve(row))).message).toContain(
      "returned a Promise",
    );
    expect(failing((input) => input.flatMap((() => 5) as never)).message).toContain(
      "must return an iterable",
    );
  });

  test("a value that has no encoding is refused where it is grouped", () => {
    const error = failing((input) =>
      input
        .apply(beam.windowInto(beam.fixedWindows(1)))
        .map((row) => ({ k: "a", fn: () => row }))
        .apply(beam.groupBy("k")),
    );
    expect(error.message).toContain("value.fn is a function");
    expect(error.transform).toBe("groupBy/groupByKey/groupByKey");
  });
});

test("an accumulator that has no encoding is refused by transform", () => {
  const fn = {
    createAccumulator: () => new URLSearchParams(),
    addInput: (a: URLSearchParams) => a,
    mergeAccumulators: () => new URLSearchParams(),
    extractOutput: () => 0,
  };
  const run = () =>
    runCollecting(
      (root) =>
        root
          .apply(readTest<{ k: string }>("in", true))
          .apply(beam.groupBy("k").combining("k", fn, "n"))
          .apply(collect("out")),
      "whole",
      { in: [at(0, { k: "a" })] },
    );
  expect(run).toThrow(/transform "groupBy.*accumulator.*instance of URLSearchParams/);
});

test("an unknown stage, a bundle used twice, and the wrong kind of element are refused", () => {
  const pipeline = compilePipeline(example);
  expect(() => pipeline.openShard("nowhere")).toThrow(/no stage "nowhere"; it has readZnodeChanges/);
  const bundle = pipeline.openShard("readZnodeChanges").beginBundle(0);
  expect(() => bundle.processElement(new Uint8Array())).toThrow(/reads a source/);
  bundle.finish();
  expect(() => bundle.finish()).toThrow(/has been finished/);
});

test("long closures have names by position, and names given are kept", () => {
  const pipeline = compilePipeline({
    name: "p",
    shards: 1,
    build: (root) => {
      const input = root.apply(readTest<number>("in"));
      for (let i = 0; i < 2; i++)
        input.map((n) => n + "this closure is longer than sixty characters, as most are".length + i);
      input.apply(
        beam.assignTimestamps(
          (n: number) => (n > 1000 ? "a rather long way to say a number".length : n) as never,
        ),
      );
      input.apply(beam.withName("mine (really)", (all: beam.PCollection<number>) => all.map((n) => n)));
    },
  });
  expect(pipeline.stages[0]!.transforms).toEqual([
    "in",
    "map",
    "map-2",
    "assignTimestamp",
    "mine (really)/map",
  ]);
});

function explode(n: number): never {
  throw new RangeError(`${n} is too much`);
}

function catching(run: () => unknown): unknown {
  try {
    run();
  } catch (error) {
    return error;
  }
  throw new Error("nothing was thrown");
}
