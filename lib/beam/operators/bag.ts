import { ByteReader } from "../coders/byte-reader";
import { type ByteWriter, copyBytes } from "../coders/byte-writer";
import type { AccumulatorCoder, StoredRow } from "../coders/state-coder";
import { readValue } from "../coders/value-coder";
import type { Accumulation } from "../engine/aggregation";
import { NO_TIMES, REMOVED, type RowChange, type RowChanges } from "../engine/rows";

/** Values of a group above this many bytes are put into chunks, rows of their own that are never written again. */
export const CHUNK_BYTES = 64 * 1024;

/** Where a chunk of a group's values lies. */
interface Chunk {
  readonly number: number;
  readonly count: number;
}

/** Encoded values one behind the other. */
interface Sealed {
  readonly bytes: Uint8Array;
  readonly start: number;
  readonly end: number;
  readonly count: number;
}

/** Groups get their room from slabs of this size. */
const SLAB_BYTES = 64 * 1024;

/** Once a group has more than one value. */
const SECOND_ROOM_BYTES = 64;

/** Most groups have none, and there are many groups. */
const NO_PARTS: readonly never[] = [];

let slab = Buffer.allocUnsafeSlow(SLAB_BYTES);
let slabUsed = 0;

/**
 * The values of one group: chunks that are stored already, and those since. They are kept as they come, encoded, and
 * decoded when they are emitted: what stays for long is not decoded and encoded with every bundle.
 */
export class Bag {
  /** Of what came since, what fills a chunk. */
  sealed: readonly Sealed[] = NO_PARTS;
  private bytes: Uint8Array = slab;
  private start = 0;
  private end = 0;
  /** Up to here its room reaches. */
  private limit = 0;
  private count = 0;

  constructor(
    readonly chunks: readonly Chunk[],
    readonly read: (number: number) => unknown[],
  ) {}

  /** What fills no chunk yet. */
  get tail(): Sealed {
    const { bytes, start, end, count } = this;
    return { bytes, start, end, count };
  }

  /** Values that lie behind one another in `bytes`, which stay as they are if it is the first part: then no copy is made. */
  static of(chunks: readonly Chunk[], read: (number: number) => unknown[], tail: Sealed): Bag {
    const bag = new Bag(chunks, read);
    bag.bytes = tail.bytes;
    bag.start = tail.start;
    bag.end = tail.end;
    bag.limit = tail.end;
    bag.count = tail.count;
    return bag;
  }

  append(bytes: Uint8Array, from: number, to: number, count: number): void {
    const size = to - from;
    if (this.end + size > this.limit) this.makeRoom(size);
    const { bytes: own, end } = this;
    copyBytes(bytes, from, to, own, end);
    this.end = end + size;
    this.count += count;
    if (this.end - this.start >= CHUNK_BYTES) this.seal();
  }

  /** An array; of a large group one that reads chunk after chunk, and that can't be written to. */
  values(decode?: Decode): unknown[] {
    const decoded = (values: unknown[]): unknown[] => (decode ? values.map(decode) : values);
    const tail = (): unknown[] => decoded(decodeValues(this.tail, "a group"));
    if (this.chunks.length === 0 && this.sealed.length === 0) return tail();
    return largeGroup([
      ...this.chunks.map(({ number, count }) => ({ count, values: () => decoded(this.read(number)) })),
      ...this.sealed.map((part) => ({
        count: part.count,
        values: () => decoded(decodeValues(part, "a group")),
      })),
      { count: this.count, values: tail },
    ]);
  }

  copy(): Bag {
    const copy = Bag.of(this.chunks, this.read, this.tail);
    copy.sealed = this.sealed;
    return copy;
  }

  private makeRoom(size: number): void {
    const { bytes, start, end } = this;
    const used = end - start;
    // A group's first value gets what it needs, since many groups have only one.
    const room = used === 0 ? size : Math.max(used + size, 2 * used, SECOND_ROOM_BYTES);
    if (room > SLAB_BYTES / 4) {
      this.bytes = Buffer.allocUnsafeSlow(room);
      this.start = 0;
    } else {
      if (slabUsed + room > SLAB_BYTES) {
        slab = Buffer.allocUnsafeSlow(SLAB_BYTES);
        slabUsed = 0;
      }
      this.bytes = slab;
      this.start = slabUsed;
      slabUsed += room;
    }
    copyBytes(bytes, start, end, this.bytes, this.start);
    this.end = this.start + used;
    this.limit = this.start + room;
  }

