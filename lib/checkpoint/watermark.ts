import type { ZooKeeperClient } from "../zookeeper";
import { type ScopeLayout, type SegmentName, segmentNames } from "./layout";
import { type Cursor, decodeCursor, decodeHead, type Head, type Upstream } from "./records";

/** The graph as far as watermarks need it. */
export interface WatermarkGraph {
  /** In the order in which data flows. `sources` that are absent from `cursors` have ended (watermark infinity). */
  readonly stages: readonly { readonly id: string; readonly upstream: readonly Upstream[] }[];
  readonly cursors: ReadonlySet<string>;
  readonly shards: Readonly<Record<string, number>>;
}

/** What a shard sees before a bundle: how far its input is complete, and what waits in its inbox. */
export interface ShardInput {
  readonly inputWatermarkMs: number;
  readonly segments: readonly SegmentName[];
  /** The last zxid that the server had applied when it listed the inbox. */
  readonly listedZxid: bigint;
  /** How many commits the sources upstream had made before the inbox was listed. */
  readonly sourceCommits: ReadonlyMap<string, number>;
}

/** What a shard's next bundle is to take from its inbox, and the watermark that it moves on to when that is consumed. */
export interface ShardTurn extends ShardInput {
  readonly watermarkMs: number;
  /** It has to be taken even where there is nothing to do in it. */
  readonly isInherited: boolean;
}

/**
 * What is next: all that waits, or the segments of one of the shards that a rescaling made this one of. Keys are in one
 * shard only, so each of these segments meets the watermark that its keys have seen: nothing that was in time is late,
 * and no window fires again that has fired.
 */
export function nextTurn(head: Head, input: ShardInput): ShardTurn {
  const { inputWatermarkMs, segments: all, listedZxid, sourceCommits } = input;
  const inherited = head.inherited[0];
  const isInherited = inherited !== undefined;
  const watermarkMs = isInherited ? inherited.watermarkMs : Math.max(head.watermarkMs, inputWatermarkMs);
  const segments = isInherited
    ? all.slice(0, all.findIndex(({ name }) => name === inherited.through) + 1)
    : all;
  return { inputWatermarkMs, segments, listedZxid, sourceCommits, watermarkMs, isInherited };
}

interface StageReading {
  readonly inboxes: Promise<SegmentName[]>[];
  readonly heads: Promise<Head>[];
}

/**
 * Derives the input watermark of a shard and lists its inbox.
 *
 * The reads are sent in the order in which data flows: cursors, then for each stage upstream its inboxes and then
 * its heads, at last the shard's own inbox. A client answers in the order of sending and never goes back in time,
 * so an element that moves on while this reads is seen at least once on its way: the watermark found can be too
 * low, never too high (DESIGN section 7). Rejects with the client's error if any read fails.
 */
export async function readShardInput(
  client: ZooKeeperClient,
  scope: ScopeLayout,
  graph: WatermarkGraph,
  stage: string,
  shard: number,
): Promise<ShardInput> {
  const needed = upstreamStages(graph, stage);
  const cursorIds = [...graph.cursors].filter((id) => needed.sources.has(id));
  const cursors = new Map(cursorIds.map((id) => [id, readCursor(client, scope, id)]));
  const readings = new Map<string, StageReading>();
  for (const { id } of graph.stages)
    if (needed.stages.has(id)) readings.set(id, readStage(client, scope, id, graph.shards[id] ?? 0));
  const own = client.getChildren(scope.shard(stage, shard).inbox);

  const outputs = new Map<string, number>();
  const watermarks = new Map<string, number>();
  await settleAll([
    ...cursors.values(),
    ...[...readings.values()].flatMap((r) => [...r.inboxes, ...r.heads]),
    own,
  ]);
  const sourceCommits = new Map<string, number>();
  for (const [id, cursor] of cursors) {
    const { watermarkMs, number } = await cursor;
    watermarks.set(id, watermarkMs);
    sourceCommits.set(id, number);
  }
  for (const { id, upstream } of graph.stages) {
    const input = Math.min(...upstream.map((from) => upstreamWatermark(from, watermarks, outputs)));
    if (id === stage) {
      // The reply's own zxid: others on this client may have come since, and a zxid that the listing has not seen
      // would settle a wake-up that it did not find.
      const { children, zxid } = await own;
      return { inputWatermarkMs: input, segments: segmentNames(children), listedZxid: zxid, sourceCommits };
    }
    const reading = readings.get(id);
    if (reading) outputs.set(id, Math.min(input, ...(await heldBack(reading))));
  }
  throw new Error(`there is no stage ${stage} in this pipeline`);
}

function upstreamWatermark(
  from: Upstream,
  cursors: ReadonlyMap<string, number>,
  outputs: ReadonlyMap<string, number>,
): number {
  return (from.type === "source" ? cursors : outputs).get(from.id) ?? Number.POSITIVE_INFINITY;
}

async function heldBack(reading: StageReading): Promise<number[]> {
  const inboxes = await Promise.all(reading.inboxes);
  const heads = await Promise.all(reading.heads);
  // The heads come after the inboxes, so what a head says of a segment is true of what was still in it.
  const waiting = inboxes.flatMap((segments, shard) =>
    segments.map((segment) => oldestLeft(segment, heads[shard]!)),
  );
  return [...waiting, ...heads.map((head) => head.holdMs)];
}

/** The smallest time of what is left of a segment: where a source has told, that of the restriction being read. */
function oldestLeft({ name, minTimestampMs }: SegmentName, { position }: Head): number {
  return position?.segment === name
    ? Math.max(minTimestampMs, position.holdMs ?? minTimestampMs)
    : minTimestampMs;
}

/** All stages and sources that data of `stage` comes from, itself excluded. */
function upstreamStages(graph: WatermarkGraph, stage: string): { stages: Set<string>; sources: Set<string> } {
  const byId = new Map(graph.stages.map((each) => [each.id, each]));
  const stages = new Set<string>();
  const sources = new Set<string>();
  const visit = (id: string): void => {
    for (const from of byId.get(id)?.upstream ?? []) {
      if (from.type === "source") sources.add(from.id);
      else if (!stages.has(from.id)) {
        stages.add(from.id);
        visit(from.id);
      }
    }
  };
  visit(stage);
  return { stages, sources };
}

async function readCursor(client: ZooKeeperClient, scope: ScopeLayout, source: string): Promise<Cursor> {
  const path = scope.source(source).cursor;
  return decodeCursor((await client.getData(path)).data, path);
}

function readStage(client: ZooKeeperClient, scope: ScopeLayout, stage: string, shards: number): StageReading {
  const layouts = Array.from({ length: shards }, (_, shard) => scope.shard(stage, shard));
  const inboxes = layouts.map((shard) => listInbox(client, shard.inbox));
  const heads = layouts.map(async (shard) => decodeHead((await client.getData(shard.head)).data, shard.head));
  return { inboxes, heads };
}

async function listInbox(client: ZooKeeperClient, inbox: string): Promise<SegmentName[]> {
  return segmentNames((await client.getChildren(inbox)).children);
}

/** Waits for all, so that no rejection is left unhandled, and then rejects with the first. */
async function settleAll(promises: readonly Promise<unknown>[]): Promise<void> {
  await Promise.allSettled(promises);
  await Promise.all(promises);
}
