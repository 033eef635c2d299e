import { cpSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type BlobStore, blobPrefix, referredBlob } from "../../lib/checkpoint/blobs";
import { drainPipeline, pausePipeline, resumePipeline } from "../../lib/checkpoint/control";
import { PipelineLayout, segmentNames } from "../../lib/checkpoint/layout";
import {
  decodeCursor,
  decodeHead,
  decodeManifestIndex,
  encodeCursor,
  encodeGeneration,
  encodeHead,
  NEW_CURSOR,
} from "../../lib/checkpoint/records";
import { type CurrentGeneration, openPipeline, readGeneration } from "../../lib/checkpoint/scope";
import { decodeSegment } from "../../lib/checkpoint/segment";
import type { SnapshotRequest } from "../../lib/checkpoint/snapshot";
import { resetSource } from "../../lib/checkpoint/source-reset";
import { readRecord } from "../../lib/checkpoint/stored-record";
import { decodeZnodeChange, type ZnodeChange } from "../../lib/checkpoint/znode-change";
import type { SourceBatching, ZnodeSource } from "../../lib/checkpoint/znode-source";
import { type Clock, systemClock } from "../../lib/clock";
import { type Log, silent } from "../../lib/log";
import { RelayStoppedError, SourceError } from "../../lib/relay/errors";
import { limitsOf } from "../../lib/relay/limits";
import {
  type CommitAhead,
  type RelayCommit,
  type RelayLimits,
  SourceRelay,
} from "../../lib/relay/source-relay";
import { MemoryBlobs } from "../../lib/simulation/memory-files";
import { movesData } from "../../lib/simulation/steps";
import { ManualClock } from "../../lib/testing/manual-clock";
import { type ConnectionState, connect, type Op, type ZooKeeper } from "../../lib/zookeeper";
import { TcpProxy } from "../support/tcp-proxy";
import { type LocalZooKeeper, startZooKeeper } from "../support/zookeeper-server";

const LIMITS: RelayLimits = {
  commitSizeBytes: 512 * 1024,
  segmentSizeBytes: 128 * 1024,
  maxBatchPaths: 500,
  idleIntervalMs: 20,
  lingerMs: 0,
};
const WRITE_ONLY = [{ perms: 2 | 4 | 8, scheme: "world", id: "anyone" }];
const bytes = (text: string): Buffer => Buffer.from(text);

let server: LocalZooKeeper;
let client: ZooKeeper;
let app: string;
let current: CurrentGeneration;
let relays: RunningRelay[];
let blobs: MemoryBlobs;
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
  relays = [];
  blobs = new MemoryBlobs();
  app = `/app-${++tests}`;
  await client.create(app, bytes("root"));
  current = await openPipeline(client, new PipelineLayout("/beamkeeper", `p-${tests}`), {
    fingerprint: "f",
    sources: ["znodes"],
    shards: { read: 3 },
    upstream: {},
    impulses: [],
    minTimestampMs: 0,
  });
});

afterEach(async () => {
  for (const relay of relays) await relay.stop();
});

interface RelaySetup {
  readonly source?: Partial<ZnodeSource>;
  readonly limits?: Partial<RelayLimits>;
  readonly through?: ZooKeeper;
  /** Of the ensemble that the source is on, where that is another one. */
  readonly elsewhere?: ZooKeeper;
  /** Stands by until `takeOver`. */
  readonly standsBy?: boolean;
  readonly clock?: Clock;
  readonly log?: Log;
  /** When a timer is due (default: never). */
  readonly dueMs?: number;
  readonly store?: BlobStore;
  readonly onAhead?: (commit: CommitAhead) => void;
}

class RunningRelay {
  readonly commits: RelayCommit[] = [];
  /** Resolves with undefined when it was stopped, else with the error that ended it. */
  readonly end: Promise<unknown>;
  private readonly relay: SourceRelay;
  private readonly signal = new AbortController();
  private waiters: { isSo: () => boolean; done: () => void }[] = [];

  private readonly waiting = new AbortController();

  constructor(setup: RelaySetup = {}) {
    const {
      source,
      limits,
      through = client,
      store = blobs,
      elsewhere,
      standsBy,
      clock = systemClock,
      log = silent,
    } = setup;
    const { dueMs = Number.POSITIVE_INFINITY } = setup;
    this.relay = new SourceRelay({
      client: through,
      elsewhere,
      sourceId: "znodes",
      source: { paths: [app], recursive: true, start: "snapshot", allowFeedback: false, ...source },
      consumers: ["read"],
      root: "/beamkeeper",
      current,
      blobs: store,
      clock,
      log,
      limits: { ...LIMITS, ...limits },
      onCommit: (commit) => this.note(commit),
      ...(setup.onAhead && { onAhead: setup.onAhead }),
      nextTimerMs: (watermarkMs) => (watermarkMs < dueMs ? dueMs : Number.POSITIVE_INFINITY),
    });
    const ready = standsBy ? this.relay.standBy(this.waiting.signal) : Promise.resolve();
    this.end = ready.then(() => this.relay.run(this.signal.signal)).catch((error: unknown) => error);
    relays.push(this);
  }

  takeOver(): void {
    this.waiting.abort();
  }

  ask(request: Partial<SnapshotRequest> = {}): void {
    this.relay.askForSnapshot({ id: "1", path: "/", state: "running", ...request });
  }

  private note(commit: RelayCommit): void {
    this.commits.push(commit);
    const ready = this.waiters.filter(({ isSo }) => isSo());
    this.waiters = this.waiters.filter((each) => !ready.includes(each));
    for (const { done } of ready) done();
  }

  /** After a commit that makes it so; rejects when the relay ends first. */
  async until(isSo: () => boolean): Promise<void> {
    if (isSo()) return;
    const ended = this.end.then((error) => {
      throw error ?? new Error("the relay was stopped");
    });
    ended.catch(() => undefined);
    await Promise.race([new Promise<void>((done) => this.waiters.push({ isSo, done })), ended]);
  }

  get elements(): number {
    return this.commits.reduce((sum, { elements }) => sum + elements, 0);
  }

  delivered(count: number): Promise<void> {
    return this.until(() => this.elements >= count);
  }

  /** Everything up to now is appended: the watermark has passed the ensemble's present time. */
  async caughtUp(): Promise<void> {
    const { stat } = await client.create("/clock-", undefined, { mode: "ephemeral-sequential" });
    await this.until(() => (this.commits.at(-1)?.watermarkMs ?? 0) > stat.ctime);
  }

  async stop(): Promise<void> {
    this.signal.abort();
    this.waiting.abort();
    await this.end;
  }
}

/** The clock of a relay that stands by, which sleeps between two looks at what the active one has delivered. */
class StandbyClock extends ManualClock {
  private begun = 0;
  private awaited = 0;
  private tell = (): void => undefined;

  override sleep(ms: number, signal?: AbortSignal): Promise<void> {
    this.begun += 1;
    this.tell();
    return super.sleep(ms, signal);
  }

  /** The next sleep has begun. */
  async nextSleep(): Promise<void> {
    if (this.begun === this.awaited)
      await new Promise<void>((done) => {
        this.tell = done;
      });
    this.awaited = this.begun;
  }

