import { fork } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { type BatchDependencies, createBatchHandler } from "../../functions/batch";
import { createBundleHandler } from "../../functions/bundle";
import { endRun, enqueue } from "../../lib/batch/ledger";
import type { PipelineDefinition } from "../../lib/beam/pipeline";
import { DirectoryBlobs } from "../../lib/checkpoint/blobs";
import { pausePipeline, resumePipeline } from "../../lib/checkpoint/control";
import { DirectoryFiles } from "../../lib/checkpoint/files";
import type { ShardInvoker, ShardReply } from "../../lib/checkpoint/invocation";
import { PipelineLayout } from "../../lib/checkpoint/layout";
import {
  RUN_HISTORY,
  type RunRecord,
  readRun,
  readScheduleRecord,
  tickRunId,
} from "../../lib/checkpoint/run";
import { systemClock } from "../../lib/clock";
import { silent } from "../../lib/log";
import { readSettings } from "../../lib/settings";
import { connect, type ZooKeeperClient } from "../../lib/zookeeper";
import { type BatchSampleOptions, digitsPipeline } from "../support/batch-pipeline";
import { readTree, temporaryFolder } from "../support/deployment";
import { useProgram } from "../support/program";
import { type LocalZooKeeper, startZooKeeper } from "../support/zookeeper-server";

const MINUTE = 60_000;
const NOON = Date.parse("2026-11-23T12:00:00Z");
const SCHEDULE = { cron: "* * * * *" };
const program = useProgram("batch-process");
/** The sums of the numbers below 40 by their last digit. */
const SUMS = Array.from({ length: 10 }, (_, digit) => String(4 * digit + 60));

let ensemble: LocalZooKeeper;
let client: ZooKeeperClient;
let folder: ReturnType<typeof temporaryFolder>;
let environment: Record<string, string>;

beforeAll(async () => {
  folder = temporaryFolder();
  ensemble = await startZooKeeper({ config: { tickTime: "500" } });
  client = await connect({ connectString: ensemble.connectString });
  environment = {
    ZOOKEEPER_CONNECT: ensemble.connectString,
    BEAMKEEPER_OUTPUT: folder.path,
    BEAMKEEPER_BLOB_STORE: join(folder.path, "blobs"),
  };
});

afterAll(async () => {
  await client?.close();
  await ensemble?.stop();
  folder?.remove();
});

/** A clock that can be put forward, for ticks; what waits, waits in real time. */
function movable() {
  let aheadMs = NOON + 1_000 - systemClock.now();
  const clock = { ...systemClock, now: () => systemClock.now() + aheadMs };
  return {
    clock,
    forward: (ms: number): void => {
      aheadMs += ms;
    },
  };
}

interface Lab {
  readonly layout: PipelineLayout;
  /** One invocation of the batch function for this tick. */
  batch(tickMs?: number, options?: Partial<BatchDependencies>): Promise<Record<string, string>>;
  /** The bundle function. */
  readonly bundle: ShardInvoker;
  run(tickMs: number): Promise<RunRecord>;
  results(runId: string): Promise<string[]>;
}

function lab(options: BatchSampleOptions & { name: string }, clock = movable().clock): Lab {
  const definition: PipelineDefinition = digitsPipeline(options);
  const settings = readSettings(environment);
  const shared = { settings, pipelines: [definition], clock, log: silent };
  const handle = createBundleHandler({
    ...shared,
    connect: async () => client,
    files: new DirectoryFiles(folder.path),
    blobs: new DirectoryBlobs(settings.blobStore),
  });
  const bundle: ShardInvoker = async (request) =>
    (await handle(JSON.parse(JSON.stringify(request)), context)) as ShardReply;
  const layout = new PipelineLayout(settings.root, options.name);
  return {
    layout,
    bundle,
    async batch(tickMs, changed = {}) {
      const handler = createBatchHandler({
        ...{ ...shared, connect: () => connect({ ...settings }), invoke: bundle },
        ...changed,
      });
      const event = tickMs === undefined ? {} : { tick: new Date(tickMs).toISOString() };
      const ends = (await handler(event, context)) as Record<string, Record<string, string>>;
      return ends[options.name]!;
    },
    async run(tickMs) {
      return (await readRun(client, layout, tickRunId(tickMs)))!;
    },
    async results(runId) {
      return [...(await readTree(client, `/results/${options.name}/${runId}`)).values()].sort();
    },
  };
}

