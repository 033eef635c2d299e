import type { CompiledStage, TentativeBundle } from "../beam/api";
import { decodeReadTask, encodeReadTask, type ReadTask } from "../beam/splittable";
import type { SegmentName, ShardLayout } from "../checkpoint/layout";
import type { Generation, Head } from "../checkpoint/records";
import type { Clock } from "../clock";
import type { BundleAside, BundleTrace } from "./bundle-failure";
import type { Consumption } from "./consumption";
import { OpenRead } from "./open-reads";
import { ReadFilling, type ReadPlace } from "./read-filling";
import type { SegmentReader } from "./segment-reader";
import type { ShardContext } from "./shard-context";
import { UnboundedReads } from "./unbounded-reads";

/** So many records of a source are in a bundle for each unit of other stages: they cost less than what waits in an inbox. */
export const RECORDS_PER_UNIT = 100;
const MAX_READ_MS = 10_000;
/** Results of a source without an end wait no longer than this for their commit. */
const MAX_UNBOUNDED_READ_MS = 1_000;

/** What of a shard's context reading needs. */
export interface ReadSurroundings extends Pick<ShardContext, "deadlineMs" | "reads" | "openReads"> {
  readonly clock: Pick<Clock, "now" | "uniqueId">;
  readonly stage: Pick<CompiledStage, "splitting">;
  readonly layout: Pick<ShardLayout, "head">;
  readonly current: { readonly generation: Pick<Generation, "state"> };
}

/** How far a bundle got with the restriction that it was at when it was full. */
interface Residual {
  readonly task: ReadTask;
  readonly watermarkMs: number;
}

/**
 * Feeds a stage that splits or reads: elements are divided, restrictions are read, oldest first, until the bundle is
 * full or the invocation is near its end. What is left of the last restriction goes into the head in its place
 * (`position.residual`), so the next bundle goes on with it. Restrictions without an end leave the inbox for the state,
 * and those that are due there are read in turn. Undefined if a segment is gone.
 */
export async function consumeReads(
  context: ReadSurroundings,
  bundle: TentativeBundle,
  trace: BundleTrace,
  { position: begunAt }: Pick<Head, "position">,
  segments: readonly SegmentName[],
  reader: Pick<SegmentReader, "read">,
  limit: number,
  aside: BundleAside,
): Promise<Consumption | undefined> {
  const { reads } = bundle;
  const readMs = reads ? MAX_UNBOUNDED_READ_MS : MAX_READ_MS;
  const filling = new ReadFilling(context, bundle, trace, limit, aside, readMs);
  const unbounded = reads && new UnboundedReads(context, reads, trace, filling);
  const tasks = new InboxTasks(context, bundle, trace, filling, unbounded);
  const whole: SegmentName[] = [];
  const blobs: string[] = [];
  const consumed = (position: Head["position"]): Consumption => {
    const { elements, aside: out, readBytes, totalBytes } = filling;
    const isMoreDue = unbounded?.isMoreDue ?? false;
    return {
      whole,
      blobs,
      position,
      elements,
      readBytes,
      totalBytes,
      isMoreDue,
      ...(out ? { aside: out } : {}),
    };
  };
  for (const [place, segment] of segments.entries()) {
    if (filling.isFull) break;
    const content = await reader.read(segments, place);
    if (!content) return undefined;
    const { elements, blob } = content;
    const begun = begunAt?.segment === segment.name ? begunAt : undefined;
    for (let index = begun?.elements ?? 0; index < elements.length; index++) {
      if (filling.isFull) return consumed({ segment: segment.name, elements: index });
      const left = index === begun?.elements ? begun.residual : undefined;
      const bytes = left === undefined ? elements.at(index) : Buffer.from(left, "base64");
      const holdMs = left === undefined ? undefined : begun?.holdMs;
      const at = { position: { segment: segment.name, index }, minTimestampMs: segment.minTimestampMs };
      const residual = await tasks.take(bytes, at, holdMs);
      if (residual) return consumed(positionOf(segment, index, residual, elements.from(index + 1)));
    }
    whole.push(segment);
    if (blob !== undefined) blobs.push(blob);
  }
  if (whole.length === segments.length) await unbounded?.readDue();
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

/** Works off what waits in the inbox of a splittable stage. */
class InboxTasks {
  constructor(
    private readonly context: ReadSurroundings,
    private readonly bundle: TentativeBundle,
    private readonly trace: BundleTrace,
    private readonly filling: ReadFilling,
    private readonly unbounded: UnboundedReads | undefined,
  ) {}

  /** Works off one element; what is left of it where the bundle is full before it is done. */
  async take(bytes: Buffer, place: ReadPlace, holdMs: number | undefined): Promise<Residual | undefined> {
    const { filling, unbounded } = this;
    const task = this.decode(bytes);
    const isDivided = this.context.stage.splitting!.phase === "split";
    if (task === undefined) filling.keepOut(bytes, place);
    else if (task.kind === "record") filling.give(task, task.value, task.timestampMs, place);
    else if ((isDivided || unbounded) && filling.keepsOut) filling.keepOut(bytes, place);
    else if (isDivided) await this.split(task);
    else if (unbounded) unbounded.begin(task);
    else return this.read(task, place, holdMs ?? task.timestampMs);
    return undefined;
  }

  /** Undefined where the bytes are none of ours and are to be kept out. */
  private decode(bytes: Buffer): ReadTask | undefined {
    try {
      return this.trace.ahead(() => decodeReadTask(bytes));
    } catch (error) {
      if (this.filling.keepsOut) return undefined;
      throw error;
    }
  }

  private async split({ value, timestampMs, window, pane }: ReadTask): Promise<void> {
    const { bundle, filling } = this;
    const { source } = this.context.stage.splitting!;
    const parts: unknown[] = [];
    await this.trace.pull(async () => {
      for await (const part of await source.split(value, this.context.reads)) parts.push(part);
    });
    this.trace.element(() => {
      for (const part of parts) {
        filling.totalBytes += source.size?.(part) ?? 0;
        bundle.processRecord(part, timestampMs, window, pane);
      }
    });
    filling.count();
  }

  private async read(task: ReadTask, place: ReadPlace, holdMs: number): Promise<Residual | undefined> {
    const { layout, openReads, reads, stage, clock } = this.context;
    const open =
      openReads.take(layout.head, task) ??
      new OpenRead(stage.splitting!.source, task, holdMs, reads, () => clock.now());
    if (!(await this.filling.read(open, place))) return undefined;
    openReads.put(layout.head, open);
    return { task: open.residual, watermarkMs: open.watermarkMs };
  }
}
