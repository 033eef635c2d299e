/** Seconds, as transcripts write them, in ms. @throws Error if it is none. */
export function toMs(seconds: unknown): number {
  const text = typeof seconds === "string" ? seconds.trim().replace(/^\+/, "").toLowerCase() : undefined;
  if (text === "inf" || text === "infinity" || text === "max_timestamp") return Infinity;
  if (text === "-inf" || text === "-infinity" || text === "min_timestamp") return -Infinity;
  if (typeof seconds !== "number" || Number.isNaN(seconds))
    throw new Error(`${JSON.stringify(seconds)} is not a time`);
  return seconds * 1000;
}