const context = { getRemainingTimeInMillis: () => 900_000 };
const thisMinute = (): number => Math.floor(Date.now() / MINUTE) * MINUTE;

/** An invoker that holds every call from the `nth` on until `open` is called. */
function gate(invoke: ShardInvoker, nth = 1) {
  let calls = 0;
  let open = (): void => undefined;
  let reached = (): void => undefined;
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  const atGate = new Promise<void>((resolve) => {
    reached = resolve;
  });
  const gated: ShardInvoker = async (request) => {
    calls += 1;
    if (calls >= nth) {
      reached();
      await opened;
    }
    return invoke(request);
  };
  return { gated, open, atGate };
}

test("a tick that is delivered twice at once, and once more later, runs once", async () => {
  const { batch, run, results, layout } = lab({ name: "twice", schedule: SCHEDULE });
  const tick = NOON;
  const ends = await Promise.all([batch(tick), batch(tick)]);
  expect(ends.flatMap((end) => Object.keys(end))).toContain(tickRunId(tick));
  expect(await batch(tick)).toEqual({});
  expect(await results(tickRunId(tick))).toEqual(SUMS.toSorted());
  expect(await run(tick)).toMatchObject({ state: "succeeded", attempt: 1, error: null, cause: "schedule" });
  expect((await run(tick)).counters).toMatchObject({ failures: 0, deadLettered: 0 });
  const stored = await readScheduleRecord(client, layout);
  expect(stored!.record).toMatchObject({
    active: [],
    queue: [],
    ended: [tickRunId(tick)],
    highestTickMs: tick,
  });
  // What the run worked with is gone; what it did is kept.
  expect((await client.getChildren(layout.run(tickRunId(tick)).path)).children).toEqual(["control"]);
});

test.each([
  { nth: 1, point: "after" },
  { nth: 2, point: "before" },
] as const)(
  "a driver that is killed $point commit $nth is followed by another, and nothing comes twice",
  async (death) => {
    const name = `killed-${death.nth}`;
    const { batch, results, run } = lab({ name, schedule: SCHEDULE }, systemClock);
    const tick = thisMinute();
    const driver = fork(program.file, {
      env: {
        ...process.env,
        ...environment,
        BEAMKEEPER_SESSION_TIMEOUT_MS: "1000",
        TEST_PIPELINE: JSON.stringify({ name, schedule: SCHEDULE }),
        TEST_EVENT: JSON.stringify({ tick: new Date(tick).toISOString() }),
        TEST_DEATH: JSON.stringify(death),
      },
    });
    try {
      expect((await once(driver, "exit"))[1]).toBe("SIGKILL");
    } finally {
      driver.kill("SIGKILL");
    }
    expect(await run(tick)).toMatchObject({ state: "running" });
    // Its session has not ended yet, so the run still has its driver.
    expect(await batch()).not.toHaveProperty(tickRunId(tick));
    const stop = new AbortController();
    const onEnd = (): void => stop.abort();
    const adopted = await batch(undefined, { stays: true, signal: stop.signal, onEnd });
    expect(adopted).toMatchObject({ [tickRunId(tick)]: "succeeded" });
    expect(await results(tickRunId(tick))).toEqual(SUMS.toSorted());
  },
);

test("after a cancel nothing is committed any more, not even what was under way", async () => {
  const { batch, bundle, layout, run } = lab({ name: "cancelled", schedule: SCHEDULE });
  const tick = NOON;
  const held = gate(bundle, 2);
  const driving = batch(tick, { invoke: held.gated });
  await held.atGate;
  const end = { state: "cancelled", endedMs: 7, counters: null, error: "by hand" } as const;
  expect(await endRun(client, layout, tickRunId(tick), end)).toBe(true);
  const scope = layout.run(tickRunId(tick));
  const heads = (await readTree(client, scope.stages)).size;
  const before = await readTree(client, scope.stages);
  held.open();
  await driving;
  expect(await readTree(client, scope.stages)).toEqual(before);
  expect(heads).toBeGreaterThan(0);
  expect(await readTree(client, "/results/cancelled")).toEqual(new Map());
  expect(await run(tick)).toMatchObject({ state: "cancelled", error: "by hand", endedMs: 7 });
  expect(await endRun(client, layout, tickRunId(tick), end)).toBe(false);
});

