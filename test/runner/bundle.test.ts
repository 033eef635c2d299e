import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as beam from "apache-beam";
import { definePipeline, readZnodeChanges, writeToText, writeToZnodes, type ZnodeChange } from "beamkeeper";
import { compilePipeline } from "../../lib/beam/pipeline";
import { DirectoryBlobs } from "../../lib/checkpoint/blobs";
import { DirectoryFiles, type FileStore } from "../../lib/checkpoint/files";
import type { ShardReply } from "../../lib/checkpoint/invocation";
import { PipelineLayout, segmentNames, segmentPrefix } from "../../lib/checkpoint/layout";
import {
  decodeHead,
  encodeCursor,
  encodeGeneration,
  encodeHead,
  type Head,
  NEW_CURSOR,
  NEW_HEAD,
} from "../../lib/checkpoint/records";
import { type CurrentGeneration, openPipeline } from "../../lib/checkpoint/scope";
import { encodeSegment } from "../../lib/checkpoint/segment";
import { readStatus } from "../../lib/checkpoint/status";
import { encodeZnodeChange } from "../../lib/checkpoint/znode-change";
import { statusText } from "../../lib/cli/status-screen";
import { type Clock, systemClock } from "../../lib/clock";
import { type Log, silent } from "../../lib/log";
import type { BundleLimits } from "../../lib/runner/bundle";
import { planPipeline } from "../../lib/runner/deployment";
import { GIVEN_UP } from "../../lib/runner/shard-loop";
import { ShardRunner } from "../../lib/runner/shard-runner";
import {
  connect,
  type MultiResult,
  type Op,
  type ZooKeeper,
  type ZooKeeperClient,
} from "../../lib/zookeeper";
import { type LocalZooKeeper, startZooKeeper } from "../support/zookeeper-server";

const LIMITS: BundleLimits = { maxUnits: 100, commitSizeBytes: 128 * 1024, segmentSizeBytes: 32 * 1024 };

let server: LocalZooKeeper;
let client: ZooKeeper;
let folder: string;
let current: CurrentGeneration;
let pipeline: ReturnType<typeof compilePipeline>;
let results: string;
let tests = 0;
let written = 0;

beforeAll(async () => {
  server = await startZooKeeper();
  client = await connect({ connectString: server.connectString });
});

afterAll(async () => {
  await client?.close();
  await server?.stop();
});

/** What user code was given, of all invocations of a test. */
const arrived: (string | null)[] = [];

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "beamkeeper-bundle-"));
  results = `/results-${++tests}`;
  arrived.length = 0;
  const build = (root: beam.Root): void => {
    const metrics = { seen: beam.counter("seen"), sizes: beam.distribution("sizes") };
    const changes = root.apply(readZnodeChanges("/watched")).map((change: ZnodeChange, { seen, sizes }) => {
      seen.increment(1);
      arrived.push(change.text);
      sizes.update(change.text!.length);
      if (change.text === "poison") throw new RangeError("the value is poison");
      return change;
    }, metrics);
    changes.apply(
      writeToZnodes(({ path, data }) => ({ path: results + path, data: data ?? "" }), { mode: "create" }),
    );
    changes
      .map(({ path }) => path)
      .apply(beam.windowInto(beam.fixedWindows(1)))
      .apply(writeToText("paths"));
  };
  pipeline = compilePipeline(definePipeline({ name: `p-${tests}`, build }));
  current = await openPipeline(
    client,
    new PipelineLayout("/beamkeeper", pipeline.name),
    planPipeline(pipeline).plan,
  );
});

afterEach(() => rmSync(folder, { recursive: true, force: true }));

const stage = (index: number): string => pipeline.stages[index]!.id;
const shardOfStage = (index: number) => current.scope.shard(stage(index), 0);

interface RunnerSetup {
  readonly limits?: Partial<BundleLimits>;
  readonly files?: FileStore;
  readonly through?: ZooKeeperClient;
  readonly clock?: Clock;
  readonly log?: Log;
}

/** Time stands still, so that a slow machine gives the same answers: a busy shard answers early when time passes. */
const standing: Clock = { ...systemClock, now: () => 1_000_000 };

