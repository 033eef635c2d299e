import type { Root } from "apache-beam";
import type { BundleClock, CompiledPipeline, SinkEffect } from "../beam/api";
import { compilePipeline, definePipeline, type PipelineDefinition } from "../beam/pipeline";
import type { InputFiles } from "../beam/splittable";
import { TEXT_SINK, type TextFilePayload } from "../io/write-to-text";
import { ZNODES_SINK, type ZnodeWriteMode, type ZnodeWritePayload } from "../io/write-to-znodes";
import { finalName } from "../runner/text-files";
import { collectAssertions, PipelineAssertionError } from "./assert-that";
import { type BundleShape, runInMemory, SHAPES, type SourceStep } from "./memory-run";
import { collectStreams, type TestStream } from "./test-stream";

export interface TestOptions {
  /**
   * How elements are cut into bundles: "single" (element by element), "whole" (all that there is), or at random by a
   * seed. Some bundles are run twice, as if their commit had been lost. Default of `runTest`: all of these, one after the
   * other; of `runPipeline`: "whole".
   */
  readonly bundles?: BundleShape | "all";
  /** Shards of each stage. Default: 1. */
  readonly shards?: number;
  /** For the time limits of asynchronous transforms. Default: the system's. */
  readonly clock?: BundleClock;
  /** The znodes that transforms follow (`readZnodeLatest`, `runInference`), by path, at the beginning. Default: none. */
  readonly znodes?: Readonly<Record<string, string | Uint8Array>>;
  /** What `readText` and other sources read that are read in parts. Default: the files of this machine. */
  readonly files?: InputFiles;
  /**
   * Processing time, in ms, that goes by after the last step, from one thing that is due to the next, before sources
   * without an end are drained. A `ManualClock` goes along. Default: 0.
   */
  readonly runForMs?: number;
}

/**
 * Builds transforms and runs them in memory, without ZooKeeper: sources are `readTestStream` and `create`, and
 * `assertThat` says what has to come out. Elements and state go through their encodings at every bundle.
 *
 * @throws PipelineAssertionError, or what a function of the pipeline throws.
 */
export async function runTest(build: (root: Root) => unknown, options: TestOptions = {}): Promise<void> {
  for (const shape of shapesOf(options.bundles ?? "all")) {
    const { result, assertions } = collectAssertions(() =>
      collectStreams(() => compilePipeline(definePipeline({ name: "test", build }))),
    );
    const { result: pipeline, streams } = result;
    const steps = new Map<string, readonly SourceStep[]>();
    for (const { id, config } of pipeline.sources) {
      const stream = streams[(config as { testStream?: number } | undefined)?.testStream ?? -1];
      if (stream) steps.set(id, stream.steps);
    }
    const { effects } = await run(pipeline, Object.fromEntries(steps), shape, options);
    for (const { sink, check } of assertions) {
      try {
        check(effects.filter((effect) => effect.sink === sink));
      } catch (error) {
        if (!(error instanceof PipelineAssertionError)) throw error;
        throw new PipelineAssertionError(
          `${sink}, in bundles of shape ${JSON.stringify(shape)}: ${error.message}`,
        );
      }
    }
  }
}

export interface PipelineTestOptions extends Omit<TestOptions, "bundles"> {
  readonly bundles?: BundleShape;
  /** What each source gives, by its id, which is the name of its transform: `readZnodeChanges`, `readZnodeChanges-2`. */
  readonly sources: Readonly<Record<string, TestStream<never>>>;
}

/** A write that a pipeline committed, with the place of the element that it came from. */
export interface WrittenZnode {
  readonly path: string;
  /** As UTF-8 text. */
  readonly data: string;
  readonly version: number | undefined;
  readonly mode: ZnodeWriteMode;
  readonly window: SinkEffect["window"];
  readonly pane: SinkEffect["pane"];
  readonly timestampMs: number;
}

export interface PipelineTestResult {
  /** What `writeToZnodes` wrote, in the order of the commits. */
  readonly writes: readonly WrittenZnode[];
  /** What the znodes hold after the last write, by path. */
  readonly znodes: Readonly<Record<string, string>>;
  /** The lines of each text file, sorted, by the name of the file. */
  readonly files: Readonly<Record<string, readonly string[]>>;
  /** Elements that were dropped because their window had ended. */
  readonly droppedLate: number;
  /** The counters of the pipeline, by `transform:name`. */
  readonly counters: Readonly<Record<string, number>>;
}

/**
 * Runs a whole pipeline in memory, without ZooKeeper: its sources give what the test says, and what its sinks would have
 * written is the result.
 *
 * @throws RangeError if a source is named that the pipeline does not have, or what a function of the pipeline throws.
 */
export async function runPipeline(
  definition: PipelineDefinition,
  options: PipelineTestOptions,
): Promise<PipelineTestResult> {
  const pipeline = compilePipeline(definition);
  const known = pipeline.sources.map(({ id }) => id);
  for (const name of Object.keys(options.sources))
    if (!known.includes(name))
      throw new RangeError(
        `pipeline "${pipeline.name}" has no source "${name}"; its sources are ${known.join(", ")}`,
      );
  const steps = Object.fromEntries(Object.entries(options.sources).map(([id, { steps }]) => [id, steps]));
  const { effects, droppedLate, counters } = await run(pipeline, steps, options.bundles ?? "whole", options);
  const writes = effects.filter(({ sink }) => sink === ZNODES_SINK).map(toWrite);
  return {
    writes,
    znodes: znodesAfter(writes),
    files: filesOf(effects),
    droppedLate,
    counters: Object.fromEntries(counters),
  };
}

function run(
  pipeline: CompiledPipeline,
  steps: Readonly<Record<string, readonly SourceStep[]>>,
  shape: BundleShape,
  { shards, clock, znodes, files, runForMs }: TestOptions,
): ReturnType<typeof runInMemory> {
  return runInMemory(pipeline, steps, {
    shape,
    ...(shards && { shards }),
    ...(clock && { clock }),
    ...(znodes && { znodes }),
    ...(files && { files }),
    ...(runForMs && { runForMs }),
  });
}

function shapesOf(bundles: BundleShape | "all"): readonly BundleShape[] {
  return bundles === "all" ? SHAPES : [bundles];
}

function toWrite({ payload, window, pane, timestampMs }: SinkEffect): WrittenZnode {
  const { path, data, version, mode } = payload as ZnodeWritePayload;
  return { path, data: Buffer.from(data).toString("utf8"), version, mode, window, pane, timestampMs };
}

function znodesAfter(writes: readonly WrittenZnode[]): Record<string, string> {
  const znodes = new Map<string, string>();
  for (const { path, data, mode } of writes) {
    if (mode === "delete") znodes.delete(path);
    else znodes.set(path, data);
  }
  return Object.fromEntries(znodes);
}

function filesOf(effects: readonly SinkEffect[]): Record<string, readonly string[]> {
  const files: Record<string, readonly string[]> = {};
  for (const { sink, payload, window, pane } of effects) {
    if (sink !== TEXT_SINK) continue;
    const file = payload as TextFilePayload;
    files[finalName(file, window, pane)] = [...file.lines].sort();
  }
  return files;
}
