import {
  type AnySource,
  encodeReadTask,
  type ReadContext,
  type ReadPiece,
  type ReadTask,
} from "../beam/splittable";

/** A record is older than its source had promised. Terminal: the source's code is wrong. */
export class LateRecordError extends Error {
  override readonly name = "LateRecordError";
  readonly outcome = "terminal";
}

type Piece = ReadPiece<unknown, unknown>;

/** A restriction that is being read. */
export class OpenRead {
  private readonly pieces: AsyncGenerator<Piece, void>;
  private piece: Piece | undefined;
  /** What the piece at hand, or the next one, begins at. */
  private restriction: unknown;
  /** Records of that piece that are processed. */
  private index = 0;
  /** Records behind the beginning of the next piece that were processed before this was opened. */
  private skip: number;
  private hasEnded = false;
  private uncountedBytes = 0;

  /**
   * @param task a restriction, or what is left of one.
   * @param watermarkMs what the source has estimated so far.
   */
  constructor(
    private readonly source: AnySource,
    readonly task: ReadTask,
    public watermarkMs: number,
    context: ReadContext,
  ) {
    this.restriction = task.value;
    this.skip = task.skip;
    this.pieces = piecesOf(source, task.value, context);
  }

  get hasRecords(): boolean {
    return this.piece !== undefined;
  }

  get isDone(): boolean {
    return this.hasEnded;
  }

  /** What is left, as an inbox holds it. */
  get residual(): ReadTask {
    return { ...this.task, value: this.restriction, skip: this.skip + this.index };
  }

  /** Reads the next piece. There may be no new record in it. */
  async pull(): Promise<void> {
    const { done, value } = await this.pieces.next();
    if (done) {
      this.uncountedBytes += this.sizeOf(this.restriction);
      this.hasEnded = true;
      return;
    }
    this.piece = value;
    this.index = Math.min(this.skip, value.records.length);
    this.skip -= this.index;
    this.settle();
  }

  /** The next record of the piece at hand, with its time. */
  next(): { readonly value: unknown; readonly timestampMs: number } {
    const { records, timestampsMs } = this.piece!;
    const timestampMs = timestampsMs?.[this.index] ?? this.task.timestampMs;
    return { value: records[this.index], timestampMs };
  }

  /** Throws {@link LateRecordError} for what is older than the watermark. */
  requireInTime(timestampMs: number): void {
    if (timestampMs >= this.watermarkMs) return;
    throw new LateRecordError(
      `the source "${this.source.name}" gave a record of ${timestampMs} ms after a watermark of ${this.watermarkMs} ms`,
    );
  }

  /** The record that `next` gave is processed. */
  accept(): void {
    this.index += 1;
    this.settle();
  }

  /** Bytes that were read to the end since the last call. */
  takeReadBytes(): number {
    const bytes = this.uncountedBytes;
    this.uncountedBytes = 0;
    return bytes;
  }

  /** Lets the source close what it has open. */
  close(): void {
    this.pieces.return().catch(() => undefined);
  }

  /** Goes on to where the next piece begins, once all records of this one are processed. */
  private settle(): void {
    const { records, rest, watermarkMs = this.watermarkMs } = this.piece!;
    if (this.index < records.length) return;
    this.uncountedBytes += this.sizeOf(this.restriction) - this.sizeOf(rest);
    this.watermarkMs = Math.max(this.watermarkMs, watermarkMs);
    this.hasEnded = rest === undefined;
    this.restriction = rest;
    this.piece = undefined;
    this.index = 0;
  }

  private sizeOf(restriction: unknown): number {
    return restriction === undefined ? 0 : (this.source.size?.(restriction) ?? 0);
  }
}

/** In a generator, a source that throws at once throws where errors are expected. */
async function* piecesOf(
  source: AnySource,
  restriction: unknown,
  context: ReadContext,
): AsyncGenerator<Piece, void> {
  yield* source.read(restriction, context);
}

const MAX_OPEN = 16;

/**
 * Reads that go on in the next bundle of their shard, kept while this process lives. A restriction is plain data that
 * is read the same each time, so one that is where the head says can be used, whoever has committed meanwhile.
 */
export class OpenReads {
  private readonly open = new Map<string, OpenRead>();

  /** The read of this shard, if it stands where the task begins; another one is closed. */
  take(shard: string, task: ReadTask): OpenRead | undefined {
    const known = this.open.get(shard);
    this.open.delete(shard);
    if (known && encodeReadTask(known.residual).equals(encodeReadTask(task))) return known;
    known?.close();
    return undefined;
  }

  put(shard: string, read: OpenRead): void {
    this.open.get(shard)?.close();
    this.open.delete(shard);
    this.open.set(shard, read);
    const [oldest] = this.open;
    if (this.open.size <= MAX_OPEN || oldest === undefined) return;
    this.open.delete(oldest[0]);
    oldest[1].close();
  }
}
