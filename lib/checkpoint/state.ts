import type { Op } from "../zookeeper";
import { GroupSet } from "./group-set";
import { KEY_GROUPS, type ShardLayout, type StateName, stateDeltaPath, stateRunPath } from "./layout";
import { bytesOf, cellBytes, encodeCells, type StateCell } from "./state-record";

/**
 * The state of one shard as it is stored: below `state`, deltas and runs.
 *
 * A commit writes one *delta*: the cells that it changed. From time to time, along with a delta, the changes since
 * the last time are brought together for one *range* of key groups into a *run*. Runs of a range are merged when
 * those before are not much larger than the new one, so that there are few of them and each change is written again
 * only as often as the logarithm of the state's size. The oldest run of a range is its snapshot. A delta whose groups
 * have all been brought together since is deleted in the same commit.
 *
 * What there is, the names tell: a listing of `state` is the index. No name is used twice, since each has the number
 * of its commit.
 */
export interface StateLimits {
  /** As many deltas may wait before ranges are brought together, or as many as there are ranges. */
  readonly minDeltas: number;
  /**
   * Bytes of changes that are in no run after which ranges are brought together at once. With a large state it is more:
   * half of what the runs hold, up to `MAX_DELTA_SHARE` times this.
   */
  readonly maxDeltaBytes: number;
  /** A range of several groups is divided when its snapshot is larger. */
  readonly rangeSizeBytes: number;
  /** Runs are merged up to this size. */
  readonly maxRunBytes: number;
  /** Larger records go to the blob store, and count nothing for the room that a commit has. */
  readonly inlineBytes: number;
}

export const STATE_LIMITS: StateLimits = {
  minDeltas: 8,
  maxDeltaBytes: 64 * 1024,
  rangeSizeBytes: 64 * 1024,
  maxRunBytes: 16 * 1024 * 1024,
  inlineBytes: 128 * 1024,
};

/** A run is merged with the one before if that is at most this many times as large. */
const MERGE_RATIO = 2;
const MAX_DELTA_SHARE = 32;
/** Bytes of runs that are kept in memory: the newest ones, which the next are merged with. */
const KEPT_BYTES = 256 * 1024;
/** Znodes that one commit deletes at most because the state is empty. */
const MAX_CLEARED = 256;
/** Ranges that one commit brings together at most. */
const MAX_RANGES = 32;
/**
 * A commit brings together at most about this many times the bytes that it changes: enough for a commit with many
 * changes to leave no more waiting than it found, and no more than its share for one with few.
 */
const MAX_BROUGHT_SHARE = 2;

/** What a head says of the state below it. */
export interface StateSummary {
  /** What the engine keeps for all cells together; base64. */
  readonly shared: string | null;
  /** How many znodes there are below `state`, and the bytes of their cells. */
  readonly znodes: number;
  readonly bytes: number;
}

interface Delta {
  readonly number: number;
  readonly bytes: number;
  /** Key groups with changes that are in no run yet. */
  readonly groups: GroupSet;
}

interface Run {
  readonly number: number;
  readonly bytes: number;
}

/** Key groups from `from` up to and without `to`, with their runs, oldest first. */
export interface Range {
  readonly from: number;
  readonly to: number;
  readonly runs: readonly Run[];
}

type Cells = ReadonlyMap<string, StateCell>;

/** What a commit does to the state. */
export interface StatePlan {
  readonly ops: readonly Op[];
  readonly summary: StateSummary;
  /** The blobs that are not needed any more once the commit has succeeded. */
  readonly garbage: readonly string[];
  /** To be called when the commit has succeeded, and only then; with the blobs that it wrote, by path. */
  accept(written: ReadonlyMap<string, string>): void;
}

/** Reads cells of a run; rejects with NoNodeError where another commit has deleted it. */
export type ReadRun = (path: string) => Promise<readonly StateCell[]>;

interface WrittenRun {
  readonly cells: readonly StateCell[];
  readonly bytes: number;
}

/** What is stored, without the values of old: index, and the changes that are in no run yet. Belongs to one owner. */
export class StoredState {
  private deltas: readonly Delta[] = [];
  /** The newest change of each cell that is in no run yet, by key group. */
  private readonly pending = new Map<number, Map<string, StateCell>>();
  private pendingBytes = 0;
  /** Runs that were written here last, by path, the oldest first. A run never changes. */
  private readonly kept = new Map<string, WrittenRun>();
  private keptBytes = 0;
  /** Of the znodes that are references, by path. */
  readonly blobs = new Map<string, string>();

  constructor(
    private readonly layout: ShardLayout,
    private readonly limits: StateLimits = STATE_LIMITS,
    public ranges: readonly Range[] = [{ from: 0, to: KEY_GROUPS, runs: [] }],
  ) {}

