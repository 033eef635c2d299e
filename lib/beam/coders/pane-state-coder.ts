import { LayeredMap } from "../engine/layered-map";
import { EMPTY_PANES } from "../engine/pane-aggregation";
import type { LastPane, PaneCell, PaneKey, PaneState } from "../engine/pane-cell";
import type { TriggerState } from "../engine/trigger-machine";
import { ByteReader } from "./byte-reader";
import type { ByteWriter } from "./byte-writer";
import { readWindow, writeWindow } from "./element-coder";
import { keyId } from "./key";
import { readValue, withWriter, writeValue } from "./value-coder";

/**
 * The state of one shard of an aggregate stage whose windows may give several panes.
 *
 *   state   = version (1 byte), watermark (double, ms), processing time (double, ms; NaN for none),
 *             size of the trigger's tree (varint), number of keys (varint), keys
 *   key     = key (value), number of cells (varint), cells
 *   cell    = window, flags (1 byte), [element hold (double, ms)], [accumulator (value)],
 *             [trigger: time it was asked last (double, ms; NaN for none), for each part 0 | 1 for finished
 *              + 2 for a value (1 byte), [value (double)]],
 *             [pane: timing (1 byte), index (varint), non-speculative panes (varint)]
 */
export const PANE_STATE_VERSION = 2;

const Flag = {
  closed: 1,
  ended: 2,
  filled: 4,
  pending: 8,
  held: 16,
  endHeld: 32,
  trigger: 64,
  pane: 128,
} as const;

const TIMINGS = ["EARLY", "ON_TIME", "LATE", "UNKNOWN"] as const;

/** Undefined for the state of a shard that has seen neither an element nor a time. */
export function encodePaneState(state: PaneState, triggerSize: number): Buffer | undefined {
  const { watermarkMs, nowMs, keys } = state;
  if (keys.size === 0 && watermarkMs === -Infinity && nowMs === undefined) return undefined;
  return withWriter((out) => {
    out.byte(PANE_STATE_VERSION);
    out.double(watermarkMs);
    out.double(nowMs ?? NaN);
    out.varint(triggerSize);
    out.varint(keys.size);
    for (const [, { key, cells }] of keys.entries()) {
      writeValue(out, key, "key");
      out.varint(cells.length);
      for (const cell of cells) writeCell(out, cell);
    }
  });
}

export function decodePaneState(
  bytes: Uint8Array | undefined,
  stage: string,
  triggerSize: number,
): PaneState {
  if (bytes === undefined) return EMPTY_PANES;
  const reader = new ByteReader(bytes, `the state of stage "${stage}"`);
  const version = reader.byte();
  if (version !== PANE_STATE_VERSION) {
    reader.fail(
      `version ${version} is unknown, this windowing has version ${PANE_STATE_VERSION}; run the code that wrote it`,
    );
  }
  const watermarkMs = reader.double();
  if (Number.isNaN(watermarkMs)) reader.fail("the watermark is not a number");
  const nowMs = reader.double();
  const size = reader.varint();
  if (size !== triggerSize) reader.fail(`its trigger has ${size} parts, this code's has ${triggerSize}`);
  const keys: [string, PaneKey][] = [];
  for (let count = reader.count(2); count > 0; count--) {
    const key = readValue(reader);
    const cells = Array.from({ length: reader.count(2) }, () => readCell(reader, triggerSize));
    keys.push([keyId(key), { key, cells }]);
  }
  reader.end();
  return { watermarkMs, nowMs: Number.isNaN(nowMs) ? undefined : nowMs, keys: LayeredMap.of(keys) };
}

function writeCell(out: ByteWriter, cell: PaneCell): void {
  const { elementHoldMs, trigger, pane } = cell;
  writeWindow(out, cell.window);
  out.byte(
    (cell.closed ? Flag.closed : 0) |
      (cell.ended ? Flag.ended : 0) |
      (cell.filled ? Flag.filled : 0) |
      (cell.pending ? Flag.pending : 0) |
      (elementHoldMs === undefined ? 0 : Flag.held) |
      (cell.endHeld ? Flag.endHeld : 0) |
      (trigger === undefined ? 0 : Flag.trigger) |
      (pane === undefined ? 0 : Flag.pane),
  );
  if (elementHoldMs !== undefined) out.double(elementHoldMs);
  if (cell.filled) writeValue(out, cell.accumulator, "accumulator");
  if (trigger !== undefined) writeTrigger(out, trigger);
  if (pane === undefined) return;
  out.byte(TIMINGS.indexOf(pane.timing));
  out.varint(pane.index);
  out.varint(pane.spoken);
}

function readCell(reader: ByteReader, triggerSize: number): PaneCell {
  const window = readWindow(reader);
  const flags = reader.byte();
  const has = (flag: number) => (flags & flag) !== 0;
  return {
    window,
    closed: has(Flag.closed),
    ended: has(Flag.ended),
    filled: has(Flag.filled),
    pending: has(Flag.pending),
    endHeld: has(Flag.endHeld),
    elementHoldMs: has(Flag.held) ? reader.double() : undefined,
    accumulator: has(Flag.filled) ? readValue(reader) : undefined,
    trigger: has(Flag.trigger) ? readTrigger(reader, triggerSize) : undefined,
    pane: has(Flag.pane) ? readPane(reader) : undefined,
  };
}

function writeTrigger(out: ByteWriter, { finished, values, askedMs }: TriggerState): void {
  out.double(askedMs ?? NaN);
  finished.forEach((done, i) => {
    const value = values[i];
    out.byte(Number(done) + (value === undefined ? 0 : 2));
    if (value !== undefined) out.double(value);
  });
}

function readTrigger(reader: ByteReader, size: number): TriggerState {
  const askedMs = reader.double();
  const finished: boolean[] = [];
  const values: (number | undefined)[] = [];
  for (let i = 0; i < size; i++) {
    const flags = reader.byte();
    finished.push((flags & 1) !== 0);
    values.push((flags & 2) !== 0 ? reader.double() : undefined);
  }
  return { finished, values, askedMs: Number.isNaN(askedMs) ? undefined : askedMs };
}

function readPane(reader: ByteReader): LastPane {
  const timing = TIMINGS[reader.byte()] ?? reader.fail("a pane's timing is unknown");
  return { timing, index: reader.varint(), spoken: reader.varint() };
}
