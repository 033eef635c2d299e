import type { Cells, KeyedCodec, KeyedPlan, PlaceRow, Timer, WaitingElement } from "../engine/keyed-place";
import { timesOfElement, timesOfPlace, timesOfTimer } from "../engine/keyed-place";
import { NO_TIMES, type RowTimes } from "../engine/rows";
import { ByteReader } from "./byte-reader";
import { readPane, readWindow, writePane } from "./element-coder";
import { placeText, readKey, type StoredRow, stateOf, writeKey } from "./state-coder";
import { readValue, withTextWriter, withWriter, writeValue } from "./value-coder";

/**
 * The state of one shard of a stateful stage. A place is a key in a window.
 *
 *   shared  = version (1 byte), watermark (double, ms), processing time (double, ms; NaN for none)
 *   place   = window, key (canonical)
 *   id      = "p", place for the place's own row; else kind, length of the header (varint), header, place:
 *             "t" a timer:                header = index (varint), tag (UTF-8)
 *             "e" an element that waits:  header = timestamp (double, ms), sequence (varint)
 *             "i" an item of a cell:      header = index of the cell (1 byte), what tells it from the others
 *             "c" a chunk of a cell:      the same; of a bag also with what makes it the id of a large group's chunk
 *   own row = key (see `writeKey`), next sequence (varint), waiting (varint), cells
 *   cells   = for each that is not empty: index (1 byte), length (varint), bytes
 *   timer   = time (double, ms), output timestamp (double, ms), 1 where it holds the watermark (1 byte)
 *   element = pane, value
 */
export const KEYED_STATE_VERSION = 6;

const OWN = "p";
const TIMER = "t";
const ELEMENT = "e";
const ITEM = "i";
const CHUNK = "c";

export interface SharedKeyed {
  readonly watermarkMs: number;
  readonly nowMs: number | undefined;
}

/** Undefined for a shard that has seen neither an element nor a time. */
export function encodeSharedKeyed({ watermarkMs, nowMs }: SharedKeyed): Buffer | undefined {
  if (watermarkMs === -Infinity && nowMs === undefined) return undefined;
  return withWriter((out) => {
    out.byte(KEYED_STATE_VERSION);
    out.double(watermarkMs);
    out.double(nowMs ?? NaN);
  });
}

/** Throws CorruptEncodingError, also for the state of another kind of stage. */
export function decodeSharedKeyed(bytes: Uint8Array | undefined, stage: string): SharedKeyed {
  if (bytes === undefined) return { watermarkMs: -Infinity, nowMs: undefined };
  const reader = new ByteReader(bytes, stateOf(stage));
  const version = reader.byte();
  if (version !== KEYED_STATE_VERSION)
    reader.fail(
      `version ${version} is unknown, a stateful stage has version ${KEYED_STATE_VERSION}; run the code that wrote it`,
    );
  const watermarkMs = reader.double();
  if (Number.isNaN(watermarkMs)) reader.fail("the watermark is not a number");
  const nowMs = reader.double();
  reader.end();
  return { watermarkMs, nowMs: Number.isNaN(nowMs) ? undefined : nowMs };
}

/** Makes the cells of a place, from what its own row has of them. */
export interface CellsCoder<C> {
  open(place: string, own: Buffer | undefined): C;
  /** What of the cells goes into the place's own row. */
  own(cells: C): Uint8Array;
}

export function keyedCodec<C extends Cells<StoredRow>>(
  stage: string,
  cells: CellsCoder<C>,
): KeyedCodec<StoredRow, C> {
  const readerOf = (row: StoredRow) => new ByteReader(Buffer.from(row as string, "latin1"), stateOf(stage));
  return {
    placeId: placeText,
    placeOf: (id) => id.slice(placeOffset(id)),
    isElement: (id) => id[0] === ELEMENT,
    ownId: (place) => OWN + place,
    timerId,
    elementId,
    timersOf: (place) => TIMER + place,
    create: (place, key, window) => ({
      ...{ key, window, nextSequence: 0, waiting: 0 },
      cells: cells.open(place, undefined),
    }),
    decode(place, row): PlaceRow<C> {
      const ofPlace = new ByteReader(Buffer.from(place, "latin1"), stateOf(stage));
      const window = readWindow(ofPlace);
      const reader = readerOf(row);
      const key = readKey(reader, ofPlace);
      const nextSequence = reader.varint();
      const waiting = reader.varint();
      return { key, window, nextSequence, waiting, cells: cells.open(place, reader.rest()) };
    },
    encode(place) {
      const own = cells.own(place.cells);
      return withTextWriter((out) => {
        writeKey(out, place.key);
        out.varint(place.nextSequence);
        out.varint(place.waiting);
        out.bytes(own);
      });
    },
    decodeTimer: (id, row) => readTimer(id, readerOf(row), stage),
    encodeTimer,
    decodeElement(id, row): WaitingElement {
      const header = headerReader(id, stage);
      const timestampMs = header.double();
      const sequence = header.varint();
      const reader = readerOf(row);
      return { timestampMs, sequence, pane: readPane(reader), value: readValue(reader) };
    },
    encodeElement: ({ value, pane }) =>
      withTextWriter((out) => {
        writePane(out, pane);
        writeValue(out, value);
      }),
  };
}

