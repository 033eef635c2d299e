import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { definePipeline, type ReadEventsOptions, readEvents, writeToZnodes } from "beamkeeper";
import { compilePipeline } from "../../lib/beam/pipeline";
import { DirectoryBlobs } from "../../lib/checkpoint/blobs";
import { drainPipeline, pausePipeline, resumePipeline } from "../../lib/checkpoint/control";
import { MAX_RECENT_IDS } from "../../lib/checkpoint/event-ids";
import { decodeEventRecord, type EventRecord } from "../../lib/checkpoint/event-record";
import type { PlannedEventSource } from "../../lib/checkpoint/event-source";
import { PipelineLayout, segmentNames, segmentPrefix } from "../../lib/checkpoint/layout";
import { encodeCursor, NEW_CURSOR } from "../../lib/checkpoint/records";
import { type CurrentGeneration, readGeneration } from "../../lib/checkpoint/scope";
import { decodeSegment } from "../../lib/checkpoint/segment";
import { readRecord } from "../../lib/checkpoint/stored-record";
import { type Clock, systemClock } from "../../lib/clock";
import { RecordsRefusedError } from "../../lib/ingest/errors";
import type { IncomingRecord } from "../../lib/ingest/incoming";
import { EventIntake, type IntakeLimits } from "../../lib/ingest/intake";
import { silent } from "../../lib/log";
import { EventSourceRelay } from "../../lib/relay/event-source-relay";
import { planPipeline } from "../../lib/runner/deployment";
import { randomNumbers } from "../../lib/simulation/random-numbers";
import { ConnectionLossError, type ZooKeeperClient } from "../../lib/zookeeper";
import { useZooKeeper } from "../support/zookeeper-fixture";

const LIMITS: IntakeLimits = { commitSizeBytes: 512 * 1024, segmentSizeBytes: 128 * 1024, maxBacklog: 1_000 };
const NOW_MS = 1_700_000_000_000;

const fixture = useZooKeeper({ client: false });
let layout: PipelineLayout;
let folder: string;
let nowMs: number;
let planned: PlannedEventSource;

beforeEach(() => {
  layout = new PipelineLayout(fixture.root, "orders");
  folder = mkdtempSync(join(tmpdir(), "beamkeeper-intake-"));
  nowMs = NOW_MS;
});

afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** Takes records into a pipeline with one source, of two shards. */
function intake(
  options: ReadEventsOptions = { from: "direct" },
  limits: Partial<IntakeLimits> = {},
  client: ZooKeeperClient = fixture.writer,
  sleep: Clock["sleep"] = systemClock.sleep,
): EventIntake {
  const definition = definePipeline({
    name: "orders",
    shards: 2,
    build: (root) =>
      root
        .apply(readEvents(options))
        .apply(writeToZnodes(({ id, text }) => ({ path: `/${id}`, data: text }))),
  });
  const { plan, eventSources } = planPipeline(compilePipeline(definition));
  planned = eventSources[0]!;
  const clock: Clock = { ...systemClock, sleep, now: () => nowMs };
  const blobs = new DirectoryBlobs(folder);
  return new EventIntake({
    client,
    layout,
    plan,
    blobs,
    clock,
    log: silent,
    limits: { ...LIMITS, ...limits },
  });
}

function record(id: string, more: Partial<IncomingRecord> = {}, data = id): IncomingRecord {
  const event = {
    id,
    from: "direct",
    data: Buffer.from(data),
    key: null,
    attributes: {},
    arrivalMs: nowMs,
  } as const;
  return { record: event, timestampMs: undefined, isKnownById: true, item: id, ...more };
}

/** The inbox of the source's only shard, with so many segments that nobody takes. */
async function crowdedInbox(segments: number): Promise<string> {
  const { inbox } = (await generation()).scope.shard(planned.id, 0);
  for (let n = 0; n < segments; n++)
    await fixture.writer.create(segmentPrefix(inbox, n), undefined, { mode: "persistent-sequential" });
  return inbox;
}

