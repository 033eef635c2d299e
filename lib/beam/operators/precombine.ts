import type { KeyId } from "../engine/aggregation";
import type { Pane } from "../engine/panes";
import type { Window } from "../engine/windows";
import { UnencodableValueError } from "../errors";
import type { ElementCoder } from "../graph/element-coders";
import type { UserCombineFn } from "../graph/node";
import { guarded, type Lifted } from "./accumulation";
import type { Operator } from "./elementwise";
import type { OutputList } from "./output-list";
import { type BundleOutputs, keyedParts, keyIdOf, toPlain } from "./outputs";
import type { UserCode } from "./user-code";
import { WindowTables } from "./window-tables";

/** Keys of one window that a bundle combines at a time; beyond that it sends them on and begins anew. */
export const PRECOMBINED_KEYS = 65_536;

/** What an accumulator that waits adds to a bundle, roughly, for cutting it. */
const CELL_BYTES = 64;

interface Cell {
  readonly key: unknown;
  readonly window: Window;
  readonly pane: Pane;
  timestampMs: number;
  elements: number;
  accumulator: unknown;
}

/**
 * The end of a stage before a lifted combine: values come together in a table of this bundle, and accumulators go
 * through the shuffle. The time of an accumulator is that of its earliest element, so that none is held back less.
 * Beam model: `CombinePerKeyPrecombine`.
 */
export class PrecombineOperator implements Operator {
  private readonly tables = new WindowTables<Cell>();
  private readonly list: OutputList;

  constructor(
    private readonly fn: UserCombineFn,
    stage: string,
    private readonly code: UserCode,
    private readonly outputs: BundleOutputs,
    private readonly keyCoder?: ElementCoder,
  ) {
    this.list = outputs.list(stage);
  }

  receive(element: unknown, timestampMs: number, window: Window, pane: Pane): void {
    const { code, fn } = this;
    const { key: given, value } = keyedParts(element, code);
    const key = toPlain(this.keyCoder, given, code, element);
    const id = keyIdOf(key, element, code);
    const cell = this.tables.get(id, window) ?? this.open(id, key, value, timestampMs, window, pane);
    cell.elements++;
    if (timestampMs < cell.timestampMs) cell.timestampMs = timestampMs;
    try {
      cell.accumulator = fn.addInput(cell.accumulator, value);
    } catch (error) {
      throw code.failure(error, value);
    }
  }

  finish(): void {
    this.outputs.pendingBytes -= this.tables.size * CELL_BYTES;
    for (const cell of this.tables.take()) this.send(cell);
  }

  private open(
    id: KeyId,
    key: unknown,
    value: unknown,
    timestampMs: number,
    window: Window,
    pane: Pane,
  ): Cell {
    if (this.tables.size === PRECOMBINED_KEYS) this.finish();
    const accumulator = guarded(this.code, value, () => this.fn.createAccumulator());
    const cell = { key, window, pane, timestampMs, elements: 0, accumulator };
    this.tables.add(id, cell);
    this.outputs.pendingBytes += CELL_BYTES;
    return cell;
  }

  private send({ key, window, pane, timestampMs, elements, accumulator }: Cell): void {
    const value: Lifted = [elements, accumulator];
    try {
      this.list.addKeyed(key, value, timestampMs, window, pane);
    } catch (error) {
      if (!(error instanceof UnencodableValueError)) throw error;
      throw this.code.refusal(error.message.replace(/^value\[1\]/, "the accumulator"), { key });
    }
  }
}
