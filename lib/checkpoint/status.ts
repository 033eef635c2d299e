import { NoNodeError, type ZooKeeperClient } from "../zookeeper";
import { reading } from "./commit";
import { type PipelineLayout, segmentNames } from "./layout";
import { decodeCursor, decodeHead, type FailingBundle, type Generation } from "./records";
import type { RunCounters } from "./run";
import { type CurrentGeneration, readGeneration } from "./scope";
import { sumOfMetrics, type UserMetrics } from "./user-metrics";

/**
 * Where a pipeline stands. The parts are read one after the other, in the order in which data flows, so that an
 * element that moves on meanwhile is seen at least once on its way: a pipeline that looks settled is.
 */
export interface PipelineStatus {
  readonly generation: Generation;
  readonly sources: readonly {
    readonly id: string;
    readonly watermarkMs: number;
    readonly commits: number;
  }[];
  readonly shards: readonly ShardStatus[];
  /** Committed files that wait for their final names. */
  readonly waitingFiles: number;
  /** What user code counted in committed bundles, over all shards. */
  readonly metrics: UserMetrics;
}

export interface ShardStatus {
  readonly stage: string;
  readonly shard: number;
  /** Segments in the inbox. */
  readonly backlog: number;
  /** The smallest time of an element in the inbox; Infinity if it is empty. */
  readonly oldestMs: number;
  /** The input watermark of the last commit: an idle shard commits nothing, so it may be further. */
  readonly watermarkMs: number;
  readonly holdMs: number;
  readonly nextTimerMs: number;
  readonly nextProcessingTimerMs: number;
  readonly commits: number;
  readonly elementsIn: number;
  readonly elementsOut: number;
  readonly droppedLate: number;
  /** Attempts of bundles that user code failed on, in all. */
  readonly failures: number;
  /** What went to dead-letter, in all. */
  readonly deadLettered: number;
  /** What sources have found that there is to read, and have read of it, in bytes. */
  readonly totalBytes: number;
  readonly readBytes: number;
  /** What is in dead-letter now. */
  readonly deadLetters: number;
  /** The bundle that user code fails on at present, if there is one. */
  readonly failing: FailingBundle | null;
  /** What user code counted in the shard's committed bundles. */
  readonly metrics: UserMetrics;
}

/** Reads where a pipeline stands; undefined where it was never started. Rejects with EncodingError or the client's error. */
export async function readStatus(
  client: ZooKeeperClient,
  layout: PipelineLayout,
): Promise<PipelineStatus | undefined> {
  for (;;) {
    const current = await readGeneration(client, layout);
    if (!current) return undefined;
    try {
      return await readScopeStatus(client, current);
    } catch (error) {
      // The epoch may have been replaced by the next one and removed, while it was read.
      const next = error instanceof NoNodeError ? await readGeneration(client, layout) : undefined;
      if (!next || next.generation.epoch === current.generation.epoch) throw error;
    }
  }
}

/** Reads where a scope stands: the pipeline's epoch, or a run. */
export function readScopeStatus(
  client: ZooKeeperClient,
  current: CurrentGeneration,
): Promise<PipelineStatus> {
  return reading(client, () => readParts(client, current));
}

/** Sends all reads at once: a client answers in the order of sending, and no other order gives a true picture. */
async function readParts(client: ZooKeeperClient, current: CurrentGeneration): Promise<PipelineStatus> {
  const { generation, scope } = current;
  const ids = (await client.getChildren(scope.sources)).children.sort();
  const sources = ids.map((id) => readSource(client, `${scope.sources}/${id}`, decodeURIComponent(id)));
  const shards = Object.entries(generation.shards).flatMap(([stage, count]) =>
    readStage(client, current, stage, count),
  );
  const waiting = client.getChildren(scope.outputs);
  await Promise.allSettled([...sources, ...shards, waiting]);
  const read = await Promise.all(shards);
  return {
    generation,
    sources: await Promise.all(sources),
    shards: read,
    waitingFiles: (await waiting).children.length,
    metrics: sumOfMetrics(read.map(({ metrics }) => metrics)),
  };
}

async function readSource(
  client: ZooKeeperClient,
  path: string,
  id: string,
): Promise<PipelineStatus["sources"][number]> {
  const cursor = decodeCursor((await client.getData(path)).data, path);
  return { id, watermarkMs: cursor.watermarkMs, commits: cursor.number };
}

/** The stage's inboxes first and then its heads: what left an inbox is in a head, or further on. */
function readStage(
  client: ZooKeeperClient,
  { scope }: CurrentGeneration,
  stage: string,
  count: number,
): Promise<ShardStatus>[] {
  const layouts = Array.from({ length: count }, (_, shard) => scope.shard(stage, shard));
  const inboxes = layouts.map(({ inbox }) => client.getChildren(inbox));
  const heads = layouts.map(({ head }) => client.getData(head));
  const letters = layouts.map(({ deadLetters }) => client.getChildren(deadLetters));
  return layouts.map(async ({ head: path }, shard) => {
    await Promise.allSettled([inboxes[shard], heads[shard], letters[shard]]);
    const segments = segmentNames((await inboxes[shard]!).children);
    const head = decodeHead((await heads[shard]!).data, path);
    const deadLetters = (await letters[shard]!).children.length;
    const { watermarkMs, holdMs, nextTimerMs, nextProcessingTimerMs } = head;
    const { number: commits, counters, failing, metrics } = head;
    const backlog = segments.length;
    const oldestMs = Math.min(...segments.map(({ minTimestampMs }) => minTimestampMs));
    const times = { oldestMs, watermarkMs, holdMs, nextTimerMs, nextProcessingTimerMs };
    return { stage, shard, backlog, ...times, commits, ...counters, deadLetters, failing, metrics };
  });
}

/** Whether every source has ended, and all that was read is processed and written. What is so stays so. */
export function isDrained(status: PipelineStatus): boolean {
  return isSettled(status, Number.MAX_VALUE);
}

/**
 * Whether everything that happened up to `timeMs` has been read, and all that was read is processed and written.
 * A deletion's event time is later than the deletion, so a window that is open at `timeMs` may hold it: nothing
 * at all may be pending. While writes go on, a pipeline is therefore never settled.
 */
export function isSettled(status: PipelineStatus, timeMs: number): boolean {
  return (
    status.sources.every(({ watermarkMs }) => watermarkMs > timeMs) &&
    status.shards.every(({ backlog, nextTimerMs, nextProcessingTimerMs }) => {
      return backlog === 0 && Math.min(nextTimerMs, nextProcessingTimerMs) === Number.POSITIVE_INFINITY;
    }) &&
    status.waitingFiles === 0
  );
}

/** What a run has done so far, over all its shards. */
export function countersOf({ shards }: PipelineStatus): RunCounters {
  const sum = (name: keyof RunCounters): number => shards.reduce((total, shard) => total + shard[name], 0);
  return {
    elementsIn: sum("elementsIn"),
    elementsOut: sum("elementsOut"),
    commits: sum("commits"),
    failures: sum("failures"),
    deadLettered: sum("deadLettered"),
    totalBytes: sum("totalBytes"),
    readBytes: sum("readBytes"),
  };
}
