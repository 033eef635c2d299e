import fc from "fast-check";
import { CommitBlobs, collectBlobs } from "../../lib/checkpoint/blobs";
import { operationsBytes } from "../../lib/checkpoint/commit";
import { EncodingError } from "../../lib/checkpoint/encoding";
import { KEY_GROUPS, PipelineLayout, stateName } from "../../lib/checkpoint/layout";
import { decodeHead, encodeHead, NEW_HEAD } from "../../lib/checkpoint/records";
import { encodeSegment } from "../../lib/checkpoint/segment";
import { STATE_LIMITS, type StateLimits, StoredState } from "../../lib/checkpoint/state";
import { type StateCell, valueBytes } from "../../lib/checkpoint/state-record";
import { loadState, readHead, runReader } from "../../lib/checkpoint/stored-state";
import { MemoryBlobs } from "../../lib/simulation/memory-files";
import { randomNumbers } from "../../lib/simulation/random-numbers";
import { connect, NoNodeError, type Op, type ZooKeeper, type ZooKeeperClient } from "../../lib/zookeeper";
import { type LocalZooKeeper, startZooKeeper } from "../support/zookeeper-server";

const layout = new PipelineLayout("/beamkeeper", "p").epoch(1).shard("s", 0);
const SMALL: StateLimits = {
  minDeltas: 3,
  maxDeltaBytes: 400,
  rangeSizeBytes: 200,
  maxRunBytes: 2_000,
  inlineBytes: 150,
};

// What is left of a commit for runs.
const ROOM_BYTES = 256 * 1024;

/** The znodes of one shard in memory, changed by commits and by nothing else. */
class Znodes {
  readonly data = new Map<string, Buffer>([[layout.head, encodeHead(NEW_HEAD)]]);
  readonly blobs = new MemoryBlobs();
  zxid = 1n;
  stateZxid = 1n;
  bytes = 0;
  /** What was read of it, by path, in order. */
  readonly reads: string[] = [];

  commit(ops: readonly Op[]): void {
    this.zxid += 1n;
    this.bytes += operationsBytes(ops);
    for (const op of ops) {
      if (op.type === "create" && this.data.has(op.path)) throw new Error(`${op.path} is written twice`);
      if (op.type === "delete" && !this.data.delete(op.path)) throw new Error(`${op.path} is not there`);
      if (op.type === "create" || op.type === "setData") this.data.set(op.path, Buffer.from(op.data!));
      if (op.type !== "setData") this.stateZxid = this.zxid;
    }
  }

  get client(): ZooKeeperClient {
    const getData = async (path: string) => {
      const data = this.data.get(path);
      this.reads.push(path);
      if (data === undefined) throw new NoNodeError(`${path} does not exist`, "terminal", -101, path);
      return { data, stat: { mzxid: this.zxid, version: Number(this.zxid) } };
    };
    const getChildren = async (path: string) => {
      const children = [...this.data.keys()].filter((each) => each.startsWith(`${path}/`));
      return {
        children: children.map((each) => each.slice(path.length + 1)),
        stat: { pzxid: this.stateZxid },
      };
    };
    return { getData, getChildren } as unknown as ZooKeeperClient;
  }
}

/** What a shard does: load, plan, commit. */
class Shard {
  stored: StoredState;
  number = 0;

  constructor(
    readonly znodes: Znodes,
    readonly limits: StateLimits,
  ) {
    this.stored = new StoredState(layout, limits);
  }

  async plan(changes: readonly StateCell[], roomBytes = Infinity, isEmpty = false) {
    const reader = runReader(this.znodes.client, this.znodes.blobs);
    return this.stored.plan(
      this.number + 1,
      changes,
      Buffer.of(this.number % 256),
      roomBytes,
      reader,
      isEmpty,
    );
  }

  async commit(changes: readonly StateCell[], roomBytes?: number, isEmpty?: boolean): Promise<void> {
    const plan = await this.plan(changes, roomBytes, isEmpty);
    this.number += 1;
    const head = { ...NEW_HEAD, number: this.number, ids: [`${this.number}`], state: plan.summary };
    const written = new CommitBlobs(this.znodes.blobs, layout.head, this.number, `${this.number}`);
    const ops = await written.keep(plan.ops, this.limits.inlineBytes);
    this.znodes.commit([{ type: "setData", path: layout.head, data: encodeHead(head) }, ...ops]);
    plan.accept(written.byPath);
    for (const name of plan.garbage) await this.znodes.blobs.delete(name);
  }

