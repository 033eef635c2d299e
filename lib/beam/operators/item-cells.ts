import { ByteReader } from "../coders/byte-reader";
import { itemId, itemOf, itemsOf } from "../coders/keyed-state-coder";
import { canonicalText, withTextWriter, withWriter } from "../coders/value-coder";
import { type Kept, keep, readKept, reveal, writeKept } from "./kept-value";
import type { Cell, CellPlace, SealedCell } from "./state-cells";

interface Entry {
  readonly key: Kept;
  readonly value: Kept;
}

/**
 * A map, or a set, whose values are undefined. Each entry is a row of its own, by its key's canonical encoding: keys
 * are compared by value. A change costs the entry.
 *
 *   own = size (varint)
 *   row = length of the key (varint), key, value
 */
export class MapCell implements Cell {
  /** What the bundle knows of entries, by the item's text; undefined for one that is not there. */
  private readonly known = new Map<string, Entry | undefined>();
  private readonly changed = new Set<string>();
  private size: number;
  isChanged = false;

  constructor(
    private readonly at: CellPlace,
    own: Buffer | undefined,
  ) {
    this.size = own === undefined ? 0 : new ByteReader(own, at.subject).varint();
  }

  get isEmpty(): boolean {
    return this.size === 0;
  }

  has(key: unknown): boolean {
    return this.size > 0 && this.entry(itemText(key)) !== undefined;
  }

  get(key: unknown): unknown {
    if (this.size === 0) return undefined;
    const entry = this.entry(itemText(key));
    return entry === undefined ? undefined : reveal(entry.value, this.at.subject);
  }

  set(key: unknown, value: unknown): void {
    const item = itemText(key);
    const entry = { key: keep(key), value: keep(value) };
    if (this.entry(item) === undefined) this.size++;
    this.change(item, entry);
  }

  /** @returns whether it was there. */
  delete(key: unknown): boolean {
    if (this.size === 0) return false;
    const item = itemText(key);
    if (this.entry(item) === undefined) return false;
    this.size--;
    this.change(item, undefined);
    return true;
  }

  /** In the order of the keys' encodings, so that it is the same in every process. */
  entries(): [key: unknown, value: unknown][] {
    return this.items().map((item) => {
      const { key, value } = this.entry(item)!;
      return [reveal(key, this.at.subject), reveal(value, this.at.subject)];
    });
  }

  dump(): unknown {
    return this.entries();
  }

  restore(dumped: unknown): void {
    for (const [key, value] of dumped as readonly [unknown, unknown][]) this.set(key, value);
  }

  clear(): void {
    if (this.size === 0) return;
    for (const item of this.items()) this.change(item, undefined);
    this.size = 0;
  }

  seal(): SealedCell {
    const { index, place } = this.at;
    const rows = [...this.changed].map((item) => {
      const entry = this.known.get(item);
      return [itemId(index, item, place), entry && encodeEntry(entry)] as const;
    });
    return { own: this.size === 0 ? undefined : withWriter((out) => out.varint(this.size)), rows };
  }

  private change(item: string, entry: Entry | undefined): void {
    this.known.set(item, entry);
    this.changed.add(item);
    this.isChanged = true;
  }

  private entry(item: string): Entry | undefined {
    if (this.known.has(item)) return this.known.get(item);
    const { index, place, rows, subject } = this.at;
    const row = rows.get(itemId(index, item, place));
    const entry = row === undefined ? undefined : decodeEntry(row, subject);
    this.known.set(item, entry);
    return entry;
  }

  private items(): string[] {
    if (this.size === 0) return [];
    const { index, place, rows } = this.at;
    const items = new Set<string>();
    for (const id of rows.inGroup(itemsOf(index, place))) items.add(itemOf(id));
    for (const [item, entry] of this.known) {
      if (entry === undefined) items.delete(item);
      else items.add(item);
    }
    return [...items].sort();
  }
}

function itemText(key: unknown): string {
  return canonicalText(key);
}

function encodeEntry({ key, value }: Entry): string {
  const bytes = withWriter((out) => writeKept(out, key));
  return withWriter((out) => {
    out.varint(bytes.length);
    out.bytes(bytes);
    writeKept(out, value);
  }).toString("latin1");
}

function decodeEntry(row: Uint8Array, subject: string): Entry {
  const reader = new ByteReader(row, subject);
  const key = readKept(new ByteReader(reader.bytes(), subject));
  return { key, value: readKept(reader) };
}

interface Item {
  readonly timestampMs: number;
  readonly sequence: number;
  /** Undefined where it is in its row. */
  readonly value: { readonly kept: Kept } | undefined;
}

