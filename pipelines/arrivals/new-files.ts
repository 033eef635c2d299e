import type { SplittableSource } from "beamkeeper";

/** Names up to this one are known, in the order of the names. */
interface Known {
  readonly pattern: string;
  readonly last: string;
}

/**
 * A source without an end: the names of files as they appear, of which each sorts behind those before it, as names do that
 * begin with a time. Patterns are of files of this machine or of S3 (`s3://bucket/orders/*`).
 */
export function newFiles(
  patterns: readonly string[],
  everyMs: number,
): SplittableSource<string, Known, string> {
  return {
    name: "new files",
    // What is deployed is given the right to read what these stand for.
    config: { patterns },
    unbounded: true,
    watermark: "wallTime",
    split: (pattern) => [{ pattern, last: "" }],
    async *read({ pattern, last }, { files }) {
      const found = await files.list(pattern);
      const records = found.map(({ name }) => name).filter((name) => name > last);
      yield { records, rest: { pattern, last: records.at(-1) ?? last }, resumeAfterMs: everyMs };
    },
    // A drain looks once more, so that what had been written before is read.
    truncate: (known) => known,
  };
}
