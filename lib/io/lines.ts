/** A line of a file, without what ends it, and where its first byte is. */
export interface FoundLine {
  readonly text: string;
  readonly offset: number;
}

/** A line that is longer than is allowed; `text` is its beginning. */
export interface LongLine extends FoundLine {
  readonly isTooLong: true;
}

/** Lines that were found in a chunk, and where the first one begins that is not complete yet. */
export interface CutLines {
  readonly lines: readonly (FoundLine | LongLine)[];
  readonly next: number;
}

const LINE_FEED = 0x0a;
const CARRIAGE_RETURN = 0x0d;
const TEXT_OF_LONG_LINE = 200;
const NOTHING = Buffer.alloc(0);

/**
 * Cuts the bytes of a file into the lines that begin in [from, to). Whoever reads the next range does the same, so each
 * line is found once, by who has its first byte, whatever the ranges are.
 *
 * Chunks start at `startOf(from)`, one byte before the range: if that is a line feed, a line begins with the range. Lines
 * end with LF or CRLF, the last one with the file. Pure; it holds at most one chunk and one line.
 */
export class LineCutter {
  /** Where the next chunk begins. */
  private at: number;
  /** Where the line begins that is under way; undefined before the first line of the range. */
  private lineStart: number | undefined;
  /** What is there of it already. */
  private carried: Buffer[] = [];
  private carriedBytes = 0;
  /** It is too long, and its end is looked for; this is its beginning. */
  private tooLong: string | undefined;
  /** Every line of the range has been found. */
  isDone: boolean;

  constructor(
    from: number,
    private readonly to: number,
    private readonly maxLineBytes: number,
  ) {
    this.at = LineCutter.startOf(from);
    this.lineStart = from === 0 ? 0 : undefined;
    this.isDone = from >= to;
  }

  static startOf(from: number): number {
    return Math.max(0, from - 1);
  }

  /** Where a read that goes on without what is carried has to begin. */
  get next(): number {
    return this.lineStart ?? this.at;
  }

  add(chunk: Buffer): CutLines {
    const lines: (FoundLine | LongLine)[] = [];
    let start = 0;
    while (start < chunk.length && !this.isDone) {
      const feed = chunk.indexOf(LINE_FEED, start);
      const end = feed < 0 ? chunk.length : feed;
      if (this.lineStart !== undefined) this.carry(chunk.subarray(start, end));
      if (feed >= 0) this.endLine(lines, this.at + feed + 1);
      start = end + 1;
    }
    this.at += chunk.length;
    // Nothing that begins later is of this range.
    if (this.lineStart === undefined && this.at >= this.to) this.isDone = true;
    return { lines, next: this.next };
  }

  /** The file has ended: the line under way, where it has any bytes, is its last. */
  end(): CutLines {
    const lines: (FoundLine | LongLine)[] = [];
    const isEmpty = this.carriedBytes === 0 && this.tooLong === undefined;
    if (!this.isDone && !isEmpty) this.endLine(lines, this.at);
    this.isDone = true;
    return { lines, next: this.at };
  }

  private carry(bytes: Buffer): void {
    if (this.tooLong !== undefined) return;
    this.carried.push(bytes);
    this.carriedBytes += bytes.length;
    // A carriage return may belong to the line's end.
    if (this.carriedBytes <= this.maxLineBytes + 1) return;
    this.tooLong = Buffer.concat(this.carried).toString("utf8", 0, TEXT_OF_LONG_LINE);
    this.forget();
  }

  private forget(): void {
    this.carried = [];
    this.carriedBytes = 0;
  }

  private endLine(lines: (FoundLine | LongLine)[], nextStart: number): void {
    const offset = this.lineStart;
    if (offset !== undefined) lines.push(this.line(offset));
    this.forget();
    this.tooLong = undefined;
    this.lineStart = nextStart;
    if (nextStart >= this.to) this.isDone = true;
  }

  private line(offset: number): FoundLine | LongLine {
    if (this.tooLong !== undefined) return { text: this.tooLong, offset, isTooLong: true };
    const [only = NOTHING] = this.carried;
    const bytes = this.carried.length > 1 ? Buffer.concat(this.carried) : only;
    const length = bytes.at(-1) === CARRIAGE_RETURN ? bytes.length - 1 : bytes.length;
    if (length > this.maxLineBytes)
      return { text: bytes.toString("utf8", 0, TEXT_OF_LONG_LINE), offset, isTooLong: true };
    return { text: textOf(bytes, length, offset), offset };
  }
}

/** A byte order mark at the beginning of a file is no text. */
function textOf(bytes: Buffer, length: number, offset: number): string {
  const hasMark = offset === 0 && bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf;
  return bytes.toString("utf8", hasMark ? 3 : 0, length);
}
