import type { TentativeBundle } from "../beam/api";
import { MIN_TIMESTAMP_MS } from "../beam/engine/time";
import { decodeEventRecord, isEventRecord } from "../checkpoint/event-record";
import type { SegmentName } from "../checkpoint/layout";
import type { Head } from "../checkpoint/records";
import { decodeRunStart } from "../checkpoint/run";
import type { Segment } from "../checkpoint/segment";
import { ZnodeChangeReader } from "../checkpoint/znode-change";
import type { Clock } from "../clock";
import type { AsideElement, BundleAside, BundleTrace } from "./bundle-failure";
import { sourceKind } from "./failures";
import type { SegmentReader } from "./segment-reader";
import type { ShardContext } from "./shard-context";

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
  /** What waits in the state, and not in the inbox, is not all done. */
  readonly isMoreDue?: boolean;
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
  const feed = feeder(context, bundle);
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
    const { elements: inSegment } = content;
    const skipped = head.position?.segment === segment.name ? head.position.elements : 0;
    for (let at = skipped; at < inSegment.length; at++) {
      if (full()) return consumed({ segment: segment.name, elements: at });
      if (aside.element && elements === 0) out = asideOf(segment, at, inSegment.at(at));
      else trace.element(feed, inSegment, at);
      if (bundle.isBusy) await trace.settle(() => bundle.room());
      elements += 1;
      bytes += inSegment.end(at) - inSegment.start(at);
    }
    whole.push(segment);
    if (content.blob !== undefined) blobs.push(content.blob);
  }
  return consumed(null);
}

function asideOf({ name, minTimestampMs }: SegmentName, index: number, bytes: Buffer): AsideElement {
  return { position: { segment: name, index }, minTimestampMs, bytes };
}

/** Says when a bundle with asynchronous calls is given no more, so that it ends while its invocation lives. */
export function feedingTime(
  { clock, deadlineMs }: { readonly clock: Pick<Clock, "now">; readonly deadlineMs: number },
  { isAsync }: TentativeBundle,
): () => boolean {
  if (!isAsync) return () => false;
  const untilMs = Math.min(clock.now() + ASYNC_FEEDING_MS, deadlineMs);
  return () => clock.now() >= untilMs;
}

/** Gives the bundle one element of a segment. */
type Feed = (elements: Segment, index: number) => void;

function feeder({ pipeline, stage }: ShardContext, bundle: TentativeBundle): Feed {
  const from = stage.upstream[0];
  if (from?.type !== "source")
    return (elements, index) =>
      bundle.processElement(elements.bytes, elements.start(index), elements.end(index));
  switch (sourceKind(pipeline, from.id)) {
    case "impulse":
      return () => bundle.processSourceElement(new Uint8Array(0), MIN_TIMESTAMP_MS);
    case "run":
      return (elements, index) => {
        const run = decodeRunStart(elements.at(index));
        bundle.processSourceElement(run, run.timeMs);
      };
    default:
      return recordFeeder(bundle);
  }
}

/** Changes of znodes, and records of events. */
function recordFeeder(bundle: TentativeBundle): Feed {
  let reader: ZnodeChangeReader | undefined;
  return (elements, index) => {
    if (isEventRecord(elements.bytes, elements.start(index))) {
      const { record, timestampMs } = decodeEventRecord(elements.at(index));
      bundle.processSourceElement(record, timestampMs);
      return;
    }
    if (reader?.bytes !== elements.bytes) reader = new ZnodeChangeReader(elements.bytes);
    const start = elements.start(index);
    const end = elements.end(index);
    bundle.processSourceElement(reader.change(start, end), reader.timestampMs(start));
  };
}