  /** For loading: a delta that is there, oldest first. */
  addDelta(number: number, cells: readonly StateCell[]): void {
    const waiting = cells.filter(({ group }) => number > passedOf(rangeOf(this.ranges, group)));
    for (const cell of waiting) this.wait(cell);
    const groups = groupsOf(waiting);
    this.deltas = [...this.deltas, { number, bytes: bytesOf(cells), groups }];
  }

  /** For loading: the sizes of runs by path. */
  measure(bytes: ReadonlyMap<string, number>): void {
    this.ranges = this.ranges.map(({ from, to, runs }) => {
      const sizeOf = (number: number): number => bytes.get(stateRunPath(this.layout, from, to, number))!;
      return { from, to, runs: runs.map(({ number }) => ({ number, bytes: sizeOf(number) })) };
    });
  }

  /** The newest changes of cells in a range, which no run has yet. */
  pendingIn({ from, to }: Pick<Range, "from" | "to">): StateCell[] {
    const cells: StateCell[] = [];
    for (let group = from; group < to; group++) cells.push(...(this.pending.get(group)?.values() ?? []));
    return cells;
  }

  /**
   * What commit `number` writes for these changes, at most `roomBytes` of them for runs. Costs in proportion to the
   * changes, and reads the runs that it merges. Rejects as `readRun` does.
   *
   * @param isEmpty after these changes no cell is left.
   */
  async plan(
    number: number,
    changes: readonly StateCell[],
    shared: Uint8Array | undefined,
    roomBytes: number,
    readRun: ReadRun,
    isEmpty = false,
  ): Promise<StatePlan> {
    const { layout, limits, deltas: before, ranges: old, pendingBytes } = this;
    const draft = new Draft(layout, limits, number, before, old, changes, pendingBytes);
    const read: ReadRun = async (path) => this.kept.get(path)?.cells ?? readRun(path);
    if (isEmpty && draft.mayClear()) draft.clear();
    for (let room = roomBytes; draft.isDue(); ) {
      const next = draft.nextRange((range) => this.pendingIn(range));
      if (next === undefined || !(await draft.bringTogether(next, this.pendingIn(next), room, read))) break;
      room -= draft.runBytes;
    }
    const { ops, deltas, ranges, rest } = draft.finish();
    const znodes = deltas.length + ranges.reduce((sum, { runs }) => sum + runs.length, 0);
    const bytes = [...deltas, ...ranges.flatMap(({ runs }) => runs)].reduce(
      (sum, each) => sum + each.bytes,
      0,
    );
    return {
      ops,
      summary: {
        shared: shared === undefined ? null : Buffer.from(shared).toString("base64"),
        znodes,
        bytes,
      },
      garbage: ops
        .map(({ type, path }) => (type === "delete" ? this.blobs.get(path) : undefined))
        .filter(isName),
      accept: (written) => {
        for (const { type, path } of ops) if (type === "delete") this.blobs.delete(path);
        for (const { path } of ops) if (written.has(path)) this.blobs.set(path, written.get(path)!);
        this.deltas = deltas;
        this.ranges = ranges;
        for (const group of draft.passed) this.forget(group);
        for (const cell of rest) this.wait(cell);
        for (const { type, path } of ops) if (type === "delete") this.drop(path);
        for (const [path, run] of draft.written) this.keep(path, run);
      },
    };
  }

  private keep(path: string, run: WrittenRun): void {
    this.kept.set(path, run);
    this.keptBytes += run.bytes;
    for (const oldest of this.kept.keys()) {
      if (this.keptBytes <= KEPT_BYTES) return;
      this.drop(oldest);
    }
  }

  private drop(path: string): void {
    this.keptBytes -= this.kept.get(path)?.bytes ?? 0;
    this.kept.delete(path);
  }

  private wait(cell: StateCell): void {
    const waiting = this.pending.get(cell.group);
    const replaced = waiting?.get(cell.id);
    this.pendingBytes += cellBytes(cell) - (replaced === undefined ? 0 : cellBytes(replaced));
    if (waiting) waiting.set(cell.id, cell);
    else this.pending.set(cell.group, new Map([[cell.id, cell]]));
  }

  private forget(group: number): void {
    this.pendingBytes -= bytesOf(this.pending.get(group)?.values() ?? []);
    this.pending.delete(group);
  }
}

/** One commit's changes to the index. */
class Draft {
  passed = GroupSet.NONE;
  /** Of the last range that was brought together, as far as the commit itself carries them. */
  runBytes = 0;
  /** The runs that it writes, by path. */
  readonly written = new Map<string, WrittenRun>();
  private readonly ops: Op[] = [];
  private ranges: Range[];
  /** Ranges that were brought together, and the bytes of changes that waited in them. */
  private brought = 0;
  private broughtBytes = 0;
  private readonly changedBytes: number;
  private readonly maxDeltaBytes: number;
  private readonly changedGroups: GroupSet;

