import type { TentativeBundle } from "../beam/api";
import { MIN_TIMESTAMP_MS } from "../beam/engine/time";
import { decodeEventRecord, isEventRecord } from "../checkpoint/event-record";
import type { SegmentName } from "../checkpoint/layout";
import type { Head } from "../checkpoint/records";
import { decodeRunStart } from "../checkpoint/run";
import { decodeZnodeChange } from "../checkpoint/znode-change";
import type { AsideElement, BundleAside, BundleTrace } from "./bundle-failure";
import { isImpulse, sourceKind } from "./failures";
import type { SegmentReader } from "./segment-reader";
import type { ShardContext } from "./shard-runner";

// What a bundle consumes ends up in its state or its outputs, which a process has to hold.
const INPUT_PER_COMMIT = 8;

// What is lost when such a bundle fails, and how late its results can be, against the cost of a commit.
const ASYNC_FEEDING_MS = 2_000;

/** How far a bundle went through the inbox. */
export interface Consumption {
  readonly whole: readonly SegmentName[];
  readonly position: Head["position"];
  readonly elements: number;
  /** What sources have read, and found that there is to read, in bytes. */
  readonly readBytes?: number;
  readonly totalBytes?: number;
  /** Blobs of the segments that are consumed whole. */
  readonly blobs: readonly string[];
  /** What was not processed, though it is consumed. */
  readonly aside?: AsideElement;
}

/**
 * Feeds elements from the inbox, oldest first, until the limit or half a commit is reached, or a bundle with
 * asynchronous calls has had its time; undefined if a segment is gone.
 */
export async function consume(
  context: ShardContext,
  bundle: TentativeBundle,
  trace: BundleTrace,
  head: Head,
  segments: readonly SegmentName[],
  reader: SegmentReader,
  limit: number,
  aside: BundleAside,
): Promise<Consumption | undefined> {
  const { commitSizeBytes } = context.limits;
  const isLate = feedingTime(context, bundle);
  const whole: SegmentName[] = [];
  const blobs: string[] = [];
  let elements = 0;
  let bytes = 0;
  let out: AsideElement | undefined;
  const full = (): boolean =>
    elements >= limit ||
    bytes >= INPUT_PER_COMMIT * commitSizeBytes ||
    bundle.pendingBytes >= commitSizeBytes / 2 ||
    (elements > 0 && isLate());
  const consumed = (position: Head["position"]): Consumption => {
    return { whole, blobs, position, elements, ...(out === undefined ? {} : { aside: out }) };
  };
  for (const [index, segment] of segments.entries()) {
    if (full()) break;
    const content = await reader.read(segments, index);
    if (!content) return undefined;
    const skipped = head.position?.segment === segment.name ? head.position.elements : 0;
    let done = skipped;
    for (const element of content.elements.slice(skipped)) {
      if (full()) return consumed({ segment: segment.name, elements: done });
      if (aside.element && elements === 0) out = { segment, index: done, bytes: element };
      else trace.element(() => process(context, bundle, element));
      if (bundle.isBusy) await trace.settle(() => bundle.room());
      done += 1;
      elements += 1;
      bytes += element.length;
    }
    whole.push(segment);
    if (content.blob !== undefined) blobs.push(content.blob);
  }
  return consumed(null);
}

/** Says when a bundle with asynchronous calls is given no more, so that it ends while its invocation lives. */
export function feedingTime(
  { clock, deadlineMs }: ShardContext,
  { isAsync }: TentativeBundle,
): () => boolean {
  if (!isAsync) return () => false;
  const untilMs = Math.min(clock.now() + ASYNC_FEEDING_MS, deadlineMs);
  return () => clock.now() >= untilMs;
}

function process({ pipeline, stage }: ShardContext, bundle: TentativeBundle, element: Buffer): void {
  const from = stage.upstream[0];
  if (from?.type !== "source") {
    bundle.processElement(element);
    return;
  }
  if (isImpulse(pipeline, from.id)) {
    bundle.processSourceElement(new Uint8Array(0), MIN_TIMESTAMP_MS);
    return;
  }
  if (sourceKind(pipeline, from.id) === "run") {
    const run = decodeRunStart(element);
    bundle.processSourceElement(run, run.timeMs);
    return;
  }
  if (isEventRecord(element)) {
    const { record, timestampMs } = decodeEventRecord(element);
    bundle.processSourceElement(record, timestampMs);
    return;
  }
  const { change, timestampMs } = decodeZnodeChange(element);
  bundle.processSourceElement(change, timestampMs);
}