  async coldStart(): Promise<Map<string, string>> {
    const cells = new Map<string, string>();
    const { client, blobs } = this.znodes;
    const take = (cell: StateCell): void => {
      expect(cells.has(cell.id)).toBe(false);
      cells.set(cell.id, textOf(cell));
    };
    this.stored = (await loadState(
      client,
      blobs,
      layout,
      await readHead(client, layout),
      take,
      this.limits,
    ))!;
    return cells;
  }
}

const cell = (group: number, id: string, value: string | undefined): StateCell => ({
  group,
  id,
  value,
});

const textOf = (cell: StateCell): string => Buffer.from(valueBytes(cell)).toString("latin1");

const sorted = (cells: ReadonlyMap<string, string>) => [...cells].sort(([a], [b]) => (a < b ? -1 : 1));

const change = fc.tuple(fc.nat(20), fc.option(fc.nat(60), { nil: undefined, freq: 3 }));
const step = fc.record({
  changes: fc.array(change, { maxLength: 8 }),
  next: fc.constantFrom("go on", "go on", "lose the commit first", "start cold", "no room"),
});

test("what is loaded is what was committed, after any commits, merges, lost commits and cold starts", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 60 }), async (steps) => {
      const shard = new Shard(new Znodes(), SMALL);
      const model = new Map<string, string>();
      for (const [index, { changes, next }] of steps.entries()) {
        const cells = new Map<string, StateCell>();
        for (const [key, length] of changes) {
          const value = length === undefined ? undefined : `${index}${"x".repeat(length)}`;
          cells.set(`k${key}`, cell((key * 37) % KEY_GROUPS, `k${key}`, value));
        }
        if (next === "lose the commit first") await shard.plan([cell(5, "lost", "lost")]);
        for (const [id, cell] of cells) {
          if (cell.value === undefined) model.delete(id);
          else model.set(id, textOf(cell));
        }
        await shard.commit([...cells.values()], next === "no room" ? 0 : undefined, model.size === 0);
        if (model.size === 0) expect(shard.znodes.data.size).toBe(1);
        if (next === "start cold") expect(sorted(await shard.coldStart())).toEqual(sorted(model));
      }
      expect(sorted(await shard.coldStart())).toEqual(sorted(model));
      // No blob is left that nothing refers to, and an attempt that was lost leaves one that is collected.
      const { blobs, client } = shard.znodes;
      expect([...blobs.blobs.keys()].sort()).toEqual([...shard.stored.blobs.values()].sort());
      await new CommitBlobs(blobs, layout.head, shard.number, "lost").keep(
        [{ type: "create", path: "/x", data: encodeSegment([]).data }],
        1,
      );
      await collectBlobs(client, blobs, layout.head, shard.number, shard.stored.blobs.values(), []);
      expect([...blobs.blobs.keys()].sort()).toEqual([...shard.stored.blobs.values()].sort());
    }),
    { numRuns: 150 },
  );
});

test("a commit that touches 100 of 100,000 keys writes in proportion to 100, for ever", async () => {
  const shard = new Shard(new Znodes(), STATE_LIMITS);
  const random = randomNumbers(1);
  const touch = (key: number, version: number): StateCell =>
    cell((key * 2_654_435_761) % KEY_GROUPS, `key-${key}`, `${version}`.padEnd(60, "."));
  for (let key = 0; key < 100_000; key += 1_000) {
    await shard.commit(
      Array.from({ length: 1_000 }, (_, i) => touch(key + i, 0)),
      ROOM_BYTES,
    );
  }
  const model = new Map<number, number>();
  const costs: number[] = [];
  for (let commit = 1; commit <= 400; commit++) {
    const keys = new Set(Array.from({ length: 100 }, () => Math.floor(random() * 100_000)));
    const before = shard.znodes.bytes;
    await shard.commit(
      [...keys].map((key) => touch(key, commit)),
      ROOM_BYTES,
    );
    costs.push(shard.znodes.bytes - before);
    for (const key of keys) model.set(key, commit);
  }
  // Each change is written again some times as runs are merged.
  const changed = 100 * (60 + 9 + 9);
  expect(costs.reduce((sum, each) => sum + each, 0) / costs.length).toBeLessThan(8 * changed);
  expect(Math.max(...costs)).toBeLessThan(1.2 * ROOM_BYTES);
  // A cold start reads no more than a few times the state, in a bounded number of znodes.
  const stored = [...shard.znodes.data].filter(([path]) => path.startsWith(layout.state));
  expect(stored.reduce((sum, [, { length }]) => sum + length, 0)).toBeLessThan(2.5 * 100_000 * 78);
  expect(stored.length).toBeLessThan(KEY_GROUPS * 8);
  const loaded = await shard.coldStart();
  expect(loaded.size).toBe(100_000);
  for (const [key, version] of model) expect(Number.parseInt(loaded.get(`key-${key}`)!, 10)).toBe(version);
});