  constructor(
    private readonly layout: ShardLayout,
    private readonly limits: StateLimits,
    private readonly number: number,
    private readonly deltas: readonly Delta[],
    ranges: readonly Range[],
    private readonly changes: readonly StateCell[],
    private readonly pendingBytes: number,
  ) {
    this.ranges = [...ranges];
    this.changedBytes = bytesOf(changes);
    this.changedGroups = groupsOf(changes);
    const stored = ranges.flatMap(({ runs }) => runs).reduce((sum, { bytes }) => sum + bytes, 0);
    const { maxDeltaBytes } = limits;
    this.maxDeltaBytes = Math.min(Math.max(maxDeltaBytes, stored / 2), MAX_DELTA_SHARE * maxDeltaBytes);
  }

  /** Whether a range has to be brought together; more than one in a commit only because of their bytes. */
  isDue(): boolean {
    const waitingBytes = this.pendingBytes + this.changedBytes - this.broughtBytes;
    if (waitingBytes === 0 || this.brought === MAX_RANGES) return false;
    const isFirst = this.brought === 0;
    if (waitingBytes > this.maxDeltaBytes)
      return isFirst || this.broughtBytes < MAX_BROUGHT_SHARE * this.changedBytes;
    return isFirst && this.waitingDeltas > Math.max(this.limits.minDeltas, this.ranges.length);
  }

  private get waitingDeltas(): number {
    const own = Number(this.isWaiting(this.changedGroups));
    return this.deltas.reduce((count, { groups }) => count + Number(this.isWaiting(groups)), own);
  }

  /** The range with the oldest change that waits. One without runs is divided first, if much waits in it. */
  nextRange(pendingIn: (range: Range) => readonly StateCell[]): Range | undefined {
    const oldest = this.deltas.find((delta) => this.isWaiting(delta.groups))?.groups ?? this.changedGroups;
    const group = oldest.without(this.passed).first;
    if (group === undefined) return undefined;
    let range = rangeOf(this.ranges, group);
    while (range.runs.length === 0 && range.to - range.from > 1) {
      const cells = [...pendingIn(range), ...this.changesIn(range)];
      if (bytesOf(cells) <= this.limits.rangeSizeBytes) break;
      const parts = divide(range, cells).map(({ from, to }): Range => ({ from, to, runs: [] }));
      this.replace(range, parts);
      range = rangeOf(this.ranges, group);
    }
    return range;
  }

  /** Writes what waits for a range as a run, merged with runs before it; false where there is no room for that. */
  async bringTogether(
    range: Range,
    pending: readonly StateCell[],
    roomBytes: number,
    readRun: ReadRun,
  ): Promise<boolean> {
    const waiting = [...pending, ...this.changesIn(range)];
    let cells: Cells = byId(waiting);
    const kept = [...range.runs];
    const merged: Run[] = [];
    for (let last = kept.at(-1); last !== undefined; last = kept.at(-1)) {
      const bytes = bytesOf(cells.values());
      if (last.bytes > MERGE_RATIO * bytes || last.bytes + bytes > this.limits.maxRunBytes) break;
      cells = byId([...(await readRun(this.path(range, last.number))), ...cells.values()]);
      merged.push(kept.pop()!);
    }
    const isWhole = kept.length === 0;
    const written = [...cells.values()].filter(({ value }) => !isWhole || value !== undefined);
    this.runBytes = bytesOf(written);
    if (this.runBytes > this.limits.inlineBytes) this.runBytes = 0;
    else if (this.runBytes > roomBytes) return false;
    const isDivided = isWhole && range.to - range.from > 1 && bytesOf(written) > this.limits.rangeSizeBytes;
    const parts = isDivided ? divide(range, written) : [{ ...range, cells: written }];
    for (const { number } of merged) this.ops.push({ type: "delete", path: this.path(range, number) });
    this.replace(
      range,
      parts.map((part) => ({ ...part, runs: [...(isDivided ? [] : kept), this.writeRun(part)] })),
    );
    this.passed = this.passed.withRange(range.from, range.to);
    this.brought += 1;
    this.broughtBytes += bytesOf(waiting);
    return true;
  }

  /** Whether all that is stored can go in one commit. */
  mayClear(): boolean {
    const runs = this.ranges.reduce((sum, range) => sum + range.runs.length, 0);
    return this.deltas.length + runs <= MAX_CLEARED;
  }

  /** Nothing is left to store. */
  clear(): void {
    for (const range of this.ranges)
      for (const run of range.runs) this.ops.push({ type: "delete", path: this.path(range, run.number) });
    this.ranges = [{ from: 0, to: KEY_GROUPS, runs: [] }];
    this.passed = GroupSet.NONE.withRange(0, KEY_GROUPS);
  }

