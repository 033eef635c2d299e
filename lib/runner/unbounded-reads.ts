import type { BundleReads } from "../beam/api";
import type { KeptRead } from "../beam/engine/reads";
import { encodeReadTask, type ReadTask } from "../beam/splittable";
import type { BundleTrace } from "./bundle-failure";
import { OpenRead } from "./open-reads";
import type { ReadFilling, ReadPlace } from "./read-filling";
import type { ReadSurroundings } from "./reading";

/**
 * Restrictions without an end, in one bundle: those that are due are read in turn, each until its source has nothing more
 * for now or the bundle is full, and what is left of them stays in the state. While the pipeline is drained all are due:
 * each is truncated, and ends where its source would have to be waited for.
 */
export class UnboundedReads {
  private readonly isDraining: boolean;
  private begun = 0;
  /** Something is left that need not wait. */
  private isCut = false;

  constructor(
    private readonly context: ReadSurroundings,
    private readonly reads: BundleReads,
    private readonly trace: BundleTrace,
    private readonly filling: ReadFilling,
  ) {
    this.isDraining = context.current.generation.state === "draining";
  }

  /** Takes a restriction over from the inbox. */
  begin({ value, timestampMs, window, pane }: ReadTask): void {
    const { clock } = this.context;
    const id = `r${clock.uniqueId()}.${this.begun++}`;
    const times = { timestampMs, watermarkMs: timestampMs, resumeAtMs: clock.now() };
    const read = { id, restriction: value, window, pane, piece: undefined, isTruncated: false };
    this.trace.element(() => this.reads.keep({ ...read, ...times }));
    this.filling.count();
  }

  get isMoreDue(): boolean {
    return this.isCut || this.reads.isDue(this.dueMs);
  }

  async readDue(): Promise<void> {
    while (!this.filling.isFull) {
      const read = this.reads.take(this.dueMs);
      if (read === undefined) return;
      await this.readOn(this.isDraining ? this.truncated(read) : read);
    }
  }

  private get dueMs(): number {
    return this.isDraining ? Number.POSITIVE_INFINITY : this.context.clock.now();
  }

  private async readOn(read: KeptRead | undefined): Promise<void> {
    if (read === undefined) return;
    const { context, filling, reads, trace } = this;
    const { source } = context.stage.splitting!;
    const open = OpenRead.resume(source, read, context.reads, () => context.clock.now());
    const isLeft = await filling.read(open, placeOf(read));
    if (!isLeft || (this.isDraining && open.resumeAtMs !== undefined)) return open.close();
    open.close();
    trace.ahead(() => reads.keep(open.kept(read)));
    if (open.resumeAtMs === undefined) this.isCut = true;
  }

  /** What a drain leaves of a restriction: what was read of it already, and what its source says. */
  private truncated(read: KeptRead): KeptRead | undefined {
    if (read.isTruncated) return read;
    const { source } = this.context.stage.splitting!;
    const rest = (restriction: unknown): unknown =>
      restriction === undefined ? undefined : this.truncate(read, () => source.truncate?.(restriction));
    const { piece } = read;
    if (piece) return { ...read, piece: { ...piece, rest: rest(piece.rest) }, isTruncated: true };
    const restriction = rest(read.restriction);
    return restriction === undefined ? undefined : { ...read, restriction, isTruncated: true };
  }

  /** Where that fails alone, the restriction is kept out as it was. */
  private truncate(read: KeptRead, run: () => unknown): unknown {
    try {
      return this.trace.ahead(run);
    } catch (error) {
      if (!this.filling.keepsOut) throw error;
      const { restriction: value, timestampMs, window, pane } = read;
      this.filling.keepOut(
        encodeReadTask({ kind: "work", value, skip: 0, timestampMs, window, pane }),
        placeOf(read),
      );
      return undefined;
    }
  }
}

function placeOf({ id, window, pane, timestampMs, watermarkMs }: KeptRead): ReadPlace {
  return {
    position: { key: id, window, pane, timestampMs },
    minTimestampMs: Math.min(timestampMs, watermarkMs),
  };
}
