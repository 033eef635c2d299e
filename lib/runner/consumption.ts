import type { TentativeBundle } from "../beam/api";
import { MIN_TIMESTAMP_MS } from "../beam/engine/time";
import { openRecord } from "../checkpoint/blobs";
import { reading } from "../checkpoint/commit";
import type { SegmentName } from "../checkpoint/layout";
import type { Head } from "../checkpoint/records";
import { decodeRunStart } from "../checkpoint/run";
import { decodeSegment } from "../checkpoint/segment";
import { readRecord } from "../checkpoint/stored-record";
import { decodeZnodeChange } from "../checkpoint/znode-change";
import { NoNodeError } from "../zookeeper";
import type { AsideElement, BundleAside, BundleTrace } from "./bundle-failure";
import { isImpulse, sourceKind } from "./failures";
import type { ShardContext } from "./shard-runner";

const SEGMENTS_READ_AHEAD = 16;
// What a bundle consumes ends up in its state or its outputs, which a process has to hold.
const INPUT_PER_COMMIT = 8;

// What is lost when such a bundle fails, and how late its results can be, against the cost of a commit.
const ASYNC_FEEDING_MS = 2_000;

/** How far a bundle went through the inbox. */
export interface Consumption {
  readonly whole: readonly SegmentName[];
  readonly position: Head["position"];
  readonly elements: number;
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
  for (let next = 0; next < segments.length && !full(); next += SEGMENTS_READ_AHEAD) {
    const ahead = segments.slice(next, next + SEGMENTS_READ_AHEAD);
    const contents = await readSegments(context, ahead);
    if (!contents) return undefined;
    for (const [index, segment] of ahead.entries()) {
      if (full()) return consumed(null);
      const content = await openSegment(context, segment, contents[index]!);
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

/** What the znodes of the segments hold: records, or references to blobs. Undefined if a segment is gone. */
async function readSegments(
  { client, layout }: ShardContext,
  segments: readonly SegmentName[],
): Promise<Buffer[] | undefined> {
  const read = async ({ name }: SegmentName): Promise<Buffer> =>
    (await reading(client, () => client.getData(`${layout.inbox}/${name}`))).data;
  return unlessGone(() => Promise.all(segments.map(read)));
}

/** The elements of one segment, from its blob where it has one; undefined if it was consumed meanwhile. */
async function openSegment(
  { client, layout, blobs }: ShardContext,
  { name }: SegmentName,
  data: Buffer,
): Promise<{ elements: Buffer[]; blob: string | undefined } | undefined> {
  const path = `${layout.inbox}/${name}`;
  const record = await openRecord(blobs, data, path);
  const { frame, blob } = record ?? (await unlessGone(() => readRecord(client, blobs, path))) ?? {};
  return frame && { elements: decodeSegment(frame, path), blob };
}

async function unlessGone<T>(read: () => Promise<T>): Promise<T | undefined> {
  try {
    return await read();
  } catch (error) {
    if (error instanceof NoNodeError) return undefined;
    throw error;
  }
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
  const { change, timestampMs } = decodeZnodeChange(element);
  bundle.processSourceElement(change, timestampMs);
}