  finish(): { ops: Op[]; deltas: Delta[]; ranges: Range[]; rest: readonly StateCell[] } {
    const { number } = this;
    const deltas: Delta[] = [];
    for (const delta of this.deltas) {
      const groups = delta.groups.without(this.passed);
      if (!groups.isEmpty) deltas.push(groups === delta.groups ? delta : { ...delta, groups });
      else this.ops.push({ type: "delete", path: stateDeltaPath(this.layout, delta.number) });
    }
    const isAll = this.passed.isEmpty;
    const rest = isAll ? this.changes : this.changes.filter(({ group }) => !this.passed.has(group));
    if (rest.length > 0) {
      const path = stateDeltaPath(this.layout, number);
      this.ops.unshift({ type: "create", path, data: encodeCells("stateDelta", rest) });
      const bytes = isAll ? this.changedBytes : bytesOf(rest);
      deltas.push({ number, bytes, groups: isAll ? this.changedGroups : groupsOf(rest) });
    }
    return { ops: this.ops, deltas, ranges: this.ranges, rest };
  }

  private writeRun(part: { from: number; to: number; cells: readonly StateCell[] }): Run {
    const path = this.path(part, this.number);
    const run = { cells: part.cells, bytes: bytesOf(part.cells) };
    this.ops.push({ type: "create", path, data: encodeCells("stateRun", run.cells) });
    this.written.set(path, run);
    return { number: this.number, bytes: run.bytes };
  }

  private isWaiting(groups: GroupSet): boolean {
    return !groups.isWithin(this.passed);
  }

  private changesIn({ from, to }: Pick<Range, "from" | "to">): StateCell[] {
    return this.changes.filter(({ group }) => group >= from && group < to);
  }

  private replace(range: Range, parts: readonly Range[]): void {
    const index = this.ranges.indexOf(range);
    const plain = parts.map(({ from, to, runs }) => ({ from, to, runs }));
    this.ranges = [...this.ranges.slice(0, index), ...plain, ...this.ranges.slice(index + 1)];
  }

  private path({ from, to }: Pick<Range, "from" | "to">, number: number): string {
    return stateRunPath(this.layout, from, to, number);
  }
}

function groupsOf(cells: readonly StateCell[]): GroupSet {
  return GroupSet.of(cells.map(({ group }) => group));
}

/** The ranges that the names of runs tell of: what they leave out has no runs. Undefined where they overlap. */
export function rangesOf(names: readonly Extract<StateName, { kind: "run" }>[]): Range[] | undefined {
  const ranges: Range[] = [];
  let next = 0;
  const sorted = [...names].sort((a, b) => a.from - b.from || a.to - b.to || a.number - b.number);
  for (const { from, to, number } of sorted) {
    const run = { number, bytes: 0 };
    const last = ranges.at(-1);
    if (last !== undefined && last.runs.length > 0 && last.from === from && last.to === to) {
      ranges[ranges.length - 1] = { ...last, runs: [...last.runs, run] };
      continue;
    }
    if (from < next) return undefined;
    if (from > next) ranges.push({ from: next, to: from, runs: [] });
    ranges.push({ from, to, runs: [run] });
    next = to;
  }
  if (next < KEY_GROUPS) ranges.push({ from: next, to: KEY_GROUPS, runs: [] });
  return ranges;
}

/** Two ranges that hold about as many bytes each. */
function divide(
  { from, to }: Pick<Range, "from" | "to">,
  cells: readonly StateCell[],
): { from: number; to: number; cells: StateCell[] }[] {
  const bytes = new Array<number>(to - from).fill(0);
  for (const cell of cells) bytes[cell.group - from]! += cellBytes(cell);
  const half = bytes.reduce((sum, each) => sum + each, 0) / 2;
  let middle = from + 1;
  for (let sum = bytes[0]!; middle < to - 1 && sum + bytes[middle - from]! / 2 < half; middle++) {
    sum += bytes[middle - from]!;
  }
  return [
    { from, to: middle, cells: cells.filter(({ group }) => group < middle) },
    { from: middle, to, cells: cells.filter(({ group }) => group >= middle) },
  ];
}

function isName(name: string | undefined): name is string {
  return name !== undefined;
}

function rangeOf(ranges: readonly Range[], group: number): Range {
  return ranges.find(({ from, to }) => group >= from && group < to)!;
}

/** The number of the last commit whose changes the runs of a range hold. */
function passedOf({ runs }: Range): number {
  return runs.at(-1)?.number ?? 0;
}

/** Later ones win. */
function byId(cells: Iterable<StateCell>): Map<string, StateCell> {
  const map = new Map<string, StateCell>();
  for (const cell of cells) map.set(cell.id, cell);
  return map;
}
