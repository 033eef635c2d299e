import type { BundleResult, CompiledPipeline, StageShard, TentativeBundle } from "../lib/beam/api";

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
  const shards = new Map<string, StageShard>(
    pipeline.stages.map(({ id }) => [id, pipeline.openShard(id)] as const),
  );
  const run = (stage: string, work: (bundle: TentativeBundle) => void): BundleResult => {
    const bundle = shards.get(stage)!.beginBundle(-Infinity);
    work(bundle);
    const result = bundle.finish();
    shards.set(stage, result.shard);
    return result;
  };
  const deliver = ({ outputs }: BundleResult): void => {
    for (const [stage, given] of outputs) {
      for (const { bytes, count, ends } of given.blocks()) {
        for (let start = 0; start < count; start += BUNDLE_ELEMENTS) {
          const end = Math.min(start + BUNDLE_ELEMENTS, count);
          deliver(run(stage, (bundle) => takeIn(bundle, bytes, ends, start, end)));
        }
      }
    }
  };
  const finish = (id: string): void => {
    for (let isMoreDue = true; isMoreDue; ) {
      const result = run(id, (bundle) => {
        isMoreDue = bundle.advanceWatermark(Infinity, BUNDLE_ELEMENTS);
      });
      deliver(result);
    }
  };
  const behind = new Set([source!.id]);
  for (const { id, upstream } of rest) if (upstream.some((above) => behind.has(above.id))) behind.add(id);
  const others = rest.filter(({ id }) => !behind.has(id));
  const runOthers = (): void => {
    for (const { id, kind } of others) {
      if (kind === "ordinary") deliver(run(id, (bundle) => bundle.processSourceElement(new Uint8Array(), 0)));
      else finish(id);
    }
  };
  if (sides === "before") runOthers();
  for (let start = 0; start < elements.length; start += BUNDLE_ELEMENTS) {
    const end = Math.min(start + BUNDLE_ELEMENTS, elements.length);
    deliver(run(source!.id, (bundle) => read(bundle, elements, start, end)));
  }
  if (sides === "after") runOthers();
  for (const { id } of rest) finish(id);
}

// Not functions within `runTimed`, whose compiled code would be lost with each garbage collection between two runs.

function read(bundle: TentativeBundle, elements: readonly unknown[], start: number, end: number): void {
  for (let i = start; i < end; i++) bundle.processSourceElement(elements[i], 0);
}

function takeIn(
  bundle: TentativeBundle,
  bytes: Uint8Array,
  ends: ArrayLike<number>,
  start: number,
  end: number,
): void {
  for (let i = start; i < end; i++) bundle.processElement(bytes, i === 0 ? 0 : ends[i - 1], ends[i]);
}
