import { Column, Frontier, type LeftOutSlots, TimeIndex } from "./time-index";

/** When a row has something to do, and what it holds back; Infinity for never and nothing. */
export interface RowTimes {
  /** The smallest input watermark at which it fires. */
  readonly timerMs: number;
  /** The smallest output time that it holds back. */
  readonly holdMs: number;
  /** The smallest processing time at which it fires. */
  readonly clockMs: number;
}

/** What becomes of a row; without a value it is removed. */
export interface RowChange<V> {
  readonly value: V | undefined;
  readonly times: RowTimes;
}

export type RowChanges<V> = ReadonlyMap<string, RowChange<V>>;

export const NO_TIMES: RowTimes = { timerMs: Infinity, holdMs: Infinity, clockMs: Infinity };

export const REMOVED: RowChange<never> = { value: undefined, times: NO_TIMES };

const NO_CHANGES: RowChanges<never> = new Map<string, never>();

/** Rows that are passed over, by id; a Map or Set of them is one. */
export interface LeftOutRows {
  has(id: string): boolean;
}

/** Rows that are due, the earliest first, without those that are left out. */
export interface DueRows {
  /** The id of the next row that is due at `untilMs`, undefined if there is none. It stays the next until left out. */
  next(untilMs: number): string | undefined;
}

const NOTHING_DUE: DueRows = { next: () => undefined };

/**
 * The rows of one shard, encoded, by id. As seen from outside it never changes: `with` gives the rows after a bundle,
 * and as long as nobody works with those, they cost what the bundle changed and can be forgotten. The first who reads
 * them makes them the only ones: the rows before the bundle are then used up and say so. One table is all there is in
 * memory, and no bundle costs more than what it touches.
 */
export class Rows<V> {
  static readonly EMPTY = new Rows<never>(undefined, 0, NO_CHANGES);

  private constructor(
    private table: Table<V> | undefined,
    /** Of the table, before the changes are in it. */
    private version: number,
    private pending: RowChanges<V>,
  ) {
    this.changes = pending;
  }

  static empty<V>(): Rows<V> {
    return Rows.EMPTY as Rows<V>;
  }

  /** Rows that come one by one; `build` ends it. */
  static builder<V>(
    keeper?: RowKeeper<V>,
    groupOf?: RowGroup,
  ): {
    add(id: string, value: V, times: RowTimes): void;
    build(): Rows<V>;
  } {
    const table = new Table<V>(keeper, groupOf);
    return {
      add: (id, value, times) => table.set(id, { value, times }),
      build: () => new Rows(table, table.version, NO_CHANGES),
    };
  }

  /** What the bundle changed that these rows come from. */
  readonly changes: RowChanges<V>;

  get size(): number {
    return this.current()?.size ?? 0;
  }

  /** Also of rows that nobody works with yet. */
  get isEmpty(): boolean {
    let size = this.checked()?.size ?? 0;
    for (const [id, { value }] of this.pending) {
      if (value !== undefined) return false;
      if (this.table?.get(id) !== undefined) size--;
    }
    return size === 0;
  }

  get(id: string): V | undefined {
    return this.current()?.get(id);
  }

  /** The place of a row in the order in which rows came; of one that is not there, after all. */
  orderOf(id: string): number {
    return this.current()?.orderOf(id) ?? Infinity;
  }

  /** The ids of a group's rows, in no order that means something. Only of rows from a builder that was told of groups. */
  inGroup(name: string): Iterable<string> {
    return this.current()?.inGroup(name) ?? [];
  }

  with(changes: RowChanges<V>): Rows<V> {
    const table = this.current();
    return new Rows(table, table?.version ?? 0, changes);
  }

  /** Makes these rows the only ones, as the first use of them does. */
  accept(): void {
    this.current();
  }

  /** The same rows before the bundle, with more changes. */
  and(changes: RowChanges<V>): Rows<V> {
    return changes.size === 0
      ? this
      : new Rows(this.table, this.version, new Map([...this.pending, ...changes]));
  }

  /** The smallest of a time over all rows. Costs in proportion to what the bundle changed. */
  least(time: keyof RowTimes): number {
    const table = this.checked();
    let least = Infinity;
    for (const { value, times } of this.pending.values()) {
      if (value !== undefined && times[time] < least) least = times[time];
    }
    if (table === undefined) return least;
    const index = table.index(time);
    // Rows of one window share their times, so most often the changes tell it already.
    if (index.leastOfAll >= least) return least;
    return Math.min(least, index.least(new LeftOutSlotsOf(table, this.pending)));
  }

  /** Rows in the order of a time, then of coming. */
  due(time: keyof RowTimes, leftOut: LeftOutRows): DueRows {
    const table = this.current();
    return table === undefined ? NOTHING_DUE : new DueSlots(table, table.index(time), leftOut);
  }

  *entries(): Generator<[string, V]> {
    yield* this.current()?.entries() ?? [];
  }

