import type {
  BundleClock,
  BundleResult,
  CompiledPipeline,
  CompiledStage,
  SinkEffect,
  StageShard,
  TentativeBundle,
} from "../beam/api";
import type { WatchedZnode } from "../beam/followed-znode";
import type { InputFiles } from "../beam/splittable";
import { systemClock } from "../clock";
import { randomNumbers } from "../simulation/random-numbers";
import { ManualClock } from "./manual-clock";
import { MemoryReads } from "./memory-reads";

/**
 * Runs a compiled pipeline in memory, one shard a stage or several, in bundles of a given shape. Elements and
 * state go through their encodings at every bundle, as they would through znodes, and some bundles are begun,
 * run and thrown away, as if their commit had been lost.
 */
export interface SourceElement {
  readonly value: unknown;
  readonly timestampMs: number;
}

/** What a source gives, in order: elements, and watermarks, processing times and writes to followed znodes between them. */
export type SourceStep =
  | SourceElement
  | { readonly watermarkMs: number }
  | { readonly clockMs: number }
  | { readonly znode: string; readonly holds: string | Uint8Array | undefined };

/** What several sources give, in one order. `observe` sees what has come out so far, once everything is at rest. */
export type TimelineStep =
  | { readonly source: string; readonly steps: readonly SourceStep[] }
  | { readonly clockMs: number }
  | { readonly observe: (effects: readonly SinkEffect[]) => void };

/** Of each source, played one source after the other, each to the end of time; or of all, in one order. */
export type RunSteps = Readonly<Record<string, readonly SourceStep[]>> | readonly TimelineStep[];

export interface RunOptions {
  /** How the elements that wait are cut into bundles. */
  readonly shape: BundleShape;
  /** Default: 1. */
  readonly shards?: number;
  /** For the time limits of asynchronous calls. Default: the system's. */
  readonly clock?: BundleClock;
  /** The znodes that transforms follow, by path, as text or bytes. Looked at before each bundle. Default: none. */
  readonly znodes?: Readonly<Record<string, string | Uint8Array>>;
  /** What sources read that are read in parts. Default: the files of this machine. */
  readonly files?: InputFiles;
  /**
   * Processing time, in ms, that goes by after the last step, before what is read without end is drained. Default: 0.
   */
  readonly runForMs?: number;
}

export type BundleShape = "single" | "whole" | { readonly seed: number };

/** The shapes that every test of the engine runs in. */
export const SHAPES: readonly BundleShape[] = ["single", "whole", { seed: 1 }, { seed: 2 }, { seed: 3 }];

export interface RunResult {
  readonly effects: readonly SinkEffect[];
  readonly droppedLate: number;
  readonly counters: ReadonlyMap<string, number>;
  readonly distributions: ReadonlyMap<string, { count: number; sum: number; min: number; max: number }>;
}

/** Runs to the end of time: after the last step the watermark goes to infinity. */
export async function runInMemory(
  pipeline: CompiledPipeline,
  steps: RunSteps,
  options: RunOptions,
): Promise<RunResult> {
  const run = new MemoryRun(pipeline, options).run(steps);
  let step = run.next();
  while (!step.done) {
    try {
      await step.value;
    } catch (error) {
      step = run.throw(error);
      continue;
    }
    step = run.next();
  }
  return step.value;
}

/** The same for a pipeline in which nothing is asynchronous. */
export function runInMemorySync(...run: Parameters<typeof runInMemory>): RunResult {
  const [pipeline, steps, options] = run;
  const step = new MemoryRun(pipeline, options).run(steps).next();
  if (step.done) return step.value;
  step.value.catch(() => undefined);
  throw new Error(`pipeline "${pipeline.name}" has asynchronous transforms; await runInMemory`);
}

export function isTimeline(steps: RunSteps): steps is readonly TimelineStep[] {
  return Array.isArray(steps);
}

/** Goes on when what it waits for has come about. */
type Steps<T = void> = Generator<Promise<unknown>, T, void>;

interface ShardState {
  readonly cells: Map<string, string>;
  shared: Uint8Array | undefined;
  holdMs: number;
  nextTimerMs: number;
  nextProcessingTimerMs: number;
  inbox: Uint8Array[];
}

