import { runBatch } from "../../lib/batch/batch";
import { compilePipeline } from "../../lib/beam/pipeline";
import { PipelineLayout } from "../../lib/checkpoint/layout";
import { systemClock } from "../../lib/clock";
import { silent } from "../../lib/log";
import { planPipeline } from "../../lib/runner/deployment";
import { connect, type ZooKeeperClient } from "../../lib/zookeeper";
import { digitsPipeline } from "../support/batch-pipeline";
import { beamkeeper, type CommandResult } from "../support/command";
import { type LocalZooKeeper, startZooKeeper } from "../support/zookeeper-server";

let ensemble: LocalZooKeeper;
let client: ZooKeeperClient;
const definition = digitsPipeline({ schedule: { cron: "0 * * * *", timeZone: "Europe/Berlin" } });

beforeAll(async () => {
  ensemble = await startZooKeeper();
  client = await connect({ connectString: ensemble.connectString });
  // A driver whose bundle function never answers: what starts is at work until it is cancelled.
  const stop = new AbortController();
  stop.abort();
  await batch(stop.signal);
});

afterAll(async () => {
  await client?.close();
  await ensemble?.stop();
});

const command = (...args: string[]): Promise<CommandResult> =>
  beamkeeper({ ZOOKEEPER_CONNECT: ensemble.connectString }, ...args);

async function json(...args: string[]) {
  const { output, errors, code } = await command(...args, "--json");
  expect([code, errors]).toEqual([0, ""]);
  return JSON.parse(output);
}

function batch(signal: AbortSignal): Promise<unknown> {
  return runBatch(
    {
      client,
      layout: new PipelineLayout("/beamkeeper", "digits"),
      pipeline: planPipeline(compilePipeline(definition)),
      schedule: definition.schedule,
      invoke: () => new Promise(() => undefined),
      ...{ clock: systemClock, log: silent, maxInFlight: 1, maxFailures: 1, stays: false },
    },
    signal,
  );
}

/** Lets the batch function start what waits, and takes it away again. */
async function started(count: number): Promise<string[]> {
  const stop = new AbortController();
  const driving = batch(stop.signal);
  for (;;) {
    const { runs } = await json("runs", "list", "digits");
    const ids = runs
      .filter((run: { state: string }) => run.state === "running")
      .map((run: { id: string }) => run.id);
    if (ids.length >= count) {
      stop.abort();
      await driving;
      return ids;
    }
    await systemClock.sleep(20);
  }
}

test("a run is asked for, started, shown and cancelled", async () => {
  expect((await command("runs", "list", "digits")).output).toMatch(/no run yet/);
  const { run } = await json("runs", "start", "digits");
  expect((await command("runs", "show", "digits", run)).output).toMatch(/is queued/);
  expect(await started(1)).toEqual([run]);
  expect((await command("runs", "list", "digits")).output).toMatch(/run +state .*\nmanual-\S+ +running/);
  expect(await json("runs", "cancel", "digits", run)).toEqual({ run, state: "cancelled" });
  expect(await json("runs", "show", "digits", run)).toMatchObject({
    state: "cancelled",
    error: "cancelled by hand",
  });
  expect((await command("runs", "show", "digits", run)).output).toMatch(/cancelled \(manual, attempt 1\)/);
});

test("a backfill over the hour that the autumn has twice, latest first, once", async () => {
  const range = ["--from", "2026-10-25T00:00:00Z", "--to", "2026-10-25T03:00:00Z"];
  const dry = await json("backfill", "digits", ...range, "--dry-run");
  expect(dry).toEqual({
    ...{ dryRun: true, known: 0 },
    runs: ["tick-20261025T000000Z", "tick-20261025T010000Z", "tick-20261025T020000Z"],
  });
  const asked = await json("backfill", "digits", ...range, "--reverse", "--parallel", "2");
  expect(asked.runs).toEqual(dry.runs.toReversed());
  expect(await json("backfill", "digits", ...range)).toMatchObject({ runs: [], known: 3 });
  expect(await started(2)).toEqual(expect.arrayContaining(asked.runs.slice(0, 2)));
  // The third waits: it is taken out of the queue.
  expect(await json("runs", "cancel", "digits", asked.runs[2])).toMatchObject({ state: "cancelled" });
  expect((await json("runs", "list", "digits")).runs).not.toContainEqual(
    expect.objectContaining({ state: "queued" }),
  );
});

test.each([
  [
    "an action that is none",
    ["runs", "stop", "digits"],
    /runs has no "stop"; it has list, show, start, cancel/,
    2,
  ],
  ["no pipeline", ["runs", "list"], /runs list: name one pipeline/, 2],
  ["no run", ["runs", "show", "digits"], /name one pipeline and one of its runs/, 2],
  ["a run that is not there", ["runs", "show", "digits", "x"], /digits has no run "x"/, 1],
  ["a run to cancel that is not there", ["runs", "cancel", "digits", "x"], /digits has no run "x"/, 1],
  ["a pipeline that is not there", ["runs", "list", "x"], /there is no pipeline at \/beamkeeper\/x/, 1],
  [
    "an option of another verb",
    ["runs", "list", "digits", "--reverse"],
    /runs list has no option --reverse/,
    2,
  ],
  [
    "a time that is none",
    ["backfill", "digits", "--from", "monday", "--to", "2026-01-02"],
    /needs --from/,
    2,
  ],
  [
    "a range that is none",
    ["backfill", "digits", "--from", "2026-01-02", "--to", "2026-01-02"],
    /--from must be/,
    2,
  ],
  [
    "a range that is too long",
    ["backfill", "digits", "--from", "2026-01-01", "--to", "2027-01-01"],
    /more than 1,000 ticks .* in parts/,
    2,
  ],
  ["draining a bounded pipeline", ["drain", "digits"], /is bounded: each of its runs ends by itself/, 1],
] as const)("%s", async (_name, args, message, expected) => {
  const { errors, code } = await command(...args);
  expect(errors).toMatch(message);
  expect(code).toBe(expected);
});
