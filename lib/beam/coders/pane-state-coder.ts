import type { OpenCell } from "../engine/open-cell";
import type { LastPane, PaneCell, PaneCodec } from "../engine/pane-cell";
import { type PanePlan, timesOfCells } from "../engine/pane-plan";
import type { RowTimes } from "../engine/rows";
import type { OpenTriggerState, TriggerState } from "../engine/trigger-machine";
import { ByteReader } from "./byte-reader";
import type { ByteWriter } from "./byte-writer";
import { readWindow, writeWindow } from "./element-coder";
import { PLAIN_ACCUMULATORS, readKey, type StoredRow, stateOf, writeKey } from "./state-coder";
import { canonicalText, withTextWriter, withWriter } from "./value-coder";

/**
 * The state of one shard of an aggregate stage whose windows may give several panes.
 *
 *   shared  = version (1 byte), watermark (double, ms), processing time (double, ms; NaN for none),
 *             size of the trigger's tree (varint)
 *   id      = key (canonical)
 *   row     = key (see `writeKey`), number of cells (varint), cells, accumulators of those that have one
 *   cell    = window, flags (1 byte), [element hold (double, ms)],
 *             [trigger: time it was asked last (double, ms; NaN for none), for each part 0 | 1 for finished
 *              + 2 for a value (1 byte), [value (double)]],
 *             [pane: timing (1 byte), index (varint), non-speculative panes (varint)]
 */
export const PANE_STATE_VERSION = 4;

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

/** What the keys of a shard have in common. */
export interface SharedPanes {
  readonly watermarkMs: number;
  readonly nowMs: number | undefined;
}

/** Undefined for a shard that has seen neither an element nor a time. */
export function encodeSharedPanes(
  { watermarkMs, nowMs }: SharedPanes,
  triggerSize: number,
): Buffer | undefined {
  if (watermarkMs === -Infinity && nowMs === undefined) return undefined;
  return withWriter((out) => {
    out.byte(PANE_STATE_VERSION);
    out.double(watermarkMs);
    out.double(nowMs ?? NaN);
    out.varint(triggerSize);
  });
}

export function decodeSharedPanes(
  bytes: Uint8Array | undefined,
  stage: string,
  triggerSize: number,
): SharedPanes {
  if (bytes === undefined) return { watermarkMs: -Infinity, nowMs: undefined };
  const reader = new ByteReader(bytes, stateOf(stage));
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
  reader.end();
  return { watermarkMs, nowMs: Number.isNaN(nowMs) ? undefined : nowMs };
}

export function paneCodec(
  stage: string,
  triggerSize: number,
  accumulators = PLAIN_ACCUMULATORS,
): PaneCodec<StoredRow> {
  return {
    id: canonicalText,
    encode: (id, key, cells) =>
      withTextWriter((out) => {
        writeCells(out, key, cells);
        for (const { filled, accumulator } of cells) if (filled) accumulators.write(out, accumulator, id);
      }),
    decode(id, row) {
      const reader = new ByteReader(Buffer.from(row as string, "latin1"), stateOf(stage));
      const key = readKey(reader, new ByteReader(Buffer.from(id, "latin1"), stateOf(stage)));
      const cells = readCells(reader, triggerSize);
      for (const cell of cells) if (cell.filled) cell.accumulator = accumulators.read(reader, id);
      reader.end();
      return { key, cells };
    },
  };
}

/** When a stored row has something to do; its accumulators are not read. */
export function timesOfPaneRow(id: Uint8Array, row: Uint8Array, stage: string, plan: PanePlan): RowTimes {
  const reader = new ByteReader(row, stateOf(stage));
  readKey(reader, new ByteReader(id, stateOf(stage)));
  return timesOfCells(readCells(reader, plan.trigger.size), plan);
}

function writeCells(out: ByteWriter, key: unknown, cells: readonly PaneCell[]): void {
  writeKey(out, key);
  out.varint(cells.length);
  for (const cell of cells) writeCell(out, cell);
}

function readCells(reader: ByteReader, triggerSize: number): OpenCell[] {
  return Array.from({ length: reader.count(2) }, () => readCell(reader, triggerSize));
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
  if (trigger !== undefined) writeTrigger(out, trigger);
  if (pane === undefined) return;
  out.byte(TIMINGS.indexOf(pane.timing));
  out.varint(pane.index);
  out.varint(pane.spoken);
}

function readCell(reader: ByteReader, triggerSize: number): OpenCell {
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
    accumulator: undefined,
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

function readTrigger(reader: ByteReader, size: number): OpenTriggerState {
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
