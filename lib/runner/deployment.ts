import type { CompiledPipeline, CompiledStage } from "../beam/api";
import { MIN_TIMESTAMP_MS } from "../beam/engine/time";
import { PipelineDefinitionError } from "../beam/errors";
import type { EventSource, EventSourceSettings, PlannedEventSource } from "../checkpoint/event-source";
import type { UpdatePlan } from "../checkpoint/update";
import type { SourceBatching, ZnodeSource } from "../checkpoint/znode-source";

/** A compiled pipeline as the relay needs it: graph, shards and sources, without any code of the user's. */
export interface PipelinePlan {
  readonly name: string;
  readonly plan: UpdatePlan;
  readonly stages: CompiledPipeline["stages"];
  readonly sources: readonly {
    readonly id: string;
    readonly source: ZnodeSource;
    readonly batching?: SourceBatching;
    readonly consumers: readonly string[];
  }[];
  /** What the events function appends to. */
  readonly eventSources: readonly PlannedEventSource[];
}

/** Whether it comes to an end by itself: it is run by the batch function, and no relay watches for it. */
export function isBounded({ sources, stages }: CompiledPipeline): boolean {
  return (
    sources.every(({ kind }) => kind !== "znode-changes" && kind !== "events") &&
    !stages.some(isUnboundedRead)
  );
}

/** Whether restrictions of the stage may have no end: what is left of them is in its state. */
export function isUnboundedRead({ splitting }: Pick<CompiledStage, "splitting">): boolean {
  return splitting?.phase === "read" && splitting.source.unbounded === true;
}

export function watchesZnodes({ sources }: CompiledPipeline): boolean {
  return sources.some(({ kind }) => kind === "znode-changes");
}

/** Whether it is the driver function's, and no relay serves it. */
export function readsOnlyEvents(pipeline: CompiledPipeline): boolean {
  return pipeline.sources.some(({ kind }) => kind === "events") && !watchesZnodes(pipeline);
}

/** Whether it needs a relay: something has to wake what reads without end, where nothing else wakes a pipeline. */
export function isRelayed(pipeline: CompiledPipeline): boolean {
  return !isBounded(pipeline) && !readsOnlyEvents(pipeline);
}

/** The ids of the sources whose watermark is a cursor's; others have ended. */
export function sourcesWithCursor({ sources }: CompiledPipeline): ReadonlySet<string> {
  const running = sources.filter(({ kind }) => kind === "znode-changes" || kind === "events");
  return new Set(running.map(({ id }) => id));
}

/** Takes from a compiled pipeline what its znodes are made from. */
export function planPipeline(pipeline: CompiledPipeline): PipelinePlan {
  const watched = pipeline.sources.filter(({ kind }) => kind === "znode-changes");
  const events = pipeline.sources.filter(({ kind }) => kind === "events");
  for (const { config } of events) {
    const { name } = config as EventSource;
    if (events.filter((other) => (other.config as EventSource).name === name).length > 1)
      throw new PipelineDefinitionError(
        `pipeline "${pipeline.name}": two sources of events are called "${name}"; give one of them another name`,
      );
  }
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
    eventSources: events.map(({ id, config, tuning, consumers }) => ({
      id,
      source: config as EventSource,
      settings: tuning as EventSourceSettings,
      consumers,
    })),
    plan: {
      fingerprint: pipeline.fingerprint,
      graph: pipeline.graph,
      sources: watched.map(({ id }) => id),
      eventSources: events.map(({ id }) => id),
      shards: Object.fromEntries(pipeline.shards),
      sideInputStages: pipeline.stages.filter(({ hasSideInputs }) => hasSideInputs).map(({ id }) => id),
      keylessStages: pipeline.stages.filter(({ isKeyless }) => isKeyless).map(({ id }) => id),
      upstream: Object.fromEntries(pipeline.stages.map(({ id, upstream }) => [id, upstream])),
      impulses: startedBy("impulse"),
      runStarts: startedBy("run"),
      minTimestampMs: MIN_TIMESTAMP_MS,
    },
  };
}
