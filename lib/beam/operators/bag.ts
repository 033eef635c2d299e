import { ByteReader } from "../coders/byte-reader";
import type { ByteWriter } from "../coders/byte-writer";
import type { AccumulatorCoder, StoredRow } from "../coders/state-coder";
import { readValue, withWriter, writeValue } from "../coders/value-coder";
import type { Accumulation } from "../engine/aggregation";
import { NO_TIMES, type RowChange, type RowChanges } from "../engine/rows";

/** Values of a group above this many bytes are put into chunks, rows of their own that are never written again. */
export const CHUNK_BYTES = 64 * 1024;

/** Where a chunk of a group's values lies. */
interface Chunk {
  readonly number: number;
  readonly count: number;
}

/** The values of one group: chunks that are stored already, and those since. */
export class Bag {
  constructor(
    readonly chunks: readonly Chunk[],
    readonly tail: unknown[],
    readonly read: (number: number) => unknown[],
  ) {}

  /** An array; of a large group one that reads chunk after chunk, and that can't be written to. */
  values(): unknown[] {
    return this.chunks.length === 0 ? this.tail : largeGroup(this);
  }
}

const NO_CHUNKS = (): never => {
  throw new Error("a new group has no chunks");
};

/** GroupByKey: values are appended and never looked at before they are emitted. */
export const BAGS: Accumulation = {
  create: () => new Bag([], [], NO_CHUNKS),
  add(accumulator, value) {
    (accumulator as Bag).tail.push(value);
    return accumulator;
  },
  extract: (accumulator) => (accumulator as Bag).values(),
  copy(accumulator) {
    const { chunks, tail, read } = accumulator as Bag;
    return new Bag(chunks, [...tail], read);
  },
  merge(accumulators) {
    const bags = accumulators as readonly Bag[];
    // All are of one key, so their chunks are read in the same way.
    const read = bags.find(({ chunks }) => chunks.length > 0)?.read ?? NO_CHUNKS;
    return new Bag(
      bags.flatMap(({ chunks }) => chunks),
      bags.flatMap(({ tail }) => tail),
      read,
    );
  },
};

/** A chunk's row: the id of the group's row between a byte that no other id begins with and the chunk's number. */
export const CHUNK_MARK = 0xfe;
const NUMBER_DIGITS = 8;

export function isChunkId(id: Uint8Array): boolean {
  return id[0] === CHUNK_MARK;
}

/** The id of the row of the group that a chunk belongs to. */
export function rowOfChunk(id: Uint8Array): Uint8Array {
  return id.subarray(1, id.length - NUMBER_DIGITS);
}

function chunkId(row: string, number: number): string {
  return String.fromCharCode(CHUNK_MARK) + row + number.toString(16).padStart(NUMBER_DIGITS, "0");
}

/**
 * The chunks of one bundle: knows which ones the rows had that it has opened, and which they still have.
 *
 *   accumulator = number of chunks (varint), chunks (number (varint), count (varint)), number of values (varint), values
 *   chunk's row = values
 */
export class BundleChunks implements AccumulatorCoder {
  private readonly opened = new Map<string, Set<number>>();
  private readonly kept = new Map<string, Set<number>>();
  private readonly made = new Map<string, string>();

  constructor(
    private readonly readChunk: (id: string) => Uint8Array,
    private readonly subject: string,
  ) {}

  read(reader: ByteReader, row: string): Bag {
    const chunks: Chunk[] = [];
    for (let count = reader.count(2); count > 0; count--)
      chunks.push({ number: reader.varint(), count: reader.varint() });
    note(this.opened, row, chunks);
    const tail = Array.from({ length: reader.count() }, () => readValue(reader));
    return new Bag(chunks, tail, (number) => this.valuesOf(row, number));
  }

  write(out: ByteWriter, accumulator: unknown, row: string): void {
    const bag = accumulator as Bag;
    note(this.kept, row, bag.chunks);
    const { chunks, rest, count } = this.seal(row, bag.tail);
    out.varint(bag.chunks.length + chunks.length);
    for (const { number, count } of [...bag.chunks, ...chunks]) {
      out.varint(number);
      out.varint(count);
    }
    out.varint(count);
    out.bytes(rest);
  }

  /** What becomes of chunks' rows with these changes of the groups' rows. */
  changes(rows: RowChanges<StoredRow>): RowChanges<StoredRow> {
    const changes = new Map<string, RowChange<StoredRow>>();
    for (const row of rows.keys()) {
      const kept = this.kept.get(row);
      for (const number of this.opened.get(row) ?? [])
        if (!kept?.has(number)) changes.set(chunkId(row, number), { value: undefined, times: NO_TIMES });
    }
    for (const [id, value] of this.made) changes.set(id, { value, times: NO_TIMES });
    return changes;
  }

  /** Puts values into chunks as long as there are enough for one; `rest` are those that are left, encoded. */
  private seal(row: string, values: readonly unknown[]): { chunks: Chunk[]; rest: Buffer; count: number } {
    const ends: { values: number; bytes: number }[] = [];
    const bytes = withWriter((out) => {
      for (const [index, value] of values.entries()) {
        writeValue(out, value, `value ${index}`);
        if (out.length - (ends.at(-1)?.bytes ?? 0) >= CHUNK_BYTES)
          ends.push({ values: index + 1, bytes: out.length });
      }
    });
    let last = { values: 0, bytes: 0 };
    const chunks = ends.map((end) => {
      const chunk = this.make(row, bytes.subarray(last.bytes, end.bytes), end.values - last.values);
      last = end;
      return chunk;
    });
    return { chunks, rest: bytes.subarray(last.bytes), count: values.length - last.values };
  }

  private make(row: string, bytes: Buffer, count: number): Chunk {
    const known = [...(this.opened.get(row) ?? []), ...(this.kept.get(row) ?? [])];
    const chunk = { number: known.reduce((next, number) => Math.max(next, number + 1), 0), count };
    note(this.kept, row, [chunk]);
    this.made.set(chunkId(row, chunk.number), bytes.toString("latin1"));
    return chunk;
  }

  private valuesOf(row: string, number: number): unknown[] {
    const reader = new ByteReader(this.readChunk(chunkId(row, number)), this.subject);
    const values: unknown[] = [];
    while (reader.remaining > 0) values.push(readValue(reader));
    return values;
  }
}

function note(sets: Map<string, Set<number>>, row: string, chunks: readonly Chunk[]): void {
  const set = sets.get(row) ?? new Set<number>();
  for (const { number } of chunks) set.add(number);
  sets.set(row, set);
}

/** Reads like an array and holds one chunk at a time. */
function largeGroup({ chunks, tail, read }: Bag): unknown[] {
  const starts: number[] = [];
  let length = 0;
  for (const { count } of chunks) {
    starts.push(length);
    length += count;
  }
  const stored = length;
  length += tail.length;
  let current = { start: 0, values: [] as unknown[] };
  const at = (index: number): unknown => {
    if (index >= stored) return tail[index - stored];
    const offset = index - current.start;
    if (offset >= 0 && offset < current.values.length) return current.values[offset];
    let place = starts.length - 1;
    if (current.values.length > 0 && index === current.start + current.values.length)
      place = starts.indexOf(index);
    else while (starts[place]! > index) place--;
    current = { start: starts[place]!, values: read(chunks[place]!.number) };
    return current.values[index - current.start];
  };
  function* iterate(): Generator<unknown> {
    for (const { number } of chunks) yield* read(number);
    yield* tail;
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
