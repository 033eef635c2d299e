import fc from "fast-check";
import { compareZnode, type HeardEvents, type Observed, type SourceStart } from "../../lib/relay/comparison";
import { DirtyPaths } from "../../lib/relay/dirty-paths";
import { Gaps } from "../../lib/relay/gaps";
import { type KnownZnode, Manifest } from "../../lib/relay/manifest";
import type { Stat, WatchedEvent, WatchedEventType } from "../../lib/zookeeper";

const SEED = 20260724;
const START: SourceStart = { zxid: 100n, mode: "snapshot" };
const NOTHING: HeardEvents = { events: [], complete: true };

function stat(czxid: bigint, mzxid: bigint, version: number): Stat {
  const rest = { cversion: 0, aversion: 0, ephemeralOwner: 0n, dataLength: 0, numChildren: 0, pzxid: 0n };
  return { czxid, mzxid, version, ctime: Number(czxid), mtime: Number(mzxid), ...rest };
}

function znode(czxid: bigint, mzxid: bigint, version: number): NonNullable<Observed> {
  return { data: Buffer.from(`value ${mzxid}`), stat: stat(czxid, mzxid, version) };
}

function known(czxid: bigint, mzxid: bigint, version: number): KnownZnode {
  return { czxid, mzxid, version, cversion: 0, aversion: 0 };
}

function heard(...events: [WatchedEventType, bigint][]): HeardEvents {
  return { events: events.map(([type, zxid]) => ({ type, zxid })), complete: true };
}

const incomplete = (events: HeardEvents): HeardEvents => ({ ...events, complete: false });

