import type { RequestFault } from "./model-client";
import { STEPS, type Step } from "./steps";

/**
 * What strikes a process while it waits. `stalled`: it stands still for a while, like a stopped process, and then
 * goes on as if nothing had been. `duplicated`: a second one of its kind starts at that moment and does the same.
 */
export const FAULT_KINDS = [
  "request lost",
  "reply lost",
  "killed before",
  "killed after",
  "session expired",
  "stalled",
  "duplicated",
] as const satisfies readonly (RequestFault | "session expired" | "stalled" | "duplicated")[];

export type FaultKind = (typeof FAULT_KINDS)[number];

/** Faults counted by kind and step, over as many runs as one likes. */
export class Coverage {
  private readonly counts = new Map<string, number>();

  add(kind: FaultKind, step: Step, count = 1): void {
    const cell = `${kind} x ${step}`;
    this.counts.set(cell, (this.counts.get(cell) ?? 0) + count);
  }

  count(kind: FaultKind, step: Step): number {
    return this.counts.get(`${kind} x ${step}`) ?? 0;
  }

  /** Adds what another process counted, see {@link toJSON}. */
  merge(counts: Readonly<Record<string, number>>): void {
    for (const [cell, count] of Object.entries(counts))
      this.counts.set(cell, (this.counts.get(cell) ?? 0) + count);
  }

  toJSON(): Record<string, number> {
    return Object.fromEntries([...this.counts].sort());
  }

  /** The pairs that were never met. */
  get empty(): string[] {
    return STEPS.flatMap((step) =>
      FAULT_KINDS.filter((kind) => this.count(kind, step) === 0).map((kind) => `${kind} x ${step}`),
    );
  }

  /** Faults by kind, over all steps. */
  get byKind(): Record<FaultKind, number> {
    const sum = (kind: FaultKind): number => STEPS.reduce((total, step) => total + this.count(kind, step), 0);
    return Object.fromEntries(FAULT_KINDS.map((kind) => [kind, sum(kind)])) as Record<FaultKind, number>;
  }

  /** A table: one row for each step, one column for each kind. */
  table(): string {
    const rows = [
      ["", ...FAULT_KINDS],
      ...STEPS.map((step) => [step, ...FAULT_KINDS.map((kind) => String(this.count(kind, step)))]),
    ];
    const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
    const line = (row: readonly string[]): string =>
      row
        .map((cell, column) => (column === 0 ? cell.padEnd(widths[0]!) : cell.padStart(widths[column]!)))
        .join("  ");
    return rows.map(line).join("\n");
  }
}
