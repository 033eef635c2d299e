import { type Cell, type CellCodec, timesOfWindow } from "../engine/aggregation";
import type { RowTimes } from "../engine/rows";
import type { Window } from "../engine/windows";
import { ByteReader } from "./byte-reader";
import type { ByteWriter } from "./byte-writer";
import { readWindow, writeWindow } from "./element-coder";
import { lendWriter, readValue, returnWriter, withWriter, writeCanonical, writeValue } from "./value-coder";

/**
 * The state of one shard of an aggregate stage whose windows give one pane each.
 *
 *   shared = version (1 byte), watermark (double, ms)
 *   id     = window, key (canonical)
 *   row    = key (see `writeKey`), accumulator
 *
 * Rows are kept in memory as they are stored, as strings of one byte a character: nothing else that JavaScript has
 * takes so little for so many small things.
 */
export const STATE_VERSION = 3;

const NO_BYTES = Buffer.alloc(0);

export function encodeShared(watermarkMs: number): Buffer | undefined {
  if (watermarkMs === -Infinity) return undefined;
  return withWriter((out) => {
    out.byte(STATE_VERSION);
    out.double(watermarkMs);
  });
}

/** The watermark. Throws CorruptEncodingError. */
export function decodeShared(bytes: Uint8Array | undefined, stage: string): number {
  if (bytes === undefined) return -Infinity;
  const reader = new ByteReader(bytes, stateOf(stage));
  const version = reader.byte();
  if (version !== STATE_VERSION) {
    reader.fail(
      `version ${version} is unknown, this windowing has version ${STATE_VERSION}; run the code that wrote it`,
    );
  }
  const watermarkMs = reader.double();
  if (Number.isNaN(watermarkMs)) reader.fail("the watermark is not a number");
  reader.end();
  return watermarkMs;
}

/** A row as it is kept: its bytes, one a character; or of a chunk of a large group the place where they are. */
export type StoredRow = string | number;

/** How the accumulator of a row is written. `row` is the row's id. */
export interface AccumulatorCoder {
  /** What it reads keeps the reader's bytes. */
  readonly keepsBytes: boolean;
  write(out: ByteWriter, accumulator: unknown, row: string): void;
  read(reader: ByteReader, row: string): unknown;
}

export const PLAIN_ACCUMULATORS: AccumulatorCoder = {
  keepsBytes: false,
  write: (out, accumulator) => writeValue(out, accumulator, "accumulator"),
  read: (reader) => readValue(reader),
};

export function cellCodec(stage: string, accumulators = PLAIN_ACCUMULATORS): CellCodec<StoredRow> {
  return new CellRows(stage, accumulators);
}

class CellRows implements CellCodec<StoredRow> {
  private readonly ofIds: ByteReader;
  private readonly ofRows: ByteReader;

  constructor(
    stage: string,
    private readonly accumulators: AccumulatorCoder,
  ) {
    this.ofIds = new ByteReader(NO_BYTES, stateOf(stage));
    this.ofRows = new ByteReader(NO_BYTES, stateOf(stage));
  }

  id(key: unknown, window: Window): string {
    return placeText(key, window);
  }

  encode(id: string, { key, accumulator }: Cell): StoredRow {
    const out = lendWriter();
    try {
      writeKey(out, key);
      this.accumulators.write(out, accumulator, id);
      return out.takeText();
    } finally {
      returnWriter(out);
    }
  }

  decode(id: string, row: StoredRow): Cell {
    const ofId = this.ofIds.resetToText(id);
    const window = readWindow(ofId);
    const reader = this.readerOf(row);
    const key = readKey(reader, ofId);
    const accumulator = this.accumulators.read(reader, id);
    reader.end();
    return { key, window, accumulator };
  }

  reopen(id: string, row: StoredRow, key: unknown, window: Window): Cell {
    if (!isInId(key)) return this.decode(id, row);
    const reader = this.readerOf(row);
    // Else the key came first in another form.
    const isSame = reader.byte() === KEY_IN_ID;
    if (!isSame) return this.decode(id, row);
    const accumulator = this.accumulators.read(reader, id);
    reader.end();
    return { key, window, accumulator };
  }

  private readerOf(row: StoredRow): ByteReader {
    if (!this.accumulators.keepsBytes) return this.ofRows.resetToText(row as string);
    const bytes = Buffer.from(row as string, "latin1");
    this.ofRows.reset(bytes, 0, bytes.length);
    return this.ofRows;
  }
}

/** A key in a window: the same for equal ones, and different for others. */
export function placeText(key: unknown, window: Window): string {
  const out = lendWriter();
  try {
    writeWindow(out, window);
    writeCanonical(out, key);
    return out.takeText();
  } finally {
    returnWriter(out);
  }
}

/** When a stored row fires. */
export function timesOfCell(id: Uint8Array, stage: string): RowTimes {
  return timesOfWindow(readWindow(new ByteReader(id, stateOf(stage))));
}

/** Where the key begins in the id of a cell. */
export function keyOffset(id: string): number {
  return id.charCodeAt(0) === 0 ? 1 : 17;
}

const KEY_IN_ID = 0;
const KEY_IN_ROW = 1;

/** Whether the canonical encoding of a key says all of it. */
function isInId(key: unknown): boolean {
  return (typeof key !== "object" || key === null) && !Object.is(key, -0);
}

/** key = 0, where the id tells it, or 1 and the key as it first came: a Buffer, or with its properties in that order. */
export function writeKey(out: ByteWriter, key: unknown): void {
  const isTold = isInId(key);
  out.byte(isTold ? KEY_IN_ID : KEY_IN_ROW);
  if (!isTold) writeValue(out, key, "key");
}

/** `ofId` stands at the key. */
export function readKey(reader: ByteReader, ofId: ByteReader): unknown {
  const flag = reader.byte();
  if (flag > KEY_IN_ROW) reader.fail(`key flag ${flag} is unknown`);
  return readValue(flag === KEY_IN_ID ? ofId : reader);
}

export function stateOf(stage: string): string {
  return `the state of stage "${stage}"`;
}
