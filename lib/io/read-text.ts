import { create, type PCollection, type PTransform, type Root, withName } from "apache-beam";
import { type SplittableSource, splittableRead } from "../beam/splittable";
import { type FileRange, readLines, sizeOfRange, splitFiles } from "./file-ranges";
import { InputFileError } from "./input-errors";
import type { FoundLine, LongLine } from "./lines";

export interface ReadTextOptions {
  /** Files are read in parts of about this many bytes, which shards share. Default: 64 MB. */
  readonly splitBytes?: number;
  /** A longer line goes to dead-letter, with its file and place. Default: 1 MB. */
  readonly maxLineBytes?: number;
  /** `auto`: what ends in ".gz" is gzip, which cannot be split. Default: "auto". */
  readonly compression?: "auto" | "gzip" | "none";
  /** What to do where no file has a name like that. Default: "error". */
  readonly ifEmpty?: "error" | "nothing";
}

/** A line that cannot be a record; plain data, so that it goes to dead-letter by itself. */
interface BadLine {
  readonly file: string;
  /** Of the line's first byte in the file, or in the text that is packed in it. */
  readonly offset: number;
  readonly problem: string;
  /** The line, or the beginning of a long one. */
  readonly line: string;
}

const MIB = 1024 * 1024;
const DEFAULTS = {
  splitBytes: 64 * MIB,
  maxLineBytes: MIB,
  compression: "auto",
  ifEmpty: "error",
} as const satisfies Required<ReadTextOptions>;

/**
 * Reads the lines of text files, in no particular order: a bounded source. Lines end with LF or CRLF, which they come
 * without; the last one may lack it. UTF-8, where what is none becomes U+FFFD. Event time is the beginning of time, so
 * put `assignTimestamps` before windows.
 *
 * @param pattern a path or pattern, or several: `logs/*.txt`, `logs/` (the files in it), `s3://bucket/2026/**\/*.gz`.
 * @throws TypeError if a pattern or an option has the wrong form. A file that is missing or changes while it is read is
 * an InputFileError when it is read.
 */
export function readText(
  pattern: string | readonly string[],
  options: ReadTextOptions = {},
): PTransform<Root, PCollection<string>> {
  const patterns = listOf("readText", pattern);
  const source = textSource("readText", options, patterns);
  return withName("readText", (root: Root) =>
    root
      .apply(create([...patterns]))
      .apply(splittableRead(source))
      .map(textOf),
  );
}

/** Reads the lines of the files that each element names, as `readText` does. */
export function readAllText(
  options: ReadTextOptions = {},
): PTransform<PCollection<string>, PCollection<string>> {
  const source = textSource("readAllText", options);
  return withName("readAllText", (files: PCollection<string>) =>
    files.apply(splittableRead(source)).map(textOf),
  );
}

function textSource(
  transform: string,
  options: ReadTextOptions,
  patterns?: readonly string[],
): SplittableSource<string, FileRange, string | BadLine> {
  return lineSource(transform, options, patterns, (line, file, max) =>
    isTooLong(line) ? longLine(line, file, max) : line.text,
  );
}

function textOf(line: string | BadLine): string {
  return typeof line === "string" ? line : refuse(line);
}

/**
 * Reads files of which each line is a JSON value, as `readText` reads lines; lines without anything in them are left
 * out. A line that is no JSON goes to dead-letter alone, with its file and offset. What is read is not checked to be a T.
 */
export function readJsonLines<T>(
  pattern: string | readonly string[],
  options: ReadTextOptions = {},
): PTransform<Root, PCollection<T>> {
  const patterns = listOf("readJsonLines", pattern);
  const source = lineSource("readJsonLines", options, patterns, parseLine<T>);
  return withName("readJsonLines", (root: Root) =>
    root
      .apply(create([...patterns]))
      .apply(splittableRead(source))
      .map((line) => ("value" in line ? line.value : refuse(line))),
  );
}

type ToRecord<T> = (line: FoundLine | LongLine, file: string, maxLineBytes: number) => T | undefined;

/** What a source of this module reads, where that is known before it runs; of any other source nothing. */
export function inputPatterns(config: unknown): readonly string[] {
  const isOurs = typeof config === "object" && config !== null && "patterns" in config;
  return isOurs && Array.isArray(config.patterns)
    ? config.patterns.filter((each) => typeof each === "string")
    : [];
}

/** The patterns are known where the pipeline is built: who deploys it asks for the right to read them. */
function lineSource<T>(
  transform: string,
  options: ReadTextOptions,
  patterns: readonly string[] | undefined,
  toRecord: ToRecord<T>,
): SplittableSource<string, FileRange, T> {
  const { splitBytes, maxLineBytes, compression, ifEmpty } = withDefaults(transform, options);
  return {
    name: "files",
    ...(patterns ? { config: { patterns } } : {}),
    size: sizeOfRange,
    async *split(pattern, { files }) {
      const found = await files.list(pattern);
      if (found.length === 0 && ifEmpty === "error")
        throw new InputFileError(
          `${transform}: no file has the name "${pattern}"; look at the path, or say { ifEmpty: "nothing" }`,
        );
      yield* splitFiles(found, splitBytes, compression);
    },
    async *read(range, { files }) {
      for await (const { lines, rest } of readLines(files, range, maxLineBytes)) {
        const records: T[] = [];
        for (const line of lines) {
          const record = toRecord(line, range.name, maxLineBytes);
          if (record !== undefined) records.push(record);
        }
        yield { records, rest };
      }
    },
  };
}

function parseLine<T>(
  line: FoundLine | LongLine,
  file: string,
  max: number,
): { readonly value: T } | BadLine | undefined {
  if (isTooLong(line)) return longLine(line, file, max);
  try {
    return { value: JSON.parse(line.text) as T };
  } catch (error) {
    if (line.text.trim() === "") return undefined;
    return { file, offset: line.offset, problem: `no JSON: ${(error as Error).message}`, line: line.text };
  }
}

function isTooLong(line: FoundLine | LongLine): line is LongLine {
  return "isTooLong" in line;
}

function longLine({ offset, text }: LongLine, file: string, max: number): BadLine {
  return { file, offset, problem: `longer than ${max} bytes (maxLineBytes)`, line: text };
}

function refuse({ file, offset, problem }: BadLine): never {
  throw new InputFileError(`${file}: the line at byte ${offset} is ${problem}`);
}

function listOf(transform: string, pattern: string | readonly string[]): readonly string[] {
  const patterns = typeof pattern === "string" ? [pattern] : pattern;
  const isGood = (each: unknown): boolean => typeof each === "string" && each !== "" && !each.includes("\0");
  if (!Array.isArray(patterns) || patterns.length === 0 || !patterns.every(isGood))
    throw new TypeError(`${transform} needs a path or a pattern of files, or a list of them`);
  return patterns;
}

function withDefaults(transform: string, options: ReadTextOptions): Required<ReadTextOptions> {
  const all = { ...DEFAULTS, ...options };
  const { splitBytes, maxLineBytes, compression, ifEmpty } = all;
  for (const [name, value] of Object.entries({ splitBytes, maxLineBytes }))
    if (!Number.isInteger(value) || value < 1)
      throw new TypeError(`${transform}: ${name} must be a whole number of bytes from 1`);
  if (!["auto", "gzip", "none"].includes(compression))
    throw new TypeError(`${transform}: compression must be "auto", "gzip" or "none"`);
  if (ifEmpty !== "error" && ifEmpty !== "nothing")
    throw new TypeError(`${transform}: ifEmpty must be "error" or "nothing"`);
  return all;
}
