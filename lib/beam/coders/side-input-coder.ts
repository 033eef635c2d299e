import { NO_TIMES, type RowTimes } from "../engine/rows";
import {
  type EncodedBlock,
  type ParkedElement,
  type SideInput,
  type SideInputCodec,
  timesOfView,
  type View,
} from "../engine/side-inputs";
import { ByteReader } from "./byte-reader";
import { readPane, readWindow, writePane, writeWindow } from "./element-coder";
import { stateOf } from "./state-coder";
import { readValue, withTextWriter, withWriter, writeValue } from "./value-coder";

/**
 * The state of one shard of a stage with side inputs.
 *
 *   shared  = version (1 byte), watermark (double, ms)
 *   id      = "v", window, tag for a view; "w" and the rest of that id for those who wait for it;
 *             "e", the length of the rest (varint), the rest, number of the first (varint) for a block of them
 *   view    = tag, window, values (an array)
 *   wait    = ready at (double, ms), number of the first (varint), number of the next (varint)
 *   block   = elements, the smallest of their timestamps (double, ms)
 *   element = timestamp (double, ms), window, pane, value
 */
export const SIDE_INPUT_STATE_VERSION = 7;

/** A block ends behind the element that makes it larger than this; what is released in parts is written again. */
const BLOCK_BYTES = 8 * 1024;
const HOLD_BYTES = 8;

/** Undefined for the state of a shard that has not seen a watermark. */
export function encodeSharedSides(watermarkMs: number): Buffer | undefined {
  if (watermarkMs === -Infinity) return undefined;
  return withWriter((out) => {
    out.byte(SIDE_INPUT_STATE_VERSION);
    out.double(watermarkMs);
  });
}

export function decodeSharedSides(bytes: Uint8Array | undefined, stage: string): number {
  if (bytes === undefined) return -Infinity;
  const reader = new ByteReader(bytes, stateOf(stage));
  const version = reader.byte();
  if (version !== SIDE_INPUT_STATE_VERSION) {
    reader.fail(
      `version ${version} is unknown, a stage with side inputs has version ${SIDE_INPUT_STATE_VERSION}; run the code that wrote it`,
    );
  }
  const watermarkMs = reader.double();
  if (Number.isNaN(watermarkMs)) reader.fail("the watermark is not a number");
  reader.end();
  return watermarkMs;
}

export function sideInputCodec(stage: string): SideInputCodec<string> {
  const read = <T>(row: string, decode: (reader: ByteReader) => T): T => {
    const reader = new ByteReader(Buffer.from(row, "latin1"), stateOf(stage));
    const value = decode(reader);
    reader.end();
    return value;
  };
  const decodeView = remembering((row) => read(row, readView));
  return {
    viewId: (tag, window) =>
      `v${withWriter((out) => {
        writeWindow(out, window);
        out.utf8(tag);
      }).toString("latin1")}`,
    waitId: (viewId) => `w${viewId.slice(1)}`,
    blockId: (viewId, number) =>
      `e${withWriter((out) => {
        out.varint(viewId.length - 1);
        out.bytes(Buffer.from(viewId.slice(1), "latin1"));
        out.varint(number);
      }).toString("latin1")}`,
    viewIdOfWait: (id) => (id[0] === "w" ? `v${id.slice(1)}` : undefined),
    encodeView: ({ tag, window, values }) =>
      withWriter((out) => {
        out.utf8(tag);
        writeWindow(out, window);
        writeValue(out, values, "side input");
      }).toString("latin1"),
    decodeView,
    encodeWait: ({ readyMs, first, next }) =>
      withWriter((out) => {
        out.double(readyMs);
        out.varint(first);
        out.varint(next);
      }).toString("latin1"),
    decodeWait: (row) => read(row, readWait),
    *encodeBlocks(elements) {
      for (let from = 0; from < elements.length; ) {
        const block = encodeBlock(elements, from);
        from += block.elements;
        yield block;
      }
    },
    decodeBlock: (row) => read(row, readBlock),
  };
}

/** When a stored row has something to do. */
export function timesOfSideInputRow(
  id: Uint8Array,
  row: Uint8Array,
  stage: string,
  sides: readonly SideInput[],
): RowTimes {
  const reader = new ByteReader(row, stateOf(stage));
  switch (String.fromCharCode(id[0] ?? 0)) {
    case "v":
      return timesOfView(sides, reader.utf8(), readWindow(reader));
    case "w":
      return { ...NO_TIMES, timerMs: readWait(reader).readyMs };
    case "e":
      reader.pass(row.length - HOLD_BYTES);
      return { ...NO_TIMES, holdMs: reader.double() };
    default:
      return reader.fail("a row is of no known kind");
  }
}

function readView(reader: ByteReader): View {
  const tag = reader.utf8();
  const window = readWindow(reader);
  const values = readValue(reader);
  return Array.isArray(values) ? { tag, window, values } : reader.fail("a side input is not a list");
}

function readWait(reader: ByteReader) {
  return { readyMs: reader.double(), first: reader.varint(), next: reader.varint() };
}

/** As many elements from one on as fit. */
function encodeBlock(elements: readonly ParkedElement[], from: number): EncodedBlock<string> {
  let at = from;
  let holdMs = Infinity;
  const row = withTextWriter((out) => {
    const start = out.length;
    while (at < elements.length && out.length - start < BLOCK_BYTES) {
      const { timestampMs, window, pane, value } = elements[at++]!;
      out.double(timestampMs);
      writeWindow(out, window);
      writePane(out, pane);
      writeValue(out, value);
      holdMs = Math.min(holdMs, timestampMs);
    }
    out.double(holdMs);
  });
  return { row, elements: at - from, holdMs };
}

function readBlock(reader: ByteReader): ParkedElement[] {
  const elements: ParkedElement[] = [];
  while (reader.remaining > HOLD_BYTES) {
    const timestampMs = reader.double();
    const window = readWindow(reader);
    elements.push({ timestampMs, window, pane: readPane(reader), value: readValue(reader) });
  }
  reader.double();
  return elements;
}

// Views are looked at by many elements. Their rows are in memory as well, so what is remembered is a few times that.
const REMEMBERED_VIEWS = 256;

/** Does not decode the same row twice in a row; rows are compared as strings, by identity where they are the same. */
function remembering<T>(decode: (row: string) => T): (row: string) => T {
  const known = new Map<string, T>();
  return (row) => {
    const before = known.get(row);
    if (before !== undefined) return before;
    const value = decode(row);
    if (known.size >= REMEMBERED_VIEWS) known.delete(known.keys().next().value!);
    known.set(row, value);
    return value;
  };
}
