import { NO_FIRING, type Pane } from "../engine/panes";
import { GLOBAL_WINDOW, type IntervalWindow, type Window } from "../engine/windows";
import { ByteReader } from "./byte-reader";
import { type ByteWriter, putShortAscii, SHORT_TEXT_LENGTH } from "./byte-writer";
import { hasCanonicalEncoding, keyHash, murmur3 } from "./key";
import { readValue, Tag, withWriter, writeValue } from "./value-coder";

/**
 * An element between two stages: a key and a value with time, window and pane.
 *
 *   element = version 1 (1 byte), timestamp (double, ms), window, pane, key, value
 *   several = version 2 (1 byte), timestamp of the earliest, window, pane, key, number of values (varint), values
 *   window  = 0 | 1, start (double, ms), end (double, ms)
 *   pane    = timing * 4 + isFirst * 2 + isLast (1 byte), index (varint), non-speculative index (varint, from -1)
 */
export const ELEMENT_VERSION = 1;
const GATHERED_VERSION = 2;
/** The same with the value of a pane, and with its accumulator: what comes back from dead-letter. */
const PANE_VERSION = 0x81;
const TIMER_VERSION = 0xc1;

/** The flags of `NO_FIRING`: UNKNOWN, first and last. */
const NO_FIRING_FLAGS = 15;

/** Of version, time, an interval window and `NO_FIRING`. */
const COMMON_PLACE_BYTES = 29;

const TIMINGS = ["EARLY", "ON_TIME", "LATE", "UNKNOWN"] as const;

export interface ShuffledElement {
  readonly key: unknown;
  readonly value: unknown;
  readonly timestampMs: number;
  readonly window: Window;
  readonly pane: Pane;
}

export function encodeElement(element: ShuffledElement): Buffer {
  return encodeAs(ELEMENT_VERSION, element);
}

/** Into a longer encoding; gives the hash of the key, which most often needs no encoding of its own. */
export function writeKeyed(
  out: ByteWriter,
  key: unknown,
  value: unknown,
  timestampMs: number,
  window: Window,
  pane: Pane,
): number {
  const hash = writePlaceAndKey(out, ELEMENT_VERSION, key, timestampMs, window, pane);
  writeValue(out, value);
  return hash;
}

/** Encoded values, one behind the other. */
export interface EncodedParts {
  writeTo(out: ByteWriter): void;
}

/** The same of several elements of one key. */
export function writeGathered(
  out: ByteWriter,
  key: unknown,
  timestampMs: number,
  window: Window,
  count: number,
  values: EncodedParts,
): number {
  const version = count === 1 ? ELEMENT_VERSION : GATHERED_VERSION;
  const hash = writePlaceAndKey(out, version, key, timestampMs, window, NO_FIRING);
  if (count > 1) out.varint(count);
  values.writeTo(out);
  return hash;
}

function writePlaceAndKey(
  out: ByteWriter,
  version: number,
  key: unknown,
  timestampMs: number,
  window: Window,
  pane: Pane,
): number {
  if (typeof key === "string" && window.kind === "interval" && pane === NO_FIRING) {
    const hash = writeCommon(out, version, key, timestampMs, window);
    if (hash !== undefined) return hash;
  }
  const isCanonical = hasCanonicalEncoding(key);
  const hash = isCanonical ? 0 : keyHash(key);
  writePlace(out, version, timestampMs, window, pane);
  const start = out.length;
  writeValue(out, key, "key");
  return isCanonical ? out.digest(start, murmur3) : hash;
}

/** The place and the key where they are as most are: with one check for room. Undefined, and nothing written, where not. */
function writeCommon(
  out: ByteWriter,
  version: number,
  key: string,
  timestampMs: number,
  window: IntervalWindow,
): number | undefined {
  const { length } = key;
  if (length > SHORT_TEXT_LENGTH) return undefined;
  const before = out.length;
  const start = out.claim(COMMON_PLACE_BYTES + length + 2);
  const { all, view } = out;
  putCommonPlace(all, view, start, version, timestampMs, window);
  const keyStart = start + COMMON_PLACE_BYTES;
  if (putShortAscii(all, keyStart, Tag.string, key)) return murmur3(all, keyStart, keyStart + length + 2);
  out.truncate(before);
  return undefined;
}

/** A pane on its way back: with its value, or with the accumulator that the value is still to be extracted from. */
export function encodeReplay(form: "pane" | "timer", element: ShuffledElement): Buffer {
  return encodeAs(form === "pane" ? PANE_VERSION : TIMER_VERSION, element);
}

function encodeAs(version: number, element: ShuffledElement): Buffer {
  const { key, value, timestampMs, window, pane } = element;
  return withWriter((out) => {
    writePlace(out, version, timestampMs, window, pane);
    writeValue(out, key, "key");
    writeValue(out, value);
  });
}

function writePlace(out: ByteWriter, version: number, timestampMs: number, window: Window, pane: Pane): void {
  if (window.kind === "interval" && pane === NO_FIRING) {
    const at = out.claim(COMMON_PLACE_BYTES);
    putCommonPlace(out.all, out.view, at, version, timestampMs, window);
    return;
  }
  out.byte(version);
  out.double(timestampMs);
  writeWindow(out, window);
  writePane(out, pane);
}

