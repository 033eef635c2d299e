import type { KeyId } from "../engine/aggregation";
import type { Pane } from "../engine/panes";
import type { Window } from "../engine/windows";
import { UnencodableValueError } from "../errors";
import type { ElementCoder } from "../graph/element-coders";
import type { UserCombineFn } from "../graph/node";
import { guarded, type Lifted } from "./accumulation";
import type { Operator } from "./elementwise";
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
export function precombineOperator(
  fn: UserCombineFn,
  stage: string,
  code: UserCode,
  outputs: BundleOutputs,
  keyCoder?: ElementCoder,
): Operator {
  const tables = new WindowTables<Cell>();
  const list = outputs.list(stage);
  const send = ({ key, window, pane, timestampMs, elements, accumulator }: Cell): void => {
    const value: Lifted = [elements, accumulator];
    try {
      list.addKeyed(key, value, timestampMs, window, pane);
    } catch (error) {
      if (!(error instanceof UnencodableValueError)) throw error;
      throw code.refusal(error.message.replace(/^value\[1\]/, "the accumulator"), { key });
    }
  };
  const flush = (): void => {
    outputs.pendingBytes -= tables.size * CELL_BYTES;
    for (const cell of tables.take()) send(cell);
  };
  const open = (id: KeyId, key: unknown, value: unknown, ...[timestampMs, window, pane]: Place): Cell => {
    if (tables.size === PRECOMBINED_KEYS) flush();
    const accumulator = guarded(code, value, () => fn.createAccumulator());
    const cell = { key, window, pane, timestampMs, elements: 0, accumulator };
    tables.add(id, cell);
    outputs.pendingBytes += CELL_BYTES;
    return cell;
  };
  return {
    receive(element, timestampMs, window, pane) {
      const { key: given, value } = keyedParts(element, code);
      const key = toPlain(keyCoder, given, code, element);
      const id = keyIdOf(key, element, code);
      const cell = tables.get(id, window) ?? open(id, key, value, timestampMs, window, pane);
      cell.elements++;
      if (timestampMs < cell.timestampMs) cell.timestampMs = timestampMs;
      try {
        cell.accumulator = fn.addInput(cell.accumulator, value);
      } catch (error) {
        throw code.failure(error, value);
      }
    },
    finish: flush,
  };
}

type Place = [timestampMs: number, window: Window, pane: Pane];