function newRunner({
  limits,
  files,
  through = client,
  clock = standing,
  log = silent,
}: RunnerSetup = {}): ShardRunner {
  return new ShardRunner({
    client: through,
    root: "/beamkeeper",
    pipelines: new Map([[pipeline.name, pipeline]]),
    files: files ?? new DirectoryFiles(folder),
    blobs: new DirectoryBlobs(join(folder, ".blobs")),
    clock,
    log,
    limits: { ...LIMITS, ...limits },
  });
}

function run(runner: ShardRunner, index = 0, deadlineMs = Number.POSITIVE_INFINITY): Promise<ShardReply> {
  return runner.run({ pipeline: pipeline.name, stage: stage(index), shard: 0, zxid: "0" }, deadlineMs);
}

/** One segment in the first stage's inbox. */
async function append(...values: (string | Buffer)[]): Promise<void> {
  const elements = values.map((value) => {
    const data = Buffer.from(value);
    const times = { ctimeMs: 500, mtimeMs: 500, missed: 0, missedAtLeast: false };
    const change: ZnodeChange = {
      ...{ path: `/${++written}`, kind: "created", data, text: data.toString() },
      ...{ version: 0, czxid: 1n, mzxid: 1n, zxid: 1n, ...times },
      ...{ cversion: 0, aversion: 0, numChildren: 0, isEphemeral: false },
    };
    return encodeZnodeChange(change, 500);
  });
  const path = segmentPrefix(shardOfStage(0).inbox, 500);
  await client.create(path, encodeSegment(elements).data, { mode: "persistent-sequential" });
}

/** Invokes as the relay does: again while there is more. */
async function drain(runner: ShardRunner): Promise<ShardReply[]> {
  const replies = [await run(runner)];
  while (replies.at(-1)!.outcome === "more") replies.push(await run(runner));
  return replies;
}

const publish = (watermarkMs: number, number = 0) =>
  client.setData(
    current.scope.source(pipeline.sources[0]!.id).cursor,
    encodeCursor({ ...NEW_CURSOR, watermarkMs, number }),
  );
const resultCount = async (): Promise<number> =>
  client.getChildren(results).then(
    ({ children }) => children.length,
    () => 0,
  );
const readHead = async (index = 0): Promise<Head> => {
  const { head } = shardOfStage(index);
  return decodeHead((await client.getData(head)).data, head);
};
const backlog = async (index: number): Promise<number> =>
  (await client.getChildren(shardOfStage(index).inbox)).children.length;
const published = (): string[] => readdirSync(folder).filter((name) => name.startsWith("paths"));