describe("one comparison", () => {
  test("the same write is nothing new, whatever was heard", () => {
    const before = known(110n, 120n, 3);
    const again = compareZnode("/a", before, znode(110n, 120n, 3), heard(["dataChanged", 120n]), START);
    expect(again).toEqual({ changes: [], known: undefined });
  });

  test("within a life the version counts, with or without events", () => {
    const before = known(110n, 120n, 3);
    for (const events of [NOTHING, incomplete(NOTHING), heard(["dataChanged", 121n])]) {
      const { changes, known: next } = compareZnode("/a", before, znode(110n, 130n, 7), events, START);
      expect(changes).toMatchObject([{ kind: "changed", version: 7, missed: 3, missedAtLeast: false }]);
      expect(next).toEqual(known(110n, 130n, 7));
    }
  });

  test("what was there at the start is existing, and one that was written meanwhile may hide a value", () => {
    const old = compareZnode("/a", undefined, znode(50n, 60n, 4), NOTHING, START).changes;
    expect(old).toMatchObject([{ kind: "existing", missed: 0, missedAtLeast: false }]);
    const written = compareZnode("/a", undefined, znode(50n, 101n, 5), NOTHING, START).changes;
    expect(written).toMatchObject([{ kind: "existing", missed: 0, missedAtLeast: true }]);
  });

  test("a source that starts now knows what was there without delivering it", () => {
    const now: SourceStart = { zxid: 100n, mode: "now" };
    const old = compareZnode("/a", undefined, znode(50n, 60n, 4), NOTHING, now);
    expect(old).toEqual({ changes: [], known: known(50n, 60n, 4) });
    const changed = compareZnode("/a", undefined, znode(50n, 101n, 5), NOTHING, now).changes;
    expect(changed).toMatchObject([{ kind: "changed", missed: 0, missedAtLeast: true }]);
    const created = compareZnode(
      "/a",
      undefined,
      znode(101n, 101n, 0),
      heard(["created", 101n]),
      now,
    ).changes;
    expect(created).toMatchObject([{ kind: "created", missed: 0, missedAtLeast: false }]);
  });

  test("a new znode counts what this life and heard lives before it held", () => {
    const events = heard(["created", 110n], ["deleted", 111n], ["created", 112n], ["dataChanged", 113n]);
    expect(compareZnode("/a", undefined, znode(112n, 113n, 1), events, START).changes).toMatchObject([
      { kind: "created", missed: 2, missedAtLeast: false },
    ]);
    expect(
      compareZnode("/a", undefined, znode(112n, 113n, 1), incomplete(events), START).changes,
    ).toMatchObject([{ kind: "created", missed: 1, missedAtLeast: true }]);
  });

  test("a znode that was deleted and created again gives both, in this order", () => {
    const before = known(110n, 120n, 3);
    const events = heard(["dataChanged", 125n], ["deleted", 126n], ["created", 127n], ["dataChanged", 128n]);
    const { changes, known: next } = compareZnode("/a", before, znode(127n, 128n, 1), events, START);
    expect(changes).toMatchObject([
      { kind: "deleted", version: 3, czxid: 110n, mzxid: 126n, missed: 1, missedAtLeast: false, data: null },
      { kind: "created", version: 1, missed: 1, missedAtLeast: false },
    ]);
    expect(next).toEqual(known(127n, 128n, 1));
    const unheard = compareZnode("/a", before, znode(127n, 128n, 1), incomplete(NOTHING), START).changes;
    expect(unheard.map(({ missedAtLeast }) => missedAtLeast)).toEqual([true, false]);
    expect(unheard.map(({ mzxid }) => mzxid)).toEqual([121n, 128n]);
  });

  test("a path that came and went is told as a deletion, so that its values are counted", () => {
    const events = heard(["created", 110n], ["dataChanged", 111n], ["deleted", 112n]);
    const { changes, known } = compareZnode("/a", undefined, null, events, START);
    expect(changes).toMatchObject([{ kind: "deleted", version: -1, missed: 2, missedAtLeast: false }]);
    expect(known).toBeNull();
    expect(compareZnode("/a", undefined, null, heard(["deleted", 112n]), START)).toEqual({
      changes: [],
      known: undefined,
    });
  });

  test("events of what was delivered already are not counted again", () => {
    const before = known(110n, 120n, 3);
    const { changes } = compareZnode(
      "/a",
      before,
      null,
      heard(["dataChanged", 120n], ["deleted", 121n]),
      START,
    );
    expect(changes).toMatchObject([{ kind: "deleted", missed: 0, mzxid: 121n }]);
  });
});

/** A server, its stream of events to one session, and a relay that reads it: everything is a step of the test's. */
class World {
  zxid = 100n;
  readonly tree = new Map<string, Stat>();
  readonly writes = new Map<string, number>();
  /** Events on their way. */
  private stream: WatchedEvent[] = [];
  private readonly dirty = new DirtyPaths(() => 0);
  private readonly manifest = new Manifest();
  private readonly gaps = new Gaps();
  private reading:
    | {
        paths: string[];
        order: number;
        gaps: number;
        answers?: { path: string; observed: Observed; zxid: bigint }[];
      }
    | undefined;
  private walkNeeded = false;
  readonly values = new Map<string, bigint[]>();
  readonly missed = new Map<string, number>();
  readonly last = new Map<string, bigint | "deleted">();
  readonly atLeast = new Set<string>();

  constructor(private readonly hasZxids = true) {
    this.dirty.resume();
  }

  write(path: string, what: "create" | "set" | "delete"): void {
    const znode = this.tree.get(path);
    if ((what === "create") === (znode !== undefined)) return;
    this.zxid += 1n;
    if (what === "delete") this.tree.delete(path);
    else this.writes.set(path, (this.writes.get(path) ?? 0) + 1);
    if (what === "create") this.tree.set(path, stat(this.zxid, this.zxid, 0));
    if (what === "set") this.tree.set(path, stat(znode!.czxid, this.zxid, znode!.version + 1));
    const type = ({ create: "created", set: "dataChanged", delete: "deleted" } as const)[what];
    this.stream.push({ type, path, zxid: this.zxid });
  }

