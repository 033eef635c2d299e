import type { KeptPiece, KeptRead } from "../beam/engine/reads";
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

/** A source asks to be resumed that has not said that it may have no end. Terminal: the source's code is wrong. */
export class BoundedResumeError extends Error {
  override readonly name = "BoundedResumeError";
  readonly outcome = "terminal";
}

type Piece = ReadPiece<unknown, unknown>;

/** A piece with what its source has left to defaults. */
interface SettledPiece extends KeptPiece {
  /** Of records that bring no time of their own. */
  readonly timeMs: number;
}

/** A restriction that is being read. */
export class OpenRead {
  private readonly pieces: AsyncGenerator<Piece, void>;
  private piece: SettledPiece | undefined;
  /** What the piece at hand, or the next one, begins at. */
  private restriction: unknown;
  /** Records of that piece that are processed. */
  private index = 0;
  /** Records behind the beginning of the next piece that were processed before this was opened. */
  private skip: number;
  private hasEnded = false;
  private uncountedBytes = 0;
  /** The source has nothing more for now: the processing time at which it is to be asked again, in ms. */
  resumeAtMs: number | undefined;

  /**
   * @param task a restriction, or what is left of one.
   * @param watermarkMs what the source has estimated so far.
   * @param nowMs the clock.
   */
  constructor(
    private readonly source: AnySource,
    readonly task: ReadTask,
    public watermarkMs: number,
    context: ReadContext,
    private readonly nowMs: () => number,
  ) {
    this.restriction = task.value;
    this.skip = task.skip;
    this.pieces = piecesOf(source, task.value, context);
  }

  /** What is left of a restriction that was kept: first of all of the piece that it was at. */
  static resume(source: AnySource, read: KeptRead, context: ReadContext, nowMs: () => number): OpenRead {
    const { restriction, piece, timestampMs, window, pane, watermarkMs } = read;
    const value = piece === undefined ? restriction : piece.rest;
    const task: ReadTask = { kind: "work", value, skip: 0, timestampMs, window, pane };
    const open = new OpenRead(source, task, watermarkMs, context, nowMs);
    if (piece === undefined) return open;
    open.piece = { ...piece, timeMs: timestampMs };
    open.settle();
    return open;
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

  /** What is left as it is kept in state: of the piece at hand, else of the restriction. */
  kept(read: KeptRead): KeptRead {
    const { watermarkMs, restriction, index } = this;
    const piece = this.piece && {
      records: this.piece.records.slice(index),
      timestampsMs: this.piece.records.slice(index).map((_, place) => this.timeOf(index + place)),
      rest: this.piece.rest,
      watermarkMs: this.piece.watermarkMs,
      resumeAtMs: this.piece.resumeAtMs,
    };
    return { ...read, restriction, piece, watermarkMs, resumeAtMs: this.resumeAtMs ?? this.nowMs() };
  }

  /** Reads the next piece. There may be no new record in it. */
  async pull(): Promise<void> {
    const { done, value } = await this.pieces.next();
    if (done) {
      this.uncountedBytes += this.sizeOf(this.restriction);
      this.hasEnded = true;
      return;
    }
    this.piece = this.settled(value);
    this.index = Math.min(this.skip, value.records.length);
    this.skip -= this.index;
    this.settle();
  }

  /** The next record of the piece at hand, with its time. */
  next(): { readonly value: unknown; readonly timestampMs: number } {
    return { value: this.piece!.records[this.index], timestampMs: this.timeOf(this.index) };
  }

  /** Throws {@link LateRecordError} for what is older than the watermark. Without an end, estimates may be wrong. */
  requireInTime(timestampMs: number): void {
    if (timestampMs >= this.watermarkMs || this.source.unbounded) return;
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

  private timeOf(index: number): number {
    const { timestampsMs, timeMs } = this.piece!;
    return timestampsMs[index] ?? timeMs;
  }

  private settled(piece: Piece): SettledPiece {
    const { source, task } = this;
    const { records, rest, timestampsMs = [], resumeAfterMs } = piece;
    if (resumeAfterMs !== undefined && !source.unbounded)
      throw new BoundedResumeError(
        `the source "${source.name}" asks to be resumed after ${resumeAfterMs} ms; it has to say \`unbounded: true\``,
      );
    const nowMs = this.nowMs();
    const resumeAtMs = resumeAfterMs === undefined ? undefined : nowMs + Math.max(0, resumeAfterMs);
    // Another process's clock may have been ahead of this one's.
    const timeMs = source.watermark === "wallTime" ? Math.max(nowMs, this.watermarkMs) : task.timestampMs;
    const watermarkMs = this.estimateAfter(piece, timeMs);
    return { records, rest, timestampsMs, resumeAtMs, timeMs, watermarkMs };
  }

  private estimateAfter({ records, timestampsMs, watermarkMs }: Piece, timeMs: number): number {
    const before = this.watermarkMs;
    if (this.source.watermark === "wallTime") return timeMs;
    if (this.source.watermark !== "monotonic") return watermarkMs ?? before;
    return records.reduce<number>(
      (latest, _, index) => Math.max(latest, timestampsMs?.[index] ?? timeMs),
      before,
    );
  }

  /** Goes on to where the next piece begins, once all records of this one are processed. */
  private settle(): void {
    const { records, rest, watermarkMs, resumeAtMs } = this.piece!;
    if (this.index < records.length) return;
    this.uncountedBytes += this.sizeOf(this.restriction) - this.sizeOf(rest);
    this.watermarkMs = Math.max(this.watermarkMs, watermarkMs);
    this.hasEnded = rest === undefined;
    this.resumeAtMs = resumeAtMs;
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