  private seal(): void {
    const { bytes, start, end, count } = this;
    this.sealed = [...this.sealed, { bytes, start, end, count }];
    this.start = end;
    this.limit = end;
    this.count = 0;
  }
}

const NO_CHUNKS = (): never => {
  throw new Error("a new group has no chunks");
};

/** Values of one key as they came: the rest of what a reader is to read. */
export interface EncodedValues {
  readonly reader: ByteReader;
  readonly count: number;
}

/** GroupByKey: values are appended and never looked at before they are emitted. What is added are `EncodedValues`. */
class Bags implements Accumulation {
  create(): unknown {
    return new Bag(NO_PARTS, NO_CHUNKS);
  }

  add(accumulator: unknown, value: unknown): unknown {
    const { reader, count } = value as EncodedValues;
    const { offset, remaining } = reader;
    (accumulator as Bag).append(reader.all, offset, offset + remaining, count);
    return accumulator;
  }

  extract(accumulator: unknown): unknown {
    return (accumulator as Bag).values();
  }

  copy(accumulator: unknown): unknown {
    return (accumulator as Bag).copy();
  }

  merge(accumulators: readonly unknown[]): unknown {
    const bags = accumulators as readonly Bag[];
    // All are of one key, so their chunks are read in the same way.
    const read = bags.find(({ chunks }) => chunks.length > 0)?.read ?? NO_CHUNKS;
    const merged = new Bag(
      bags.flatMap(({ chunks }) => chunks),
      read,
    );
    merged.sealed = bags.flatMap(({ sealed }) => sealed);
    for (const { tail } of bags) merged.append(tail.bytes, tail.start, tail.end, tail.count);
    return merged;
  }
}

export const BAGS: Accumulation = new Bags();

/** From what the general coder wrote, by a coder of the user's. */
export type Decode = (plain: unknown) => unknown;

/** The same with a coder of the user's, which is asked when a group is emitted. */
export class DecodedBags extends Bags {
  constructor(private readonly decode: Decode) {
    super();
  }

  override extract(accumulator: unknown): unknown {
    return accumulator instanceof Bag
      ? accumulator.values(this.decode)
      : (accumulator as unknown[]).map(this.decode);
  }

  plain(accumulator: unknown): unknown {
    return [...(accumulator as Bag).values()];
  }
}

function decodeValues({ bytes, start, end, count }: Sealed, subject: string): unknown[] {
  const reader = new ByteReader(bytes, subject, start, end);
  const values: unknown[] = [];
  for (let i = 0; i < count; i++) values.push(readValue(reader));
  reader.end();
  return values;
}

/** A chunk's row: the id of the group's row between a byte that no other id begins with and the chunk's number. */
export const CHUNK_MARK = 0xfe;
const NUMBER_DIGITS = 8;

export function isChunkId(id: string): boolean {
  return id.charCodeAt(0) === CHUNK_MARK;
}

/** The id of the row of the group that a chunk belongs to. */
export function rowOfChunk(id: string): string {
  return id.slice(1, id.length - NUMBER_DIGITS);
}

function chunkId(row: string, number: number): string {
  return String.fromCharCode(CHUNK_MARK) + row + number.toString(16).padStart(NUMBER_DIGITS, "0");
}

/**
 * The chunks of one bundle: knows which ones the rows had that it has opened, and which they still have.
 *
 *   accumulator = number of chunks (varint), chunks (number (varint), count (varint)), number of values (varint),
 *                 their length (varint), values
 *   chunk's row = values
 */
export class BundleChunks implements AccumulatorCoder {
  readonly keepsBytes = true;
  private readonly opened = new Map<string, Set<number>>();
  private readonly kept = new Map<string, Set<number>>();
  private readonly made = new Map<string, string>();

  constructor(
    private readonly readChunk: (id: string) => Uint8Array,
    private readonly subject: string,
  ) {}

  read(reader: ByteReader, row: string): Bag {
    const chunks = readChunks(reader);
    note(this.opened, row, chunks);
    const count = reader.varint();
    const length = reader.count();
    const start = reader.offset;
    reader.pass(length);
    const tail = { bytes: reader.all, start, end: start + length, count };
    return Bag.of(chunks, (number) => this.valuesOf(row, number), tail);
  }

