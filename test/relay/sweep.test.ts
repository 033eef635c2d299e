import type { ShardReply } from "../../lib/checkpoint/invocation";
import { PipelineLayout, segmentPrefix } from "../../lib/checkpoint/layout";
import { encodeCursor, encodeHead, NEW_CURSOR, NEW_HEAD } from "../../lib/checkpoint/records";
import { type CurrentGeneration, openPipeline } from "../../lib/checkpoint/scope";
import { systemClock } from "../../lib/clock";
import { silent } from "../../lib/log";
import { Dispatcher } from "../../lib/relay/dispatcher";
import { LAST_COMMIT, LOST_WORK, sweepRegularly } from "../../lib/relay/sweep";
import { connect, type ZooKeeper } from "../../lib/zookeeper";
import { type LocalZooKeeper, startZooKeeper } from "../support/zookeeper-server";

const STAGES = [
  { id: "read", upstream: [{ type: "source", id: "znodes" }] },
  { id: "group", upstream: [{ type: "stage", id: "read" }] },
] as const;
const IDLE: Omit<ShardReply, "listedZxid"> = {
  outcome: "idle",
  commits: 0,
  commitNumber: 0,
  writes: 0,
  backlog: 0,
  fed: [],
  chained: [],
  inputWatermarkMs: "-inf",
  holdMs: "+inf",
  nextTimerMs: "+inf",
  nextProcessingTimerMs: "+inf",
};

let server: LocalZooKeeper;
let client: ZooKeeper;
let current: CurrentGeneration;
let tests = 0;

beforeAll(async () => {
  server = await startZooKeeper();
  client = await connect({ connectString: server.connectString });
});

afterAll(async () => {
  await client?.close();
  await server?.stop();
});

beforeEach(async () => {
  current = await openPipeline(client, new PipelineLayout("/beamkeeper", `p-${++tests}`), {
    fingerprint: "f",
    sources: ["znodes"],
    shards: { read: 1, group: 2 },
    upstream: { read: STAGES[0].upstream, group: STAGES[1].upstream },
    impulses: [],
    minTimestampMs: 0,
  });
});

/** Sweeps on a clock that runs fast, until `rounds` sweeps have been begun; returns what was found and who was called. */
async function sweep(rounds: number, forget: (dispatcher: Dispatcher) => Promise<void>, heard = 0) {
  const called: string[] = [];
  const found: string[] = [];
  const errors: string[] = [];
  const dispatcher = new Dispatcher({
    pipeline: "p",
    stages: STAGES,
    sources: ["znodes"],
    shards: { read: 1, group: 2 },
    invoke: async ({ stage, shard, zxid }) => {
      called.push(`${stage}/${shard}`);
      return { ...IDLE, listedZxid: zxid };
    },
    clock: systemClock,
    log: silent,
    maxInFlight: 4,
    maxFailures: 5,
    onReply: () => undefined,
  });
  dispatcher.wakeAll(client.lastZxid);
  while (!dispatcher.quiet) await new Promise((resolve) => setImmediate(resolve));
  called.length = 0;
  await forget(dispatcher);
  const stop = new AbortController();
  let begun = 0;
  const clock = {
    ...systemClock,
    async sleep(ms: number) {
      if (ms === 10_000 && begun++ >= rounds) stop.abort();
      await new Promise((resolve) => setImmediate(resolve));
    },
  };
  const onLost = (stage: string, shard: number): void => void found.push(`${stage}/${shard}`);
  const log = (_level: string, message: string): void => void errors.push(message);
  const heardCommits = new Map([["znodes", heard]]);
  await sweepRegularly(
    { client, current, dispatcher, heardCommits, clock, log, intervalMs: 10_000, onLost },
    stop.signal,
  );
  await dispatcher.stop();
  return { called, found, errors };
}

test("segments that nobody was told of are found, reported as a defect, and woken", async () => {
  const { inbox } = current.scope.shard("group", 1);
  const result = await sweep(1, async () => {
    await client.create(segmentPrefix(inbox, 5), undefined, { mode: "persistent-sequential" });
  });
  expect(result).toEqual({ called: ["group/1"], found: ["group/1"], errors: [LOST_WORK] });
});

test("so is a timer that is due without anyone having heard of it", async () => {
  const { head } = current.scope.shard("group", 0);
  const result = await sweep(1, async () => {
    await client.setData(head, encodeHead({ ...NEW_HEAD, nextTimerMs: 50 }));
    const { cursor } = current.scope.source("znodes");
    await client.setData(cursor, encodeCursor({ ...NEW_CURSOR, watermarkMs: 60 }));
  });
  expect(result).toEqual({ called: ["group/0"], found: ["group/0"], errors: [LOST_WORK] });
});

test("nothing is found where nothing waits, or where the shard is called anyway", async () => {
  expect(await sweep(2, async () => undefined)).toEqual({ called: [], found: [], errors: [] });
  const { inbox } = current.scope.shard("group", 1);
  const told = await sweep(2, async (dispatcher) => {
    const { path } = await client.create(segmentPrefix(inbox, 5), undefined, {
      mode: "persistent-sequential",
    });
    dispatcher.wake("group", 1, client.lastZxid);
    await client.delete(path);
  });
  expect(told).toEqual({ called: ["group/1"], found: [], errors: [] });
});

test("what a commit appended whose reply is on its way is not suspected", async () => {
  const { inbox } = current.scope.shard("group", 1);
  const { cursor } = current.scope.source("znodes");
  const result = await sweep(2, async () => {
    await client.create(segmentPrefix(inbox, 5), undefined, { mode: "persistent-sequential" });
    await client.setData(cursor, encodeCursor({ ...NEW_CURSOR, number: 1, ids: ["a"] }));
  });
  expect(result).toEqual({ called: [], found: [], errors: [] });
});

test("what another relay appended before it ended the source is suspected once this one knows of the end", async () => {
  const { inbox } = current.scope.shard("group", 1);
  const { cursor } = current.scope.source("znodes");
  const ended = { ...NEW_CURSOR, number: 1, ids: ["a"], watermarkMs: Number.POSITIVE_INFINITY };
  const end = async (): Promise<void> => {
    await client.create(segmentPrefix(inbox, 5), undefined, { mode: "persistent-sequential" });
    await client.setData(cursor, encodeCursor(ended));
  };
  expect(await sweep(2, end)).toEqual({ called: [], found: [], errors: [] });
  const known = await sweep(1, async () => undefined, LAST_COMMIT);
  expect(known.found).toEqual(["group/1"]);
});
