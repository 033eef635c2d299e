import type { KeyId } from "../engine/aggregation";
import { type Window, windowName } from "../engine/windows";

/** What a bundle keeps of keys, by window and key. Most elements are in the window of the one before, as the same object. */
export class WindowTables<C extends { readonly window: Window }> {
  size = 0;
  private byName = new Map<string, Map<KeyId, C>>();
  private byWindow = new Map<Window, Map<KeyId, C>>();
  private lastWindow: Window | undefined;
  private last = new Map<KeyId, C>();

  get(id: KeyId, window: Window): C | undefined {
    return this.table(window).get(id);
  }

  add(id: KeyId, cell: C): void {
    this.table(cell.window).set(id, cell);
    this.size++;
  }

  /** All cells, which are forgotten here. */
  take(): C[] {
    const cells: C[] = [];
    for (const table of this.byName.values()) for (const cell of table.values()) cells.push(cell);
    this.byName = new Map();
    this.byWindow = new Map();
    this.lastWindow = undefined;
    this.size = 0;
    return cells;
  }

  private table(window: Window): Map<KeyId, C> {
    if (window === this.lastWindow) return this.last;
    this.lastWindow = window;
    let table = this.byWindow.get(window);
    if (table === undefined) {
      const name = windowName(window);
      table = this.byName.get(name) ?? new Map<KeyId, C>();
      this.byName.set(name, table);
      this.byWindow.set(window, table);
    }
    this.last = table;
    return table;
  }
}
