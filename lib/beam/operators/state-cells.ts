import { ByteReader } from "../coders/byte-reader";
import { chunkId } from "../coders/keyed-state-coder";
import { type StoredRow, stateOf } from "../coders/state-coder";
import { readValue, withWriter, writeValue } from "../coders/value-coder";
import type { Cells } from "../engine/keyed-place";
import type { UserCombineFn } from "../graph/node";
import { CHUNK_BYTES, CHUNK_MARK } from "./bag";
import { ListCell, MapCell } from "./item-cells";
import { encodedText, type Kept, keep, readKept, reveal, writeKept } from "./kept-value";

/** What a stateful transform declares a cell as. */
export type CellSpec =
  | { readonly kind: "value"; readonly initial: Kept }
  | { readonly kind: "combining"; readonly combineFn: UserCombineFn }
  | { readonly kind: "bag" | "map" | "set" | "orderedList" };

/** The rows of a shard, for the cells that have some of their own. */
export interface CellRows {
  get(id: string): Uint8Array | undefined;
  inGroup(name: string): Iterable<string>;
}

/** Where a cell is. */
export interface CellPlace {
  readonly index: number;
  readonly place: string;
  readonly rows: CellRows;
  /** What it is called where its bytes are damaged. */
  readonly subject: string;
}

/** What a cell leaves at the end of a bundle. */
export interface SealedCell {
  /** Its part of the place's own row; undefined where it is empty. */
  readonly own: Uint8Array | undefined;
  readonly rows: Iterable<readonly [id: string, row: string | undefined]>;
}

export interface Cell {
  readonly isEmpty: boolean;
  readonly isChanged: boolean;
  clear(): void;
  seal(): SealedCell;
  /** All that it holds as plain data, for `restore` of an empty cell. */
  dump(): unknown;
  restore(dumped: unknown): void;
}

// Above this many bytes a value has a row of its own, so that it is not written again when another one changes.
const OWN_ROW_BYTES = 1024;

const SPILLED = 1;

/** One value, in the place's own row or in a row of its own. */
abstract class SingleCell implements Cell {
  isChanged = false;
  private hasRow = false;
  private isLoaded = false;
  private present: boolean;

  constructor(
    protected readonly at: CellPlace,
    private readonly own: Buffer | undefined,
  ) {
    this.present = own !== undefined;
    this.hasRow = own?.[0] === SPILLED;
  }

  protected abstract load(bytes: Uint8Array): void;
  protected abstract forget(): void;
  /** The value's encoding. */
  protected abstract encode(): Uint8Array;
  abstract dump(): unknown;
  abstract restore(dumped: unknown): void;

  get isEmpty(): boolean {
    return !this.present;
  }

  clear(): void {
    if (!this.present) return;
    this.isLoaded = true;
    this.present = false;
    this.isChanged = true;
    this.forget();
  }

  /** Whether there is a value, which is then loaded. */
  protected has(): boolean {
    if (!this.present || this.isLoaded) return this.present;
    this.isLoaded = true;
    const { rows, subject } = this.at;
    const bytes = this.hasRow ? rows.get(this.rowId) : this.own!.subarray(1);
    this.load(bytes ?? new ByteReader(new Uint8Array(), subject).fail("a value is missing"));
    return true;
  }

  protected touch(): void {
    this.isLoaded = true;
    this.present = true;
    this.isChanged = true;
  }

  seal(): SealedCell {
    const removed = this.hasRow ? ([[this.rowId, undefined]] as const) : [];
    if (!this.present) return { own: undefined, rows: removed };
    const bytes = this.encode();
    if (bytes.length > OWN_ROW_BYTES)
      return { own: Uint8Array.of(SPILLED), rows: [[this.rowId, latin1(bytes)]] };
    return { own: Buffer.concat([Uint8Array.of(0), bytes]), rows: removed };
  }

  private get rowId(): string {
    return chunkId(this.at.index, "", this.at.place);
  }
}

export class ValueCell extends SingleCell {
  private kept: Kept;

  constructor(
    at: CellPlace,
    own: Buffer | undefined,
    private readonly initial: Kept,
  ) {
    super(at, own);
  }

  read(): unknown {
    return reveal(this.has() ? this.kept : this.initial, this.at.subject);
  }

  dump(): unknown {
    return this.read();
  }

  restore(dumped: unknown): void {
    this.write(dumped);
  }

  write(value: unknown): void {
    this.kept = keep(value);
    this.touch();
  }