test("a queued run starts when the one before it has ended, and each gives its own results", async () => {
  const time = movable();
  const { batch, bundle, results, layout } = lab(
    { name: "queued", schedule: { ...SCHEDULE, overlap: "queue" } },
    time.clock,
  );
  const tick = NOON;
  const held = gate(bundle);
  const driving = batch(tick, { invoke: held.gated });
  await held.atGate;
  time.forward(MINUTE);
  expect(await batch(tick + MINUTE)).toEqual({});
  const queued = (await readScheduleRecord(client, layout))!.record;
  expect(queued.active).toEqual([tickRunId(tick)]);
  expect(queued.queue.map(({ id }) => id)).toEqual([tickRunId(tick + MINUTE)]);
  held.open();
  expect(await driving).toEqual({ [tickRunId(tick)]: "succeeded", [tickRunId(tick + MINUTE)]: "succeeded" });
  for (const at of [tick, tick + MINUTE]) expect(await results(tickRunId(at))).toEqual(SUMS.toSorted());
});

test("the next run takes the place of the one before it", async () => {
  const time = movable();
  const { batch, bundle, results, run } = lab(
    { name: "replaced", schedule: { ...SCHEDULE, overlap: "cancel-previous" } },
    time.clock,
  );
  const tick = NOON;
  const held = gate(bundle);
  const driving = batch(tick, { invoke: held.gated });
  await held.atGate;
  time.forward(MINUTE);
  expect(await batch(tick + MINUTE)).toEqual({ [tickRunId(tick + MINUTE)]: "succeeded" });
  held.open();
  await driving;
  expect(await run(tick)).toMatchObject({ state: "cancelled", error: "the next run took its place" });
  expect(await results(tickRunId(tick))).toEqual([]);
  expect(await results(tickRunId(tick + MINUTE))).toEqual(SUMS.toSorted());
});

test("what was missed while nobody came is made up for, in order", async () => {
  const time = movable();
  const { batch, layout } = lab(
    { name: "missed", schedule: { ...SCHEDULE, overlap: "queue", catchUpMs: 3 * MINUTE } },
    time.clock,
  );
  await batch();
  time.forward(20 * MINUTE);
  const now = Math.floor(time.clock.now() / MINUTE) * MINUTE;
  const ends = Object.keys(await batch());
  expect(ends.slice(0, 3)).toEqual([now - 2 * MINUTE, now - MINUTE, now].map(tickRunId));
  expect((await readScheduleRecord(client, layout))!.record.ended.toReversed()).toEqual(ends);
});

test("a failed attempt goes on from where it stood; without retries the run has failed", async () => {
  let failures = 2;
  const visit = (sum: number): void => {
    if (sum === 96 && failures > 0) throw new RangeError("not yet");
  };
  const failing =
    (invoke: ShardInvoker): ShardInvoker =>
    (request) =>
      invoke(request).catch((error) => {
        failures -= 1;
        throw error;
      });
  const patient = lab({ name: "patient", schedule: { ...SCHEDULE, retries: 2 }, visit });
  const tick = NOON;
  expect(await patient.batch(tick, { maxFailures: 1, invoke: failing(patient.bundle) })).toEqual({
    [tickRunId(tick)]: "succeeded",
  });
  expect(await patient.run(tick)).toMatchObject({ state: "succeeded" });
  expect((await patient.run(tick)).attempt).toBeGreaterThan(1);
  expect(await patient.results(tickRunId(tick))).toEqual(SUMS.toSorted());

  failures = 100;
  const strict = lab({ name: "strict", schedule: SCHEDULE, visit });
  expect(await strict.batch(tick, { maxFailures: 1 })).toEqual({ [tickRunId(tick)]: "failed" });
  const run = await strict.run(tick);
  expect(run).toMatchObject({ attempt: 1, state: "failed" });
  expect(run.error).toMatch(/not yet/);
  expect(run.counters!.failures).toBeGreaterThan(0);
});

test("a pause stops a run where it stands, and it goes on when the pipeline is resumed", async () => {
  const { batch, bundle, layout, results, run } = lab({ name: "paused", schedule: SCHEDULE });
  const tick = NOON;
  const held = gate(bundle, 2);
  const driving = batch(tick, { invoke: held.gated });
  await held.atGate;
  await pausePipeline(client, layout);
  held.open();
  expect(await driving).toEqual({ [tickRunId(tick)]: "interrupted" });
  expect(await batch()).toEqual({});
  expect(await results(tickRunId(tick))).toEqual([]);
  await resumePipeline(client, layout);
  expect(await batch()).toMatchObject({ [tickRunId(tick)]: "succeeded" });
  expect(await results(tickRunId(tick))).toEqual(SUMS.toSorted());
  expect(await run(tick)).toMatchObject({ state: "succeeded" });
});