  write(out: ByteWriter, accumulator: unknown, row: string): void {
    const bag = accumulator as Bag;
    note(this.kept, row, bag.chunks);
    const made = bag.sealed.map((part) => this.make(row, part));
    const chunks = made.length === 0 ? bag.chunks : [...bag.chunks, ...made];
    out.varint(chunks.length);
    for (const { number, count } of chunks) {
      out.varint(number);
      out.varint(count);
    }
    const { bytes, start, end, count } = bag.tail;
    out.varint(count);
    out.varint(end - start);
    out.part(bytes, start, end);
  }

  /** What becomes of chunks' rows with these changes of the groups' rows. */
  changes(rows: RowChanges<StoredRow>): RowChanges<StoredRow> {
    const changes = new Map<string, RowChange<StoredRow>>();
    for (const [row, numbers] of this.opened) {
      if (!rows.has(row)) continue;
      const kept = this.kept.get(row);
      for (const number of numbers) if (!kept?.has(number)) changes.set(chunkId(row, number), REMOVED);
    }
    for (const [id, value] of this.made) changes.set(id, { value, times: NO_TIMES });
    return changes;
  }

  private make(row: string, { bytes, start, end, count }: Sealed): Chunk {
    const known = [...(this.opened.get(row) ?? []), ...(this.kept.get(row) ?? [])];
    const chunk = { number: known.reduce((next, number) => Math.max(next, number + 1), 0), count };
    note(this.kept, row, [chunk]);
    this.made.set(chunkId(row, chunk.number), Buffer.from(bytes.subarray(start, end)).toString("latin1"));
    return chunk;
  }

  private valuesOf(row: string, number: number): unknown[] {
    const reader = new ByteReader(this.readChunk(chunkId(row, number)), this.subject);
    const values: unknown[] = [];
    while (reader.remaining > 0) values.push(readValue(reader));
    return values;
  }
}

function readChunks(reader: ByteReader): readonly Chunk[] {
  let count = reader.count(2);
  if (count === 0) return NO_PARTS;
  const chunks: Chunk[] = [];
  for (; count > 0; count--) chunks.push({ number: reader.varint(), count: reader.varint() });
  return chunks;
}

function note(sets: Map<string, Set<number>>, row: string, chunks: readonly Chunk[]): void {
  if (chunks.length === 0) return;
  const set = sets.get(row) ?? new Set<number>();
  for (const { number } of chunks) set.add(number);
  sets.set(row, set);
}

/** Values that are had together. */
interface Part {
  readonly count: number;
  readonly values: () => unknown[];
}

/** Reads like an array and holds one part at a time. */
function largeGroup(parts: readonly Part[]): unknown[] {
  const starts: number[] = [];
  let length = 0;
  for (const { count } of parts) {
    starts.push(length);
    length += count;
  }
  let current = { start: 0, values: [] as unknown[] };
  const at = (index: number): unknown => {
    const offset = index - current.start;
    if (offset >= 0 && offset < current.values.length) return current.values[offset];
    let place = starts.length - 1;
    if (current.values.length > 0 && index === current.start + current.values.length)
      place = starts.indexOf(index);
    else while (starts[place]! > index) place--;
    current = { start: starts[place]!, values: parts[place]!.values() };
    return current.values[index - current.start];
  };
  function* iterate(): Generator<unknown> {
    for (const { values } of parts) yield* values();
  }
  return readOnlyArray(length, at, iterate);
}

function readOnlyArray(
  length: number,
  at: (index: number) => unknown,
  iterate: () => Iterator<unknown>,
): unknown[] {
  const indexOf = (name: string | symbol): number | undefined => {
    const index = typeof name === "string" ? Number(name) : Number.NaN;
    return Number.isInteger(index) && index >= 0 && index < length ? index : undefined;
  };
  const refuse = (): never => {
    throw new TypeError(
      "the values of a large group are read from storage and can't be changed; copy them first",
    );
  };
  return new Proxy<unknown[]>([], {
    get(target, name) {
      if (name === "length") return length;
      if (name === Symbol.iterator || name === "values") return iterate;
      const index = indexOf(name);
      return index === undefined ? Reflect.get(target, name) : at(index);
    },
    has: (target, name) => indexOf(name) !== undefined || Reflect.has(target, name),
    set: refuse,
    defineProperty: refuse,
    deleteProperty: refuse,
  });
}
