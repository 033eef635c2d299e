import type { BoundedWindow } from "./api";
import { ByteReader } from "./coders/byte-reader";
import { readWindow } from "./coders/element-coder";
import { type CellsCoder, KEYED_STATE_VERSION, keyedCodec, keyedRowGroup } from "./coders/keyed-state-coder";
import { PANE_STATE_VERSION, paneCodec } from "./coders/pane-state-coder";
import { readCodec } from "./coders/read-coder";
import { SIDE_INPUT_STATE_VERSION, sideInputCodec } from "./coders/side-input-coder";
import { type AccumulatorCoder, readKey, STATE_VERSION, type StoredRow } from "./coders/state-coder";
import { readValue } from "./coders/value-coder";
import type { Cells } from "./engine/keyed-place";
import { CorruptEncodingError } from "./errors";
import { Bag, BundleChunks, isChunkId } from "./operators/bag";
import { elementText } from "./operators/user-code";

/** One row of a shard's state, for a person. */
export interface StateRowText {
  readonly kind:
    | "group"
    | "cells"
    | "item"
    | "timer"
    | "element"
    | "side input"
    | "read"
    | "part"
    | "unknown";
  /** Shortened; "" where it has none. */
  readonly key: string;
  readonly window?: BoundedWindow;
  /** What it holds, shortened: decoded where the encoding tells all, else its length. */
  readonly text: string;
  /** Of a timer, or a read that waits: when it is due, in ms. */
  readonly atMs?: number;
  readonly bytes: number;
}

type Text = Omit<StateRowText, "bytes">;

/** The cells of a stateful transform as they lie in a row. */
interface RawCells extends Cells<StoredRow> {
  readonly own: Buffer | undefined;
}

const RAW_CELLS: CellsCoder<RawCells> = {
  open: (_place, own) => ({
    own,
    isEmpty: own === undefined,
    isChanged: false,
    clear: () => undefined,
    rowChanges: () => [],
  }),
  own: ({ own }) => own ?? new Uint8Array(0),
};

const NO_CHUNKS = (): never => {
  throw new CorruptEncodingError("a chunk is a row of its own");
};

/** Of a group whose accumulator is of no form that tells itself. */
const OPAQUE: AccumulatorCoder = {
  keepsBytes: true,
  write: NO_CHUNKS,
  read: (reader) => new Opaque(reader.rest().length),
};

class Opaque {
  constructor(readonly length: number) {}
}

/**
 * Tells what a row of state is, without the code of its pipeline: names of cells and timers are that code's, so these have
 * their numbers, in the order in which they are declared. Never throws.
 *
 * @param shared what the rows of the shard have in common, see `BundleResult.sharedState`.
 * @param id as in `StateChange`.
 */
export function stateRowText(shared: Uint8Array | undefined, id: string, value: Uint8Array): StateRowText {
  const bytes = id.length + value.length;
  if (isChunkId(id)) return { kind: "part", key: "", text: "values of a large group or bag", bytes };
  try {
    return { ...describe(shared, id, Buffer.from(value)), bytes };
  } catch (error) {
    if (!(error instanceof CorruptEncodingError || error instanceof RangeError)) throw error;
    return { kind: "unknown", key: "", text: `${value.length} bytes`, bytes };
  }
}

function describe(shared: Uint8Array | undefined, id: string, value: Buffer): Text {
  switch (shared?.[0]) {
    case STATE_VERSION:
      return groupText(id, value);
    case PANE_STATE_VERSION:
      return panesText(shared!, id, value);
    case SIDE_INPUT_STATE_VERSION:
      return sideText(id, value);
    case KEYED_STATE_VERSION:
      return keyedText(id, value);
    default:
      return readText(id, value);
  }
}

function reader(bytes: Uint8Array): ByteReader {
  return new ByteReader(bytes, "a row of state");
}

/** The first of these forms that the bytes have from beginning to end. */
function firstThatFits<T>(forms: readonly (() => T)[]): T {
  let problem: unknown;
  for (const form of forms)
    try {
      return form();
    } catch (error) {
      problem = error;
    }
  throw problem;
}

/** What a row holds behind its key: an accumulator of plain data, a list of values, or bytes. */
function accumulators(): readonly AccumulatorCoder[] {
  const plain: AccumulatorCoder = { keepsBytes: false, write: NO_CHUNKS, read: (from) => readValue(from) };
  return [plain, new BundleChunks(NO_CHUNKS, "a row of state"), OPAQUE];
}

function accumulatorText(accumulator: unknown): string {
  if (accumulator instanceof Opaque) return `${accumulator.length} bytes`;
  if (!(accumulator instanceof Bag)) return elementText(accumulator);
  const { chunks } = accumulator;
  const count = chunks.reduce((sum, chunk) => sum + chunk.count, accumulator.tail.count);
  return chunks.length === 0 ? elementText([...accumulator.values()]) : `${count} values`;
}

function groupText(id: string, value: Buffer): Text {
  return firstThatFits(
    accumulators().map((coder) => () => {
      const ofId = reader(Buffer.from(id, "latin1"));
      const window = readWindow(ofId);
      const row = reader(value);
      const key = elementText(readKey(row, ofId));
      const text = accumulatorText(coder.read(row, id));
      row.end();
      return { kind: "group" as const, key, window, text };
    }),
  );
}

