import { ByteWriter, copyBytes } from "../coders/byte-writer";
import type { EncodedParts } from "../coders/element-coder";
import { writeValue } from "../coders/value-coder";
import type { KeyId } from "../engine/aggregation";
import type { Window } from "../engine/windows";
import type { GroupingCoders } from "../graph/element-coders";
import type { Operator } from "./elementwise";
import type { OutputList } from "./output-list";
import { type BundleOutputs, keyedParts, keyIdOf, sizeOf, toPlain } from "./outputs";
import type { UserCode } from "./user-code";
import { WindowTables } from "./window-tables";

/** Above this many bytes of values they are sent, so that no element of the shuffle grows far beyond it. */
export const GATHERED_BYTES = 64 * 1024;

/** What a key that waits adds to a bundle beside itself, roughly, for cutting it. */
const CELL_BYTES = 64;

/** The values of a key and window, which lie in the log. */
class Cell implements EncodedParts {
  count = 0;
  /** Of its values. */
  bytes = 0;
  private last: number;

  constructor(
    readonly key: unknown,
    readonly window: Window,
    public timestampMs: number,
    private readonly log: ValueLog,
    private readonly first: number,
  ) {
    this.last = first;
  }

  add(place: number, bytes: number, timestampMs: number): void {
    if (this.last !== place) this.log.link(this.last, place);
    this.last = place;
    this.count++;
    this.bytes += bytes;
    if (timestampMs < this.timestampMs) this.timestampMs = timestampMs;
  }

  writeTo(out: ByteWriter): void {
    this.log.copyChain(this.first, this.bytes, out);
  }
}

/**
 * The end of a stage before a GroupByKey whose windows give one pane at their end: the values of a key and window come
 * together within the bundle and go through the shuffle as one element, in their order. Of the elements' own times only
 * the earliest is of use, since it is what holds the watermark on the way.
 */
export class GatherOperator implements Operator {
  private readonly tables = new WindowTables<Cell>();
  private readonly list: OutputList;
  private log: ValueLog | undefined;
  private ofKeys = 0;

  constructor(
    stage: string,
    private readonly code: UserCode,
    private readonly outputs: BundleOutputs,
    private readonly coders: GroupingCoders | undefined,
  ) {
    this.list = outputs.list(stage);
  }

  receive(element: unknown, timestampMs: number, window: Window): void {
    const { code, coders, outputs } = this;
    let { key, value } = keyedParts(element, code);
    if (coders !== undefined) {
      key = toPlain(coders.key, key, code, element);
      value = toPlain(coders.value, value, code, element);
    }
    const id = keyIdOf(key, element, code);
    this.log ??= takeLog();
    const { log } = this;
    const before = log.length;
    let place: number;
    try {
      place = log.add(value);
    } catch (error) {
      throw code.unencodable(error, element);
    }
    const { length } = log;
    const cell = this.tables.get(id, window) ?? this.open(id, key, timestampMs, window, place);
    cell.add(place, length - before, timestampMs);
    outputs.pendingBytes += length - before;
    if (length > GATHERED_BYTES) this.finish();
  }

  finish(): void {
    const { log, list } = this;
    if (log === undefined) return;
    this.outputs.pendingBytes -= this.ofKeys + log.length;
    this.ofKeys = 0;
    for (const cell of this.tables.take()) {
      try {
        list.addGathered(cell.key, cell.timestampMs, cell.window, cell.count, cell);
      } catch (error) {
        throw this.code.unencodable(error, { key: cell.key });
      }
    }
    giveBack(log);
    this.log = undefined;
  }

  private open(id: KeyId, key: unknown, timestampMs: number, window: Window, place: number): Cell {
    const cell = new Cell(key, window, timestampMs, this.log!, place);
    this.tables.add(id, cell);
    const bytes = CELL_BYTES + sizeOf(key);
    this.ofKeys += bytes;
    this.outputs.pendingBytes += bytes;
    return cell;
  }
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
  copyChain(first: number, bytes: number, out: ByteWriter): void {
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