  /** Lets the relay look once. */
  async look(): Promise<void> {
    this.advance(1_000);
    await this.nextSleep();
  }
}

/** The client of a relay whose commits of elements can be held back. */
class HeldCommits {
  /** Resolves when one is held back. */
  isHeld: Promise<void> = Promise.resolve();
  release: () => void = () => undefined;
  private released: Promise<void> | undefined;
  private noteHeld: () => void = () => undefined;

  readonly client = new Proxy(client, {
    get: (target, name) => {
      if (name === "multi")
        return async (ops: readonly Op[]) => {
          if (this.released && movesData(ops, "relay")) this.noteHeld();
          await this.released;
          return target.multi(ops);
        };
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });

  hold(): void {
    this.isHeld = new Promise((resolve) => {
      this.noteHeld = resolve;
    });
    this.released = new Promise((resolve) => {
      this.release = resolve;
    });
  }
}

/** All that was appended, in the order of each shard's inbox. */
async function appended(): Promise<{ change: ZnodeChange; timestampMs: number }[]> {
  const elements: { change: ZnodeChange; timestampMs: number }[] = [];
  for (let shard = 0; shard < 3; shard += 1) {
    const { inbox } = current.scope.shard("read", shard);
    for (const { name, minTimestampMs } of segmentNames((await client.getChildren(inbox)).children)) {
      const path = `${inbox}/${name}`;
      for (const element of decodeSegment((await readRecord(client, blobs, path)).frame, path)) {
        const decoded = decodeZnodeChange(element);
        expect(decoded.timestampMs).toBeGreaterThanOrEqual(minTimestampMs);
        elements.push(decoded);
      }
    }
  }
  return elements;
}

/** As "changed /a=text +missed" below the app's path, by path; "+n?" where it is a lower bound. */
async function summary(): Promise<string[]> {
  const lines = (await appended()).map(({ change }) => {
    const missed =
      change.missed > 0 || change.missedAtLeast ? ` +${change.missed}${change.missedAtLeast ? "?" : ""}` : "";
    return `${change.kind} ${change.path.slice(app.length)}${change.text === null ? "" : `=${change.text}`}${missed}`;
  });
  return lines
    .map((line, index) => ({ line, index, path: line.split(/[ =]/)[1]! }))
    .sort((a, b) => (a.path < b.path ? -1 : a.path > b.path ? 1 : a.index - b.index))
    .map(({ line }) => line);
}

const readCursor = async () => {
  const { cursor } = current.scope.source("znodes");
  return decodeCursor((await client.getData(cursor)).data, cursor);
};

test("a snapshot of what was there, then what happens, each once", async () => {
  await client.create(`${app}/a`, bytes("1"));
  const relay = new RunningRelay();
  await relay.delivered(2);
  await client.setData(`${app}/a`, bytes("2"));
  await relay.delivered(3);
  await client.create(`${app}/b`, bytes("x"));
  await relay.delivered(4);
  await client.delete(`${app}/b`);
  await relay.delivered(5);
  await relay.caughtUp();
  expect(await summary()).toEqual([
    "existing =root",
    "existing /a=1",
    "changed /a=2",
    "created /b=x",
    "deleted /b",
  ]);
});

test("a source that starts now delivers only what happens after it", async () => {
  await client.create(`${app}/a`, bytes("1"));
  const relay = new RunningRelay({ source: { start: "now" } });
  await relay.caughtUp();
  await client.setData(`${app}/a`, bytes("2"));
  await client.create(`${app}/b`, bytes("x"));
  await relay.delivered(2);
  expect(await summary()).toEqual(["changed /a=2", "created /b=x"]);
});

test("several paths, with what is left out", async () => {
  await client.create(`${app}/a`, bytes("1"));
  await client.create(`${app}/c`, bytes("1"));
  const paths = [`${app}/a`, `${app}/b`, `${app}/**/deep`];
  const relay = new RunningRelay({ source: { paths, exclude: [`${app}/*/tmp`] } });
  await relay.delivered(1);
  for (const path of ["/b", "/b/x", "/b/tmp", "/b/tmp/y", "/c/deep", "/c/other"])
    await client.create(app + path, bytes("2"));
  await relay.caughtUp();
  expect(await summary()).toEqual(["existing /a=1", "created /b=2", "created /b/x=2", "created /c/deep=2"]);
});

test("only the kinds that are wanted, and no read for what is not", async () => {
  await client.create(`${app}/a`, bytes("1"));
  const relay = new RunningRelay({ source: { kinds: ["created", "deleted"] } });
  await relay.caughtUp();
  const commits = relay.commits.length;
  for (let value = 0; value < 5; value++) await client.setData(`${app}/a`, bytes(`${value}`));
  await client.create(`${app}/b`, bytes("x"));
  await client.delete(`${app}/a`);
  await relay.caughtUp();
  expect(await summary()).toEqual(["deleted /a", "created /b=x"]);
  expect(relay.commits.slice(commits).reduce((sum, { missed }) => sum + missed, 0)).toBe(0);
});

test("the list of children and the ACL as elements of their own", async () => {
  await client.create(`${app}/a`, bytes("1"));
  const relay = new RunningRelay({ source: { kinds: ["children", "acl"], start: "now" } });
  await relay.caughtUp();
  await client.create(`${app}/b`, bytes("x"));
  await relay.delivered(1);
  await client.setAcl(`${app}/a`, [{ perms: 31, scheme: "world", id: "anyone" }]);
  await client.setData(`${app}/a`, bytes("2"));
  await client.create(`${app}/a/child`);
  await relay.delivered(3);
  await client.delete(`${app}/b`);
  await relay.delivered(4);
  const lines = (await appended()).map(({ change: { path, kind, children, data, missed } }) => {
    expect(data).toBeNull();
    return `${kind} ${path.slice(app.length)} ${children?.join(",") ?? ""} ${missed}`;
  });
  expect(lines.sort()).toEqual(["acl /a  0", "children  a 0", "children  a,b 0", "children /a child 0"]);
});

test("values that do not pass the filter are not delivered, and those before a change are where asked for", async () => {
  await client.create(`${app}/a`, bytes(`{"level":"info","n":1}`));
  const filter = { level: ["error"], n: [{ numeric: [">", 1] }] };
  const relay = new RunningRelay({ source: { filter, previous: true } });
  await relay.caughtUp();
  for (const value of [
    `{"level":"error","n":1}`,
    `{"level":"error","n":2}`,
    "no JSON",
    `{"level":"error","n":3}`,
  ]) {
    await client.setData(`${app}/a`, bytes(value));
    await relay.caughtUp();
  }
  await client.delete(`${app}/a`);
  await relay.caughtUp();
  const changes = (await appended()).map(({ change }) => change);
  expect(changes.map(({ kind, text, previous }) => [kind, text, previous?.toString()])).toEqual([
    ["changed", `{"level":"error","n":2}`, `{"level":"error","n":1}`],
    ["changed", `{"level":"error","n":3}`, "no JSON"],
    ["deleted", null, `{"level":"error","n":3}`],
  ]);
  expect(changes.every(({ missed }) => missed === 0)).toBe(true);
});

test("a wildcard takes the znodes that match, and no others", async () => {
  const relay = new RunningRelay({ source: { paths: [`${app}/*/p`], recursive: false } });
  await relay.caughtUp();
  for (const path of ["/s", "/s/p", "/s/q", "/s/p/below", "/t", "/t/p"])
    await client.create(app + path, bytes("x"));
  await relay.delivered(2);
  await relay.caughtUp();
  expect(await summary()).toEqual(["created /s/p=x", "created /t/p=x"]);
});

test("what the relay itself writes is never delivered", async () => {
  const relay = new RunningRelay({ source: { paths: ["/"], start: "now" } });
  await relay.caughtUp();
  await client.create(`${app}/a`, bytes("x"));
  await relay.delivered(1);
  await relay.caughtUp();
  const paths = (await appended()).map(({ change }) => change.path);
  expect(paths).toContain(`${app}/a`);
  expect(paths.filter((path) => path.startsWith("/beamkeeper"))).toEqual([]);
});

test("what happened while the relay was away is found, and counted within a life", async () => {
  for (const name of ["changed", "gone", "again", "same"]) await client.create(`${app}/${name}`, bytes("1"));
  const first = new RunningRelay();
  await first.delivered(5);
  await first.stop();
  for (const value of ["2", "3", "4"]) await client.setData(`${app}/changed`, bytes(value));
  await client.delete(`${app}/gone`);
  await client.delete(`${app}/again`);
  await client.create(`${app}/again`, bytes("5"));
  await client.setData(`${app}/again`, bytes("6"));
  const second = new RunningRelay();
  await second.delivered(4);
  await second.caughtUp();
  expect((await summary()).filter((line) => !line.startsWith("existing"))).toEqual([
    "deleted /again +0?",
    "created /again=6 +1",
    "changed /changed=4 +2",
    "deleted /gone +0?",
  ]);
});

test.each([
  ["znodes", { size: 2 }],
  ["bytes", { bytes: 2_048 }],
])("a batch is cut by %s", async (_, batching) => {
  const names = ["a", "b", "c", "d"];
  for (const name of names) await client.create(`${app}/${name}`, bytes("1"));
  const commits = new HeldCommits();
  const relay = new RunningRelay({ limits: limitsOf(LIMITS, batching), through: commits.client });
  await relay.delivered(names.length + 1);
  const before = relay.commits.length;
  commits.hold();
  await client.setData(app, bytes("first"));
  await commits.isHeld;
  // While its commit is under way the others are heard of and read: a session's replies come in order.
  for (const name of names) await client.setData(`${app}/${name}`, Buffer.alloc(600));
  await client.exists(app);
  commits.release();
  await relay.delivered(2 * names.length + 2);
  const sizes = relay.commits.slice(before).map(({ elements }) => elements);
  // The last of them may still be on their way when the batch before them is sent.
  expect(Math.max(...sizes)).toBe(2);
});

test("who gets a commit is told once a change was read, and when it is sent; of large values only then", async () => {
  const SEGMENT_BYTES = 1_024;
  await client.create(`${app}/a`, bytes("1"));
  const commits = new HeldCommits();
  const told: CommitAhead[] = [];
  const relay = new RunningRelay({
    through: commits.client,
    limits: { segmentSizeBytes: SEGMENT_BYTES },
    source: { filter: { shown: [true] } },
    onAhead: (commit) => told.push(commit),
  });
  await relay.caughtUp();
  const tellings = async (value: Buffer): Promise<CommitAhead[]> => {
    told.length = 0;
    commits.hold();
    await client.setData(`${app}/a`, value);
    await commits.isHeld;
    const ahead = [...told];
    commits.release();
    await relay.delivered(relay.elements + 1);
    const { number, fed } = relay.commits.at(-1)!;
    for (const commit of ahead)
      expect(commit).toMatchObject({ number, fed: [{ stage: "read", shard: fed[0]!.shard }] });
    return ahead;
  };
  const shown = (padding: number): Buffer =>
    bytes(JSON.stringify({ shown: true, padding: " ".repeat(padding) }));
  expect(await tellings(shown(0))).toHaveLength(2);
  expect(await tellings(shown(SEGMENT_BYTES))).toHaveLength(1);
  told.length = 0;
  await client.setData(`${app}/a`, bytes('{"shown":false}'));
  await relay.caughtUp();
  expect(told).toEqual([]);
});

describe("a batch with a window", () => {
  const WINDOW_MS = 60_000;
  let clock: ManualClock;
  let sleeps: { untilMs: number; done: () => void }[];

  beforeEach(() => {
    clock = new ManualClock(1_000_000);
    sleeps = [];
  });

  /** Resolves when the relay has nothing to do until this time. */
  const sleepsUntil = (untilMs: number): Promise<void> =>
    new Promise((done) => sleeps.push({ untilMs, done }));

  /** A relay of a source that was delivered, which does nothing by itself but at the ends of windows. */
  async function start(
    batching: SourceBatching,
    { through = client, idleIntervalMs = 3_600_000 } = {},
  ): Promise<RunningRelay> {
    const before = new RunningRelay();
    await before.caughtUp();
    await before.stop();
    const relay = new RunningRelay({
      through,
      limits: { ...limitsOf(LIMITS, { windowMs: WINDOW_MS, ...batching }), idleIntervalMs },
      clock: {
        now: () => clock.now(),
        random: () => clock.random(),
        uniqueId: () => clock.uniqueId(),
        sleep: (ms, signal) => {
          const asleep = clock.sleep(ms, signal);
          for (const { untilMs, done } of sleeps) if (untilMs === clock.now() + ms) done();
          return asleep;
        },
      },
    });
    await relay.until(() => relay.commits.length > 0);
    return relay;
  }

  const write = async (...names: string[]): Promise<void> => {
    for (const name of names) await client.create(`${app}/${name}`, Buffer.alloc(600));
  };
  const sizes = (relay: RunningRelay): number[] =>
    relay.commits.map(({ elements }) => elements).filter((elements) => elements > 0);

  test("goes when the window of its first change has ended, however many come meanwhile", async () => {
    const relay = await start({ size: 4 });
    const ends = sleepsUntil(clock.now() + WINDOW_MS);
    await write("a");
    await ends;
    clock.advance(WINDOW_MS - 1);
    await write("b", "c");
    await client.setData(`${app}/a`, bytes("again"));
    await client.exists(app);
    expect(relay.elements).toBe(0);
    clock.advance(1);
    await relay.delivered(3);
    expect(sizes(relay)).toEqual([3]);
    // Of what changed twice the last value.
    expect(relay.commits.reduce((sum, { missed }) => sum + missed, 0)).toBe(1);
  });

  test("goes at once when it is full, and what is left waits for its own window", async () => {
    const relay = await start({ size: 2 });
    const ends = sleepsUntil(clock.now() + WINDOW_MS);
    await write("a");
    await ends;
    clock.advance(10_000);
    const endsLater = sleepsUntil(clock.now() + WINDOW_MS);
    await write("b", "c");
    await endsLater;
    expect(sizes(relay)).toEqual([2]);
    clock.advance(WINDOW_MS);
    await relay.delivered(3);
    expect(sizes(relay)).toEqual([2, 1]);
  });

  test.each([
    [1, []],
    [2, [2]],
    [3, [2]],
    [4, [2, 2]],
  ])("of %i changes during a commit the full batches go after it without a wait", async (count, full) => {
    const commits = new HeldCommits();
    const relay = await start({ size: 2 }, { through: commits.client });
    commits.hold();
    await write("first", "second");
    await commits.isHeld;
    const ends = sleepsUntil(clock.now() + WINDOW_MS);
    await write(...["a", "b", "c", "d"].slice(0, count));
    await client.exists(app);
    commits.release();
    const left = count % 2;
    if (left > 0) await ends;
    else await relay.delivered(2 + count);
    expect(sizes(relay)).toEqual([2, ...full]);
    clock.advance(WINDOW_MS);
    await relay.delivered(2 + count);
    expect(sizes(relay)).toEqual([2, ...full, ...(left > 0 ? [left] : [])]);
  });

  test("that has more bytes than a commit goes as several, one after the other", async () => {
    const relay = await start({ bytes: 2_048 });
    const ends = sleepsUntil(clock.now() + WINDOW_MS);
    await write("a", "b", "c", "d", "e");
    await client.exists(app);
    await ends;
    clock.advance(WINDOW_MS);
    await relay.delivered(5);
    expect(sizes(relay)).toEqual([2, 2, 1]);
  });

  test("goes at once when it has the bytes of a full one, by the size of what was delivered last", async () => {
    const relay = await start({ bytes: 2_048 });
    const first = sleepsUntil(clock.now() + WINDOW_MS);
    await write("a");
    await first;
    clock.advance(WINDOW_MS);
    await relay.delivered(1);
    const second = sleepsUntil(clock.now() + WINDOW_MS);
    await write("b");
    await second;
    expect(sizes(relay)).toEqual([1]);
    await write("c");
    await relay.delivered(3);
    expect(sizes(relay)).toEqual([1, 2]);
  });

  test("does not hold up a drain", async () => {
    const relay = await start({ windowMs: 2 * WINDOW_MS }, { idleIntervalMs: WINDOW_MS });
    await write("a");
    await drainPipeline(client, current.layout);
    clock.advance(WINDOW_MS);
    await relay.end;
    expect(relay.commits.at(-1)!.watermarkMs).toBe(Number.POSITIVE_INFINITY);
    expect(relay.elements).toBe(1);
  });
});

test("a deletion comes before the creation that follows it, in event time as well", async () => {
  await client.create(`${app}/a`, bytes("1"));
  const first = new RunningRelay();
  await first.delivered(2);
  await first.stop();
  await client.delete(`${app}/a`);
  await client.create(`${app}/a`, bytes("2"));
  // The cursor's time is now after the creation, as it is where a commit is under way meanwhile.
  await client.setData(current.scope.source("znodes").cursor, encodeCursor(await readCursor()));
  const second = new RunningRelay();
  await second.delivered(2);
  const [deleted, created] = (await appended()).filter(
    ({ change }) => change.path === `${app}/a` && change.kind !== "existing",
  );
  expect([deleted!.change.kind, created!.change.kind]).toEqual(["deleted", "created"]);
  expect(deleted!.timestampMs).toBeLessThanOrEqual(created!.timestampMs);
});

test("the manifest's deltas are folded together, and a new relay reads what they said", async () => {
  await client.create(`${app}/gone`, bytes("x"));
  const relay = new RunningRelay();
  await relay.delivered(2);
  await client.delete(`${app}/gone`);
  await relay.delivered(3);
  const MOST_DELTAS = 64;
  for (let value = 1; value <= 4 * MOST_DELTAS; value += 1) {
    await client.setData(`${app}`, bytes(`${value}`));
    await relay.delivered(3 + value);
  }
  await relay.caughtUp();
  await relay.stop();
  const { manifest } = current.scope.source("znodes");
  // Those since the snapshot, and those that it holds, for who follows.
  expect((await client.getChildren(manifest)).children.length).toBeLessThan(2 * MOST_DELTAS + 10);
  const before = (await appended()).length;
  const again = new RunningRelay();
  await again.caughtUp();
  await client.create(`${app}/gone`, bytes("y"));
  await again.delivered(1);
  expect(await appended()).toHaveLength(before + 1);
});

test("more znodes than one commit holds: in several commits, the manifest in blobs, whenever a relay ends", async () => {
  const limits = { commitSizeBytes: 32 * 1024, segmentSizeBytes: 8 * 1024, maxBatchPaths: 60 };
  const names = Array.from({ length: 900 }, (_, index) => `${app}/${`long-${index}-`.repeat(8)}`);
  await Promise.all(names.map((name) => client.create(name, bytes("x"))));
  const { manifest } = current.scope.source("znodes");
  const index = async () => decodeManifestIndex((await client.getData(manifest)).data, manifest);
  /** The blobs that the manifest refers to, by the znode. */
  const referred = async (): Promise<Map<string, string>> => {
    const found = new Map<string, string>();
    for (const name of (await client.getChildren(manifest)).children) {
      const path = `${manifest}/${name}`;
      const blob = referredBlob((await client.getData(path)).data, path);
      if (blob) found.set(name, blob.name);
    }
    return found;
  };
  // Each of these relays ends at another place of the walk or of the snapshot that is being written.
  for (const commits of [7, 14, 19, 24]) {
    const relay = new RunningRelay({ limits });
    await relay.until(() => relay.commits.length >= commits);
    await relay.stop();
  }
  const relay = new RunningRelay({ limits });
  await relay.caughtUp();
  const standby = new RunningRelay({ limits, standsBy: true });
  for (let round = 0; round < 3; round++) {
    await Promise.all(names.slice(0, 200).map((name) => client.setData(name, bytes(`${round}`))));
    await relay.caughtUp();
  }
  await client.delete(names[0]!);
  await relay.caughtUp();
  await relay.stop();
  const { chunks, generation } = await index();
  expect(chunks.length).toBeGreaterThan(2);
  expect(generation).toBeGreaterThan(1);
  const changes = (await appended()).map(({ change }) => change);
  const finals = new Map(changes.map(({ path, text, mzxid }) => [path, [text, mzxid] as const]));
  expect(finals.size).toBe(901);
  expect(new Set(changes.map(({ path, mzxid }) => `${path} ${mzxid}`)).size).toBe(changes.length);
  const counted = changes.reduce((sum, { missed, data }) => sum + missed + (data ? 1 : 0), 0);
  expect(counted).toBe(901 + 3 * 200);
  standby.takeOver();
  await standby.caughtUp();
  await standby.stop();
  const again = new RunningRelay({ limits });
  await again.caughtUp();
  expect([standby.elements, again.elements]).toEqual([0, 0]);
  // What an ended relay had begun is taken away behind the next snapshot, and what that replaced behind the one after it.
  const generations = async (): Promise<number> => {
    const { children } = await client.getChildren(manifest);
    return new Set(children.flatMap((name) => /^g(\d+)-/.exec(name)?.[1] ?? [])).size;
  };
  const before = (await index()).generation;
  for (let round = 3; (await index()).generation < before + 2 || (await generations()) > 2; round++) {
    await Promise.all(names.slice(1, 200).map((name) => client.setData(name, bytes(`${round}`))));
    await again.caughtUp();
  }
  await again.stop();
  await new RunningRelay({ limits }).caughtUp();
  const named = await referred();
  const now = await index();
  expect([...named.keys()].filter((name) => name.startsWith(`g${now.generation}-`)).length).toBe(
    now.chunks.length,
  );
  expect([...blobs.blobs.keys()].sort()).toEqual([...named.values()].sort());
});

test("a standby for which it is too late to follow repeats nothing, a deletion neither", async () => {
  const active = new RunningRelay();
  await active.caughtUp();
  const clock = new StandbyClock(Date.now());
  const standby = new RunningRelay({ standsBy: true, clock });
  // Between two looks at what the active one has delivered; the next comes when it takes over.
  await clock.nextSleep();
  await client.create(`${app}/a`, bytes("1"));
  await client.delete(`${app}/a`);
  await active.caughtUp();
  const { manifest } = current.scope.source("znodes");
  const generation = async () =>
    decodeManifestIndex((await client.getData(manifest)).data, manifest).generation;
  for (let value = 1; (await generation()) < 3; value++) {
    const { elements } = active;
    await client.setData(app, bytes(`${value}`));
    await active.delivered(elements + 1);
  }
  await active.stop();
  const before = await summary();
  standby.takeOver();
  await client.create(`${app}/b`, bytes("1"));
  await standby.delivered(1);
  // What it has not read may have hidden other lives.
  expect(await summary()).toEqual([...before, "created /b=1 +0?"]);
});

test("a deletion that a standby's walk came after is delivered, also where it reads of the znode only then", async () => {
  const held = new HeldCommits();
  const active = new RunningRelay({ through: held.client });
  await active.caughtUp();
  held.hold();
  await client.create(`${app}/a`, bytes("1"));
  await held.isHeld;
  await client.delete(`${app}/a`);
  const clock = new StandbyClock(Date.now());
  const standby = new RunningRelay({ standsBy: true, clock });
  // It has walked, and knew nothing of the znode, which was not there.
  await clock.nextSleep();
  const stopped = active.stop();
  held.release();
  await stopped;
  standby.takeOver();
  await standby.delivered(1);
  expect((await summary()).filter((line) => line.includes("/a"))).toEqual(["created /a=1", "deleted /a +0?"]);
});

test("a standby whose blobs can't be read says so once, goes on standing by, and repeats nothing", async () => {
  const limits = { segmentSizeBytes: 64 };
  await client.create(`${app}/${"a".repeat(60)}`);
  const active = new RunningRelay({ limits });
  await active.caughtUp();
  let isFailing = false;
  let failures = 0;
  const store: BlobStore = Object.assign(Object.create(blobs) as MemoryBlobs, {
    get: (name: string) => {
      if (!isFailing) return blobs.get(name);
      failures += 1;
      return Promise.reject(new Error("no answer"));
    },
  });
  const clock = new StandbyClock(Date.now());
  const warnings: string[] = [];
  const log: Log = (level, message) => void (level === "warn" && warnings.push(message));
  const standby = new RunningRelay({ limits, store, clock, log, standsBy: true });
  await clock.nextSleep();
  const deliver = async (name: string): Promise<void> => {
    const { elements } = active;
    for (let index = 0; index < 5; index++) await client.create(`${app}/${name}${`${index}`.repeat(60)}`);
    await active.delivered(elements + 5);
  };
  isFailing = true;
  await deliver("b");
  await clock.look();
  const failedOnce = failures;
  expect(failedOnce).toBeGreaterThan(0);
  await deliver("c");
  await clock.look();
  expect(failures).toBeGreaterThan(failedOnce);
  expect(warnings).toEqual(["a standby can't read what the active relay delivers"]);
  isFailing = false;
  await clock.look();
  isFailing = true;
  await deliver("d");
  await clock.look();
  expect(warnings).toHaveLength(2);
  isFailing = false;
  await active.stop();
  const before = await summary();
  standby.takeOver();
  await client.create(`${app}/e`, bytes("1"));
  await standby.delivered(1);
  // A life of it may have ended before this relay began.
  expect(await summary()).toEqual([...before, "created /e=1 +0?"]);
});

test("a blob of the manifest that is gone is told, with what to do; nothing is delivered again", async () => {
  const limits = { segmentSizeBytes: 256 };
  for (let index = 0; index < 8; index++) await client.create(`${app}/${`${index}`.repeat(60)}`);
  const before = new RunningRelay({ limits });
  await before.caughtUp();
  await before.stop();
  const prefix = blobPrefix(current.scope.source("znodes").cursor);
  const own = [...blobs.blobs.keys()].filter((name) => name.startsWith(prefix));
  const kept = new Map(own.map((name) => [name, blobs.blobs.get(name)!]));
  for (const name of own) blobs.blobs.delete(name);
  expect(await new RunningRelay({ limits }).end).toMatchObject({
    name: "EncodingError",
    message: expect.stringMatching(/manifest.*blob.*BEAMKEEPER_BLOB_STORE/),
  });
  for (const [name, data] of kept) blobs.blobs.set(name, data);
  const failing = Object.assign(new MemoryBlobs(), { get: () => Promise.reject(new Error("no answer")) });
  expect(await new RunningRelay({ limits, store: failing }).end).toMatchObject({
    ...{ name: "SourceError", outcome: "retryable" },
  });
  const after = new RunningRelay({ limits });
  await after.caughtUp();
  expect(after.elements).toBe(0);
});

test("the watermark never goes back, and no element is before what was published", async () => {
  const relay = new RunningRelay();
  for (let value = 0; value < 30; value += 1) {
    await client.setData(app, bytes(`${value}`));
    const published = relay.commits.at(-1)?.watermarkMs ?? Number.NEGATIVE_INFINITY;
    await relay.until(
      () => (relay.commits.at(-1)?.elements ?? 0) > 0 || (relay.commits.at(-1)?.watermarkMs ?? 0) > published,
    );
  }
  await relay.caughtUp();
  const watermarks = relay.commits.map(({ watermarkMs }) => watermarkMs);
  expect([...watermarks].sort((a, b) => a - b)).toEqual(watermarks);
  const { stat } = await client.create("/clock-", undefined, { mode: "ephemeral-sequential" });
  expect(watermarks.at(-1)).toBeLessThanOrEqual(stat.ctime);
});

test("a second relay fences the first: one goes on, the other stops, and nothing is doubled", async () => {
  const other = await connect({ connectString: server.connectString });
  try {
    const first = new RunningRelay();
    await first.delivered(1);
    const second = new RunningRelay({ through: other });
    const ended = await Promise.race([first.end, second.end]);
    expect(ended).toBeInstanceOf(RelayStoppedError);
    expect((ended as Error).message).toMatch(/another relay has committed/);
    const isFirst = (await Promise.race([first.end, Promise.resolve("going on")])) === ended;
    const survivor = isFirst ? second : first;
    await client.create(`${app}/a`, bytes("x"));
    await survivor.until(() => survivor.commits.some(({ elements }) => elements > 0));
    await survivor.caughtUp();
    expect(await summary()).toEqual(
      ["existing =root", "created /a=x"].map((line) => expect.stringContaining(line)),
    );
  } finally {
    for (const relay of relays) await relay.stop();
    await other.close();
  }
});

test("a pipeline that is paused stops the relay, and one that goes on is followed", async () => {
  const relay = new RunningRelay();
  await relay.delivered(1);
  const { generation, layout } = current;
  await client.setData(layout.generation, encodeGeneration(generation));
  await client.create(`${app}/a`, bytes("x"));
  await relay.delivered(2);
  await client.setData(layout.generation, encodeGeneration({ ...generation, state: "paused" }));
  const ended = await relay.end;
  expect(ended).toBeInstanceOf(RelayStoppedError);
  expect((ended as Error).message).toMatch(/paused/);
});

test("a drain delivers what a walk after a gap finds, and the gap may come while the drain begins", async () => {
  const names = ["a", "b", "c", "d", "e"].map((name) => `${app}/${name}`);
  for (const name of names) await client.create(name, bytes("1"));
  const first = new RunningRelay();
  await first.delivered(6);
  await first.stop();
  for (const name of names) await client.delete(name);
  await drainPipeline(client, current.layout);
  current = (await readGeneration(client, current.layout))!;
  const proxy = await TcpProxy.start(server.connectString);
  const shaky = await connect({ connectString: proxy.address });
  // The connection is lost in the middle of the walk.
  let walks = 0;
  const through = new Proxy(shaky, {
    get: (target, name) => {
      if (name === "getChildren")
        return async (path: string) => {
          if (path === app && ++walks === 1) {
            proxy.cut();
            await until(target, "suspended");
            await until(target, "connected");
          }
          return target.getChildren(path);
        };
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
  try {
    const relay = new RunningRelay({ through, limits: { maxBatchPaths: 2 } });
    await relay.end;
    expect(walks).toBe(2);
    expect((await readCursor()).watermarkMs).toBe(Number.POSITIVE_INFINITY);
    const ends = ["a", "b", "c", "d", "e"].flatMap((name) => [`existing /${name}=1`, `deleted /${name} +0?`]);
    expect(await summary()).toEqual(["existing =root", ...ends]);
  } finally {
    await shaky.close();
    await proxy.stop();
  }
});

/** Resolves when the client is in that state. */
function until(client: ZooKeeper, state: ConnectionState): Promise<void> {
  return new Promise((done) => {
    const look = (): void => {
      if (client.state !== state) return;
      stop();
      done();
    };
    const stop = client.onState(look);
    look();
  });
}

test("connections that break lose nothing and repeat nothing", async () => {
  const proxy = await TcpProxy.start(server.connectString);
  const shaky = await connect({ connectString: proxy.address });
  try {
    const relay = new RunningRelay({ through: shaky });
    await relay.delivered(1);
    for (let value = 1; value <= 10; value += 1) {
      if (value % 3 === 0) proxy.dropReplies();
      await client.setData(app, bytes(`${value}`));
      await client.create(`${app}/${value}`, bytes("x"));
      proxy.cut();
    }
    await relay.caughtUp();
    const changes = (await appended()).map(({ change }) => change);
    const ofRoot = changes.filter(({ path }) => path === app);
    expect(ofRoot.at(-1)!.text).toBe("10");
    expect(ofRoot.reduce((sum, { missed }) => sum + missed + 1, 0)).toBe(11);
    for (let value = 1; value <= 10; value += 1)
      expect(changes.filter(({ path }) => path === `${app}/${value}`)).toHaveLength(1);
    await relay.stop();
  } finally {
    for (const relay of relays) await relay.stop();
    await shaky.close();
    await proxy.stop();
  }
});

test("a znode that may not be read is unknown, not deleted; what happened meanwhile is marked as not all seen", async () => {
  await client.create(`${app}/a`, bytes("1"));
  const relay = new RunningRelay();
  await relay.delivered(2);
  await client.delete(`${app}/a`);
  await relay.delivered(3);
  await client.create(`${app}/a`, bytes("secret"), { acl: WRITE_ONLY });
  await relay.caughtUp();
  await client.delete(`${app}/a`);
  await client.create(`${app}/a`, bytes("2"));
  await relay.caughtUp();
  const lines = (await summary()).filter((line) => line.includes(" /a"));
  expect(lines.slice(0, 2)).toEqual(["existing /a=1", "deleted /a"]);
  expect(lines.at(-1)).toMatch(/^created \/a=2/);
  expect(lines.join()).not.toContain("secret");
});

test("a walk past what may not be read goes on, and deletes nothing of it", async () => {
  await client.create(`${app}/a`, bytes("1"));
  await client.create(`${app}/a/below`, bytes("1"));
  const first = new RunningRelay();
  await first.delivered(3);
  await first.stop();
  await client.delete(`${app}/a/below`);
  await client.delete(`${app}/a`);
  await client.create(`${app}/a`, bytes("secret"), { acl: WRITE_ONLY });
  const second = new RunningRelay();
  await second.caughtUp();
  await client.create(`${app}/b`, bytes("x"));
  await second.delivered(1);
  expect((await summary()).filter((line) => line.startsWith("deleted"))).toEqual([]);
});

describe("values that are larger than a segment", () => {
  const limits = { commitSizeBytes: 64 * 1024, segmentSizeBytes: 16 * 1024 };
  const paths = async (): Promise<string[]> =>
    (await appended()).map(({ change }) => change.path.slice(app.length)).sort();

  test("go to blobs that their segments refer to, each by itself, also when a commit could not hold them", async () => {
    await client.create(`${app}/small`, bytes("x"));
    await client.create(`${app}/large`, Buffer.alloc(20_000, "y"));
    await client.create(`${app}/larger-than-a-commit`, Buffer.alloc(600_000, "z"));
    const relay = new RunningRelay({ limits });
    await relay.caughtUp();
    expect(await paths()).toEqual(["", "/large", "/larger-than-a-commit", "/small"]);
    expect(blobs.blobs.size).toBe(2);
    const large = (await appended()).find(({ change }) => change.path.endsWith("/larger-than-a-commit"));
    expect(large!.change.data).toEqual(Buffer.alloc(600_000, "z"));
  });

  test("what a relay leaves behind that dies before its commit is deleted by the next one, and nothing else is", async () => {
    await client.create(`${app}/large`, Buffer.alloc(20_000, "y"));
    const first = new RunningRelay({ limits });
    await first.caughtUp();
    await first.stop();
    const [kept] = blobs.blobs.keys();
    const { cursor } = current.scope.source("znodes");
    const lost = `${blobPrefix(cursor)}1.a-lost-commit.0`;
    await blobs.put(lost, bytes("lost"));
    await new RunningRelay({ limits }).caughtUp();
    expect([...blobs.blobs.keys()]).toEqual([kept]);
    expect(await paths()).toEqual(["", "/large"]);
  });

  test("a store that fails: nothing is appended, the error is retryable, and the next relay delivers", async () => {
    await client.create(`${app}/large`, Buffer.alloc(20_000, "y"));
    const store = Object.assign(new MemoryBlobs(), {
      put: () => Promise.reject(new Error("no space left")),
    });
    const error = await new RunningRelay({ limits, store }).end;
    expect(error).toBeInstanceOf(SourceError);
    expect(error).toMatchObject({
      outcome: "retryable",
      message: expect.stringMatching(/no space left.*BEAMKEEPER_BLOB_STORE/),
    });
    expect(await paths()).not.toContain("/large");
    await new RunningRelay({ limits }).caughtUp();
    expect(await paths()).toEqual(["", "/large"]);
  });
});

describe("a snapshot that is asked for", () => {
  const ZNODES = 600;
  const names = Array.from({ length: ZNODES }, (_, index) => `/f-${index % 7}/z-${index}`);

  beforeEach(async () => {
    for (let folder = 0; folder < 7; folder++) await client.create(`${app}/f-${folder}`);
    await Promise.all(names.map((name) => client.create(app + name, bytes("0"))));
  });

  const snapshot = async () => (await readCursor()).snapshot;
  const ended = (relay: RunningRelay): Promise<void> =>
    relay.until(() => relay.commits.some(({ snapshot }) => snapshot?.end !== undefined));

  /** Of each path what was delivered, in order. */
  async function byPath(): Promise<Map<string, string[]>> {
    const found = new Map<string, string[]>();
    for (const { change } of await appended()) {
      const path = change.path.slice(app.length);
      found.set(path, [...(found.get(path) ?? []), `${change.kind} ${change.text}`]);
    }
    return found;
  }

  test("tells each present value once, among the changes and in their order", async () => {
    const relay = new RunningRelay({ source: { start: "now" } });
    await relay.caughtUp();
    relay.ask({ path: app });
    await relay.delivered(1);
    const changed = names.filter((_, index) => index % 10 === 0);
    await Promise.all(changed.map((name) => client.setData(app + name, bytes("1"))));
    await ended(relay);
    await relay.caughtUp();
    const found = await byPath();
    expect(found.size).toBe(ZNODES + 8);
    let existing = 0;
    for (const [path, changes] of found) {
      existing += changes.filter((each) => each.startsWith("existing")).length;
      const allowed = changed.includes(path)
        ? ["existing 0,changed 1", "changed 1,existing 1", "changed 1", "existing 1"]
        : [
            path === ""
              ? "existing root"
              : path.startsWith("/f-") && !path.includes("z")
                ? "existing "
                : "existing 0",
          ];
      expect(allowed).toContain(changes.join());
    }
    expect(await snapshot()).toEqual({
      ...{ id: "1", position: expect.any(String), beyond: [], elements: existing, end: "done" },
    });
  });

  test("goes on with the next relay where the last one stood, pauses, and begins no more once it is cancelled", async () => {
    const setup: RelaySetup = { source: { start: "now" }, limits: { maxBatchPaths: 7 } };
    const first = new RunningRelay(setup);
    await first.caughtUp();
    // Some are read before their turn, so that the cursor has to name them.
    await Promise.all(names.slice(200, 230).map((name) => client.setData(app + name, bytes("1"))));
    first.ask({ path: `${app}/f-1` });
    await first.delivered(50);
    await first.stop();
    const { elements } = (await snapshot())!;
    expect(elements).toBeGreaterThan(0);
    const second = new RunningRelay(setup);
    second.ask({ path: `${app}/f-1`, state: "paused" });
    await second.caughtUp();
    expect((await snapshot())!.elements).toBe(elements);
    second.ask({ path: `${app}/f-1` });
    await ended(second);
    const wanted = names.filter((name) => name.startsWith("/f-1/"));
    const found = await byPath();
    for (const path of [...wanted, "/f-1"]) {
      const changes = found.get(path)!;
      expect(new Set(changes).size).toBe(changes.length);
      expect(changes.at(-1)).toMatch(/^(existing|changed)/);
    }
    expect(
      [...found.keys()]
        .filter((path) => !path.startsWith("/f-1"))
        .every((path) => found.get(path)![0] === "changed 1"),
    ).toBe(true);
    const before = second.elements;
    second.ask({ id: "2", path: app, state: "cancelled" });
    await second.until(() => second.commits.at(-1)?.snapshot?.end === "cancelled");
    expect(second.elements).toBe(before);
  });

  test("takes the values that pass the filter, and is refused where the kind is not wanted", async () => {
    await client.setData(`${app}/f-2`, bytes(`{"level":"error"}`));
    const filtered = new RunningRelay({ source: { start: "now", filter: { level: ["error"] } } });
    await filtered.caughtUp();
    filtered.ask({ path: app });
    await ended(filtered);
    expect(await byPath()).toEqual(new Map([["/f-2", [`existing {"level":"error"}`]]]));
    await filtered.stop();
    const without = new RunningRelay({ source: { start: "now", kinds: ["changed"] } });
    without.ask({ id: "2", path: app });
    await without.until(() => without.commits.at(-1)?.snapshot?.end === "not wanted");
    expect(without.elements).toBe(0);
  });
});

describe("a source on another ensemble", () => {
  let other: LocalZooKeeper;
  let there: ZooKeeper;
  let proxy: TcpProxy;
  let elsewhere: ZooKeeper;

  beforeAll(async () => {
    other = await startZooKeeper();
    there = await connect({ connectString: other.connectString });
    // Zxids of the two are far apart.
    for (let write = 0; write < 300; write++) await there.setData("/", bytes(`${write}`));
  });

  beforeEach(async () => {
    proxy = await TcpProxy.start(other.connectString);
    elsewhere = await connect({ connectString: proxy.address });
    await there.create(app, bytes("there"));
  });

  afterEach(async () => {
    for (const relay of relays) await relay.stop();
    await elsewhere?.close();
    await proxy?.stop();
  });

  afterAll(async () => {
    await there?.close();
    await other?.stop();
  });

  test("is delivered with its own zxids; the cursor is on the root's", async () => {
    const relay = new RunningRelay({ elsewhere });
    await relay.delivered(1);
    for (const value of ["1", "2"]) await there.create(`${app}/${value}`, bytes(value));
    await there.delete(`${app}/1`);
    await relay.delivered(3);
    await relay.caughtUp();
    const changes = (await appended()).map(({ change }) => change);
    expect(changes.filter(({ kind }) => kind === "existing").map(({ text }) => text)).toEqual(["there"]);
    expect(await summary()).toContain("created /2=2");
    expect((await readCursor()).zxid).toBeLessThanOrEqual(there.lastZxid + 1n);
    expect(relay.commits.at(-1)!.zxid).toBeGreaterThan(0n);
    expect(await there.exists("/beamkeeper")).toBeNull();
    await relay.stop();
    await there.setData(`${app}/2`, bytes("3"));
    await there.setData(`${app}/2`, bytes("4"));
    const next = new RunningRelay({ elsewhere });
    await next.delivered(1);
    await next.caughtUp();
    expect(next.elements).toBe(1);
    expect(await summary()).toContain("changed /2=4 +1");
  });

  test("the watermark does not pass what its session has not heard yet", async () => {
    const relay = new RunningRelay({ elsewhere });
    await relay.caughtUp();
    proxy.stall("toClient");
    await there.create(`${app}/late`, bytes("1"));
    const { stat } = await client.create("/clock-", undefined, { mode: "ephemeral-sequential" });
    const commits = relay.commits.length;
    // Heartbeats go on: the root's ensemble answers.
    await relay.until(() => relay.commits.length > commits + 5);
    expect(relay.commits.at(-1)!.watermarkMs).toBeLessThanOrEqual(stat.ctime);
    proxy.resume();
    await relay.until(() => relay.commits.at(-1)!.watermarkMs > stat.ctime);
    expect(await summary()).toContain("created /late=1");
  });

  test("a standby takes over without a walk, and repeats nothing that it has not heard of yet", async () => {
    const active = new RunningRelay({ elsewhere: there });
    await active.caughtUp();
    const standby = new RunningRelay({ elsewhere, standsBy: true });
    await there.create(`${app}/a`, bytes("1"));
    await there.delete(`${app}/a`);
    await there.create(`${app}/b`, bytes("1"));
    await active.caughtUp();
    proxy.stall("toClient");
    await there.create(`${app}/c`, bytes("1"));
    await there.delete(`${app}/c`);
    await active.caughtUp();
    await active.stop();
    standby.takeOver();
    proxy.resume();
    await standby.caughtUp();
    await there.setData(`${app}/b`, bytes("2"));
    await standby.caughtUp();
    const found = await summary();
    expect(found.filter((line) => line.includes("/a") || line.includes("/c")).length).toBeLessThanOrEqual(4);
    expect(new Set(found).size).toBe(found.length);
    expect(found.filter((line) => line.includes("/b"))).toEqual(["created /b=1", "changed /b=2"]);
  });

  test("an ensemble that was restored from an older backup is found, also when its zxids have passed the cursor", async () => {
    const [server] = other.servers;
    const saved = mkdtempSync(join(tmpdir(), "beamkeeper-backup-"));
    await server!.kill();
    cpSync(server!.directory, saved, { recursive: true });
    await server!.restart();
    await there.connected();
    await elsewhere.connected();
    const relay = new RunningRelay({ elsewhere });
    for (let write = 0; write < 50; write++) await there.setData("/", bytes("since"));
    await there.setData(app, bytes("after the backup"));
    await relay.delivered(1);
    await relay.caughtUp();
    await relay.stop();
    const { zxid } = await readCursor();
    await Promise.all([there.close(), elsewhere.close()]);
    await server!.kill();
    rmSync(server!.directory, { recursive: true });
    cpSync(saved, server!.directory, { recursive: true });
    rmSync(saved, { recursive: true });
    await server!.restart();
    there = await connect({ connectString: other.connectString });
    elsewhere = await connect({ connectString: other.connectString });
    const ahead = await new RunningRelay({ elsewhere }).end;
    expect(ahead).toMatchObject({ name: "SourceError", outcome: "terminal" });
    expect(String(ahead)).toMatch(new RegExp(`at zxid 0x${zxid.toString(16)}.*older backup`));
    while (there.lastZxid <= zxid) await there.setData("/", bytes("more"));
    const older = await new RunningRelay({ elsewhere }).end;
    expect(older).toMatchObject({ name: "SourceError", outcome: "terminal" });
    expect(String(older)).toMatch(new RegExp(`${app} was delivered as of zxid.*older backup`));
    expect((await appended()).length).toBe(relay.elements);
  });
});

test("a leader whose clock is far behind this machine's: times are its own, and timers are due by its clock", async () => {
  const ahead = { ...systemClock, now: () => systemClock.now() + 10_000 };
  const { stat } = await client.create(`${app}/a`, bytes("1"));
  // Two commits a second without it, and one at once when its time has come.
  const dueMs = stat.ctime + 200;
  const relay = new RunningRelay({ clock: ahead, dueMs, limits: { idleIntervalMs: 60_000 } });
  await relay.until(() => (relay.commits.at(-1)?.watermarkMs ?? 0) >= dueMs);
  const now = await client.create("/clock-", undefined, { mode: "ephemeral-sequential" });
  for (const { watermarkMs, mtimeMs } of relay.commits) {
    expect(watermarkMs).toBeLessThanOrEqual(mtimeMs);
    expect(mtimeMs).toBeLessThanOrEqual(now.stat.ctime);
  }
  for (const { timestampMs } of await appended()) expect(timestampMs).toBeLessThanOrEqual(now.stat.ctime);
});

describe("errors", () => {
  test("a cursor that is ahead of the ensemble: nothing is read, and both zxids are named", async () => {
    const { cursor } = current.scope.source("znodes");
    await client.setData(cursor, encodeCursor({ ...NEW_CURSOR, startZxid: 1n, zxid: 2n ** 50n }));
    const error = await new RunningRelay().end;
    expect(error).toBeInstanceOf(SourceError);
    expect(error).toMatchObject({
      outcome: "terminal",
      message: expect.stringMatching(/0x4000000000000.*backup/),
    });
    expect(await appended()).toEqual([]);
  });

  test("a damaged cursor is named, and the source begins again with what is there, and nothing of it is late", async () => {
    await client.create(`${app}/a`, bytes("1"));
    const before = new RunningRelay();
    await before.delivered(2);
    await before.stop();
    const { layout, scope } = current;
    const { cursor } = scope.source("znodes");
    const { head } = scope.shard("read", 0);
    const old = decodeHead((await client.getData(head)).data, head);
    const watermarkMs = Date.now() + 60_000;
    await client.setData(head, encodeHead({ ...old, watermarkMs }));
    await client.setData(cursor, bytes("BK"));
    expect(await new RunningRelay().end).toMatchObject({
      ...{
        name: "EncodingError",
        path: cursor,
        message: expect.stringMatching(/not a cursor.*"beamkeeper reset"/),
      },
    });
    await expect(resetSource(client, layout, "znodes")).rejects.toThrow(/is running; pause it first/);
    await pausePipeline(client, layout);
    await expect(resetSource(client, layout, "none")).rejects.toThrow(/watches no znodes as "none"/);
    await resetSource(client, layout, "znodes");
    await resumePipeline(client, layout);
    current = (await readGeneration(client, layout))!;
    await client.setData(`${app}/a`, bytes("2"));
    const after = new RunningRelay();
    await after.delivered(2);
    await client.create(`${app}/b`, bytes("1"));
    await after.delivered(3);
    expect((await summary()).sort()).toEqual(
      ["existing /a=1", "existing /a=2", "existing =root", "existing =root", "created /b=1"].sort(),
    );
    const late = (await appended()).filter(({ timestampMs }) => timestampMs < watermarkMs);
    expect(late.map(({ change: { text } }) => text).sort()).toEqual(["1", "root"]);
  });
});
