import { NO_FIRING, type Pane } from "../engine/panes";
import { GLOBAL_WINDOW, type IntervalWindow, type Window } from "../engine/windows";
import { ByteReader } from "./byte-reader";
import type { ByteWriter } from "./byte-writer";
import { hasCanonicalEncoding, keyHash, murmur3 } from "./key";
import { readValue, withWriter, writeValue } from "./value-coder";

/**
 * An element between two stages: a key and a value with time, window and pane.
 *
 *   element = version (1 byte), timestamp (double, ms), window, pane, key, value
 *   window  = 0 | 1, start (double, ms), end (double, ms)
 *   pane    = timing * 4 + isFirst * 2 + isLast (1 byte), index (varint), non-speculative index (varint, from -1)
 */
export const ELEMENT_VERSION = 1;
/** The same with the value of a pane, and with its accumulator: what comes back from dead-letter. */
const PANE_VERSION = 0x81;
const TIMER_VERSION = 0xc1;

/** The flags of `NO_FIRING`: UNKNOWN, first and last. */
const NO_FIRING_FLAGS = 15;

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

/** The same with the hash of its key, which most often needs no encoding of its own. */
export function encodeKeyed(element: ShuffledElement): { readonly bytes: Buffer; readonly keyHash: number } {
  const { key } = element;
  const isCanonical = hasCanonicalEncoding(key);
  let hash = isCanonical ? 0 : keyHash(key);
  const bytes = withWriter((out) => {
    writePlace(out, ELEMENT_VERSION, element);
    const start = out.length;
    writeValue(out, key, "key");
    if (isCanonical) hash = out.digest(start, murmur3);
    writeValue(out, element.value);
  });
  return { bytes, keyHash: hash };
}

/** A pane on its way back: with its value, or with the accumulator that the value is still to be extracted from. */
export function encodeReplay(form: "pane" | "timer", element: ShuffledElement): Buffer {
  return encodeAs(form === "pane" ? PANE_VERSION : TIMER_VERSION, element);
}

function encodeAs(version: number, element: ShuffledElement): Buffer {
  return withWriter((out) => {
    writePlace(out, version, element);
    writeValue(out, element.key, "key");
    writeValue(out, element.value);
  });
}

function writePlace(
  out: ByteWriter,
  version: number,
  { timestampMs, window, pane }: Omit<ShuffledElement, "key" | "value">,
): void {
  out.byte(version);
  out.double(timestampMs);
  writeWindow(out, window);
  writePane(out, pane);
}

/** What an inbox holds: an element for the grouping, or a pane that was set aside. */
export interface InboxElement extends ShuffledElement {
  readonly form: "element" | "pane" | "timer";
}

export function decodeInboxElement(bytes: Uint8Array): InboxElement {
  const reader = new ByteReader(bytes, "an element of an inbox");
  const element = {
    form: formOf(reader),
    timestampMs: reader.double(),
    window: readWindow(reader),
    pane: readPane(reader),
    key: readValue(reader),
    value: readValue(reader),
  };
  reader.end();
  return element;
}

function formOf(reader: ByteReader): InboxElement["form"] {
  const version = reader.byte();
  if (version === PANE_VERSION) return "pane";
  if (version === TIMER_VERSION) return "timer";
  if (version === ELEMENT_VERSION) return "element";
  return reader.fail(`version ${version} is unknown, this code reads version ${ELEMENT_VERSION}`);
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