class MemoryRun {
  private readonly shards = new Map<string, ShardState[]>();
  private readonly sourceWatermarks = new Map<string, number>();
  private readonly effects: SinkEffect[] = [];
  private readonly counters = new Map<string, number>();
  private readonly distributions = new Map<
    string,
    { count: number; sum: number; min: number; max: number }
  >();
  private readonly znodes = new Map<string, string | Uint8Array | undefined>();
  private readonly watched = new Map<string, WatchedZnode>();
  private writes = 0;
  private droppedLate = 0;
  private nowMs: number | undefined;
  private readonly random: () => number;
  private readonly reads: MemoryReads;

  constructor(
    private readonly pipeline: CompiledPipeline,
    private readonly options: RunOptions,
  ) {
    for (const [path, value] of Object.entries(options.znodes ?? {})) this.znodes.set(path, value);
    this.random = randomNumbers(typeof options.shape === "object" ? options.shape.seed : 1);
    if (options.clock instanceof ManualClock || options.runForMs) this.nowMs = options.clock?.now() ?? 0;
    this.reads = new MemoryReads({ ...options, znodes: this.znodes }, () => this.nowMs ?? 0);
    for (const stage of pipeline.stages) {
      const count = stage.kind === "ordinary" ? 1 : (options.shards ?? 1);
      this.shards.set(
        stage.id,
        Array.from({ length: count }, () => ({
          cells: new Map(),
          shared: undefined,
          holdMs: Infinity,
          nextTimerMs: Infinity,
          nextProcessingTimerMs: Infinity,
          inbox: [],
        })),
      );
    }
    for (const source of pipeline.sources) this.sourceWatermarks.set(source.id, -Infinity);
  }

  *run(steps: RunSteps): Steps<RunResult> {
    for (const { id } of this.pipeline.stages) {
      const settingUp = this.pipeline.setUp(id);
      if (settingUp !== undefined) yield settingUp;
    }
    for (const source of this.pipeline.sources) {
      if (source.kind !== "impulse" && isTimeline(steps)) continue;
      const impulse = [{ value: new Uint8Array(), timestampMs: -Infinity }];
      const own = isTimeline(steps) ? [] : (steps[source.id] ?? []);
      yield* this.feed(source.id, source.kind === "impulse" ? impulse : own);
      this.sourceWatermarks.set(source.id, Infinity);
    }
    if (isTimeline(steps)) yield* this.play(steps);
    yield* this.settle();
    yield* this.goOn();
    this.reads.isDraining = true;
    yield* this.settle();
    const { effects, droppedLate, counters, distributions } = this;
    return { effects, droppedLate, counters, distributions };
  }

  private *feed(source: string, steps: readonly SourceStep[]): Steps {
    let waiting: SourceElement[] = [];
    for (const step of steps) {
      if ("value" in step) {
        waiting.push(step);
        continue;
      }
      yield* this.deliver(source, waiting);
      waiting = [];
      yield* this.settle();
      if ("clockMs" in step) this.setTime(step.clockMs);
      else if ("znode" in step) this.znodes.set(step.znode, step.holds);
      else this.sourceWatermarks.set(source, step.watermarkMs);
      yield* this.settle();
    }
    yield* this.deliver(source, waiting);
  }

  private *play(timeline: readonly TimelineStep[]): Steps {
    for (const step of timeline) {
      if ("source" in step) yield* this.feed(step.source, step.steps);
      else {
        yield* this.settle();
        if ("clockMs" in step) this.setTime(step.clockMs);
        else step.observe(this.effects);
        yield* this.settle();
      }
    }
    for (const { id } of this.pipeline.sources) this.sourceWatermarks.set(id, Infinity);
  }

  /** Lets processing time go by, from one thing that is due to the next. */
  private *goOn(): Steps {
    const untilMs = (this.nowMs ?? 0) + (this.options.runForMs ?? 0);
    const shards = [...this.shards.values()].flat();
    while (this.options.runForMs) {
      const nextMs = Math.min(...shards.map(({ nextProcessingTimerMs }) => nextProcessingTimerMs));
      this.setTime(Math.min(Math.max(nextMs, this.nowMs!), untilMs));
      yield* this.settle();
      if (nextMs > untilMs) return;
    }
  }

  private setTime(nowMs: number): void {
    const { clock } = this.options;
    if (clock instanceof ManualClock) clock.advance(Math.max(0, nowMs - clock.now()));
    this.nowMs = nowMs;
  }