test("a warm shard merges the runs that it wrote without reading them, as far as they are kept", async () => {
  const shard = new Shard(new Znodes(), STATE_LIMITS);
  const commits = async (bytes: number): Promise<{ reads: number; merged: number }> => {
    shard.znodes.reads.length = 0;
    let merged = 0;
    for (let commit = 0; commit < 100; commit++) {
      const before = new Set(shard.znodes.data.keys());
      const changes = [1, 2, 3].map((key) => cell(key, `key-${key}-${commit % 10}`, "x".repeat(bytes)));
      await shard.commit(changes, ROOM_BYTES);
      for (const path of before)
        if (!shard.znodes.data.has(path) && stateName(path.split("/").at(-1)!)?.kind === "run") merged += 1;
    }
    return { reads: shard.znodes.reads.length, merged };
  };
  const warm = await commits(50);
  expect(warm.reads).toBe(0);
  expect(warm.merged).toBeGreaterThan(5);
  await shard.coldStart();
  const cold = await commits(50);
  expect(cold.reads).toBeGreaterThan(0);
  expect(cold.reads).toBeLessThan(cold.merged);
  // Larger runs than are kept have to be read.
  expect((await commits(12_000)).reads).toBeGreaterThan(0);
});

test("what commits with many changes leave waiting is no burden on the small commits behind them", async () => {
  const shard = new Shard(new Znodes(), STATE_LIMITS);
  const touch = (key: number, version: number): StateCell =>
    cell((key * 2_654_435_761) % KEY_GROUPS, `key-${key}`, `${version}`.padEnd(600, "."));
  const keys = (from: number, count: number, version: number): StateCell[] =>
    Array.from({ length: count }, (_, i) => touch((from + i * 7_919) % 60_000, version));
  for (let from = 0; from < 60_000; from += 1_000)
    await shard.commit(Array.from({ length: 1_000 }, (_, i) => touch(from + i, 0)));
  let written = 0;
  for (let commit = 1; commit <= 200; commit++) {
    const changes = keys(commit, 10, commit);
    // Runs that go to the blob store count as well.
    written += operationsBytes((await shard.plan(changes)).ops);
    await shard.commit(changes);
  }
  expect(written).toBeLessThan(12 * 200 * 10 * 620);
}, 60_000);

test("keys that come and go leave next to nothing behind", async () => {
  const shard = new Shard(new Znodes(), STATE_LIMITS);
  for (let commit = 0; commit < 300; commit++) {
    const comes = cell(commit % KEY_GROUPS, `key-${commit}`, "x".repeat(200));
    const goes = cell((commit - 1) % KEY_GROUPS, `key-${commit - 1}`, undefined);
    await shard.commit(commit === 0 ? [comes] : [comes, goes]);
  }
  const stored = [...shard.znodes.data].filter(([path]) => path.startsWith(layout.state));
  expect(stored.length).toBeLessThan(20);
  expect(stored.reduce((sum, [, { length }]) => sum + length, 0)).toBeLessThan(20_000);
  expect((await shard.coldStart()).size).toBe(1);
});

