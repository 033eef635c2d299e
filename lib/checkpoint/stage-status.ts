import type { PipelineStatus, ShardStatus } from "./status";

/** One stage, its shards taken together. */
export interface StageStatus {
  readonly stage: string;
  readonly shards: number;
  /** Segments in the inboxes. */
  readonly backlog: number;
  /** Up to where its input is complete: nothing older comes from upstream, and nothing older waits. */
  readonly inputWatermarkMs: number;
  /** Up to where its output is complete. */
  readonly outputWatermarkMs: number;
  /** The smallest input watermark at which something fires; Infinity if none. */
  readonly nextTimerMs: number;
  readonly commits: number;
  readonly elementsIn: number;
  readonly elementsOut: number;
  readonly droppedLate: number;
  /** Attempts of bundles that user code failed on, in all. */
  readonly failures: number;
  /** What is in dead-letter now. */
  readonly deadLetters: number;
}

/**
 * The stages of a status in the order in which data flows, with their watermarks. These are derived as a shard derives
 * its own (watermark.ts), since an idle shard commits nothing and its head says nothing about now; they can be too
 * low, never too high. Pure.
 */
export function stageStatuses(status: PipelineStatus): StageStatus[] {
  const sources = new Map(status.sources.map(({ id, watermarkMs }) => [id, watermarkMs]));
  const outputs = new Map<string, number>();
  return Object.entries(status.generation.upstream).map(([stage, upstream]) => {
    const shards = status.shards.filter((each) => each.stage === stage);
    // A source without a cursor has ended, as an impulse has.
    const arriving = upstream.map(({ type, id }) => (type === "source" ? sources : outputs).get(id) ?? ENDED);
    const ahead = Math.min(...arriving);
    const inputWatermarkMs = Math.min(ahead, ...shards.map(({ oldestMs }) => oldestMs));
    const outputWatermarkMs = Math.min(inputWatermarkMs, ...shards.map(({ holdMs }) => holdMs));
    outputs.set(stage, outputWatermarkMs);
    const nextTimerMs = Math.min(...shards.map((shard) => shard.nextTimerMs));
    const sum = (name: Counter): number => shards.reduce((total, shard) => total + shard[name], 0);
    return {
      stage,
      shards: shards.length,
      backlog: sum("backlog"),
      inputWatermarkMs,
      outputWatermarkMs,
      nextTimerMs,
      commits: sum("commits"),
      elementsIn: sum("elementsIn"),
      elementsOut: sum("elementsOut"),
      droppedLate: sum("droppedLate"),
      failures: sum("failures"),
      deadLetters: sum("deadLetters"),
    };
  });
}

const ENDED = Number.POSITIVE_INFINITY;
type Counter = keyof Pick<
  ShardStatus,
  "backlog" | "commits" | "elementsIn" | "elementsOut" | "droppedLate" | "failures" | "deadLetters"
>;
