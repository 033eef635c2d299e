import * as beam from "apache-beam";
import * as runnerApi from "apache-beam/proto/beam_runner_api";
import { sum } from "apache-beam/transforms/combiners";
import { SideInputParam } from "apache-beam/transforms/pardo";
import { combineGlobally, compilePipeline, UnsupportedPipelineError, writeToText } from "../../lib/index";
import { collect, readTest } from "../support/collect";

function problemsOf(build: (root: beam.Root) => unknown) {
  try {
    compilePipeline({ name: "test", build, shards: 1 });
  } catch (error) {
    if (error instanceof UnsupportedPipelineError) return error;
    throw error;
  }
  throw new Error("it compiled");
}

test("everything that is not supported is reported, all at once, by transform", () => {
  const error = problemsOf((root) => {
    const input = root.apply(readTest<number>("in"));
    const side = root.apply(readTest<number>("side"));
    const merged = side.apply(beam.withName("merging", beam.windowInto(beam.sessions(5))));
    const fixed = side.apply(beam.withName("fixed", beam.windowInto(beam.fixedWindows(5))));
    const count = (n: number, { s }: { s: { lookup(): Iterable<number> } }) => n + [...s.lookup()].length;
    input.map(count, { s: beam.iterableSideInput(merged) });
    input.map(count, { s: beam.iterableSideInput(fixed) });
    input.map(count, { s: beam.iterableSideInput(side) });
    const multimap = { accessPattern: "beam:side_input:multimap:v1", toValue: (all: unknown) => all };
    fixed.map(count, { s: new SideInputParam(fixed, multimap) as never });
    input.apply(beam.windowInto(beam.sessions(0)));
    input.apply(beam.withName("slide", beam.windowInto(beam.slidingWindows(10, 10))));
    input.apply(beam.windowInto(beam.fixedWindows(0.0001)));
    input.apply(beam.groupBy((n: number) => n));
    const base = runnerApi.WindowingStrategy.create({
      allowedLateness: -5000n,
      trigger: { trigger: { oneofKind: "afterAll", afterAll: { subtriggers: [] } } },
      accumulationMode: runnerApi.AccumulationMode_Enum.RETRACTING,
    });
    input.apply(beam.withName("late", beam.windowInto(beam.fixedWindows(1), base)));
    beam.P([input, input.apply(beam.windowInto(beam.fixedWindows(2)))]).apply(beam.flatten());
    fixed.apply(combineGlobally(sum));
  });
  const found = error.problems.map(({ transform, what }) => `${transform}: ${what}`);
  expect(found).toEqual([
    "combineGlobally: its input is not in the global window, and no window comes about without an element to give a default",
    "map-4: side inputs with the access pattern beam:side_input:multimap:v1 are not supported",
    "windowInto: sessions need a gap of at least a millisecond",
    "slide: the SDK's sliding windows with a period that is not shorter than the size are not supported",
    "windowInto-2: fixed windows need a size of at least a millisecond",
    "late: an allowed lateness of -5000 ms is not one",
    "late: retracting panes are not supported",
    "late: the trigger afterAll has no parts",
    'map: its side input "s" has sessions with a gap of 5000 ms, and windows that merge can\'t be looked up',
    'map-2: its side input "s" has fixed windows of 5000 ms, while its input is in the global window, which is in none of them',
    expect.stringMatching(/^map-3\/side\.s: it groups an unbounded source in the global window/),
    expect.stringMatching(
      /^groupBy\/groupByKey\/groupByKey: it groups an unbounded source in the global window/,
    ),
    "flatten: its inputs differ in windowing (global windows, fixed windows of 2000 ms)",
  ]);
  for (const { remedy } of error.problems) expect(remedy).toMatch(/^[A-Z].*\.$/);
  for (const line of found) if (typeof line === "string") expect(error.message).toContain(line);
});

test("writeToText of an unbounded source in the global window is refused by name", () => {
  const error = problemsOf((root) => root.apply(readTest<string>("in")).apply(writeToText("out/x")));
  expect(error.message).toContain("writeToText");
  expect(error.message).toContain("windowInto(fixedWindows(seconds))");
});

test.each([
  ["the same", "out/a", "out/a", {}, true],
  ["the same written otherwise", "out/a", "./out//b/../a", {}, true],
  ["another prefix", "out/a", "out/b", {}, false],
  ["another suffix", "out/a", "out/a", { suffix: ".csv" }, false],
])("two writeToText of one pipeline, %s", (_name, first, second, options, clash) => {
  const build = (root: beam.Root): void => {
    const input = root.apply(readTest<string>("in")).apply(beam.windowInto(beam.fixedWindows(1)));
    input.apply(writeToText(first));
    input.apply(writeToText(second, options));
  };
  if (!clash) expect(compilePipeline({ name: "test", build, shards: 1 }).stages).toHaveLength(3);
  else {
    expect(problemsOf(build).problems).toEqual([
      {
        transform: expect.stringContaining("writeToText"),
        what: expect.stringMatching(
          /overwrite the files out\/a\.\.\., which ".*writeToText.*" writes as well/,
        ),
        remedy: "Give each of them a prefix or suffix of its own.",
      },
    ]);
  }
});

test("transforms of other languages and unknown DoFns are refused", () => {
  const error = problemsOf((root) => {
    const input = root.apply(readTest<number>("in"));
    input.apply(
      beam.withName(
        "foreign",
        (_input: beam.PCollection<number>, _pipeline: unknown, proto: runnerApi.PTransform) => {
          proto.spec = runnerApi.FunctionSpec.create({ urn: "beam:transform:sql:v1" });
        },
      ),
    );
    input.apply(beam.withName("odd", beam.parDo({} as never)));
  });
  expect(error.problems.map(({ transform }) => transform)).toEqual(["foreign", "odd"]);
});

test("a pipeline without transforms is refused", () => {
  expect(problemsOf(() => {}).message).toContain("it has no transforms");
});

test("fixed windows that differ below a second are different", () => {
  const error = problemsOf((root) => {
    const input = root.apply(readTest<number>("in"));
    const halves = input.apply(beam.windowInto(beam.fixedWindows(0.5)));
    const others = input.apply(beam.windowInto(beam.fixedWindows(0.7)));
    beam.P([halves, others]).apply(beam.flatten()).apply(collect("out"));
  });
  expect(error.problems).toHaveLength(1);
});