  hear(count: number): void {
    for (const event of this.stream.splice(0, count))
      this.dirty.heard(this.hasZxids ? event : { ...event, zxid: -1n });
  }

  send(limit: number): void {
    if (this.reading || this.walkNeeded || this.dirty.size === 0) return;
    this.reading = { paths: this.dirty.take(limit), order: this.dirty.latest, gaps: this.gaps.count };
  }

  /** The server answers; events up to then arrive before the reply. */
  answer(): void {
    if (!this.reading || this.reading.answers) return;
    this.hear(this.stream.length);
    this.reading.answers = this.reading.paths.map((path) => this.read(path));
  }

  private read(path: string): { path: string; observed: Observed; zxid: bigint } {
    const found = this.tree.get(path);
    return { path, observed: found ? { data: Buffer.alloc(0), stat: found } : null, zxid: this.zxid };
  }

  /** Compares and commits what was read, as SourceRelay does; `fits` are as many paths as the commit takes. */
  commit(fits: number): void {
    if (!this.reading?.answers) return;
    const { answers, order, gaps } = this.reading;
    for (const { path, observed, zxid } of answers.slice(0, fits)) {
      const { changes, known } = compareZnode(
        path,
        this.manifest.get(path),
        observed,
        { ...this.dirty.heardUpTo(path, zxid), earlierLives: this.gaps.mayHideLives(path) },
        START,
      );
      for (const change of changes) {
        this.missed.set(path, (this.missed.get(path) ?? 0) + change.missed);
        if (change.missedAtLeast) this.atLeast.add(path);
        this.last.set(path, change.kind === "deleted" ? "deleted" : change.mzxid);
        if (change.kind !== "deleted")
          this.values.set(path, [...(this.values.get(path) ?? []), change.mzxid]);
      }
      if (known !== undefined) this.manifest.apply([known ? [path, known] : [path, null, zxid]]);
      if (known === null) this.gaps.deletionDelivered(path, gaps);
      this.dirty.delivered(path, zxid, order);
    }
    this.dirty.giveBack(answers.slice(fits).map(({ path }) => path));
    this.reading = undefined;
  }

  /** The connection breaks: events on their way are lost, and a read is sent again and answered by another server. */
  gap(): void {
    this.stream = [];
    this.dirty.interrupt();
    this.gaps.interrupted();
    this.walkNeeded = true;
  }

  /** A walk whose reads lie between `during`: what happens then is heard, but not counted. */
  walk(during: () => void): void {
    if (!this.walkNeeded || this.reading) return;
    this.walkNeeded = false;
    const paths = new Set([...PATHS, ...this.manifest.paths()]);
    const different: string[] = [];
    for (const path of paths) {
      this.hear(this.stream.length);
      if (this.tree.get(path)?.mzxid !== this.manifest.get(path)?.mzxid) different.push(path);
      during();
    }
    for (const path of different) this.dirty.suspected(path);
    this.dirty.resume();
  }

  /** Nothing happens any more: the relay comes to its end. */
  settle(): void {
    for (let round = 0; round < 1_000; round += 1) {
      this.hear(this.stream.length);
      this.walk(() => undefined);
      this.send(2);
      this.answer();
      this.commit(2);
      if (this.dirty.size === 0 && !this.walkNeeded && !this.reading) return;
    }
    throw new Error("the relay never comes to an end");
  }

  counted(path: string): number {
    return (this.values.get(path)?.length ?? 0) + (this.missed.get(path) ?? 0);
  }

  /** A path that has an element, and whose counts are not marked as lower bounds, has lost none. */
  checkMarks(): void {
    for (const path of PATHS) {
      const writes = this.writes.get(path) ?? 0;
      expect(this.counted(path)).toBeLessThanOrEqual(writes);
      if (this.last.has(path) && this.tree.has(path) && !this.atLeast.has(path))
        expect(this.counted(path)).toBe(writes);
    }
  }

