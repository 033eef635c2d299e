import type { CompiledPipeline } from "../beam/api";
import { MIN_TIMESTAMP_MS } from "../beam/engine/time";
import type { ScopePlan } from "../checkpoint/scope";
import type { SourceBatching, ZnodeSource } from "../checkpoint/znode-source";

/** A compiled pipeline as the relay needs it: graph, shards and sources, without any code of the user's. */
export interface PipelinePlan {
  readonly name: string;
  readonly plan: ScopePlan;
  readonly stages: CompiledPipeline["stages"];
  readonly sources: readonly {
    readonly id: string;
    readonly source: ZnodeSource;
    readonly batching?: SourceBatching;
    readonly consumers: readonly string[];
  }[];
}

/** Whether it comes to an end by itself: it is run by the batch function, and no relay watches for it. */
export function isBounded({ sources }: CompiledPipeline): boolean {
  return sources.every(({ kind }) => kind !== "znode-changes");
}

/** Takes from a compiled pipeline what its znodes are made from. */
export function planPipeline(pipeline: CompiledPipeline): PipelinePlan {
  const watched = pipeline.sources.filter(({ kind }) => kind === "znode-changes");
  const startedBy = (wanted: string): string[] =>
    pipeline.sources.filter(({ kind }) => kind === wanted).flatMap(({ consumers }) => consumers);
  return {
    name: pipeline.name,
    stages: pipeline.stages,
    sources: watched.map(({ id, config, tuning, consumers }) => ({
      id,
      source: config as ZnodeSource,
      ...(tuning === undefined ? {} : { batching: tuning as SourceBatching }),
      consumers,
    })),
    plan: {
      fingerprint: pipeline.fingerprint,
      sources: watched.map(({ id }) => id),
      shards: Object.fromEntries(pipeline.shards),
      sideInputStages: pipeline.stages.filter(({ hasSideInputs }) => hasSideInputs).map(({ id }) => id),
      upstream: Object.fromEntries(pipeline.stages.map(({ id, upstream }) => [id, upstream])),
      impulses: startedBy("impulse"),
      runStarts: startedBy("run"),
      minTimestampMs: MIN_TIMESTAMP_MS,
    },
  };
}