test("a run whose time in the function is over is finished by the next invocation", async () => {
  const { batch, bundle, results } = lab({ name: "long", schedule: SCHEDULE });
  const tick = NOON;
  const stop = new AbortController();
  let calls = 0;
  const invoke: ShardInvoker = async (request) => {
    calls += 1;
    if (calls === 2) stop.abort();
    return bundle(request);
  };
  expect(await batch(tick, { invoke, signal: stop.signal })).toEqual({ [tickRunId(tick)]: "interrupted" });
  expect(await batch()).toMatchObject({ [tickRunId(tick)]: "succeeded" });
  expect(await results(tickRunId(tick))).toEqual(SUMS.toSorted());
});

test("a run is finished by the code that started it, where the code of now has another graph", async () => {
  const first = lab({ name: "deployed", schedule: SCHEDULE });
  const second = lab({ name: "deployed", schedule: SCHEDULE, withMore: true });
  const versions: Record<string, ShardInvoker> = { 1: first.bundle, 2: second.bundle };
  const deployed = (version: string, there: readonly string[]) => {
    const calls: string[] = [];
    const invoke: ShardInvoker = (request, named) => {
      calls.push(named!);
      return versions[named!]!(request);
    };
    const isThere = async (code: { version: string }) => there.includes(code.version);
    return { calls, invoke, code: { code: { function: "bundle", version }, isThere } };
  };
  const one = deployed("1", ["1"]);
  const stop = new AbortController();
  const stopping: ShardInvoker = (request, version) => {
    stop.abort();
    return one.invoke(request, version);
  };
  const id = tickRunId(NOON);
  expect(await first.batch(NOON, { ...one, invoke: stopping, signal: stop.signal })).toEqual({
    [id]: "interrupted",
  });
  const two = deployed("2", ["1", "2"]);
  expect(await second.batch(NOON, two)).toMatchObject({ [id]: "succeeded" });
  expect(new Set(two.calls)).toEqual(new Set(["1"]));
  expect(await first.results(id)).toEqual(SUMS.toSorted());
  await enqueue(client, second.layout, [{ id: "manual-1", cause: "manual", timeMs: NOON, limit: 0 }]);
  expect(await second.batch(undefined, two)).toMatchObject({ "manual-1": "succeeded" });
  expect(two.calls).toContain("2");
  expect(await second.results("manual-1")).toEqual([...SUMS, ...SUMS.map(() => "more")].toSorted());
});

test("a run whose code is gone, where the code of now has another graph, fails and says what to do", async () => {
  const first = lab({ name: "gone", schedule: SCHEDULE });
  const second = lab({ name: "gone", schedule: SCHEDULE, withMore: true });
  await first.batch(NOON);
  await enqueue(client, first.layout, [{ id: "manual-1", cause: "manual", timeMs: NOON, limit: 0 }]);
  const going = new AbortController();
  const invoke: ShardInvoker = (request) => {
    going.abort();
    return first.bundle(request);
  };
  await first.batch(undefined, { invoke, signal: going.signal });
  expect(await second.batch()).toMatchObject({ "manual-1": "failed" });
  expect((await readRun(client, second.layout, "manual-1"))?.error).toMatch(
    /^the run was started by code with another graph; start it again with the code of now/,
  );
});

test("the history is bounded, and what it forgets is removed", async () => {
  const { batch, layout } = lab({ name: "history", numbers: 0 });
  const runs = Array.from({ length: RUN_HISTORY + 3 }, (_, n) => ({
    ...{ id: `manual-${n}`, cause: "manual" as const, timeMs: n, limit: 4 },
  }));
  await batch();
  await enqueue(client, layout, runs);
  await batch();
  const { record } = (await readScheduleRecord(client, layout))!;
  expect(record.ended).toHaveLength(RUN_HISTORY);
  await batch();
  const { children } = await client.getChildren(layout.runs);
  expect(children.toSorted()).toEqual(record.ended.toSorted());
});