async function generation(): Promise<CurrentGeneration> {
  return (await readGeneration(fixture.writer, layout))!;
}

/** What waits in the inboxes, in the order of appending in each. */
async function appended(): Promise<{ record: EventRecord; timestampMs: number }[]> {
  const { scope } = await generation();
  const found: { record: EventRecord; timestampMs: number }[] = [];
  for (const shard of [0, 1]) {
    const { inbox } = scope.shard(planned.id, shard);
    const { children } = await fixture.writer.getChildren(inbox);
    for (const { name } of segmentNames(children)) {
      const { frame } = await readRecord(fixture.writer, new DirectoryBlobs(folder), `${inbox}/${name}`);
      found.push(...decodeSegment(frame, name).map(decodeEventRecord));
    }
  }
  return found;
}

async function ids(): Promise<string[]> {
  return (await appended()).map((each) => each.record.id).sort();
}

test("records are appended once, whatever comes again, also in one batch and to another process", async () => {
  const first = intake();
  const batch = ["a", "b", "a", "c"].map((id) => record(id));
  expect(await first.take(planned, batch)).toMatchObject({ accepted: 3, duplicates: 1, refused: [] });
  expect(await first.take(planned, batch)).toMatchObject({ accepted: 0, duplicates: 4 });
  expect(await intake().take(planned, [...batch, record("d")])).toMatchObject({ accepted: 1, duplicates: 4 });
  expect(await ids()).toEqual(["a", "b", "c", "d"]);
  expect((await appended()).every(({ timestampMs }) => timestampMs === NOW_MS)).toBe(true);
});

test("a record's own time may be late; one without it has the watermark at least", async () => {
  const source = intake();
  await source.take(planned, [record("first")]);
  const { cursor } = (await generation()).scope.source(planned.id);
  await fixture.writer.setData(cursor, encodeCursor({ ...NEW_CURSOR, watermarkMs: NOW_MS + 500 }));
  await source.take(planned, [record("late", { timestampMs: NOW_MS - 1_000 }), record("not late")]);
  const times = Object.fromEntries((await appended()).map((each) => [each.record.id, each.timestampMs]));
  expect(times).toEqual({ first: NOW_MS, late: NOW_MS - 1_000, "not late": NOW_MS + 500 });
});

test("a watermark stands on whole milliseconds, so that what comes at the last one of a window is in time", async () => {
  const events = intake({ from: "direct", delaySeconds: 0.0005 });
  await events.take(planned, [record("a")]);
  nowMs += 120_000;
  const relay = new EventSourceRelay({
    ...{ client: fixture.writer, planned, current: await generation(), log: silent },
    blobs: new DirectoryBlobs(folder),
    clock: { ...systemClock, now: () => nowMs + 1_000 },
    limits: { idleIntervalMs: 1_000, segmentSizeBytes: LIMITS.segmentSizeBytes },
    nextTimerMs: () => Number.POSITIVE_INFINITY,
    onCommit: () => undefined,
    wake: () => undefined,
  });
  await relay.publishOnce();
  await events.take(planned, [record("b")]);
  expect((await appended()).map(({ timestampMs }) => timestampMs - NOW_MS).sort()).toEqual([0, 120_999]);
});

test("of a stream the last sequence number of each shard is enough", async () => {
  const stream = intake({ from: "kinesis", stream: "clicks" });
  const at = (shard: string, sequence: number): IncomingRecord =>
    record(`${shard}:${sequence}`, {
      position: { shard, sequence: `4960000000000000000000000000000000000000000000000000${sequence}` },
      isKnownById: false,
    });
  expect(await stream.take(planned, [at("s1", 1), at("s1", 2), at("s2", 1)])).toMatchObject({ accepted: 3 });
  expect(await stream.take(planned, [at("s1", 2), at("s1", 3)])).toMatchObject({
    accepted: 1,
    duplicates: 1,
  });
  expect(
    await intake({ from: "kinesis", stream: "clicks" }).take(planned, [at("s1", 3), at("s2", 2)]),
  ).toMatchObject({ accepted: 1, duplicates: 1 });
  expect(await ids()).toEqual(["s1:1", "s1:2", "s1:3", "s2:1", "s2:2"]);
});

