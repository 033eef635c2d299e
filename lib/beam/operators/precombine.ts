import type { KeyId } from "../engine/aggregation";
import type { Pane } from "../engine/panes";
import type { Window } from "../engine/windows";
import { UnencodableValueError } from "../errors";
import type { ElementCoder } from "../graph/element-coders";
import type { Aggregate, KeyedAggregates, UserCombineFn } from "../graph/node";
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
    protected readonly code: UserCode,
    private readonly outputs: BundleOutputs,
    private readonly keyCoder?: ElementCoder,
  ) {
    this.list = outputs.list(stage);
  }

  receive(element: unknown, timestampMs: number, window: Window, pane: Pane): void {
    const { code, fn } = this;
    const { key, value } = keyedParts(element, code);
    const cell = this.cell(key, element, timestampMs, window, pane);
    try {
      cell.accumulator = fn.addInput(cell.accumulator, value);
    } catch (error) {
      throw code.failure(error, value);
    }
  }

  /** Where an element comes in. */
  protected cell(given: unknown, element: unknown, timestampMs: number, window: Window, pane: Pane): Cell {
    const { code } = this;
    const key = toPlain(this.keyCoder, given, code, element);
    const id = keyIdOf(key, element, code);
    const cell = this.tables.get(id, window) ?? this.open(id, key, element, timestampMs, window, pane);
    cell.elements++;
    if (timestampMs < cell.timestampMs) cell.timestampMs = timestampMs;
    return cell;
  }

  finish(): void {
    this.outputs.pendingBytes -= this.tables.size * CELL_BYTES;
    for (const cell of this.tables.take()) this.send(cell);
  }

  private open(
    id: KeyId,
    key: unknown,
    element: unknown,
    timestampMs: number,
    window: Window,
    pane: Pane,
  ): Cell {
    if (this.tables.size === PRECOMBINED_KEYS) this.finish();
    const accumulator = guarded(this.code, element, () => this.fn.createAccumulator());
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

/** The same in one with the transform before it, which would make a pair of each element: no pairs are made. */
export class KeyedPrecombineOperator extends PrecombineOperator {
  constructor(
    private readonly keyed: KeyedAggregates,
    /** Of the transform before. */
    private readonly pairing: UserCode,
    ...combine: [stage: string, code: UserCode, outputs: BundleOutputs]
  ) {
    super(keyed.combineFn, ...combine);
  }

  override receive(element: unknown, timestampMs: number, window: Window, pane: Pane): void {
    let key: unknown;
    try {
      key = this.keyed.keyOf(element);
    } catch (error) {
      throw this.pairing.failure(error, element);
    }
    const { accumulator } = this.cell(key, element, timestampMs, window, pane);
    this.add(accumulator as unknown[], element);
  }

  private add(accumulators: unknown[], element: unknown): void {
    const { aggregates } = this.keyed;
    for (let i = 0; i < aggregates.length; i++) {
      const { inputOf, fn } = aggregates[i]!;
      const input = this.input(inputOf, element);
      try {
        accumulators[i] = fn.addInput(accumulators[i], input);
      } catch (error) {
        throw this.code.failure(error, input);
      }
    }
  }

  private input(inputOf: Aggregate["inputOf"], element: unknown): unknown {
    try {
      return inputOf(element);
    } catch (error) {
      throw this.pairing.failure(error, element);
    }
  }
}
