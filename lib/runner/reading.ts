import type { TentativeBundle } from "../beam/api";
import { decodeReadTask, encodeReadTask, type ReadTask } from "../beam/splittable";
import type { SegmentName } from "../checkpoint/layout";
import type { Head } from "../checkpoint/records";
import { type AsideElement, type BundleAside, BundleFailedError, type BundleTrace } from "./bundle-failure";
import { type Consumption, feedingTime } from "./consumption";
import { OpenRead } from "./open-reads";
import type { SegmentReader } from "./segment-reader";
import type { ShardContext } from "./shard-context";

/** So many records of a source are in a bundle for each unit of other stages: they cost less than what waits in an inbox. */
export const RECORDS_PER_UNIT = 100;
// What such a bundle gives off leaves as blobs, so it may be large; all of it is done again when the process dies.
const MAX_READ_BYTES = 32 * 1024 * 1024;
const MAX_PENDING_BYTES = 8 * 1024 * 1024;
const MAX_READ_MS = 10_000;

/** How far a bundle got with the restriction that it was at when it was full. */
interface Residual {
  readonly task: ReadTask;
  readonly watermarkMs: number;
}

/**
 * Feeds a stage that splits or reads: elements are divided, restrictions are read, oldest first, until the bundle is
 * full or the invocation is near its end. What is left of the last restriction goes into the head in its place
 * (`position.residual`), so the next bundle goes on with it. Undefined if a segment is gone.
 */
export async function consumeReads(
  context: ShardContext,
  bundle: TentativeBundle,
  trace: BundleTrace,
  head: Head,
  segments: readonly SegmentName[],
  reader: SegmentReader,
  limit: number,
  aside: BundleAside,
): Promise<Consumption | undefined> {
  const filling = new Filling(context, bundle, trace, limit, aside);
  const whole: SegmentName[] = [];
  const blobs: string[] = [];
  const consumed = (position: Head["position"]): Consumption => {
    const { elements, aside: out, readBytes, totalBytes } = filling;
    return { whole, blobs, position, elements, readBytes, totalBytes, ...(out ? { aside: out } : {}) };
  };
  for (const [place, segment] of segments.entries()) {
    if (filling.isFull) break;
    const content = await reader.read(segments, place);
    if (!content) return undefined;
    const { elements, blob } = content;
    const begun = head.position?.segment === segment.name ? head.position : undefined;
    for (let index = begun?.elements ?? 0; index < elements.length; index++) {
      if (filling.isFull) return consumed({ segment: segment.name, elements: index });
      const left = index === begun?.elements ? begun.residual : undefined;
      const bytes = left === undefined ? elements.at(index) : Buffer.from(left, "base64");
      const holdMs = left === undefined ? undefined : begun?.holdMs;
      const residual = await filling.take(bytes, { segment, index }, holdMs);
      if (residual) return consumed(positionOf(segment, index, residual, elements.from(index + 1)));
    }
    whole.push(segment);
    if (blob !== undefined) blobs.push(blob);
  }
  return consumed(null);
}

function positionOf(
  segment: SegmentName,
  index: number,
  { task, watermarkMs }: Residual,
  behind: readonly Uint8Array[],
): Head["position"] {
  const residual = encodeReadTask(task).toString("base64");
  const position = { segment: segment.name, elements: index, residual };
  if (watermarkMs <= segment.minTimestampMs) return position;
  const holdMs = Math.min(watermarkMs, ...behind.map((bytes) => decodeReadTask(bytes).timestampMs));
  return holdMs > segment.minTimestampMs ? { ...position, holdMs } : position;
}

/** One bundle of a splittable stage, as it fills. */
class Filling {
  /** Elements that were divided, and records. */
  elements = 0;
  aside: AsideElement | undefined;
  readBytes = 0;
  totalBytes = 0;
  private readonly untilMs: number;
  private hasProgress = false;
  private readonly isLate: () => boolean;

