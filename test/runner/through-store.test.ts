/**
 * The tests of pipelines once more, each through the real runner and the commits of a real server: see `runThroughStore`.
 */
import type * as beam from "apache-beam";
import { listSideInput } from "../../lib/index";
import { at, collect, readTest, runCollectingAsync } from "../support/collect";
import type { RunResult } from "../support/memory-runner";
import { useLabServer } from "../support/shard-lab";
import { runThroughStore, type StorePlace } from "../support/store-run";

let client: StorePlace["client"];
let runs = 0;

useLabServer((test) => {
  ({ client } = test);
});

type Run = Parameters<typeof runThroughStore> extends [unknown, ...infer Rest] ? Rest : never;

const mockRun = (...run: Run): Promise<RunResult> =>
  runThroughStore({ client, results: `/run-${++runs}` }, ...run);

jest.mock("../support/memory-runner", () => ({
  ...jest.requireActual("../support/memory-runner"),
  SHAPES: [{ seed: 11 }],
  runInMemoryAsync: (...run: Run) => mockRun(...run),
  watermarksAreLearnedAtOnce: false,
  testWhereWatermarksAreLearnedAtOnce: test.skip,
}));

const FILES = [
  ...["side-inputs", "stateful", "triggers", "lifting", "pipelines", "async", "pipeline-transcripts"],
  ...["shapes", "windows"],
];
describe.each(FILES)("%s", (file) => {
  require(`../beam/${file}.test`);
});

test("a side input of megabytes, which no commit can hold, goes to every shard", async () => {
  const build = (root: beam.Root) => {
    const side = root.apply(readTest<string>("side", true));
    root
      .apply(readTest<number>("in"))
      .map((n, { side }) => `${n}: ${side.lookup().reduce((sum, text) => sum + text.length, 0)}`, {
        side: listSideInput(side),
      })
      .apply(collect("out"));
  };
  const texts = Array.from({ length: 40 }, (_, n) => at(n, String(n % 10).repeat(50_000)));
  const result = await runCollectingAsync(build, "whole", { side: texts, in: [at(0, 1), at(0, 2)] }, 2);
  expect(result.values("out")).toEqual(["1: 2000000", "2: 2000000"]);
});