function putCommonPlace(
  all: Uint8Array,
  view: DataView,
  at: number,
  version: number,
  timestampMs: number,
  window: IntervalWindow,
): void {
  all[at] = version;
  view.setFloat64(at + 1, timestampMs);
  all[at + 9] = 1;
  view.setFloat64(at + 10, window.startMs);
  view.setFloat64(at + 18, window.endMs);
  all[at + 26] = NO_FIRING_FLAGS;
  all[at + 27] = 0;
  all[at + 28] = 1;
}

/** Where an element is in time; one that `readPlace` fills. */
export interface MutablePlace {
  form: InboxElement["form"];
  timestampMs: number;
  window: Window;
  pane: Pane;
}

/** What an encoded element begins with; key and value follow. */
export function readPlace(reader: ByteReader, place: MutablePlace): void {
  if (isCommonPlace(reader)) {
    place.form = reader.all[reader.offset] === ELEMENT_VERSION ? "element" : "gathered";
    place.timestampMs = reader.view.getFloat64(reader.offset + 1);
    place.window = lastWindow;
    place.pane = NO_FIRING;
    reader.pass(COMMON_PLACE_BYTES);
    return;
  }
  place.form = readForm(reader);
  place.timestampMs = reader.double();
  place.window = readWindow(reader);
  place.pane = readPane(reader);
}

/** An element that no pane brought, in the window of the one before. */
function isCommonPlace({ remaining, offset: at, all, view }: ByteReader): boolean {
  return (
    remaining >= COMMON_PLACE_BYTES &&
    (all[at] === ELEMENT_VERSION || all[at] === GATHERED_VERSION) &&
    all[at + 9] === 1 &&
    all[at + 26] === NO_FIRING_FLAGS &&
    all[at + 27] === 0 &&
    all[at + 28] === 1 &&
    view.getFloat64(at + 10) === lastWindow.startMs &&
    view.getFloat64(at + 18) === lastWindow.endMs
  );
}

/** What an inbox holds: an element for the grouping, several with an array of their values, or a pane that was set aside. */
export interface InboxElement extends ShuffledElement {
  readonly form: "element" | "gathered" | "pane" | "timer";
}

export function decodeInboxElement(bytes: Uint8Array): InboxElement {
  const reader = new ByteReader(bytes, "an element of an inbox");
  const place: MutablePlace = { form: "element", timestampMs: 0, window: GLOBAL_WINDOW, pane: NO_FIRING };
  readPlace(reader, place);
  const key = readValue(reader);
  const value = place.form === "gathered" ? readValues(reader) : readValue(reader);
  reader.end();
  return { ...place, key, value };
}

function readValues(reader: ByteReader): unknown[] {
  const values: unknown[] = [];
  for (let count = reader.count(); count > 0; count--) values.push(readValue(reader));
  return values;
}

function readForm(reader: ByteReader): InboxElement["form"] {
  const version = reader.byte();
  if (version === ELEMENT_VERSION) return "element";
  if (version === GATHERED_VERSION) return "gathered";
  if (version === PANE_VERSION) return "pane";
  if (version === TIMER_VERSION) return "timer";
  return reader.fail(`version ${version} is unknown, this code reads versions up to ${GATHERED_VERSION}`);
}

export function writeWindow(out: ByteWriter, window: Window): void {
  if (window.kind === "global") out.byte(0);
  else {
    out.byte(1);
    out.double(window.startMs);
    out.double(window.endMs);
  }
}

let lastWindow: IntervalWindow = { kind: "interval", startMs: 0, endMs: 1 };

/** Neighbours mostly share a window: then they get the same object, which grouping recognises at once. */
export function readWindow(reader: ByteReader): Window {
  const kind = reader.byte();
  if (kind === 0) return GLOBAL_WINDOW;
  if (kind !== 1) return reader.fail(`window kind ${kind} is unknown`);
  const startMs = reader.double();
  const endMs = reader.double();
  if (startMs === lastWindow.startMs && endMs === lastWindow.endMs) return lastWindow;
  if (!(startMs < endMs)) reader.fail(`the window [${startMs}, ${endMs}) is none`);
  lastWindow = { kind: "interval", startMs, endMs };
  return lastWindow;
}

export function writePane(out: ByteWriter, pane: Pane): void {
  if (pane === NO_FIRING) {
    out.byte(NO_FIRING_FLAGS);
    out.byte(0);
    out.byte(1);
    return;
  }
  out.byte(TIMINGS.indexOf(pane.timing) * 4 + Number(pane.isFirst) * 2 + Number(pane.isLast));
  out.varint(pane.index);
  out.varint(pane.nonSpeculativeIndex + 1);
}

export function readPane(reader: ByteReader): Pane {
  const flags = reader.byte();
  if (flags === NO_FIRING_FLAGS && reader.skip(0, 1)) return NO_FIRING;
  const timing = TIMINGS[flags >> 2] ?? reader.fail(`pane timing ${flags >> 2} is unknown`);
  const index = reader.varint();
  const nonSpeculativeIndex = reader.varint() - 1;
  return { index, nonSpeculativeIndex, timing, isFirst: (flags & 2) !== 0, isLast: (flags & 1) !== 0 };
}
