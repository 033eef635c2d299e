/** What has come out and was not expected yet, as rows of attributes. */
export class Outputs {
  private rows: Record<string, unknown>[] = [];

  add(...rows: readonly Record<string, unknown>[]): void {
    this.rows.push(...rows);
  }

  /** Takes away what is expected; undefined if all of it is there. */
  expect(expected: readonly Record<string, unknown>[]): string | undefined {
    for (const row of expected) {
      const index = this.rows.findIndex((candidate) => matches(candidate, row));
      if (index === -1) return `Unmatched output: ${show(row)} is not among ${show(this.rows)}`;
      this.rows.splice(index, 1);
    }
    return undefined;
  }

  unexpected(): string | undefined {
    return this.rows.length === 0 ? undefined : `Unexpected output: ${show(this.rows)}`;
  }
}

/** Whether what has come has the attributes that are expected. @throws Error if it has no such attribute at all. */
function matches(pane: Record<string, unknown>, attributes: Record<string, unknown>): boolean {
  return Object.entries(attributes).every(([name, value]) => {
    if (!(name in pane)) throw new Error(`a pane has no attribute ${name}`);
    return (
      value === undefined || show(pane[name]) === show(name === "values" ? sorted(value as unknown[]) : value)
    );
  });
}

/** In an order that does not depend on how they came. */
export function sorted(values: readonly unknown[]): unknown[] {
  return [...values].sort((a, b) => {
    if (typeof a === "number" && typeof b === "number") return a - b;
    return show(a) < show(b) ? -1 : 1;
  });
}

export function show(value: unknown): string {
  return JSON.stringify(value);
}