function timerId(place: string, index: number, tag: string): string {
  const header = withWriter((out) => {
    out.varint(index);
    out.bytes(Buffer.from(tag, "utf8"));
  });
  return rowId(TIMER, header, place);
}

function elementId(place: string, timestampMs: number, sequence: number): string {
  const header = withWriter((out) => {
    out.double(timestampMs);
    out.varint(sequence);
  });
  return rowId(ELEMENT, header, place);
}

function encodeTimer({ timeMs, outputMs, isHeld }: Timer): string {
  return withTextWriter((out) => {
    out.double(timeMs);
    out.double(outputMs);
    out.byte(Number(isHeld));
  });
}

/** When a stored row has something to do. */
export function timesOfKeyedRow(id: Uint8Array, row: Uint8Array, stage: string, plan: KeyedPlan): RowTimes {
  const text = Buffer.from(id.buffer, id.byteOffset, id.byteLength).toString("latin1");
  switch (text[0]) {
    case OWN:
      return timesOfPlace(readWindow(new ByteReader(id.subarray(1), stateOf(stage))), plan);
    case TIMER:
      return timesOfTimer(readTimer(text, new ByteReader(row, stateOf(stage)), stage), plan);
    case ELEMENT:
      return timesOfElement(headerReader(text, stage).double(), plan);
    case ITEM:
    case CHUNK:
      return NO_TIMES;
    default:
      throw new ByteReader(id, stateOf(stage)).fail("a row is of no known kind");
  }
}

/** The group of `Rows` that a row is in: timers by place, items by cell and place. */
export function keyedRowGroup(id: string): string | undefined {
  if (id[0] === TIMER) return TIMER + id.slice(placeOffset(id));
  return id[0] === ITEM ? itemsOf(id.charCodeAt(headerOffset(id)), id.slice(placeOffset(id))) : undefined;
}

export function itemsOf(cell: number, place: string): string {
  return ITEM + String.fromCharCode(cell) + place;
}

export function itemId(cell: number, item: Uint8Array | string, place: string): string {
  return cellRowId(ITEM, cell, item, place);
}

/** What tells an item from the others of its cell. */
export function itemOf(id: string): string {
  return id.slice(headerOffset(id) + 1, placeOffset(id));
}

export function chunkId(cell: number, chunk: Uint8Array | string, place: string): string {
  return cellRowId(CHUNK, cell, chunk, place);
}

function cellRowId(kind: string, cell: number, header: Uint8Array | string, place: string): string {
  const text = typeof header === "string" ? header : latin1(header);
  return kind + lengthText(text.length + 1) + String.fromCharCode(cell) + text + place;
}

/** Where the key begins in the id of a row. */
export function keyOffsetOfKeyed(id: string): number {
  const at = id[0] === OWN ? 1 : placeOffset(id);
  return at + (id.charCodeAt(at) === 0 ? 1 : 17);
}

function rowId(kind: string, header: Uint8Array, place: string): string {
  return kind + lengthText(header.length) + latin1(header) + place;
}

function lengthText(length: number): string {
  return length < 0x80 ? String.fromCharCode(length) : latin1(withWriter((out) => out.varint(length)));
}

function latin1(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1");
}

function headerOffset(id: string): number {
  let at = 1;
  while (id.charCodeAt(at) >= 0x80) at++;
  return at + 1;
}

function placeOffset(id: string): number {
  if (id[0] === OWN) return 1;
  let [length, scale, at] = [0, 1, 1];
  for (; ; at++, scale *= 128) {
    const byte = id.charCodeAt(at);
    length += (byte & 0x7f) * scale;
    if (!(byte >= 0x80)) break;
  }
  return at + 1 + length;
}

function headerReader(id: string, stage: string): ByteReader {
  return new ByteReader(Buffer.from(id.slice(headerOffset(id), placeOffset(id)), "latin1"), stateOf(stage));
}

function readTimer(id: string, reader: ByteReader, stage: string): Timer {
  const header = headerReader(id, stage);
  const index = header.varint();
  const tag = header.rest().toString("utf8");
  const timer = {
    index,
    tag,
    timeMs: reader.double(),
    outputMs: reader.double(),
    isHeld: reader.byte() === 1,
  };
  reader.end();
  return timer;
}