  protected load(bytes: Uint8Array): void {
    this.kept = readKept(new ByteReader(bytes, this.at.subject));
  }

  protected forget(): void {
    this.kept = undefined;
  }

  protected encode(): Uint8Array {
    return withWriter((out) => writeKept(out, this.kept));
  }
}

export class CombiningCell extends SingleCell {
  private accumulator: unknown;

  constructor(
    at: CellPlace,
    own: Buffer | undefined,
    private readonly fn: UserCombineFn,
  ) {
    super(at, own);
  }

  add(input: unknown): void {
    const before = this.has() ? this.accumulator : this.fn.createAccumulator();
    this.accumulator = this.fn.addInput(before, input);
    this.touch();
  }

  dump(): unknown {
    return this.has() ? this.accumulator : undefined;
  }

  restore(dumped: unknown): void {
    this.accumulator = dumped;
    this.touch();
  }

  read(): unknown {
    return this.fn.extractOutput(this.has() ? this.accumulator : this.fn.createAccumulator());
  }

  protected load(bytes: Uint8Array): void {
    this.accumulator = readValue(new ByteReader(bytes, this.at.subject));
  }

  protected forget(): void {
    this.accumulator = undefined;
  }

  protected encode(): Uint8Array {
    return withWriter((out) => writeValue(out, this.accumulator, "accumulator"));
  }
}

// What a bag has in the place's own row is written again with each change, so it is kept small.
const TAIL_BYTES = 1024;

/**
 * Values in the order in which they were added. A few are in the place's own row; then they become chunks, small ones
 * at first, of which many are brought together into one that is never written again. So each value is written three
 * times at most, however large the bag is.
 *
 *   own = large chunks (varint), small chunks (varint), bytes of the small ones (varint), values
 */
export class BagCell implements Cell {
  isChanged = false;
  private large = 0;
  private small = 0;
  private smallBytes = 0;
  private readonly removed = new Set<string>();
  /** Encoded values; the first piece may hold several. */
  private tail: string[];

  constructor(
    private readonly at: CellPlace,
    own: Buffer | undefined,
  ) {
    this.tail = [];
    if (own !== undefined) {
      const reader = new ByteReader(own, at.subject);
      this.large = reader.varint();
      this.small = reader.varint();
      this.smallBytes = reader.varint();
      this.tail = [reader.rest().toString("latin1")];
    }
  }

  get isEmpty(): boolean {
    return this.large === 0 && this.small === 0 && this.tail.every((piece) => piece === "");
  }

  add(value: unknown): void {
    this.tail.push(encodedText(value));
    this.isChanged = true;
  }

  dump(): unknown {
    return [...this.read()];
  }

  restore(dumped: unknown): void {
    for (const value of dumped as readonly unknown[]) this.add(value);
  }

  /** A picture of the bag as it is now, that reads chunk after chunk. */
  *read(): Generator<unknown> {
    const { large, small, tail } = this;
    const end = tail.length;
    for (let number = 0; number < large; number++) yield* this.valuesOf(this.largeId(number));
    for (let number = 0; number < small; number++) yield* this.valuesOf(this.smallId(number));
    for (let index = 0; index < end; index++)
      yield* valuesIn(Buffer.from(tail[index]!, "latin1"), this.at.subject);
  }

  clear(): void {
    if (this.isEmpty) return;
    for (let number = 0; number < this.large; number++) this.removed.add(this.largeId(number));
    for (let number = 0; number < this.small; number++) this.removed.add(this.smallId(number));
    [this.large, this.small, this.smallBytes, this.tail] = [0, 0, 0, []];
    this.isChanged = true;
  }

  seal(): SealedCell {
    const rows = new Map<string, string | undefined>([...this.removed].map((id) => [id, undefined]));
    const tailBytes = this.tail.reduce((sum, { length }) => sum + length, 0);
    if (this.smallBytes + tailBytes >= CHUNK_BYTES) this.sealLarge(rows);
    else if (tailBytes >= TAIL_BYTES) {
      rows.set(this.smallId(this.small++), this.tail.join(""));
      this.smallBytes += tailBytes;
      this.tail = [];
    }
    const tail = this.tail.join("");
    if (this.isEmpty) return { own: undefined, rows };
    const own = withWriter((out) => {
      out.varint(this.large);
      out.varint(this.small);
      out.varint(this.smallBytes);
      out.bytes(Buffer.from(tail, "latin1"));
    });
    return { own, rows };
  }