function panesText(shared: Uint8Array, id: string, value: Buffer): Text {
  const common = reader(shared);
  common.byte();
  common.double();
  common.double();
  const triggerSize = common.varint();
  const row = value.toString("latin1");
  return firstThatFits(
    accumulators().map((coder) => () => {
      const { key, cells } = paneCodec("", triggerSize, coder).decode(id, row);
      const texts = cells.map(
        ({ window, filled, accumulator }) =>
          `${windowText(window)} ${filled ? accumulatorText(accumulator) : "empty"}`,
      );
      return { kind: "group" as const, key: elementText(key), text: texts.join("; ") };
    }),
  );
}

function sideText(id: string, value: Buffer): Text {
  const codec = sideInputCodec("");
  const row = value.toString("latin1");
  if (id[0] === "v") {
    const { tag, window, values } = codec.decodeView(row);
    return { kind: "side input", key: tag, window, text: elementText(values) };
  }
  if (id[0] === "w") {
    const { readyMs, first, next } = codec.decodeWait(row);
    const text = `${next - first} elements wait for a side input`;
    return { kind: "timer", key: "", text, atMs: readyMs };
  }
  const block = codec.decodeBlock(row);
  return { kind: "element", key: "", text: elementText(block.map((element) => element.value)) };
}

function keyedText(id: string, value: Buffer): Text {
  const codec = keyedCodec("", RAW_CELLS);
  const row = value.toString("latin1");
  const place = reader(Buffer.from(codec.placeOf(id), "latin1"));
  const window = readWindow(place);
  const key = elementText(readValue(place));
  switch (id[0]) {
    case "p": {
      const { waiting, cells } = codec.decode(codec.placeOf(id), row);
      const waits = waiting > 0 ? [`${waiting} elements wait`] : [];
      return { kind: "cells", key, window, text: [...cellTexts(cells.own), ...waits].join(", ") };
    }
    case "t": {
      const { index, tag, timeMs } = codec.decodeTimer(id, row);
      return { kind: "timer", key, window, text: `timer ${index}${tag && ` "${tag}"`}`, atMs: timeMs };
    }
    case "e": {
      const { value: element, timestampMs } = codec.decodeElement(id, row);
      return { kind: "element", key, window, text: `${elementText(element)} at ${timestampMs} ms` };
    }
    default: {
      const cell = keyedRowGroup(id)?.charCodeAt(1);
      if (cell === undefined) return { kind: "part", key, window, text: plainText(value) };
      return { kind: "item", key, window, text: `cell ${cell}: ${itemText(value)}` };
    }
  }
}

/** Of the cells in a key's own row: index (1 byte), length (varint), bytes. */
function cellTexts(own: Buffer | undefined): string[] {
  const cells = reader(own ?? Buffer.alloc(0));
  const texts: string[] = [];
  while (cells.remaining > 0) {
    const index = cells.byte();
    texts.push(`cell ${index}: ${cellText(cells.bytes())}`);
  }
  return texts;
}

/** A value has a zero before it, a map or a list is a count here, and of a bag the numbers of its chunks come first. */
function cellText(bytes: Buffer): string {
  const value = bytes[0] === 0 ? plainText(bytes.subarray(1)) : undefined;
  if (value !== undefined && !value.endsWith(" bytes")) return value;
  return firstThatFits([
    () => {
      const entries = reader(bytes);
      const count = entries.varint();
      entries.end();
      return `${count} entries`;
    },
    () => {
      const bag = reader(bytes);
      const [large, small] = [bag.varint(), bag.varint()];
      bag.varint();
      const values: unknown[] = [];
      while (bag.remaining > 0) values.push(readValue(bag));
      const parts = large + small > 0 ? ` and ${large + small} parts` : "";
      return `${elementText(values)}${parts}`;
    },
    () => `${bytes.length} bytes`,
  ]);
}

/** An entry of a map or a set has its key before its value. */
function itemText(value: Buffer): string {
  return firstThatFits([
    () => {
      const entry = reader(value);
      const key = readValue(reader(entry.bytes()));
      const held = readValue(entry);
      entry.end();
      return held === undefined ? elementText(key) : `${elementText(key)}: ${elementText(held)}`;
    },
    () => plainText(value),
  ]);
}

function plainText(bytes: Buffer): string {
  return firstThatFits([
    () => {
      const whole = reader(bytes);
      const value = readValue(whole);
      whole.end();
      return elementText(value);
    },
    () => `${bytes.length} bytes`,
  ]);
}

function readText(id: string, value: Buffer): Text {
  const { restriction, piece, window, resumeAtMs } = readCodec("").decode(id, value.toString("latin1"));
  const records = piece ? `, ${piece.records.length} records before it` : "";
  const text = `${elementText(piece ? piece.rest : restriction)}${records}`;
  return { kind: "read", key: "", window, text, atMs: resumeAtMs };
}

function windowText(window: BoundedWindow): string {
  return window.kind === "global" ? "global" : `[${window.startMs}, ${window.endMs})`;
}
