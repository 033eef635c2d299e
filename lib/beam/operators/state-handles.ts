import type { ListCell, MapCell } from "./item-cells";
import type { BagCell, Cell, CellSpec, CombiningCell, ValueCell } from "./state-cells";

/**
 * What user code holds of a cell: the same object for all keys, that leads to the cell of the key at hand.
 *
 * @param cell the cell at hand, of the kind that was declared; throws outside of calls.
 */
export function stateHandle(kind: CellSpec["kind"], cell: () => Cell): object {
  switch (kind) {
    case "value":
      return valueHandle(cell as () => ValueCell);
    case "combining":
      return combiningHandle(cell as () => CombiningCell);
    case "bag":
      return bagHandle(cell as () => BagCell);
    case "map":
      return mapHandle(cell as () => MapCell);
    case "set":
      return setHandle(cell as () => MapCell);
    case "orderedList":
      return listHandle(cell as () => ListCell);
  }
}

function valueHandle(cell: () => ValueCell) {
  return {
    read: () => cell().read(),
    write: (value: unknown) => cell().write(value),
    clear: () => cell().clear(),
  };
}

function combiningHandle(cell: () => CombiningCell) {
  return {
    add: (input: unknown) => cell().add(input),
    read: () => cell().read(),
    isEmpty: () => cell().isEmpty,
    clear: () => cell().clear(),
  };
}

function bagHandle(cell: () => BagCell) {
  return {
    add: (value: unknown) => cell().add(value),
    read: () => cell().read(),
    isEmpty: () => cell().isEmpty,
    clear: () => cell().clear(),
  };
}

function mapHandle(cell: () => MapCell) {
  return {
    get: (key: unknown) => cell().get(key),
    has: (key: unknown) => cell().has(key),
    set: (key: unknown, value: unknown) => cell().set(key, value),
    delete: (key: unknown) => cell().delete(key),
    entries: () => cell().entries(),
    keys: () =>
      cell()
        .entries()
        .map(([key]) => key),
    values: () =>
      cell()
        .entries()
        .map(([, value]) => value),
    isEmpty: () => cell().isEmpty,
    clear: () => cell().clear(),
  };
}

function setHandle(cell: () => MapCell) {
  return {
    has: (value: unknown) => cell().has(value),
    add(value: unknown): boolean {
      const members = cell();
      const isNew = !members.has(value);
      if (isNew) members.set(value, undefined);
      return isNew;
    },
    delete: (value: unknown) => cell().delete(value),
    read: () =>
      cell()
        .entries()
        .map(([value]) => value),
    isEmpty: () => cell().isEmpty,
    clear: () => cell().clear(),
  };
}

function listHandle(cell: () => ListCell) {
  return {
    add(value: unknown, timestampMs: number): void {
      if (typeof timestampMs !== "number" || Number.isNaN(timestampMs))
        throw new TypeError("a value of an ordered list needs a timestamp in milliseconds");
      cell().add(value, timestampMs);
    },
    read: (fromMs = -Infinity, untilMs = Infinity) => cell().read(fromMs, untilMs),
    clearRange: (fromMs: number, untilMs: number) => cell().clearRange(fromMs, untilMs),
    isEmpty: () => cell().isEmpty,
    clear: () => cell().clear(),
  };
}