  /** The table with the pending changes in it. */
  private current(): Table<V> | undefined {
    if (this.pending.size === 0) return this.checked();
    this.checked();
    this.table ??= new Table<V>();
    for (const [id, change] of this.pending) this.table.set(id, change);
    this.pending = NO_CHANGES;
    this.version = ++this.table.version;
    return this.table;
  }

  private checked(): Table<V> | undefined {
    if (this.table !== undefined && this.table.version !== this.version) {
      throw new Error(
        "this state has been used up by the bundle that was committed after it; go on with that one's",
      );
    }
    return this.table;
  }
}

class LeftOutSlotsOf<V> implements LeftOutSlots {
  constructor(
    private readonly table: Table<V>,
    private readonly rows: LeftOutRows,
  ) {}

  has(slot: number): boolean {
    return this.rows.has(this.table.idAt(slot));
  }
}

class DueSlots<V> implements DueRows {
  private readonly frontier: Frontier;

  constructor(
    private readonly table: Table<V>,
    private readonly index: TimeIndex,
    leftOut: LeftOutRows,
  ) {
    this.frontier = new Frontier(index, new LeftOutSlotsOf(table, leftOut));
  }

  next(untilMs: number): string | undefined {
    const slot = this.frontier.peek();
    return slot === undefined || this.index.timeOf(slot) > untilMs ? undefined : this.table.idAt(slot);
  }
}

/** Decides how a row is kept that a commit has made, and is told when it is kept no longer. */
export interface RowKeeper<V> {
  keep(id: string, value: V): V;
  drop(value: V): void;
}

/** The group of a row by its id; undefined for a row that is in none. */
export type RowGroup = (id: string) => string | undefined;

const NO_ROWS: ReadonlySet<string> = new Set();

/** Rows in slots, so that times and heaps are plain arrays of numbers. */
class Table<V> {
  version = 0;
  private readonly slots = new Map<string, number>();
  private readonly ids: (string | undefined)[] = [];
  private readonly values: (V | undefined)[] = [];
  private readonly free: number[] = [];
  private readonly orders = new Column();
  private readonly indices = {
    timerMs: new TimeIndex(this.orders),
    holdMs: new TimeIndex(this.orders),
    clockMs: new TimeIndex(this.orders),
  };
  private came = 0;

  private readonly groups = new Map<string, Set<string>>();

  constructor(
    private readonly keeper?: RowKeeper<V>,
    private readonly groupOf?: RowGroup,
  ) {}

  get size(): number {
    return this.slots.size;
  }

  get(id: string): V | undefined {
    const slot = this.slots.get(id);
    return slot === undefined ? undefined : this.values[slot];
  }

  idAt(slot: number): string {
    return this.ids[slot]!;
  }

  orderOf(id: string): number | undefined {
    const slot = this.slots.get(id);
    return slot === undefined ? undefined : this.orders.get(slot);
  }

  index(time: keyof RowTimes): TimeIndex {
    return this.indices[time];
  }

  inGroup(name: string): ReadonlySet<string> {
    return this.groups.get(name) ?? NO_ROWS;
  }

  set(id: string, { value, times }: RowChange<V>): void {
    const slot = this.slots.get(id);
    if (value === undefined) {
      if (slot !== undefined) this.remove(id, slot);
      return;
    }
    if (slot !== undefined) this.keeper?.drop(this.values[slot]!);
    const at = slot ?? this.add(id);
    this.values[at] = this.keeper ? this.keeper.keep(id, value) : value;
    this.setTimes(at, times);
  }

  *entries(): Generator<[string, V]> {
    for (const [id, slot] of this.slots) yield [id, this.values[slot]!];
  }

  private add(id: string): number {
    const slot = this.free.pop() ?? this.ids.length;
    this.ids[slot] = id;
    this.orders.set(slot, this.came++);
    this.slots.set(id, slot);
    const group = this.groupOf?.(id);
    if (group !== undefined) this.join(group, id);
    return slot;
  }

  private join(group: string, id: string): void {
    const ids = this.groups.get(group);
    if (ids === undefined) this.groups.set(group, new Set([id]));
    else ids.add(id);
  }

  private leave(group: string, id: string): void {
    const ids = this.groups.get(group);
    ids?.delete(id);
    if (ids?.size === 0) this.groups.delete(group);
  }

  private remove(id: string, slot: number): void {
    this.keeper?.drop(this.values[slot]!);
    this.setTimes(slot, NO_TIMES);
    this.slots.delete(id);
    const group = this.groupOf?.(id);
    if (group !== undefined) this.leave(group, id);
    this.ids[slot] = undefined;
    this.values[slot] = undefined;
    this.free.push(slot);
  }

  private setTimes(slot: number, times: RowTimes): void {
    this.indices.timerMs.set(slot, times.timerMs);
    this.indices.holdMs.set(slot, times.holdMs);
    this.indices.clockMs.set(slot, times.clockMs);
  }
}
