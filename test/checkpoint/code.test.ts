import { takeOver } from "../../lib/checkpoint/code";
import { pausePipeline, resumePipeline } from "../../lib/checkpoint/control";
import { PipelineLayout } from "../../lib/checkpoint/layout";
import type { FunctionCode } from "../../lib/checkpoint/records";
import { openPipeline, readGeneration, type ScopePlan } from "../../lib/checkpoint/scope";
import { useZooKeeper } from "../support/zookeeper-fixture";

const PLAN: ScopePlan = {
  fingerprint: "f",
  sources: [],
  shards: { map: 1 },
  upstream: { map: [] },
  impulses: [],
  minTimestampMs: 0,
};

const fixture = useZooKeeper();
let layout: PipelineLayout;

beforeEach(async () => {
  layout = new PipelineLayout(fixture.root, "sample");
  await openPipeline(fixture.client, layout, PLAN);
});

/** What is named once a deployment with this version has begun; `there` are the versions that exist. */
async function begin(
  version: string,
  there: readonly string[],
  name = "bundle",
): Promise<FunctionCode | undefined> {
  const current = (await readGeneration(fixture.client, layout))!;
  const after = await takeOver(fixture.client, current, {
    code: { function: name, version },
    isThere: async (code) => code.function === name && there.includes(code.version),
  });
  expect(after).toEqual(await readGeneration(fixture.client, layout));
  return after.generation.code;
}

test("a later version takes over, an earlier one follows", async () => {
  expect(await begin("9", ["9"])).toEqual({ function: "bundle", version: "9" });
  expect(await begin("10", ["9", "10"])).toEqual({ function: "bundle", version: "10" });
  expect(await begin("9", ["9", "10"])).toEqual({ function: "bundle", version: "10" });
  const { version } = (await readGeneration(fixture.client, layout))!;
  await begin("10", ["10"]);
  expect((await readGeneration(fixture.client, layout))!.version).toBe(version);
});

test("a function that was removed and deployed again begins with a low number, and takes over", async () => {
  await begin("7", ["7"]);
  expect(await begin("1", ["1"])).toEqual({ function: "bundle", version: "1" });
  expect(await begin("1", ["1"], "another-name")).toEqual({ function: "another-name", version: "1" });
});

test("nothing is changed while the pipeline is paused; pausing and resuming keep what is named", async () => {
  await begin("1", ["1"]);
  await pausePipeline(fixture.client, layout);
  expect(await begin("2", ["1", "2"])).toMatchObject({ version: "1" });
  await resumePipeline(fixture.client, layout);
  expect(await begin("2", ["1", "2"])).toMatchObject({ version: "2" });
});

test("what was read before someone else's change is read again", async () => {
  const stale = (await readGeneration(fixture.client, layout))!;
  await pausePipeline(fixture.client, layout);
  const own = { code: { function: "bundle", version: "2" }, isThere: async () => true };
  expect((await takeOver(fixture.client, stale, own)).generation).toMatchObject({ state: "paused" });
  expect((await readGeneration(fixture.client, layout))!.generation.code).toBeUndefined();
});
