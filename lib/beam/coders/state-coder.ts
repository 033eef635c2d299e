import { type AggregateState, type Cell, EMPTY_AGGREGATE, type WindowState } from "../engine/aggregation";
import { LayeredMap } from "../engine/layered-map";
import { windowName } from "../engine/windows";
import { ByteReader } from "./byte-reader";
import { readWindow, writeWindow } from "./element-coder";
import { keyId } from "./key";
import { readValue, withWriter, writeValue } from "./value-coder";

/**
 * The state of one shard of an aggregate stage.
 *
 *   state  = version (1 byte), watermark (double, ms), number of windows (varint), windows
 *   window = window, number of cells (varint), cells (key, accumulator) in the order in which keys came
 */
export const STATE_VERSION = 1;

/** Undefined for the state of a shard that has seen neither an element nor a watermark. */
export function encodeState(state: AggregateState): Buffer | undefined {
  if (state.windows.size === 0 && state.watermarkMs === -Infinity) return undefined;
  return withWriter((out) => {
    out.byte(STATE_VERSION);
    out.double(state.watermarkMs);
    out.varint(state.windows.size);
    for (const { window, cells } of state.windows.values()) {
      writeWindow(out, window);
      out.varint(cells.size);
      for (const [, cell] of cells.entries()) {
        writeValue(out, cell.key, "key");
        writeValue(out, cell.accumulator, "accumulator");
      }
    }
  });
}

export function decodeState(bytes: Uint8Array | undefined, stage: string): AggregateState {
  if (bytes === undefined) return EMPTY_AGGREGATE;
  const reader = new ByteReader(bytes, `the state of stage "${stage}"`);
  const version = reader.byte();
  if (version !== STATE_VERSION) {
    reader.fail(
      `version ${version} is unknown, this code reads version ${STATE_VERSION}; run the code that wrote it`,
    );
  }
  const watermarkMs = reader.double();
  if (Number.isNaN(watermarkMs)) reader.fail("the watermark is not a number");
  const windows = new Map<string, WindowState>();
  for (let count = reader.count(3); count > 0; count--) {
    const window = readWindow(reader);
    windows.set(windowName(window), { window, cells: readCells(reader) });
  }
  reader.end();
  return { watermarkMs, windows };
}

function readCells(reader: ByteReader): LayeredMap<Cell> {
  const cells: [string, Cell][] = [];
  for (let count = reader.count(2); count > 0; count--) {
    const key = readValue(reader);
    cells.push([keyId(key), { key, accumulator: readValue(reader) }]);
  }
  return LayeredMap.of(cells);
}
