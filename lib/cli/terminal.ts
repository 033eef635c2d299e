/** What the command prints, and where to. */
export interface Terminal {
  say(line: string): void;
  complain(line: string): void;
  /** In characters; undefined where the output is no terminal. */
  size(): { readonly rows: number; readonly columns: number } | undefined;
}

export const terminal: Terminal = {
  say: (line) => void process.stdout.write(`${line}\n`),
  complain: (line) => void process.stderr.write(`${line}\n`),
  size() {
    const { isTTY, rows, columns: width } = process.stdout;
    return isTTY ? { rows: rows ?? 24, columns: width ?? 80 } : undefined;
  },
};

/** Rows of name and value, in columns. */
export function table(rows: readonly (readonly [name: string, value: string])[]): string {
  const width = Math.max(...rows.map(([name]) => name.length));
  const values = Math.max(...rows.map(([, value]) => value.length));
  return rows.map(([name, value]) => `  ${name.padEnd(width)}  ${value.padStart(values)}`).join("\n");
}

/** Rows of any number of cells in columns; the first is text, the others are aligned on the right. */
export function columns(rows: readonly (readonly string[])[]): string[] {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows.map((row) =>
    row
      .map((cell, column) => (column === 0 ? cell.padEnd(widths[0]!) : cell.padStart(widths[column]!)))
      .join("  "),
  );
}

/** 1234567 -> "1,234,567" */
export function grouped(value: number): string {
  return value.toLocaleString("en-US");
}

/** 90061000 -> "1 d 1 h"; the two largest units, or the seconds with a digit. */
export function durationText(ms: number): string {
  if (ms < 60_000) return `${(ms / 1000).toFixed(1)} s`;
  const units = [
    [86_400_000, "d"],
    [3_600_000, "h"],
    [60_000, "min"],
    [1_000, "s"],
  ] as const;
  const first = units.findIndex(([size]) => ms >= size);
  const [large, small] = [units[first]!, units[first + 1]!];
  const rest = Math.floor((ms % large[0]) / small[0]);
  return `${grouped(Math.floor(ms / large[0]))} ${large[1]}${rest > 0 ? ` ${rest} ${small[1]}` : ""}`;
}

/** An error for a person: what happened, and why, without a stack. */
export function describe(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const cause =
    error.cause instanceof Error && !error.message.includes(error.cause.message)
      ? `\n  because: ${error.cause.message}`
      : "";
  return `${error.message}${cause}`;
}
