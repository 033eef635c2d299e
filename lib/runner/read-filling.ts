import type { TentativeBundle } from "../beam/api";
import { encodeReadTask, type ReadTask } from "../beam/splittable";
import { type AsideElement, type BundleAside, BundleFailedError, type BundleTrace } from "./bundle-failure";
import { feedingTime } from "./consumption";
import type { OpenRead } from "./open-reads";
import type { ReadSurroundings } from "./reading";

// What such a bundle gives off leaves as blobs, so it may be large; all of it is done again when the process dies.
const MAX_READ_BYTES = 32 * 1024 * 1024;
const MAX_PENDING_BYTES = 8 * 1024 * 1024;

/** Where what is read comes from, for what fails. */
export type ReadPlace = Omit<AsideElement, "bytes">;

/** One bundle of a splittable stage, as it fills. */
export class ReadFilling {
  /** Elements that were divided or kept, and records. */
  elements = 0;
  aside: AsideElement | undefined;
  readBytes = 0;
  totalBytes = 0;
  hasProgress = false;
  private readonly untilMs: number;
  private readonly isLate: () => boolean;

  /** @param readMs after so long it is full. */
  constructor(
    private readonly context: ReadSurroundings,
    private readonly bundle: TentativeBundle,
    private readonly trace: BundleTrace,
    private readonly limit: number,
    private readonly keptOut: BundleAside,
    readMs: number,
  ) {
    this.untilMs = Math.min(context.deadlineMs, context.clock.now() + readMs);
    this.isLate = feedingTime(context, bundle);
  }

  get isFull(): boolean {
    return (
      this.elements >= this.limit ||
      this.bundle.pendingBytes >= MAX_PENDING_BYTES ||
      this.readBytes >= MAX_READ_BYTES ||
      (this.hasProgress && (this.context.clock.now() >= this.untilMs || this.isLate()))
    );
  }

  /** The first unit is to be kept out. */
  get keepsOut(): boolean {
    return this.keptOut.element && this.elements === 0;
  }

  keepOut(bytes: Buffer, place: ReadPlace): void {
    this.aside = { ...place, bytes };
    this.count();
  }

  /** One more unit is done. */
  count(): void {
    this.elements += 1;
    this.hasProgress = true;
  }

  /** Hands a record on. */
  give({ window, pane }: ReadTask, value: unknown, timestampMs: number, place: ReadPlace): void {
    if (this.keepsOut) {
      this.keepOut(encodeReadTask({ kind: "record", value, skip: 0, timestampMs, window, pane }), place);
      return;
    }
    this.trace.element(() => this.bundle.processRecord(value, timestampMs, window, pane));
    this.count();
  }

  /**
   * Hands on what is read of a restriction, until it ends, its source has nothing more for now, or the bundle is full.
   * True where something is left of it. What has ended, failed or is kept out is closed.
   */
  async read(open: OpenRead, place: ReadPlace): Promise<boolean> {
    let isLeft = false;
    try {
      while (!open.isDone && !isLeft) {
        if (!open.hasRecords && !(await this.pull(open, place))) break;
        while (open.hasRecords && !this.isBundleFull) {
          this.next(open, place);
          if (this.bundle.isBusy) await this.trace.settle(() => this.bundle.room());
        }
        this.readBytes += open.takeReadBytes();
        this.hasProgress = true;
        isLeft = !open.isDone && (open.resumeAtMs !== undefined || this.isFull);
      }
    } catch (error) {
      open.close();
      throw error;
    }
    if (!isLeft) open.close();
    return isLeft;
  }

  /** The next piece; false where there is none, because it is the restriction itself that is to be kept out. */
  private async pull(open: OpenRead, place: ReadPlace): Promise<boolean> {
    try {
      await this.trace.pull(() => open.pull());
      return true;
    } catch (error) {
      if (!this.keepsOut || !(error instanceof BundleFailedError)) throw error;
      this.keepOut(encodeReadTask(open.residual), place);
      return false;
    }
  }

  private next(open: OpenRead, place: ReadPlace): void {
    const { value, timestampMs } = open.next();
    if (!this.keepsOut) this.trace.ahead(() => open.requireInTime(timestampMs));
    this.give(open.task, value, timestampMs, place);
    open.accept();
  }

  /** Without the clock, which is asked once a piece; asynchronous calls take their time within one. */
  private get isBundleFull(): boolean {
    return (
      this.elements >= this.limit ||
      this.bundle.pendingBytes >= MAX_PENDING_BYTES ||
      (this.elements > 0 && this.isLate())
    );
  }
}
