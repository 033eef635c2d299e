import { type Cell, type CellCodec, timesOfWindow } from "../engine/aggregation";
import type { RowTimes } from "../engine/rows";
import type { Window } from "../engine/windows";
import { ByteReader } from "./byte-reader";
import type { ByteWriter } from "./byte-writer";
import { readWindow, writeWindow } from "./element-coder";
import { canonicalBytes, readValue, withWriter, writeValue } from "./value-coder";

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
  write(out: ByteWriter, accumulator: unknown, row: string): void;
  read(reader: ByteReader, row: string): unknown;
}

export const PLAIN_ACCUMULATORS: AccumulatorCoder = {
  write: (out, accumulator) => writeValue(out, accumulator, "accumulator"),
  read: (reader) => readValue(reader),
};

export function cellCodec(stage: string, accumulators = PLAIN_ACCUMULATORS): CellCodec<StoredRow> {
  const windowOf = rememberingWindow();
  return {
    id: (key, window) => windowOf(window) + canonicalBytes(key).toString("latin1"),
    encode: (id, { key, accumulator }) => {
      const row = withWriter((out) => {
        writeKey(out, key);
        accumulators.write(out, accumulator, id);
      });
      return row.toString("latin1");
    },
    decode(id, row) {
      const ofId = new ByteReader(Buffer.from(id, "latin1"), stateOf(stage));
      const window = readWindow(ofId);
      const reader = new ByteReader(Buffer.from(row as string, "latin1"), stateOf(stage));
      const cell: Cell = { window, key: readKey(reader, ofId), accumulator: accumulators.read(reader, id) };
      reader.end();
      return cell;
    },
  };
}

/** When a stored row fires. */
export function timesOfCell(id: Uint8Array, stage: string): RowTimes {
  return timesOfWindow(readWindow(new ByteReader(id, stateOf(stage))));
}

/** Where the key begins in the id of a cell. */
export function keyOffset(id: Uint8Array): number {
  return id[0] === 0 ? 1 : 17;
}

/** key = 0, where the id tells it, or 1 and the key as it first came: a Buffer, or with its properties in that order. */
export function writeKey(out: ByteWriter, key: unknown): void {
  const isInId = (typeof key !== "object" || key === null) && !Object.is(key, -0);
  out.byte(isInId ? 0 : 1);
  if (!isInId) writeValue(out, key, "key");
}

/** `ofId` stands at the key. */
export function readKey(reader: ByteReader, ofId: ByteReader): unknown {
  const flag = reader.byte();
  if (flag > 1) reader.fail(`key flag ${flag} is unknown`);
  return readValue(flag === 0 ? ofId : reader);
}

export function stateOf(stage: string): string {
  return `the state of stage "${stage}"`;
}

/** The bytes of a window; the same one comes many times. */
function rememberingWindow(): (window: Window) => string {
  let last: Window | undefined;
  let text = "";
  return (window) => {
    if (window === last) return text;
    last = window;
    text = withWriter((out) => writeWindow(out, window)).toString("latin1");
    return text;
  };
}