  private *deliver(source: string, elements: readonly SourceElement[]): Steps {
    for (const cut of this.cut(elements)) {
      yield* this.bundle(source, 0, -Infinity, function* (bundle) {
        for (const { value, timestampMs } of cut) {
          bundle.processSourceElement(value, timestampMs);
          if (bundle.isBusy) yield bundle.room();
        }
      });
      yield* this.anyBundles();
    }
  }

  /** Where bundles are random, so is the shard that goes on next: some of what waits is processed, as it comes. */
  private *anyBundles(): Steps {
    if (typeof this.options.shape !== "object") return;
    while (this.random() < 0.6) {
      const waiting = this.pipeline.stages.flatMap(({ id }) =>
        this.shards
          .get(id)!
          .flatMap((shard, index) => (shard.inbox.length > 0 ? [{ id, shard, index }] : [])),
      );
      const next = waiting[Math.floor(this.random() * waiting.length)];
      if (next === undefined) return;
      const stage = this.stage(next.id);
      if (stage.splitting) yield* this.readOn(stage, next.index);
      else {
        const taken = next.shard.inbox.splice(0, 1 + Math.floor(this.random() * next.shard.inbox.length));
        yield* this.process(next.id, next.index, taken);
      }
    }
  }

  private stage(id: string): CompiledStage {
    return this.pipeline.stages.find((stage) => stage.id === id)!;
  }

  /** One bundle of a stage that divides or reads; false where there is nothing to do. */
  private *readOn(stage: CompiledStage, index: number): Steps<boolean> {
    const { reads, random } = this;
    const { shape } = this.options;
    const shard = this.shards.get(stage.id)![index]!;
    const name = `${stage.id}/${index}`;
    if (!reads.hasWork(stage, name, shard.inbox, shard.nextProcessingTimerMs)) return false;
    const taken = reads.isReading(name) ? [] : shard.inbox.splice(0);
    const limit = shape === "whole" ? Infinity : shape === "single" ? 1 : 1 + Math.floor(random() * 5);
    let accept = (): void => undefined;
    yield* this.bundle(stage.id, index, -Infinity, function* (bundle) {
      const filled = reads.fill(stage, name, taken, bundle, limit);
      yield filled.then((done) => {
        accept = done;
      });
    });
    accept();
    return true;
  }

  private *process(stage: string, index: number, elements: readonly Uint8Array[]): Steps {
    yield* this.bundle(stage, index, -Infinity, function* (bundle) {
      for (const bytes of elements) {
        bundle.processElement(bytes);
        if (bundle.isBusy) yield bundle.room();
      }
    });
  }

  /** Brings everything to rest, stage by stage in the order of the data. */
  private *settle(): Steps {
    yield* this.anyBundles();
    for (const stage of this.pipeline.stages)
      for (const index of this.shards.get(stage.id)!.keys()) yield* this.settleShard(stage, index);
  }

  private *settleShard(stage: CompiledStage, index: number): Steps {
    const shard = this.shards.get(stage.id)![index]!;
    if (stage.splitting) while (yield* this.readOn(stage, index));
    const { inbox } = shard;
    shard.inbox = [];
    // The elements that wait come first: what they arrived under is the watermark of the last advance.
    for (const cut of this.cut(inbox)) yield* this.process(stage.id, index, cut);
    const watermarkMs = this.inputWatermark(stage);
    const { nowMs } = this;
    // A shard without timers still has to learn the watermark, by which it judges what is late.
    if (watermarkMs > -Infinity)
      yield* this.advance(stage.id, index, (bundle, most) => bundle.advanceWatermark(watermarkMs, most));
    if (nowMs !== undefined)
      yield* this.advance(stage.id, index, (bundle, most) => bundle.advanceProcessingTime(nowMs, most));
  }

  private *advance(
    stage: string,
    index: number,
    fire: (bundle: TentativeBundle, most: number) => boolean,
  ): Steps {
    const { random } = this;
    for (let more = true; more; ) {
      // biome-ignore lint/correctness/useYield: the other kinds of work wait.
      yield* this.bundle(stage, index, -Infinity, function* (bundle) {
        more = fire(bundle, 1 + Math.floor(random() * 3));
      });
    }
  }

