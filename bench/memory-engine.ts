import type { BundleOutput, CompiledPipeline, StageShard } from "../lib/beam/api";

const BUNDLE_ELEMENTS = 10_000;

/** Runs the elements of its source, in order, through all stages of a pipeline with one shard each. */
export function runTimed(pipeline: CompiledPipeline, elements: readonly unknown[]): void {
  const [first, ...rest] = pipeline.stages;
  const inboxes = new Map<string, BundleOutput[]>();
  const deliver = (outputs: ReadonlyMap<string, readonly BundleOutput[]>): void => {
    for (const [stage, more] of outputs) {
      const inbox = inboxes.get(stage);
      if (inbox === undefined) inboxes.set(stage, [...more]);
      else for (const output of more) inbox.push(output);
    }
  };
  let source = pipeline.openShard(first!.id);
  for (let start = 0; start < elements.length; start += BUNDLE_ELEMENTS) {
    const bundle = source.beginBundle(-Infinity);
    const end = Math.min(start + BUNDLE_ELEMENTS, elements.length);
    for (let i = start; i < end; i++) bundle.processSourceElement(elements[i], 0);
    const { outputs, shard } = bundle.finish();
    deliver(outputs);
    source = shard;
  }
  for (const { id } of rest) {
    let shard: StageShard = pipeline.openShard(id);
    const inbox = inboxes.get(id) ?? [];
    for (let start = 0; start < inbox.length; start += BUNDLE_ELEMENTS) {
      const bundle = shard.beginBundle(-Infinity);
      for (const { bytes } of inbox.slice(start, start + BUNDLE_ELEMENTS)) bundle.processElement(bytes);
      const result = bundle.finish();
      deliver(result.outputs);
      shard = result.shard;
    }
    for (let isMoreDue = true; isMoreDue; ) {
      const bundle = shard.beginBundle(-Infinity);
      isMoreDue = bundle.advanceWatermark(Infinity, BUNDLE_ELEMENTS);
      const result = bundle.finish();
      deliver(result.outputs);
      shard = result.shard;
    }
  }
}
