import { ByteWriter, copyBytes } from "../coders/byte-writer";
import { writeValue } from "../coders/value-coder";
import type { KeyId } from "../engine/aggregation";
import type { Window } from "../engine/windows";
import type { GroupingCoders } from "../graph/element-coders";
import type { Operator } from "./elementwise";
import { type BundleOutputs, keyedParts, keyIdOf, sizeOf, toPlain } from "./outputs";
import type { UserCode } from "./user-code";
import { WindowTables } from "./window-tables";

/** Above this many bytes of values they are sent, so that no element of the shuffle grows far beyond it. */
export const GATHERED_BYTES = 64 * 1024;

/** What a key that waits adds to a bundle beside itself, roughly, for cutting it. */
const CELL_BYTES = 64;

interface Cell {
  readonly key: unknown;
  readonly window: Window;
  timestampMs: number;
  count: number;
  /** Of its values, which the log has. */
  bytes: number;
  readonly first: number;
  last: number;
}

/**
 * The end of a stage before a GroupByKey whose windows give one pane at their end: the values of a key and window come
 * together within the bundle and go through the shuffle as one element, in their order. Of the elements' own times only
 * the earliest is of use, since it is what holds the watermark on the way.
 */
export function gatherOperator(
  stage: string,
  code: UserCode,
  outputs: BundleOutputs,
  coders: GroupingCoders | undefined,
): Operator {
  const tables = new WindowTables<Cell>();
  const list = outputs.list(stage);
  let log: ValueLog | undefined;
  let ofKeys = 0;
  const flush = (): void => {
    if (log === undefined) return;
    outputs.pendingBytes -= ofKeys + log.length;
    ofKeys = 0;
    for (const cell of tables.take()) {
      try {
        const { key, timestampMs, window, count, first, bytes } = cell;
        list.addGathered(key, timestampMs, window, count, log.chainFrom(first, bytes));
      } catch (error) {
        throw code.unencodable(error, { key: cell.key });
      }
    }
    giveBack(log);
    log = undefined;
  };
  const open = (id: KeyId, key: unknown, timestampMs: number, window: Window, at: number): Cell => {
    const cell = { key, window, timestampMs, count: 0, bytes: 0, first: at, last: at };
    tables.add(id, cell);
    const bytes = CELL_BYTES + sizeOf(key);
    ofKeys += bytes;
    outputs.pendingBytes += bytes;
    return cell;
  };
  return {
    receive(element, timestampMs, window) {
      let { key, value } = keyedParts(element, code);
      if (coders !== undefined) {
        key = toPlain(coders.key, key, code, element);
        value = toPlain(coders.value, value, code, element);
      }
      const id = keyIdOf(key, element, code);
      log ??= takeLog();
      const before = log.length;
      let at: number;
      try {
        at = log.add(value);
      } catch (error) {
        throw code.unencodable(error, element);
      }
      const { length } = log;
      const cell = tables.get(id, window) ?? open(id, key, timestampMs, window, at);
      if (cell.last !== at) log.link(cell.last, at);
      cell.last = at;
      cell.count++;
      cell.bytes += length - before;
      if (timestampMs < cell.timestampMs) cell.timestampMs = timestampMs;
      outputs.pendingBytes += length - before;
      if (length > GATHERED_BYTES) flush();
    },
    finish: flush,
  };
}

const FIRST_COUNT = 1024;
const NONE = -1;

/** Encoded values in the order in which they came, and for each where the next one of its key is. */
class ValueLog {
  private readonly out = new ByteWriter();
  private ends = new Int32Array(FIRST_COUNT);
  private next = new Int32Array(FIRST_COUNT);
  private count = 0;

  /** Of all values, in bytes. */
  get length(): number {
    return this.out.length;
  }

  /** The place of a value, which is the last one of its key so far. @throws UnencodableValueError, with nothing added. */
  add(value: unknown): number {
    const { out, count } = this;
    const start = out.length;
    try {
      writeValue(out, value);
    } catch (error) {
      out.truncate(start);
      throw error;
    }
    if (count === this.ends.length) this.grow();
    this.ends[count] = out.length;
    this.next[count] = NONE;
    this.count = count + 1;
    return count;
  }

  link(place: number, next: number): void {
    this.next[place] = next;
  }

  /** Writes a value and all that are linked to it, together so many bytes. */
  chainFrom(first: number, bytes: number): (out: ByteWriter) => void {
    return (out) => {
      const { ends, next } = this;
      const source = this.out.all;
      let to = out.claim(bytes);
      const target = out.all;
      for (let at = first; at !== NONE; at = next[at]!) {
        const from = at === 0 ? 0 : ends[at - 1]!;
        const end = ends[at]!;
        copyBytes(source, from, end, target, to);
        to += end - from;
      }
    };
  }

  clear(): void {
    this.out.truncate(0);
    this.count = 0;
  }

  private grow(): void {
    this.ends = twice(this.ends);
    this.next = twice(this.next);
  }
}

function twice(numbers: Int32Array): Int32Array<ArrayBuffer> {
  const larger = new Int32Array(2 * numbers.length);
  larger.set(numbers);
  return larger;
}

/** New memory costs more than what is written to it, so a log is used by one bundle after the other. */
let spare: ValueLog | undefined;

function takeLog(): ValueLog {
  const log = spare ?? new ValueLog();
  spare = undefined;
  return log;
}

function giveBack(log: ValueLog): void {
  // A very large value is not kept room for.
  if (log.length > 2 * GATHERED_BYTES) return;
  log.clear();
  spare = log;
}