describe("state that no commit has left", () => {
  let shard: Shard;
  const load = () => shard.coldStart();

  beforeEach(async () => {
    shard = new Shard(new Znodes(), SMALL);
    for (let i = 0; i < 9; i++) await shard.commit([cell(i, `k${i}`, "x".repeat(90))]);
    expect((await load()).size).toBe(9);
  });

  const names = () => [...shard.znodes.data.keys()].filter((path) => path.startsWith(`${layout.state}/`));

  test("a znode that is gone, or one too many, is an error that names the state and says what to do", async () => {
    for (const name of names()) {
      const data = shard.znodes.data.get(name)!;
      shard.znodes.data.delete(name);
      await expect(load()).rejects.toThrow(/\/state: the state has \d+ znodes, and the head tells of \d+/);
      shard.znodes.data.set(name, data);
    }
    shard.znodes.data.set(`${layout.state}/mine`, Buffer.from("x"));
    await expect(load()).rejects.toThrow(EncodingError);
  });

  test("a changed byte, a foreign name, and groups that overlap are errors", async () => {
    const [name] = names() as [string];
    const data = shard.znodes.data.get(name)!;
    shard.znodes.data.set(name, Buffer.concat([data.subarray(0, -1), Buffer.of(1)]));
    await expect(load()).rejects.toThrow(EncodingError);
    shard.znodes.data.delete(name);
    shard.znodes.data.set(`${layout.state}/mine`, data);
    await expect(load()).rejects.toThrow("mine is none of its names");
    shard.znodes.data.delete(`${layout.state}/mine`);
    const head = decodeHead(shard.znodes.data.get(layout.head)!, layout.head);
    const znodes = names().length + 2;
    shard.znodes.data.set(layout.head, encodeHead({ ...head, state: { ...head.state, znodes } }));
    shard.znodes.data.set(`${layout.state}/run-000-009.${"1".padStart(16, "0")}`, data);
    shard.znodes.data.set(`${layout.state}/run-008-128.${"1".padStart(16, "0")}`, data);
    await expect(load()).rejects.toThrow("overlap");
  });

  test("a change without a commit is an error, also where the number of znodes is right", async () => {
    shard.znodes.stateZxid = shard.znodes.zxid + 1n;
    await expect(load()).rejects.toThrow("has been changed without a commit");
  });
});

describe("on a real server", () => {
  let server: LocalZooKeeper;
  let client: ZooKeeper;

  beforeAll(async () => {
    server = await startZooKeeper();
    client = await connect({ connectString: server.connectString });
    for (const path of ["/beamkeeper", "/beamkeeper/p"]) await client.create(path);
    await client.create("/beamkeeper/p/epochs");
    for (const path of ["", "/stages", "/stages/s"]) await client.create(`/beamkeeper/p/epochs/1${path}`);
    await client.create(layout.head, encodeHead(NEW_HEAD));
    await client.create(layout.state);
  });

  afterAll(async () => {
    await client?.close();
    await server?.stop();
  });

  test("loaded cold at each commit; a commit that comes between head and listing is noticed", async () => {
    const blobs = new MemoryBlobs();
    let model = new Map<string, string>();
    let before = await readHead(client, layout);
    for (let number = 1; number <= 60; number++) {
      const current = await readHead(client, layout);
      const cells = new Map<string, string>();
      const take = (cell: StateCell): void => {
        cells.set(cell.id, textOf(cell));
      };
      const stored = (await loadState(client, blobs, layout, current, take, SMALL))!;
      expect(sorted(cells)).toEqual(sorted(model));
      if (number > 2)
        expect(await loadState(client, blobs, layout, before, () => undefined, SMALL)).toBeUndefined();
      model = new Map(model);
      const changes = Array.from({ length: 5 }, (_, i) => (number * 7 + i * 11) % 23).map((key) => {
        const value = (number + key) % 4 === 0 ? undefined : `${number}`.padEnd(40, "-");
        if (value === undefined) model.delete(`k${key}`);
        else model.set(`k${key}`, value);
        return cell((key * 37) % KEY_GROUPS, `k${key}`, value);
      });
      const plan = await stored.plan(number, changes, undefined, Infinity, runReader(client, blobs));
      const head = { ...NEW_HEAD, number, ids: [`${number}`], state: plan.summary };
      const data = encodeHead(head);
      await client.multi([
        { type: "setData", path: layout.head, data, version: current.version },
        ...plan.ops,
      ]);
      before = current;
    }
  });
});