/**
 * Values with timestamps, in their order, and those of one timestamp in the order in which they were added. Each is a
 * row of its own. The first look at a place's list in a bundle lists and sorts what it has; adding does not look.
 *
 *   own  = size (varint), next sequence (varint)
 *   item = timestamp (double, ms), sequence (varint)
 *   row  = value
 */
export class ListCell implements Cell {
  isChanged = false;
  private size = 0;
  private nextSequence = 0;
  /** All of them, sorted, once someone has looked. */
  private all: Item[] | undefined;
  private readonly changed = new Map<string, Item | undefined>();

  constructor(
    private readonly at: CellPlace,
    own: Buffer | undefined,
  ) {
    if (own === undefined) return;
    const reader = new ByteReader(own, at.subject);
    this.size = reader.varint();
    this.nextSequence = reader.varint();
  }

  get isEmpty(): boolean {
    return this.size === 0;
  }

  add(value: unknown, timestampMs: number): void {
    const item = { timestampMs, sequence: this.nextSequence++, value: { kept: keep(value) } };
    this.size++;
    this.changed.set(this.idOf(item), item);
    this.all?.splice(firstFrom(this.all, timestampMs, true), 0, item);
    this.isChanged = true;
  }

  /** With timestamps from `fromMs` to before `untilMs`. */
  read(fromMs: number, untilMs: number): { value: unknown; timestampMs: number }[] {
    if (this.size === 0) return [];
    const all = this.list();
    return all.slice(firstFrom(all, fromMs, false), firstFrom(all, untilMs, false)).map((item) => ({
      value: this.valueOf(item),
      timestampMs: item.timestampMs,
    }));
  }

  clearRange(fromMs: number, untilMs: number): void {
    if (this.size === 0) return;
    const all = this.list();
    const from = firstFrom(all, fromMs, false);
    const removed = all.splice(from, Math.max(0, firstFrom(all, untilMs, false) - from));
    if (removed.length === 0) return;
    for (const item of removed) this.changed.set(this.idOf(item), undefined);
    this.size -= removed.length;
    this.isChanged = true;
  }

  dump(): unknown {
    return this.read(-Infinity, Infinity);
  }

  restore(dumped: unknown): void {
    for (const { value, timestampMs } of dumped as ReturnType<ListCell["read"]>) this.add(value, timestampMs);
  }

  clear(): void {
    this.clearRange(-Infinity, Infinity);
  }

  seal(): SealedCell {
    const rows = [...this.changed].map(([id, item]) => [id, item && encodeItem(item)] as const);
    const own = withWriter((out) => {
      out.varint(this.size);
      out.varint(this.nextSequence);
    });
    return { own: this.size === 0 ? undefined : own, rows };
  }

  private list(): Item[] {
    if (this.all !== undefined) return this.all;
    const { index, place, rows, subject } = this.at;
    const items: Item[] = [];
    for (const id of rows.inGroup(itemsOf(index, place))) {
      if (this.changed.has(id)) continue;
      const reader = new ByteReader(Buffer.from(itemOf(id), "latin1"), subject);
      items.push({ timestampMs: reader.double(), sequence: reader.varint(), value: undefined });
    }
    for (const item of this.changed.values()) if (item !== undefined) items.push(item);
    items.sort((a, b) => a.timestampMs - b.timestampMs || a.sequence - b.sequence);
    this.all = items;
    return items;
  }

  private valueOf(item: Item): unknown {
    const { rows, subject } = this.at;
    if (item.value !== undefined) return reveal(item.value.kept, subject);
    const row = rows.get(this.idOf(item));
    if (row === undefined)
      return new ByteReader(new Uint8Array(), subject).fail("an item of a list is missing");
    return reveal(readKept(new ByteReader(row, subject)), subject);
  }

  private idOf({ timestampMs, sequence }: Item): string {
    const item = withWriter((out) => {
      out.double(timestampMs);
      out.varint(sequence);
    });
    return itemId(this.at.index, item, this.at.place);
  }
}

function encodeItem({ value }: Item): string {
  return withTextWriter((out) => writeKept(out, value!.kept));
}

/** The place of the first item with this time or a later one, or of the first with a later one. */
function firstFrom(items: readonly Item[], timestampMs: number, isAfter: boolean): number {
  let [low, high] = [0, items.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    const time = items[middle]!.timestampMs;
    if (time < timestampMs || (isAfter && time === timestampMs)) low = middle + 1;
    else high = middle;
  }
  return low;
}