function withMulti(
  around: (send: () => Promise<MultiResult>, ops: readonly Op[]) => Promise<MultiResult>,
): ZooKeeperClient {
  return new Proxy(client as ZooKeeperClient, {
    get(target, name) {
      if (name === "multi") return (ops: readonly Op[]) => around(() => target.multi(ops), ops);
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

const isCommit = (ops: readonly Op[]): boolean =>
  ops.some((op) => op.type === "setData" && /\/stages\/[^/]+\/0$/.test(op.path));

test("an empty shard answers that it is idle, with a zxid that its listing has seen, and commits nothing", async () => {
  const { stat } = await client.create(`/before-${tests}`);
  const reply = await run(newRunner());
  expect(reply).toMatchObject({
    outcome: "idle",
    commits: 0,
    fed: [],
    inputWatermarkMs: "-inf",
    nextTimerMs: "+inf",
  });
  expect(BigInt(`0x${reply.listedZxid}`) >= stat.czxid).toBe(true);
  expect((await readHead()).number).toBe(0);
});

test("from the inbox to results, the next stage's inbox, and at last a file", async () => {
  await append("a", "b", "c");
  const runner = newRunner();
  const reply = await run(runner);
  expect(reply).toMatchObject({ outcome: "idle", commits: 1, fed: [{ stage: stage(1), shard: 0 }] });
  expect([await resultCount(), await backlog(0), await backlog(1)]).toEqual([3, 0, 1]);
  expect(await run(runner, 1)).toMatchObject({ outcome: "idle", commits: 1, holdMs: 999 });
  await publish(2_000);
  expect(await run(runner, 1)).toMatchObject({ outcome: "idle", commits: 1, holdMs: "+inf" });
  expect(published()).toHaveLength(1);
  expect((await client.getChildren(current.scope.outputs)).children).toEqual([]);
  expect((await readHead(1)).counters.elementsIn).toBe(3);
});

describe("called ahead of a commit", () => {
  /** The cursor's commit of that number, with a segment. */
  const commitOfSource = async (number: number): Promise<void> => {
    await append("a");
    await publish(Number.NEGATIVE_INFINITY, number);
  };
  /** A run that is told of commit 7, and how long it slept before each look but the first two. */
  const runAhead = async (beforeLook: (sleeps: number) => Promise<void>) => {
    const sleptMs: number[] = [];
    const sleep = (ms: number): Promise<void> => beforeLook(sleptMs.push(ms));
    const announced = { source: pipeline.sources[0]!.id, number: 7 };
    const request = { pipeline: pipeline.name, stage: stage(0), shard: 0, zxid: "0", announced };
    const reply = await newRunner({ clock: { ...standing, sleep } }).run(request, Number.POSITIVE_INFINITY);
    return { sleptMs, reply };
  };

  test("an invocation waits for it, and is the only one that it takes", async () => {
    await publish(Number.NEGATIVE_INFINITY, 6);
    const { sleptMs, reply } = await runAhead(async (sleeps) => {
      if (sleeps === 3) await commitOfSource(7);
    });
    expect(sleptMs).toEqual([1, 2, 4]);
    expect(reply).toMatchObject({ outcome: "idle", commits: 1, fed: [{ stage: stage(1) }] });
    expect(await resultCount()).toBe(1);
  });

  test("that never takes effect, an invocation ends after an eighth of a second", async () => {
    const { sleptMs, reply } = await runAhead(async () => undefined);
    expect(sleptMs).toEqual([1, 2, 4, 8, 16, 32, 64]);
    expect(reply).toMatchObject({ outcome: "idle", commits: 0 });
  });

  test("that is there, or whose segment somebody else has done, or with other work to do, it does not wait", async () => {
    const never = () => Promise.reject(new Error("it waits"));
    await append("b");
    expect((await runAhead(never)).reply.commits).toBe(1);
    await commitOfSource(7);
    expect((await runAhead(never)).reply.commits).toBe(1);
    expect((await runAhead(never)).reply.commits).toBe(0);
  });
});

test("what user code counts is counted once for each committed bundle, and told", async () => {
  await append("a", "bbb", "cc");
  const lost = withMulti(async (send, ops) => {
    if (isCommit(ops)) throw new Error("nobody sent it");
    return send();
  });
  await run(newRunner({ through: lost })).catch(() => undefined);
  expect((await readHead()).metrics).toEqual({ counters: {}, distributions: {} });
  const told: unknown[] = [];
  const log: Log = (_level, message, fields) => void (message === "bundle" && told.push(fields));
  await run(newRunner({ limits: { maxUnits: 2 }, log }));
  expect(told).toMatchObject([
    { stage: stage(0), elementsIn: 2, counters: { "map:seen": 2 } },
    { stage: stage(0), elementsIn: 1, counters: { "map:seen": 1 } },
  ]);
  const status = (await readStatus(client, new PipelineLayout("/beamkeeper", pipeline.name)))!;
  expect(status.metrics).toEqual({
    counters: { "map:seen": 3 },
    distributions: { "map:sizes": { count: 3, sum: 6, min: 1, max: 3 } },
  });
  expect(statusText(pipeline.name, status)).toMatch(/map:seen +3\b[\s\S]*map:sizes +3 +2 +1 +3/);
});

test("a segment larger than a bundle is consumed in parts, each element once", async () => {
  await append("a", "b", "c", "d", "e");
  await append("f");
  const positions: unknown[] = [];
  const watching = withMulti(async (send, ops) => {
    const result = await send();
    if (isCommit(ops)) positions.push((await readHead()).position?.elements ?? "none");
    return result;
  });
  await drain(newRunner({ limits: { maxUnits: 2 }, through: watching }));
  expect(positions).toEqual([2, 4, "none"]);
  expect([await resultCount(), await backlog(0)]).toEqual([6, 0]);
  expect((await readHead()).counters.elementsIn).toBe(6);
});

test("a backlog is listed once and each segment read once, however many commits it takes", async () => {
  for (const value of ["a", "b", "c", "d", "e"]) await append(value);
  const { inbox, head } = shardOfStage(0);
  const reads: string[] = [];
  const counting = new Proxy(client as ZooKeeperClient, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name, target);
      if (typeof value !== "function") return value;
      if (name === "getData" || name === "getChildren")
        return (path: string, ...rest: unknown[]) => {
          reads.push(path);
          return value.call(target, path, ...rest);
        };
      return value.bind(target);
    },
  });
  const runner = newRunner({ limits: { maxUnits: 1 }, through: counting });
  expect(await run(runner)).toMatchObject({ outcome: "idle", commits: 5, backlog: 0 });
  const segments = reads.filter((path) => path.startsWith(`${inbox}/`));
  expect([segments.length, new Set(segments).size]).toEqual([5, 5]);
  // One listing finds the backlog, one that nothing is left, one whether a cold start has anything to collect.
  expect(reads.filter((path) => path === inbox).length).toBeLessThanOrEqual(3);
  // Before the files are tidied, before the backlog, and on either side of the last listing.
  expect(reads.filter((path) => path === head).length).toBeLessThanOrEqual(4);
  expect(await resultCount()).toBe(5);
});

test("what arrives while a backlog is worked off is found before the shard is idle", async () => {
  await append("a");
  await append("b");
  let isFirst = true;
  const arriving = withMulti(async (send, ops) => {
    if (isCommit(ops) && isFirst) {
      isFirst = false;
      await append("c");
    }
    return send();
  });
  const reply = await run(newRunner({ limits: { maxUnits: 1 }, through: arriving }));
  expect(reply).toMatchObject({ outcome: "idle", commits: 3 });
  expect(await resultCount()).toBe(3);
});

test("the next bundle is run while a commit is under way, and a bundle that fails then fails in its turn", async () => {
  for (const value of ["a", "b", "poison"]) await append(value);
  let isHeld = true;
  const holding = withMulti(async (send, ops) => {
    while (isCommit(ops) && isHeld && !arrived.includes("b")) await new Promise(setImmediate);
    isHeld = false;
    return send();
  });
  const reply = await run(newRunner({ limits: { maxUnits: 1 }, through: holding }));
  expect(reply).toMatchObject({ outcome: "interrupted", commits: 2 });
  expect((await readHead()).failing).toMatchObject({ attempts: 1, units: 1 });
  // Once ahead, and once for the failure that is noted.
  expect(arrived).toEqual(["a", "b", "poison", "poison"]);
});

test.each([1, 3])(
  "a bundle that has run ahead is given up when another invocation has made %d commits before it",
  async (others) => {
    for (const value of ["a", "b", "c"]) await append(value);
    const told: string[] = [];
    let isFirst = true;
    const late = withMulti(async (send, ops) => {
      if (isCommit(ops) && isFirst) {
        isFirst = false;
        const other = newRunner({ limits: { maxUnits: 1 } });
        await other.run(
          { pipeline: pipeline.name, stage: stage(0), shard: 0, zxid: "0", writes: 5 * others - 4 },
          Infinity,
        );
        expect((await readHead()).number).toBe(others);
        // The other one may have had it, too.
        while (arrived.filter((text) => text === "b").length < Math.min(others, 2))
          await new Promise(setImmediate);
      }
      return send();
    });
    const runner = newRunner({ limits: { maxUnits: 1 }, through: late, log: (_, what) => told.push(what) });
    expect(await run(runner)).toMatchObject({ outcome: "superseded", commits: 0 });
    expect(told).toContain(GIVEN_UP);
    await drain(runner);
    expect([await resultCount(), (await readHead()).counters.elementsIn]).toEqual([3, 3]);
  },
);

test("another process goes on in the middle of a segment", async () => {
  await append("a", "b", "c", "d", "e");
  let commits = 0;
  const dying = withMulti(async (send, ops) => {
    if (isCommit(ops) && ++commits === 2) throw new RangeError("died");
    return send();
  });
  await run(newRunner({ limits: { maxUnits: 2 }, through: dying }));
  expect((await readHead()).position?.elements).toBe(2);
  await run(newRunner());
  expect([await resultCount(), (await readHead()).counters.elementsIn]).toEqual([5, 5]);
});

test("a bundle that does not fit is halved until it does", async () => {
  await append(...Array.from({ length: 8 }, () => Buffer.alloc(20_000, "x")));
  await drain(newRunner({ limits: { commitSizeBytes: 70_000, segmentSizeBytes: 16_000 } }));
  expect([await resultCount(), await backlog(0)]).toEqual([8, 0]);
  expect((await readHead()).number).toBeGreaterThan(2);
});

test("one element that does not fit alone: shard, sizes and limit are named, and nothing is consumed", async () => {
  await append(Buffer.alloc(80_000, "x"));
  const ran = run(newRunner({ limits: { commitSizeBytes: 70_000, segmentSizeBytes: 16_000 } }));
  await expect(ran).rejects.toThrow(/shard 0 of stage ".*takes 8\d+ bytes, the limit is 70000/);
  expect([await resultCount(), await backlog(0), (await readHead()).number]).toEqual([0, 1, 0]);
});

test.each([
  ["no more than fits", 1],
  ["all at once", 100],
])(
  "inherited segments meet their own watermark, what is behind them the next one: %s",
  async (_, maxUnits) => {
    for (const value of ["in time", "late"]) {
      await append(value);
      await drain(newRunner());
    }
    const { head, inbox } = shardOfStage(1);
    const [first] = segmentNames((await client.getChildren(inbox)).children);
    const inherited = [{ through: first!.name, watermarkMs: 2_000 }];
    await client.setData(head, encodeHead({ ...NEW_HEAD, number: 1, ids: ["moved"], inherited }));
    await publish(3_000);
    const runner = newRunner({ limits: { maxUnits } });
    expect((await run(runner, 1)).outcome).toBe("idle");
    expect(await readHead(1)).toMatchObject({
      ...{ inherited: [], nextTimerMs: Number.POSITIVE_INFINITY },
      counters: { elementsIn: 2, elementsOut: 1, droppedLate: 1 },
    });
    expect(published()).toHaveLength(1);
  },
);

test("an element whose function throws: what came before it is told, then the error, and nothing is lost", async () => {
  await append("a");
  await append("poison");
  const runner = newRunner({ limits: { maxUnits: 1 } });
  const reply = await run(runner);
  expect(reply).toMatchObject({ outcome: "interrupted", commits: 1, fed: [{ stage: stage(1), shard: 0 }] });
  await expect(run(runner)).rejects.toThrow(/poison/);
  expect([await resultCount(), await backlog(0)]).toEqual([1, 1]);
});

test("two invocations of one shard at once: one commits, and each element has its effect once", async () => {
  for (let segment = 0; segment < 5; segment += 1) await append("a", "b");
  const limits = { maxUnits: 2 };
  const outcomes = await Promise.all([run(newRunner({ limits })), run(newRunner({ limits }))]);
  for (const { outcome } of outcomes) expect(["idle", "more", "superseded"]).toContain(outcome);
  await drain(newRunner());
  expect([await resultCount(), (await readHead()).counters.elementsIn]).toEqual([10, 10]);
});

test("an inbox that another invocation has emptied meanwhile: the answer tells of the timers that it set", async () => {
  await append("a");
  await run(newRunner());
  let isFirst = true;
  const meanwhile = new Proxy(client as ZooKeeperClient, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name, target);
      if (typeof value !== "function") return value;
      return async (...args: unknown[]) => {
        // After this invocation has read the head, and before it lists the inbox.
        if (name === "getChildren" && args[0] === shardOfStage(1).inbox && isFirst) {
          isFirst = false;
          await run(newRunner(), 1);
        }
        return value.apply(target, args);
      };
    },
  });
  expect(await run(newRunner({ through: meanwhile }), 1)).toMatchObject({
    outcome: "idle",
    commits: 0,
    nextTimerMs: 1000,
  });
});