test("ids are forgotten after their time, and not before; what is not needed any more is removed", async () => {
  const source = intake({ from: "direct", rememberSeconds: 3_600 });
  const names = Array.from({ length: 1.5 * 16 * MAX_RECENT_IDS }, (_, n) => `id-${n}`);
  for (let from = 0; from < names.length; from += 4_000)
    await source.take(
      planned,
      names.slice(from, from + 4_000).map((id) => record(id)),
    );
  const bucket = (await generation()).scope.source(planned.id).idBucket(0);
  // Compacted by the way.
  await source.take(
    planned,
    Array.from({ length: 100 }, (_, n) => record(`more-${n}`)),
  );
  expect((await fixture.writer.getChildren(bucket)).children.length).toBeGreaterThan(0);
  nowMs += 3_599_000;
  const again = await intake({ from: "direct", rememberSeconds: 3_600 }).take(
    planned,
    names.map((id) => record(id)),
  );
  expect(again).toMatchObject({ accepted: 0, duplicates: names.length });
  nowMs += 3_600_000;
  const other = intake({ from: "direct", rememberSeconds: 3_600 });
  for (let n = 0; n < 3; n++)
    await other.take(
      planned,
      Array.from({ length: 200 }, (_, m) => record(`new-${n}-${m}`)),
    );
  expect((await fixture.writer.getChildren(bucket)).children).toEqual([]);
  expect(await other.take(planned, [record("id-0"), record("id-1")])).toMatchObject({ accepted: 2 });
});

test("nothing is appended while too much waits, nor when as many ids are remembered as may be", async () => {
  const source = intake({ from: "direct" }, { maxBacklog: 2 });
  await source.take(planned, [record("a")]);
  const inbox = await crowdedInbox(3);
  const held = await source.take(planned, [record("a"), record("b")]);
  expect(held).toMatchObject({ accepted: 0, reason: { outcome: "retryable" } });
  expect(held.refused.map(({ item }) => item)).toEqual(["a", "b"]);
  expect(held.reason!.message).toMatch(/is behind: \d segments wait in one inbox/);
  // What was taken before is known all the same.
  expect(await source.take(planned, [record("a")])).toMatchObject({ duplicates: 1, reason: undefined });
  for (const name of (await fixture.writer.getChildren(inbox)).children)
    await fixture.writer.delete(`${inbox}/${name}`);
  expect(await source.take(planned, [record("b")])).toMatchObject({ accepted: 1 });
  const full = intake({ from: "direct" }, { maxIds: 160 });
  const { reason } = await full.take(
    planned,
    Array.from({ length: 200 }, (_, n) => record(`c-${n}`)),
  );
  expect(reason).toBeUndefined();
  const { refused, reason: why } = await full.take(planned, [record("a"), record("d")]);
  expect([refused.map(({ item }) => item), why?.message]).toEqual([
    ["a", "d"],
    expect.stringContaining("remembers as many ids as it may"),
  ]);
});

test("records wait for room for some time before they are refused", async () => {
  let inbox = "";
  let isWorking = true;
  const source = intake(
    { from: "direct" },
    { maxBacklog: 2, roomWaitMs: 1_000 },
    fixture.writer,
    async (ms) => {
      nowMs += ms;
      const [oldest] = (await fixture.writer.getChildren(inbox)).children;
      if (isWorking) await fixture.writer.delete(`${inbox}/${oldest}`);
    },
  );
  await source.take(planned, [record("a")]);
  inbox = await crowdedInbox(4);
  const beganMs = nowMs;
  expect(await source.take(planned, [record("b"), record("c")])).toMatchObject({ accepted: 2 });
  expect(nowMs - beganMs).toBeGreaterThanOrEqual(500);
  isWorking = false;
  await crowdedInbox(3);
  const waitsFromMs = nowMs;
  const { accepted, reason } = await source.take(planned, [record("d")]);
  expect([accepted, reason?.message]).toEqual([0, expect.stringContaining("is behind")]);
  expect(nowMs - waitsFromMs).toBe(1_000);
});