  checkValues(): void {
    for (const path of PATHS) {
      const values = this.values.get(path) ?? [];
      expect(new Set(values).size).toBe(values.length);
      expect([...values].sort((a, b) => Number(a - b))).toEqual(values);
      const final = this.tree.get(path)?.mzxid;
      if (final !== undefined) expect(this.last.get(path)).toBe(final);
      else expect([undefined, "deleted"]).toContain(this.last.get(path));
    }
  }
}

const PATHS = ["/a", "/b", "/c"];
type Step = { readonly kind: string; readonly path: string; readonly amount: number };
const stepOf = (kinds: readonly string[]): fc.Arbitrary<Step> =>
  fc.record({
    kind: fc.constantFrom(...kinds),
    path: fc.constantFrom(...PATHS),
    amount: fc.integer({ min: 1, max: 3 }),
  });
const WRITES = ["create", "create", "set", "set", "set", "delete"];
const RELAY = ["hear", "hear", "send", "send", "answer", "answer", "commit", "commit"];

function take(world: World, { kind, path, amount }: Step): void {
  if (kind === "create" || kind === "set" || kind === "delete") world.write(path, kind);
  else if (kind === "hear") world.hear(amount);
  else if (kind === "send") world.send(amount);
  else if (kind === "answer") world.answer();
  else if (kind === "commit") world.commit(amount);
  else if (kind === "gap") world.gap();
  else world.walk(() => world.write(path, amount === 1 ? "set" : amount === 2 ? "delete" : "create"));
}

describe("a model of watching, reading and comparing", () => {
  test("uninterrupted: every value is delivered or counted, none twice, and the last one arrives", () => {
    fc.assert(
      fc.property(fc.array(stepOf([...WRITES, ...RELAY]), { maxLength: 120, size: "max" }), (steps) => {
        const world = new World();
        for (const step of steps) take(world, step);
        world.settle();
        world.checkValues();
        expect([...world.atLeast]).toEqual([]);
        for (const path of PATHS) expect(world.counted(path)).toBe(world.writes.get(path) ?? 0);
      }),
      { seed: SEED, numRuns: 700 },
    );
  });

  test("with gaps and walks: the last value arrives, none twice, and counts are lower bounds", () => {
    fc.assert(
      fc.property(
        fc.array(stepOf([...WRITES, ...WRITES, ...RELAY, "gap", "walk"]), { maxLength: 120, size: "max" }),
        (steps) => {
          const world = new World();
          for (const step of steps) take(world, step);
          world.settle();
          world.checkValues();
          world.checkMarks();
        },
      ),
      { seed: SEED, numRuns: 1_000 },
    );
  });

  test("with gaps, and no znode ever deleted: the counts are exact", () => {
    const kinds = ["create", "set", "set", "set", ...RELAY, "gap", "walk"];
    fc.assert(
      fc.property(fc.array(stepOf(kinds), { maxLength: 120, size: "max" }), (steps) => {
        const world = new World();
        for (const step of steps.filter(({ kind, amount }) => kind !== "walk" || amount !== 2))
          take(world, step);
        world.settle();
        world.checkValues();
        for (const path of PATHS) expect(world.counted(path)).toBe(world.writes.get(path) ?? 0);
      }),
      { seed: SEED, numRuns: 700 },
    );
  });

  test("with a server that tells no zxids: the last value arrives, none twice, and counts are lower bounds", () => {
    fc.assert(
      fc.property(
        fc.array(stepOf([...WRITES, ...WRITES, ...RELAY, "gap", "walk"]), { maxLength: 120, size: "max" }),
        (steps) => {
          const world = new World(false);
          for (const step of steps) take(world, step);
          world.settle();
          world.checkValues();
          world.checkMarks();
        },
      ),
      { seed: SEED, numRuns: 1_000 },
    );
  });
});
