import {
  NO_SIDE_INPUTS,
  type Parked,
  type ParkedElement,
  type SideInputState,
  type View,
  viewName,
} from "../engine/side-inputs";
import { ByteReader } from "./byte-reader";
import { readPane, readWindow, writePane, writeWindow } from "./element-coder";
import { readValue, withWriter, writeValue } from "./value-coder";

/**
 * The state of one shard of a stage with side inputs.
 *
 *   state   = version (1 byte), watermark (double, ms), number of views (varint), views,
 *             number of waits (varint), waits
 *   view    = tag, window, values (an array)
 *   wait    = name of the view, ready at (double, ms), number of elements (varint), elements
 *   element = timestamp (double, ms), window, pane, value
 */
export const SIDE_INPUT_STATE_VERSION = 3;

/** Undefined for the state of a shard that has seen neither an element nor a watermark. */
export function encodeSideInputState({ watermarkMs, views, parked }: SideInputState): Buffer | undefined {
  if (watermarkMs === -Infinity && views.size === 0 && parked.size === 0) return undefined;
  return withWriter((out) => {
    out.byte(SIDE_INPUT_STATE_VERSION);
    out.double(watermarkMs);
    out.varint(views.size);
    for (const { tag, window, values } of views.values()) {
      out.utf8(tag);
      writeWindow(out, window);
      writeValue(out, values, "side input");
    }
    out.varint(parked.size);
    for (const [name, { readyMs, elements }] of parked) {
      out.utf8(name);
      out.double(readyMs);
      out.varint(elements.length);
      for (const element of elements) {
        out.double(element.timestampMs);
        writeWindow(out, element.window);
        writePane(out, element.pane);
        writeValue(out, element.value);
      }
    }
  });
}

export function decodeSideInputState(bytes: Uint8Array | undefined, stage: string): SideInputState {
  if (bytes === undefined) return NO_SIDE_INPUTS;
  const reader = new ByteReader(bytes, `the state of stage "${stage}"`);
  const version = reader.byte();
  if (version !== SIDE_INPUT_STATE_VERSION) {
    reader.fail(
      `version ${version} is unknown, a stage with side inputs has version ${SIDE_INPUT_STATE_VERSION}; run the code that wrote it`,
    );
  }
  const watermarkMs = reader.double();
  if (Number.isNaN(watermarkMs)) reader.fail("the watermark is not a number");
  const views = new Map<string, View>();
  for (let count = reader.count(3); count > 0; count--) {
    const tag = reader.utf8();
    const window = readWindow(reader);
    const values = readValue(reader);
    if (!Array.isArray(values)) return reader.fail("a side input is not a list");
    views.set(viewName(tag, window), { tag, window, values });
  }
  const parked = new Map<string, Parked>();
  for (let count = reader.count(10); count > 0; count--) {
    const name = reader.utf8();
    const readyMs = reader.double();
    parked.set(name, {
      readyMs,
      elements: Array.from({ length: reader.count(12) }, () => readParked(reader)),
    });
  }
  reader.end();
  return { watermarkMs, views, parked };
}

function readParked(reader: ByteReader): ParkedElement {
  const timestampMs = reader.double();
  const window = readWindow(reader);
  return { timestampMs, window, pane: readPane(reader), value: readValue(reader) };
}