  /** All that is not in a large chunk, into large chunks. */
  private sealLarge(rows: Map<string, string | undefined>): void {
    let [pieces, length] = [[] as string[], 0];
    const flush = (): void => {
      if (length > 0) rows.set(this.largeId(this.large++), pieces.join(""));
      [pieces, length] = [[], 0];
    };
    const take = (piece: string): void => {
      pieces.push(piece);
      length += piece.length;
      if (length >= CHUNK_BYTES) flush();
    };
    for (let number = 0; number < this.small; number++) {
      take(latin1(this.rowOf(this.smallId(number))));
      rows.set(this.smallId(number), undefined);
    }
    for (const piece of this.tail) take(piece);
    flush();
    [this.small, this.smallBytes, this.tail] = [0, 0, []];
  }

  private *valuesOf(id: string): Generator<unknown> {
    yield* valuesIn(this.rowOf(id), this.at.subject);
  }

  private rowOf(id: string): Uint8Array {
    const { rows, subject } = this.at;
    return rows.get(id) ?? new ByteReader(new Uint8Array(), subject).fail("a chunk of a bag is missing");
  }

  private smallId(number: number): string {
    return chunkId(this.at.index, String(number), this.at.place);
  }

  /** Like a chunk of a large group, which is kept in the spool. */
  private largeId(number: number): string {
    const row = chunkId(this.at.index, "", this.at.place);
    return String.fromCharCode(CHUNK_MARK) + row + number.toString(16).padStart(8, "0");
  }
}

function* valuesIn(bytes: Uint8Array, subject: string): Generator<unknown> {
  for (const reader = new ByteReader(bytes, subject); reader.remaining > 0; ) yield readValue(reader);
}

/** The cells of one place; each is decoded when it is first used. */
export class PlaceCells implements Cells<StoredRow> {
  private readonly cells: (Cell | undefined)[] = [];
  private readonly stored: (Buffer | undefined)[] = [];
  private sealed: (SealedCell | undefined)[] | undefined;

  constructor(
    private readonly specs: readonly CellSpec[],
    private readonly stage: string,
    private readonly place: string,
    private readonly rows: CellRows,
    own: Buffer | undefined,
  ) {
    if (own === undefined) return;
    const reader = new ByteReader(own, stateOf(stage));
    while (reader.remaining > 0) this.stored[reader.byte()] = reader.bytes();
  }

  get isEmpty(): boolean {
    return this.specs.every((_, index) => this.cells[index]?.isEmpty ?? this.stored[index] === undefined);
  }

  get isChanged(): boolean {
    return this.cells.some((cell) => cell?.isChanged);
  }

  cell(index: number): Cell {
    this.cells[index] ??= this.make(index);
    return this.cells[index];
  }

  clear(): void {
    for (const index of this.specs.keys())
      if (this.cells[index] !== undefined || this.stored[index] !== undefined) this.cell(index).clear();
  }

  *rowChanges(): Generator<readonly [string, string | undefined]> {
    for (const cell of this.seal()) if (cell !== undefined) yield* cell.rows;
  }

  /** The cells' part of the place's own row. */
  own(): Uint8Array {
    const parts: Uint8Array[] = [];
    const sealed = this.seal();
    for (const index of this.specs.keys()) {
      const cell = sealed[index];
      const own = cell === undefined ? this.stored[index] : cell.own;
      if (own !== undefined) parts.push(Uint8Array.of(index), lengthOf(own), own);
    }
    return parts.length === 0 ? new Uint8Array() : Buffer.concat(parts);
  }

  /** Undefined for a cell that has not changed. */
  private seal(): readonly (SealedCell | undefined)[] {
    this.sealed ??= this.specs.map((_, index) => {
      const cell = this.cells[index];
      return cell?.isChanged ? cell.seal() : undefined;
    });
    return this.sealed;
  }

  private make(index: number): Cell {
    const spec = this.specs[index]!;
    const at = { index, place: this.place, rows: this.rows, subject: stateOf(this.stage) };
    const own = this.stored[index];
    switch (spec.kind) {
      case "value":
        return new ValueCell(at, own, spec.initial);
      case "combining":
        return new CombiningCell(at, own, spec.combineFn);
      case "bag":
        return new BagCell(at, own);
      case "orderedList":
        return new ListCell(at, own);
      default:
        return new MapCell(at, own);
    }
  }
}

function lengthOf(bytes: Uint8Array): Uint8Array {
  const { length } = bytes;
  return length < 0x80 ? Uint8Array.of(length) : withWriter((out) => out.varint(length));
}

function latin1(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1");
}