test("files that another process committed and did not publish are published, by a warm process too", async () => {
  await append("a");
  const warm = newRunner();
  await run(warm);
  await run(warm, 1);
  const directory = new DirectoryFiles(folder);
  const dying = new Proxy<FileStore>(directory, {
    get(target, name) {
      if (name === "publish") return () => Promise.reject(new RangeError("died"));
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
  await publish(2_000);
  await expect(run(newRunner({ files: dying }), 1)).rejects.toThrow("died");
  expect(published()).toEqual([]);
  await run(warm, 1);
  expect(published()).toHaveLength(1);
  expect((await client.getChildren(current.scope.outputs)).children).toEqual([]);
});

test("a process whose own publishing failed tries again", async () => {
  await append("a");
  const directory = new DirectoryFiles(folder);
  let failures = 1;
  const failing = new Proxy<FileStore>(directory, {
    get(target, name) {
      if (name === "publish" && failures-- > 0)
        return () => Promise.reject(new RangeError("the disk is full"));
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
  const runner = newRunner({ files: failing });
  await run(runner);
  await run(runner, 1);
  await publish(2_000);
  await expect(run(runner, 1)).rejects.toThrow("the disk is full");
  await run(runner, 1);
  expect(published()).toHaveLength(1);
});

test("a shard that stays busy answers after 20 ms, then each time after twice as long; after it was idle, after 20 again", async () => {
  let nowMs = 1_000_000;
  const runner = newRunner({
    limits: { maxUnits: 1 },
    clock: { ...systemClock, now: () => nowMs },
    through: withMulti((send, ops) => {
      if (isCommit(ops)) nowMs += 5;
      return send();
    }),
  });
  await append(...Array.from({ length: 100 }, String));
  const replies = await drain(runner);
  expect(replies.map(({ commits }) => commits)).toEqual([4, 8, 16, 32, 32, 8]);
  await append(...Array.from({ length: 5 }, String));
  expect((await drain(runner)).map(({ commits }) => commits)).toEqual([4, 1]);
});

test.each([
  ["plenty of small segments", 10, 64, 200],
  ["few large ones", 100_000, 1, 20],
])("what is read ahead: %s", async (_name, bytes, least, most) => {
  for (let segment = 0; segment < 200; segment++) await append("x".repeat(bytes));
  const { inbox } = shardOfStage(0);
  let reads = 0;
  let readsBefore: number | undefined;
  const counting = new Proxy(client as ZooKeeperClient, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name, target);
      if (name === "multi")
        return (ops: readonly Op[]) => {
          readsBefore ??= reads;
          return target.multi(ops);
        };
      if (name !== "getData") return typeof value === "function" ? value.bind(target) : value;
      return (path: string) => {
        if (path.startsWith(`${inbox}/`)) reads += 1;
        return target.getData(path);
      };
    },
  });
  await drain(newRunner({ through: counting, limits: { maxUnits: 1 } }));
  expect(reads).toBe(200);
  expect(readsBefore).toBeGreaterThanOrEqual(least);
  expect(readsBefore).toBeLessThanOrEqual(most);
});

test("no time is left: nothing is begun", async () => {
  await append("a");
  expect(await run(newRunner(), 0, 0)).toMatchObject({ outcome: "more", commits: 0 });
  expect(await backlog(0)).toBe(1);
});

test("a pipeline that is paused admits no commit, also one that is paused in the middle of a bundle", async () => {
  await append("a");
  const paused = encodeGeneration({ ...current.generation, state: "paused" });
  const pausing = withMulti(async (send, ops) => {
    if (isCommit(ops)) await client.setData(current.layout.generation, paused);
    return send();
  });
  expect(await run(newRunner({ through: pausing }))).toMatchObject({ outcome: "superseded", commits: 0 });
  expect(await run(newRunner())).toMatchObject({ outcome: "stopped", commits: 0 });
  expect([await resultCount(), await backlog(0)]).toEqual([0, 1]);
});

test.each([
  ["pipeline", { pipeline: "other" }, /no pipeline "other" here; this function has p-/],
  ["stage", { stage: "other" }, /no shard 0 of a stage "other"/],
  ["shard", { shard: 7 }, /no shard 7/],
])("an unknown %s is named", async (_name, part, message) => {
  const request = { pipeline: pipeline.name, stage: stage(0), shard: 0, zxid: "0", ...part };
  await expect(newRunner().run(request, Number.POSITIVE_INFINITY)).rejects.toThrow(message);
});

test("a pipeline that was started by another graph is refused", async () => {
  await client.setData(
    current.layout.generation,
    encodeGeneration({ ...current.generation, fingerprint: "other" }),
  );
  await expect(run(newRunner())).rejects.toThrow(
    /another graph than this function's; deploy both from one build/,
  );
});
