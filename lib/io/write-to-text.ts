import { posix } from "node:path";
import { groupBy, type PCollection, type PTransform, withName } from "apache-beam";
import { keyHash } from "../beam/coders/key";
import { writePrimitive } from "../beam/primitives";

export interface WriteToTextOptions<T> {
  /** Files for each window. Default: 1. */
  readonly shards?: number;
  /** Ends the file names, as in ".jsonl". Default: "". */
  readonly suffix?: string;
  /** One line without a line break. Default: strings as they are, everything else as JSON (bigints as strings). */
  readonly format?: (element: T) => string;
}

export const TEXT_SINK = "text-files";

/** The payload of a `SinkEffect` of the sink "text-files": the whole content of one file. */
export interface TextFilePayload {
  readonly prefix: string;
  readonly suffix: string;
  readonly shard: number;
  readonly shards: number;
  readonly lines: string[];
}

interface Line {
  readonly shard: number;
  readonly line: string;
}

const MAX_TEXT_SHARDS = 1000;

/**
 * Writes text files, for each window one in each shard that has elements. Lines go to shards by their content,
 * so an input that is processed again gives the same files; their order within a file is not defined.
 *
 * @param prefix a folder and the beginning of the names: "out/flaps", "s3://audit/flaps".
 * Two of one pipeline with the same prefix and suffix would overwrite each other's files: the pipeline is refused.
 *
 * @throws TypeError if the prefix or an option has the wrong form.
 */
export function writeToText<T>(
  prefix: string,
  options: WriteToTextOptions<T> = {},
): PTransform<PCollection<T>, void> {
  const { shards = 1, suffix = "", format = defaultFormat } = options;
  checkOptions(prefix, shards, suffix, format);
  const toLine = (element: T): Line => {
    const line = format(element);
    if (typeof line !== "string")
      throw new TypeError(`writeToText: format gave ${typeof line} instead of a string`);
    return { shard: keyHash(line) % shards, line };
  };
  const toPayload = (group: { key: number; value: Iterable<Line> }): TextFilePayload => {
    const lines = Array.from(group.value, ({ line }) => line);
    return { prefix, suffix, shard: group.key, shards, lines };
  };
  const expand = (input: PCollection<T>): void => {
    input
      .map(toLine)
      .apply(groupBy<Line, number>("shard"))
      .apply(
        writePrimitive("write", {
          sink: TEXT_SINK,
          config: { prefix, suffix, shards },
          claim: `the files ${normalized(prefix)}...${suffix}`,
          toPayload,
        }),
      );
  };
  return withName("writeToText", expand);
}

/**
 * Writes files of which each line is a JSON value, as `writeToText` writes lines. Bigints become strings.
 *
 * @param options.suffix default: ".jsonl".
 * @throws TypeError as `writeToText` does; an element without JSON (undefined, a function) is an error when it comes.
 */
export function writeToJsonLines<T>(
  prefix: string,
  options: Omit<WriteToTextOptions<T>, "format"> = {},
): PTransform<PCollection<T>, void> {
  const write = writeToText<T>(prefix, { suffix: ".jsonl", ...options, format: jsonOf });
  return withName("writeToJsonLines", (input: PCollection<T>): void => input.apply(write));
}

/** One text for each place: "./out//a" and "out/a" are the same file. A URL's two slashes stay. */
function normalized(prefix: string): string {
  const [, scheme = "", path = ""] = /^([a-z0-9]+:\/\/)?(.*)$/s.exec(prefix)!;
  return scheme + posix.normalize(path);
}

function defaultFormat(element: unknown): string {
  return typeof element === "string" ? element : jsonOf(element);
}

function jsonOf(element: unknown): string {
  const text = JSON.stringify(element, (_, value) => (typeof value === "bigint" ? `${value}` : value));
  if (text === undefined)
    throw new TypeError(`writeToText: ${typeof element} has no JSON; give a format function`);
  return text;
}

function checkOptions(prefix: unknown, shards: unknown, suffix: unknown, format: unknown): void {
  if (typeof prefix !== "string" || prefix === "" || prefix.includes("\0")) {
    throw new TypeError(`writeToText: the prefix must be a path like "out/flaps" or "s3://bucket/flaps"`);
  }
  if (!Number.isInteger(shards) || (shards as number) < 1 || (shards as number) > MAX_TEXT_SHARDS) {
    throw new TypeError(
      `writeToText("${prefix}"): shards must be a whole number from 1 to ${MAX_TEXT_SHARDS}`,
    );
  }
  if (typeof suffix !== "string" || /[/\0]/.test(suffix)) {
    throw new TypeError(`writeToText("${prefix}"): suffix must be the end of a file name, without "/"`);
  }
  if (typeof format !== "function")
    throw new TypeError(`writeToText("${prefix}"): format must be a function`);
}