test("a pipeline that is paused takes nothing until it is resumed; one that drains nothing any more", async () => {
  const source = intake();
  await source.take(planned, [record("a")]);
  await pausePipeline(fixture.writer, layout);
  const paused = await source.take(planned, [record("b")]);
  expect(paused.reason).toBeInstanceOf(RecordsRefusedError);
  expect(paused.reason).toMatchObject({
    outcome: "retryable",
    message: expect.stringContaining("is paused"),
  });
  await resumePipeline(fixture.writer, layout);
  expect(await source.take(planned, [record("b")])).toMatchObject({ accepted: 1 });
  await drainPipeline(fixture.writer, layout);
  const { reason } = await source.take(planned, [record("c")]);
  expect(reason).toMatchObject({
    outcome: "terminal",
    message: expect.stringContaining("takes no more records"),
  });
  expect(await ids()).toEqual(["a", "b"]);
});

test("a source that was drained while an invocation was warm is refused as such, not for its watermark", async () => {
  const warm = intake();
  await warm.take(planned, [record("a")]);
  const { scope } = await generation();
  await drainPipeline(fixture.writer, layout);
  const ended = encodeCursor({ ...NEW_CURSOR, number: 1, watermarkMs: Number.POSITIVE_INFINITY });
  await fixture.writer.setData(scope.source(planned.id).cursor, ended);
  expect(await warm.take(planned, [record("b")])).toMatchObject({
    accepted: 0,
    refused: [{ item: "b" }],
    reason: {
      name: "RecordsRefusedError",
      outcome: "terminal",
      message: expect.stringContaining("draining"),
    },
  });
  expect(await ids()).toEqual(["a"]);
});

test("records larger than a segment go through the blob store", async () => {
  const large = "x".repeat(200_000);
  expect(await intake().take(planned, [record("large", {}, large), record("small")])).toMatchObject({
    accepted: 2,
  });
  const found = (await appended()).find((each) => each.record.id === "large");
  expect(found?.record.text).toBe(large);
});

/** The client, which loses some multis on their way to the server, and the replies of others. */
function unreliable(client: ZooKeeperClient, random: () => number): ZooKeeperClient {
  const multi: ZooKeeperClient["multi"] = async (ops) => {
    const chance = random();
    if (chance < 0.2) throw new ConnectionLossError("lost on the way", "ambiguous", -4);
    const result = await client.multi(ops);
    if (chance < 0.5) throw new ConnectionLossError("the reply was lost", "ambiguous", -4);
    return result;
  };
  return new Proxy(client, {
    get(target, name) {
      if (name === "multi") return multi;
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

test.each([1, 2, 3, 4])(
  "whatever is delivered again, at once, and with replies that are lost, is appended once (seed %i)",
  async (seed) => {
    const random = randomNumbers(seed);
    const names = Array.from({ length: 120 }, (_, n) => `id-${n}`);
    await intake().take(planned, []);
    let accepted = 0;
    /** One invocation after the other, each with some of the records; what was refused comes again. */
    const invocations = async (): Promise<void> => {
      for (let n = 0; n < 12; n++) {
        const from = Math.floor(random() * names.length);
        let records = names.slice(from, from + 1 + Math.floor(random() * 30)).map((id) => record(id));
        // Sometimes a new process.
        while (records.length > 0) {
          const result = await intake({ from: "direct" }, {}, unreliable(fixture.writer, random)).take(
            planned,
            records,
          );
          accepted += result.accepted;
          records = [...result.refused];
        }
      }
    };
    await Promise.all([invocations(), invocations(), invocations()]);
    await intake().take(
      planned,
      names.map((id) => record(id)),
    );
    expect(await ids()).toEqual([...names].sort());
    expect(accepted).toBeLessThanOrEqual(names.length * 3);
  },
);
