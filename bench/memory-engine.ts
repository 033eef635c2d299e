import type { CompiledPipeline, OutputBlock, StageShard, TentativeBundle } from "../lib/beam/api";

const BUNDLE_ELEMENTS = 10_000;

/**
 * Runs the elements of its source, in order, through all stages of a pipeline with one shard each. What a bundle
 * gives off is processed before the next one of the source, as where shards keep up.
 *
 * @param sides whether what does not come from the source, as side inputs, is there before its elements or after them.
 */
export function runTimed(
  pipeline: CompiledPipeline,
  elements: readonly unknown[],
  sides: "before" | "after" = "before",
): void {
  const [source, ...rest] = pipeline.stages;
  const behind = new Set([source!.id]);
  for (const { id, upstream } of rest) if (upstream.some((above) => behind.has(above.id))) behind.add(id);
  const others = rest.filter(({ id }) => !behind.has(id));
  const run = new MemoryRun(pipeline);
  if (sides === "before") run.startAll(others);
  run.read(source!.id, elements);
  if (sides === "after") run.startAll(others);
  for (const { id } of rest) run.finish(id);
}

/** With methods, as the runner: functions made for each run would be compiled for each, at the cost of what is measured. */
class MemoryRun {
  private readonly shards: Map<string, StageShard>;

  constructor(pipeline: CompiledPipeline) {
    this.shards = new Map(pipeline.stages.map(({ id }) => [id, pipeline.openShard(id)]));
  }

  startAll(stages: CompiledPipeline["stages"]): void {
    for (const { id, kind } of stages) {
      if (kind === "ordinary") this.read(id, [new Uint8Array()]);
      else this.finish(id);
    }
  }

  read(stage: string, elements: readonly unknown[]): void {
    for (let start = 0; start < elements.length; start += BUNDLE_ELEMENTS) {
      const end = Math.min(start + BUNDLE_ELEMENTS, elements.length);
      const bundle = this.begin(stage);
      for (let i = start; i < end; i++) bundle.processSourceElement(elements[i], 0);
      this.end(stage, bundle);
    }
  }

  finish(stage: string): void {
    for (let isMoreDue = true; isMoreDue; ) {
      const bundle = this.begin(stage);
      isMoreDue = bundle.advanceWatermark(Infinity, BUNDLE_ELEMENTS);
      this.end(stage, bundle);
    }
  }

  private takeIn(stage: string, { bytes, count, ends }: OutputBlock): void {
    for (let start = 0; start < count; start += BUNDLE_ELEMENTS) {
      const end = Math.min(start + BUNDLE_ELEMENTS, count);
      const bundle = this.begin(stage);
      for (let i = start; i < end; i++) bundle.processElement(bytes, i === 0 ? 0 : ends[i - 1], ends[i]);
      this.end(stage, bundle);
    }
  }

  private begin(stage: string): TentativeBundle {
    return this.shards.get(stage)!.beginBundle(-Infinity);
  }

  private end(stage: string, bundle: TentativeBundle): void {
    const { shard, outputs } = bundle.finish();
    this.shards.set(stage, shard);
    for (const [to, given] of outputs) for (const block of given.blocks()) this.takeIn(to, block);
  }
}
