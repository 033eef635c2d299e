import type * as beam from "apache-beam";
import type { SinkEffect } from "../../lib/beam/api";
import { decodeInboxElement, type InboxElement } from "../../lib/beam/coders/element-coder";
import { compilePipeline } from "../../lib/beam/pipeline";
import { readPrimitive, writePrimitive } from "../../lib/beam/primitives";
import {
  type BundleShape,
  type RunResult,
  runInMemory,
  runInMemoryAsync,
  type SourceStep,
} from "./memory-runner";

/** A source for tests: what it gives is passed to `runCollecting` under its name. */
export function readTest<T>(name: string, bounded = false): beam.PTransform<beam.Root, beam.PCollection<T>> {
  return readPrimitive<T>(name, { kind: "znode-changes", config: { name }, bounded });
}

/** A sink for tests: its effects are collected under its name. */
export function collect<T>(name: string): beam.PTransform<beam.PCollection<T>, void> {
  return writePrimitive<T>(name, { sink: name, config: {}, toPayload: (element: T) => element });
}

export interface Collected extends RunResult {
  of(name: string): readonly SinkEffect[];
  /** Payloads in an order that does not depend on bundles and shards. */
  values(name: string): unknown[];
}

export function runCollecting(
  build: (root: beam.Root) => unknown,
  shape: BundleShape,
  steps: Readonly<Record<string, readonly SourceStep[]>> = {},
  shards = 1,
): Collected {
  return collected(runInMemory(compilePipeline({ name: "test", build, shards }), steps, { shape, shards }));
}

/** The same for pipelines with asynchronous transforms. */
export async function runCollectingAsync(
  build: (root: beam.Root) => unknown,
  shape: BundleShape,
  steps: Readonly<Record<string, readonly SourceStep[]>> = {},
  shards = 1,
): Promise<Collected> {
  const pipeline = compilePipeline({ name: "test", build, shards });
  return collected(await runInMemoryAsync(pipeline, steps, { shape, shards }));
}

function collected(result: RunResult): Collected {
  const of = (name: string) => result.effects.filter((effect) => effect.sink === name);
  return {
    ...result,
    of,
    values: (name) =>
      of(name)
        .map((effect) => effect.payload)
        .sort(byText),
  };
}

function byText(a: unknown, b: unknown): number {
  const [x, y] = [JSON.stringify(a), JSON.stringify(b)];
  return x < y ? -1 : x > y ? 1 : 0;
}

export function at(timestampMs: number, value: unknown): SourceStep {
  return { value, timestampMs };
}

/** What one bundle of the source sends through the shuffle. */
export function shuffled(
  build: (root: beam.Root) => unknown,
  elements: readonly (readonly [timestampMs: number, value: unknown])[],
): InboxElement[] {
  const pipeline = compilePipeline({ name: "test", build, shards: 1 });
  const bundle = pipeline.openShard(pipeline.stages[0]!.id).beginBundle(-Infinity);
  for (const [timestampMs, value] of elements) bundle.processSourceElement(value, timestampMs);
  return [...bundle.finish().outputs.values()].flatMap((outputs) =>
    [...outputs].map(({ bytes }) => decodeInboxElement(bytes)),
  );
}