  constructor(
    private readonly context: ShardContext,
    private readonly bundle: TentativeBundle,
    private readonly trace: BundleTrace,
    private readonly limit: number,
    private readonly keptOut: BundleAside,
  ) {
    this.untilMs = Math.min(context.deadlineMs, context.clock.now() + MAX_READ_MS);
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

  /** Works off one element of the inbox; what is left of it where the bundle is full before it is done. */
  async take(bytes: Buffer, place: Place, holdMs: number | undefined): Promise<Residual | undefined> {
    const task = this.decode(bytes);
    const isElement = this.context.stage.splitting!.phase === "split";
    if (task === undefined) this.keepOut(bytes, place);
    else if (task.kind === "record") this.give(task, task.value, task.timestampMs, place);
    else if (isElement && this.keepsOut) this.keepOut(bytes, place);
    else if (isElement) await this.split(task);
    else return this.read(task, place, holdMs ?? task.timestampMs);
    return undefined;
  }

  /** Undefined where the bytes are none of ours and are to be kept out. */
  private decode(bytes: Buffer): ReadTask | undefined {
    try {
      return this.trace.ahead(() => decodeReadTask(bytes));
    } catch (error) {
      if (this.keepsOut) return undefined;
      throw error;
    }
  }

  private async split({ value, timestampMs, window, pane }: ReadTask): Promise<void> {
    const { source } = this.context.stage.splitting!;
    const parts: unknown[] = [];
    await this.trace.pull(async () => {
      for await (const part of await source.split(value, this.context.reads)) parts.push(part);
    });
    this.trace.element(() => {
      for (const part of parts) {
        this.totalBytes += source.size?.(part) ?? 0;
        this.bundle.processRecord(part, timestampMs, window, pane);
      }
    });
    this.elements += 1;
    this.hasProgress = true;
  }

  private async read(task: ReadTask, place: Place, holdMs: number): Promise<Residual | undefined> {
    const { layout, openReads, reads, stage } = this.context;
    const open =
      openReads.take(layout.head, task) ?? new OpenRead(stage.splitting!.source, task, holdMs, reads);
    try {
      while (!open.isDone) {
        if (!open.hasRecords && !(await this.pull(open, place))) break;
        while (open.hasRecords && !this.isBundleFull) {
          this.next(open, place);
          if (this.bundle.isBusy) await this.trace.settle(() => this.bundle.room());
        }
        this.readBytes += open.takeReadBytes();
        this.hasProgress = true;
        if (open.isDone || !this.isFull) continue;
        openReads.put(layout.head, open);
        return { task: open.residual, watermarkMs: open.watermarkMs };
      }
    } catch (error) {
      open.close();
      throw error;
    }
    open.close();
    return undefined;
  }

  /** The next piece; false where there is none, because it is the restriction itself that is to be kept out. */
  private async pull(open: OpenRead, place: Place): Promise<boolean> {
    try {
      await this.trace.pull(() => open.pull());
      return true;
    } catch (error) {
      if (!this.keepsOut || !(error instanceof BundleFailedError)) throw error;
      this.keepOut(encodeReadTask(open.residual), place);
      return false;
    }
  }

  private next(open: OpenRead, place: Place): void {
    const { value, timestampMs } = open.next();
    if (!this.keepsOut) this.trace.ahead(() => open.requireInTime(timestampMs));
    this.give(open.task, value, timestampMs, place);
    open.accept();
  }

  private give({ window, pane }: ReadTask, value: unknown, timestampMs: number, place: Place): void {
    if (this.keepsOut) {
      this.keepOut(encodeReadTask({ kind: "record", value, skip: 0, timestampMs, window, pane }), place);
      return;
    }
    this.trace.element(() => this.bundle.processRecord(value, timestampMs, window, pane));
    this.elements += 1;
    this.hasProgress = true;
  }

  /** Without the clock, which is asked once a piece; asynchronous calls take their time within one. */
  private get isBundleFull(): boolean {
    return (
      this.elements >= this.limit ||
      this.bundle.pendingBytes >= MAX_PENDING_BYTES ||
      (this.elements > 0 && this.isLate())
    );
  }

  private get keepsOut(): boolean {
    return this.keptOut.element && this.elements === 0;
  }

  private keepOut(bytes: Buffer, { segment, index }: Place): void {
    this.aside = { segment, index, bytes };
    this.elements += 1;
    this.hasProgress = true;
  }
}

type Place = Pick<AsideElement, "segment" | "index">;
