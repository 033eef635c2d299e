import { dirname, join } from "node:path";
import * as beam from "apache-beam";
import { compilePipeline } from "../../lib/index";
import { type BundleShape, type RunResult, runInMemory, SHAPES } from "../support/memory-runner";
import { mochaTests } from "../support/mocha-suite";

import directRunners = require("apache-beam/runners/direct_runner");
import runners = require("apache-beam/runners/runner");

/** The suites that apache-beam 2.49.0 brings for runners, and how many tests each of them has on one. */
const SUITES = { primitives_test: 14, combine_test: 7, wordcount: 2 };

/** What mocha says in place of a suite on a runner that is somewhere else. */
const ELSEWHERE = /^primitives module: (Portable|multi-pipeline @dataflow: Dataflow) tests not run because/;

/** The compiled suites ask the SDK for its runners when they are loaded or run, and get ours. */
let shape: BundleShape = "whole";
const ours = {
  async run(build: (root: beam.Root) => unknown) {
    const result = runInMemory(compilePipeline({ name: "suite", build, shards: 1 }), {}, { shape });
    return {
      counters: async () => unqualified(result.counters),
      distributions: async () => unqualified(result.distributions),
    };
  },
};
Object.assign(directRunners, { directRunner: () => ours });
Object.assign(runners, { createRunner: () => ours });

const folder = join(dirname(require.resolve("apache-beam")), "../../../dist/test");
const suites = Object.keys(SUITES).map((name) => ({
  name,
  tests: mochaTests(() => require(join(folder, `${name}.js`))).filter((each) => !ELSEWHERE.test(each.name)),
}));

test("the suites are there as a whole", () => {
  expect(Object.fromEntries(suites.map(({ name, tests }) => [name, tests.length]))).toEqual(SUITES);
  expect(beam.createRunner()).toBe(ours);
});

describe.each(SHAPES)("in bundles of shape %j", (each) => {
  beforeEach(() => {
    shape = each;
    // One of the pipelines prints what it counted.
    jest.spyOn(console, "log").mockImplementation(() => {});
  });
  afterEach(() => jest.restoreAllMocks());

  describe.each(suites)("$name", ({ tests }) => {
    for (const { name, run } of tests) test(name, async () => void (await run()));
  });
});

function unqualified<T>(metrics: RunResult["counters"] | ReadonlyMap<string, T>): Record<string, unknown> {
  return Object.fromEntries(
    [...metrics].map(([name, value]) => [name.slice(name.lastIndexOf(":") + 1), value]),
  );
}
