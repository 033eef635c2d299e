/** What the command prints, and where to. */
export interface Terminal {
  say(line: string): void;
  complain(line: string): void;
}

export const terminal: Terminal = {
  say: (line) => void process.stdout.write(`${line}\n`),
  complain: (line) => void process.stderr.write(`${line}\n`),
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

/** An error for a person: what happened, and why, without a stack. */
export function describe(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const cause =
    error.cause instanceof Error && !error.message.includes(error.cause.message)
      ? `\n  because: ${error.cause.message}`
      : "";
  return `${error.message}${cause}`;
}
