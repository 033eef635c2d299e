export type LogLevel = "debug" | "info" | "warn" | "error";

/**
 * Takes one structured record. Fields never hold values of znodes, session ids or credentials.
 * Bigints are written as hexadecimal, as ZooKeeper's own tools show zxids.
 */
export type Log = (level: LogLevel, message: string, fields?: Readonly<Record<string, unknown>>) => void;

export const silent: Log = () => undefined;

/** One JSON object a line, as CloudWatch and every log collector reads it. */
export function jsonLines(write: (line: string) => void, now: () => number): Log {
  return (level, message, fields) => {
    const record = { time: new Date(now()).toISOString(), level, message, ...fields };
    write(`${JSON.stringify(record, (_key, value) => plain(value))}\n`);
  };
}

function plain(value: unknown): unknown {
  if (typeof value === "bigint") return `0x${value.toString(16)}`;
  if (isError(value)) return { name: value.name, message: value.message, stack: value.stack };
  if (typeof value === "number" && !Number.isFinite(value)) return String(value);
  return value;
}

/** Not by instanceof alone: an error of Node's own may come from another realm. */
function isError(value: unknown): value is Error {
  return value instanceof Error || Object.prototype.toString.call(value) === "[object Error]";
}
