import type { Pane } from "./panes";
import { NO_TIMES, REMOVED, type RowChange, type Rows, type RowTimes } from "./rows";
import type { Window } from "./windows";

/** Records that a source gave and that are not processed, with what it said of them. */
export interface KeptPiece {
  readonly records: readonly unknown[];
  readonly timestampsMs: readonly number[];
  /** What is left after them; undefined where that is nothing. */
  readonly rest: unknown;
  /** The estimate once they are processed, in ms. */
  readonly watermarkMs: number;
  /** The processing time before which the rest is not to be read, in ms; undefined where it may be read at once. */
  readonly resumeAtMs: number | undefined;
}

/** What is left of a restriction that has no end, between two bundles. Beam model: the residual of a splittable DoFn. */
export interface KeptRead {
  /** One in its shard, and in those that a rescaling makes of several. */
  readonly id: string;
  readonly restriction: unknown;
  /** Of the element that it comes from. */
  readonly timestampMs: number;
  readonly window: Window;
  readonly pane: Pane;
  /** The watermark estimate: what it holds back, in ms. */
  readonly watermarkMs: number;
  /** The processing time at which it is read on, in ms. */
  readonly resumeAtMs: number;
  /** To be processed before the restriction is read on: in place of it, since its rest is theirs. */
  readonly piece: KeptPiece | undefined;
  /** It has been cut short for a drain. */
  readonly isTruncated: boolean;
}

/** How a read is kept between bundles: as a row of whatever form. */
export interface ReadCodec<V> {
  encode(read: KeptRead): V;
  decode(id: string, row: V): KeptRead;
}

/** Reads without an end as one bundle sees them. */
export class TentativeReads<V> {
  private readonly changes = new Map<string, RowChange<V>>();
  private readonly taken = new Set<string>();

  constructor(
    private readonly rows: Rows<V>,
    private readonly codec: ReadCodec<V>,
  ) {}

  /**
   * Takes the read that is due at a processing time and has waited longest; undefined where none is. Each is taken once
   * in a bundle, and is gone after it unless it is kept again. What the bundle itself has kept as new comes last.
   */
  take(nowMs: number): KeptRead | undefined {
    const due = this.rows.due("clockMs", this.taken);
    const id = due.next(nowMs) ?? this.nextNew(nowMs);
    if (id === undefined) return undefined;
    const change = this.changes.get(id);
    const row = change === undefined ? this.rows.get(id) : change.value;
    this.taken.add(id);
    this.changes.set(id, REMOVED);
    return this.codec.decode(id, row!);
  }

  /** Whether `take` would give one. */
  isDue(nowMs: number): boolean {
    const due = this.rows.due("clockMs", this.taken);
    return (due.next(nowMs) ?? this.nextNew(nowMs)) !== undefined;
  }

  /** Keeps a read: a new one, or what is left of one that was taken. */
  keep(read: KeptRead): void {
    this.changes.set(read.id, { value: this.codec.encode(read), times: timesOfRead(read) });
  }

  /** The rows after the bundle. */
  result(): Rows<V> {
    const isNews = ([id, { value }]: [string, RowChange<V>]): boolean =>
      value !== undefined || this.rows.get(id) !== undefined;
    return this.rows.with(new Map([...this.changes].filter(isNews)));
  }

  private nextNew(nowMs: number): string | undefined {
    for (const [id, { times }] of this.changes)
      if (!this.taken.has(id) && times.clockMs <= nowMs && times.clockMs < Infinity) return id;
    return undefined;
  }
}

/** What a kept read waits for and holds back. */
export function timesOfRead({
  watermarkMs,
  resumeAtMs,
}: Pick<KeptRead, "watermarkMs" | "resumeAtMs">): RowTimes {
  return { ...NO_TIMES, holdMs: watermarkMs, clockMs: resumeAtMs };
}