  private followed(path: string): WatchedZnode | undefined {
    const value = this.znodes.get(path);
    if (value === undefined) {
      this.watched.delete(path);
      return undefined;
    }
    const data = Buffer.from(value as string);
    const before = this.watched.get(path);
    if (before !== undefined && data.equals(before.data)) return before;
    const version = before === undefined ? 0 : before.version + 1;
    const znode = { data, text: data.toString("utf8"), mzxid: BigInt(++this.writes), version };
    this.watched.set(path, znode);
    return znode;
  }

  private inputWatermark(stage: CompiledStage): number {
    return Math.min(
      ...stage.upstream.map(({ type, id }) =>
        type === "source" ? this.sourceWatermarks.get(id)! : this.outputWatermark(id),
      ),
    );
  }

  private outputWatermark(id: string): number {
    return Math.min(
      this.inputWatermark(this.stage(id)),
      ...this.shards.get(id)!.map((shard) => shard.holdMs),
    );
  }

  private *bundle(
    stage: string,
    index: number,
    watermarkMs: number,
    work: (bundle: TentativeBundle) => Steps,
  ): Steps {
    const shard = this.shards.get(stage)![index]!;
    const loader = this.pipeline.loadShard(stage);
    for (const [id, value] of shard.cells) loader.add(id, Buffer.from(value, "latin1"));
    const open = loader.open(shard.shared);
    // Run, and lost before its commit: nothing of it may be seen by the one that follows.
    const refreshing = this.pipeline.refresh(stage, async (path) => this.followed(path));
    if (refreshing !== undefined) yield refreshing;
    if (this.random() < 0.2) (yield* this.runOnce(open, watermarkMs, work)).bundle.dispose();
    const { bundle, result } = yield* this.runOnce(open, watermarkMs, work);
    for (const { id, value } of result.stateChanges) {
      if (value === undefined) shard.cells.delete(id);
      else shard.cells.set(id, value);
    }
    shard.shared = result.sharedState;
    shard.holdMs = result.holdMs;
    shard.nextTimerMs = result.nextTimerMs;
    shard.nextProcessingTimerMs = result.nextProcessingTimerMs;
    this.effects.push(...result.effects);
    this.droppedLate += result.counters.droppedLate;
    this.countMetrics(result.metrics);
    for (const [target, outputs] of result.outputs) {
      const shards = this.shards.get(target)!;
      for (const { bytes, keyHash, isBroadcast } of outputs)
        for (const shard of isBroadcast ? shards : [shards[keyHash % shards.length]!])
          shard.inbox.push(Buffer.from(bytes));
    }
    bundle.dispose();
    for (const finalization of result.finalizations) yield this.pipeline.finalize(finalization);
  }

  private *runOnce(
    open: StageShard,
    watermarkMs: number,
    work: (bundle: TentativeBundle) => Steps,
  ): Steps<{ readonly bundle: TentativeBundle; readonly result: BundleResult }> {
    const clock = this.options.clock ?? systemClock;
    const bundle = open.beginBundle(watermarkMs, this.nowMs, undefined, clock);
    try {
      yield* work(bundle);
      if (bundle.isAsync) yield bundle.drain();
      return { bundle, result: bundle.finish() };
    } catch (error) {
      bundle.dispose();
      throw error;
    }
  }

  private countMetrics(metrics: Pick<RunResult, "counters" | "distributions">): void {
    for (const [name, value] of metrics.counters)
      this.counters.set(name, (this.counters.get(name) ?? 0) + value);
    for (const [name, more] of metrics.distributions) {
      const { count, sum, min, max } = this.distributions.get(name) ?? {
        count: 0,
        sum: 0,
        min: Infinity,
        max: -Infinity,
      };
      this.distributions.set(name, {
        count: count + more.count,
        sum: sum + more.sum,
        min: Math.min(min, more.min),
        max: Math.max(max, more.max),
      });
    }
  }

  private cut<T>(items: readonly T[]): T[][] {
    if (items.length === 0) return [];
    if (this.options.shape === "whole") return [[...items]];
    const cuts: T[][] = [];
    for (let i = 0; i < items.length; ) {
      const size = this.options.shape === "single" ? 1 : 1 + Math.floor(this.random() * 5);
      cuts.push(items.slice(i, i + size));
      i += size;
    }
    return cuts;
  }
}
