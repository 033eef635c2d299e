import { pipeline, Readable } from "node:stream";
import { createGunzip } from "node:zlib";
import type { InputFile, InputFiles } from "../beam/splittable";
import { InputFileError } from "./input-errors";
import { type FoundLine, LineCutter, type LongLine } from "./lines";

/** A part of a file: the restriction of the sources that read lines. */
export interface FileRange extends InputFile {
  /** Lines that begin from this byte on; in a packed file, byte of the text. */
  readonly from: number;
  /** And before this one; a packed file has no other end than its own. */
  readonly to: number | null;
  /** Of a packed file: bytes of it that have been unpacked. */
  readonly unpacked?: number;
}

/** Lines of a range, and what is left of it. */
export interface LinePiece {
  readonly lines: readonly (FoundLine | LongLine)[];
  readonly rest: FileRange | undefined;
}

const UNPACKED_CHUNK_BYTES = 512 * 1024;
/** Behind a range, most often only the end of a line is wanted. */
const OVERHANG_BYTES = 64 * 1024;

export function* splitFiles(
  files: readonly InputFile[],
  splitBytes: number,
  compression: "auto" | "gzip" | "none",
): Generator<FileRange> {
  for (const { name, sizeBytes, version } of files) {
    const file = { name, sizeBytes, version };
    const isPacked = compression === "gzip" || (compression === "auto" && name.endsWith(".gz"));
    if (isPacked && sizeBytes > 0) yield { ...file, from: 0, to: null, unpacked: 0 };
    else
      for (let from = 0; from < sizeBytes; from += splitBytes)
        yield { ...file, from, to: Math.min(from + splitBytes, sizeBytes) };
  }
}

export function sizeOfRange({ sizeBytes, from, to, unpacked }: FileRange): number {
  return to === null ? sizeBytes - (unpacked ?? 0) : to - from;
}

/** The lines that begin in the range. Rejects with InputFileError, InputUnavailableError. */
export async function* readLines(
  files: InputFiles,
  range: FileRange,
  maxLineBytes: number,
): AsyncGenerator<LinePiece> {
  const cutter = new LineCutter(range.from, range.to ?? Number.POSITIVE_INFINITY, maxLineBytes);
  const start = LineCutter.startOf(range.from);
  const text = range.to === null ? unpack(files, range, start) : plain(files, range, start, range.to);
  for await (const { chunk, unpacked } of text) {
    const { lines, next } = cutter.add(chunk);
    const rest = { ...range, from: next, ...(unpacked === undefined ? {} : { unpacked }) };
    yield { lines, rest: cutter.isDone ? undefined : rest };
    if (cutter.isDone) return;
  }
  yield { lines: cutter.end().lines, rest: undefined };
}

interface Chunk {
  readonly chunk: Buffer;
  readonly unpacked?: number;
}

async function* plain(files: InputFiles, file: InputFile, start: number, to: number): AsyncGenerator<Chunk> {
  const { sizeBytes } = file;
  const ends = [to, Math.min(to + OVERHANG_BYTES, sizeBytes), sizeBytes];
  let from = start;
  for (const end of ends) {
    if (end > from) for await (const chunk of files.read(file, from, end)) yield { chunk };
    from = Math.max(from, end);
  }
}

/** The text from a byte on. There is no way into the middle of what gzip has packed, so what comes before is thrown away. */
async function* unpack(files: InputFiles, file: FileRange, start: number): AsyncGenerator<Chunk> {
  let packed = 0;
  const counted = async function* (): AsyncGenerator<Buffer> {
    for await (const chunk of files.read(file, 0)) {
      packed += chunk.length;
      yield chunk;
    }
  };
  const gunzip = createGunzip({ chunkSize: UNPACKED_CHUNK_BYTES });
  // The error comes to who reads the text.
  const text = pipeline(Readable.from(counted(), { objectMode: false }), gunzip, () => undefined);
  let at = 0;
  try {
    for await (const bytes of text as AsyncIterable<Buffer>) {
      const chunk = at >= start ? bytes : bytes.subarray(Math.min(bytes.length, start - at));
      at += bytes.length;
      if (chunk.length > 0) yield { chunk, unpacked: packed };
    }
  } catch (error) {
    if (!/^Z_/.test((error as NodeJS.ErrnoException).code ?? "")) throw error;
    throw new InputFileError(
      `${file.name} is no whole gzip file: ${(error as Error).message}, after ${at} bytes of its text`,
    );
  }
}
