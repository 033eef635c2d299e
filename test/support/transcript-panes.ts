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

/** What every firing has, however its runner tells of it. */
interface Firing {
  readonly timing: string;
  readonly isFirst: boolean;
  readonly isLast: boolean;
  readonly index: number;
}

/** The first and the last timestamp of a window in ms; undefined for the global one. */
export type WindowBounds = readonly [first: number, last: number] | undefined;

export function windowSeconds(bounds: WindowBounds): unknown {
  return bounds === undefined ? "global" : bounds.map(wholeSeconds);
}

/** A firing's attributes as transcripts name them. */
export function firingAttributes(
  { timing, isFirst, isLast, index }: Firing,
  nonspeculativeIndex: number,
  timestampMs: number,
  window: WindowBounds,
): Record<string, unknown> {
  return {
    window: windowSeconds(window),
    timestamp: wholeSeconds(timestampMs),
    early: timing === "EARLY",
    on_time: timing === "ON_TIME",
    late: timing === "LATE",
    first: isFirst,
    final: isLast,
    index,
    nonspeculative_index: nonspeculativeIndex,
  };
}

function wholeSeconds(ms: number): number {
  return Math.floor(ms / 1000);
}
