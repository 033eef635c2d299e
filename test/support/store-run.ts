import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type {
  BundleResult,
  CompiledPipeline,
  SinkEffect,
  StageShard,
  TentativeBundle,
} from "../../lib/beam/api";
import { decodeValue, encodeValue } from "../../lib/beam/coders/value-coder";
import { DirectoryBlobs } from "../../lib/checkpoint/blobs";
import { drainPipeline } from "../../lib/checkpoint/control";
import { DirectoryFiles } from "../../lib/checkpoint/files";
import { PipelineLayout, segmentPrefix } from "../../lib/checkpoint/layout";
import { decodeHead, encodeCursor, type Head, NEW_CURSOR } from "../../lib/checkpoint/records";
import { type CurrentGeneration, openPipeline } from "../../lib/checkpoint/scope";
import { encodeSegment } from "../../lib/checkpoint/segment";
import { sumOfMetrics } from "../../lib/checkpoint/user-metrics";
import { encodeZnodeChange, type ZnodeChange } from "../../lib/checkpoint/znode-change";
import { type Clock, systemClock } from "../../lib/clock";
import { ZNODES_SINK } from "../../lib/io/write-to-znodes";
import { silent } from "../../lib/log";
import { planPipeline } from "../../lib/runner/deployment";
import { ShardRunner } from "../../lib/runner/shard-runner";
import { randomNumbers } from "../../lib/simulation/random-numbers";
import {
  isTimeline,
  type RunOptions,
  type RunSteps,
  type SourceElement,
  type SourceStep,
  type TimelineStep,
} from "../../lib/testing/memory-run";
import { znodeChange } from "../../lib/testing/znode-change";
import type { ZooKeeper, ZooKeeperClient } from "../../lib/zookeeper";
import type { RunResult } from "./memory-runner";

/** What runs stand on: a client of a real server, and a znode below which results go. */
export interface StorePlace {
  readonly client: ZooKeeper;
  readonly results: string;
}

/**
 * The run of `runInMemory` through the real runner and the real commit: elements wait in inboxes on a server, bundles are
 * cut at random, shards go on in random order, state is loaded anew where another runner comes, and some processes die
 * before or after their commit. Effects are what the committed multis have written.
 */
export async function runThroughStore(
  { client, results }: StorePlace,
  pipeline: CompiledPipeline,
  steps: RunSteps,
  { shape, shards = 1 }: Pick<RunOptions, "shape" | "shards">,
): Promise<RunResult> {
  const folder = mkdtempSync(join(tmpdir(), "beamkeeper-store-"));
  const sink = new ResultZnodes(client, results);
  const seed = typeof shape === "object" ? shape.seed : 1;
  try {
    await client.create(results);
    const run = new StoreRun(client, sink.capturing(pipeline), `/root${results}`, folder, shards, seed);
    await run.open();
    await (isTimeline(steps) ? run.play(steps) : run.feed(steps));
    return await sink.result(await run.heads());
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** The process dies here, as far as its shard is concerned. */
class Died extends Error {}

/** Where the elements seem to come from. */
const IN = "/in";
const RUNNER_UNITS = [2, 7, 100] as const;
const DEATHS = 0.1;

class StoreRun {
  private readonly layout: PipelineLayout;
  private readonly random: () => number;
  private readonly runners: ShardRunner[];
  private current!: CurrentGeneration;
  private nowMs = 0;
  private elements = 0;

  constructor(
    private readonly client: ZooKeeper,
    private readonly pipeline: CompiledPipeline,
    root: string,
    folder: string,
    private readonly shards: number,
    seed: number,
  ) {
    this.random = randomNumbers(seed);
    this.layout = new PipelineLayout(root, pipeline.name);
    const clock: Clock = { ...systemClock, now: () => this.nowMs };
    const blobs = new DirectoryBlobs(join(folder, ".blobs"));
    this.runners = RUNNER_UNITS.map(
      (maxUnits) =>
        new ShardRunner({
          ...{ client: this.mortal(), root, clock, log: silent, blobs },
          pipelines: new Map([[pipeline.name, pipeline]]),
          files: new DirectoryFiles(folder),
          limits: { maxUnits, commitSizeBytes: 128 * 1024, segmentSizeBytes: 32 * 1024 },
        }),
    );
  }

  async open(): Promise<void> {
    const { plan } = planPipeline(this.pipeline);
    const shards = Object.fromEntries(Object.keys(plan.shards).map((stage) => [stage, this.shards]));
    this.current = await openPipeline(this.client, this.layout, { ...plan, shards });
  }

  /** One source after the other, each to the end of time. */
  async feed(steps: Readonly<Record<string, readonly SourceStep[]>>): Promise<void> {
    for (const id of this.sources()) {
      await this.deliverAll(id, steps[id] ?? []);
      await this.settle();
      await this.publish(id, Number.POSITIVE_INFINITY);
    }
    await this.settle();
  }

  /** All sources in one order, to the end of time; then what is read without end is drained. */
  async play(timeline: readonly TimelineStep[]): Promise<void> {
    for (const step of timeline) {
      if ("source" in step) await this.deliverAll(step.source, step.steps);
      else {
        await this.settle();
        if ("clockMs" in step) this.nowMs = step.clockMs;
        else step.observe([]);
        await this.settle();
      }
    }
    for (const id of this.sources()) await this.publish(id, Number.POSITIVE_INFINITY);
    await this.settle();
    await drainPipeline(this.client, this.layout);
    await this.settle();
  }

  private sources(): string[] {
    return this.pipeline.sources.flatMap(({ id, kind }) => (kind === "znode-changes" ? [id] : []));
  }

  private async deliverAll(id: string, steps: readonly SourceStep[]): Promise<void> {
    const waiting: SourceElement[] = [];
    for (const step of steps) {
      if ("value" in step) {
        waiting.push(step);
        continue;
      }
      await this.deliver(id, waiting.splice(0));
      await this.settle();
      if ("clockMs" in step) this.nowMs = step.clockMs;
      else if ("watermarkMs" in step) await this.publish(id, step.watermarkMs);
      else throw new Error("followed znodes are not played out through the store");
      await this.settle();
    }
    await this.deliver(id, waiting);
  }

  async heads(): Promise<Head[]> {
    const { scope } = this.current;
    return Promise.all(
      this.eachShard().map(async ({ stage, shard }) => {
        const { head } = scope.shard(stage, shard);
        return decodeHead((await this.client.getData(head)).data, head);
      }),
    );
  }

  private eachShard(): { readonly stage: string; readonly shard: number }[] {
    return this.pipeline.stages.flatMap(({ id: stage }) =>
      Array.from({ length: this.shards }, (_, shard) => ({ stage, shard })),
    );
  }

  /** In segments of random length; all of a source in one shard, so that they stay in order. */
  private async deliver(source: string, elements: readonly SourceElement[]): Promise<void> {
    const { consumers } = this.pipeline.sources.find(({ id }) => id === source)!;
    for (let i = 0; i < elements.length; ) {
      const cut = elements.slice(i, i + 1 + Math.floor(this.random() * 4));
      i += cut.length;
      const changes = cut.map(({ value, timestampMs }) => {
        const change = znodeChange({ path: `${IN}/${++this.elements}`, data: encodeValue(value) });
        return encodeZnodeChange(change, timestampMs);
      });
      const { data, minTimestampMs } = encodeSegment(changes);
      for (const stage of consumers) {
        const path = segmentPrefix(this.current.scope.shard(stage, 0).inbox, minTimestampMs);
        await this.client.create(path, data, { mode: "persistent-sequential" });
      }
      await this.anyBundles();
    }
  }

  private async publish(source: string, watermarkMs: number): Promise<void> {
    const { cursor } = this.current.scope.source(source);
    await this.client.setData(cursor, encodeCursor({ ...NEW_CURSOR, watermarkMs }));
  }

  private async anyBundles(): Promise<void> {
    const shards = this.eachShard();
    while (this.random() < 0.5) await this.invoke(shards[Math.floor(this.random() * shards.length)]!, 1);
  }

  private async settle(): Promise<void> {
    for (const place of this.eachShard()) while ((await this.invoke(place)) !== "idle");
  }

  /** @param writes after so many, it answers. */
  private async invoke(
    { stage, shard }: { readonly stage: string; readonly shard: number },
    writes?: number,
  ): Promise<string> {
    const runner = this.runners[Math.floor(this.random() * this.runners.length)]!;
    const request = { pipeline: this.pipeline.name, stage, shard, zxid: "0", writes };
    try {
      return (await runner.run(request, Number.POSITIVE_INFINITY)).outcome;
    } catch (error) {
      if (error instanceof Died) return "died";
      throw error;
    }
  }

  /** The client, whose multis some processes do not survive. */
  private mortal(): ZooKeeperClient {
    const { client } = this;
    const multi: ZooKeeperClient["multi"] = async (ops) => {
      if (this.random() < DEATHS) throw new Died("before its commit");
      const result = await client.multi(ops);
      if (this.random() < DEATHS) throw new Died("after its commit");
      return result;
    };
    return new Proxy(client, {
      get(target, name) {
        if (name === "multi") return multi;
        const member = Reflect.get(target, name, target) as unknown;
        return typeof member === "function" ? member.bind(target) : member;
      },
    });
  }
}

/** Makes a znode of each effect, so that those count that were committed; and values of what the tests' sources give. */
class ResultZnodes {
  private written = 0;

  constructor(
    private readonly client: ZooKeeper,
    private readonly path: string,
  ) {}

  capturing(pipeline: CompiledPipeline): CompiledPipeline {
    return {
      ...pipeline,
      // What the runner must not write to.
      sources: pipeline.sources.map((source) => ({ ...source, config: { paths: [IN], recursive: true } })),
      loadShard: (stage, spool) => {
        const loader = pipeline.loadShard(stage, spool);
        return {
          add: (id, value) => loader.add(id, value),
          open: (shared) => this.shard(loader.open(shared)),
        };
      },
    };
  }

  async result(heads: readonly Head[]): Promise<RunResult> {
    const names = (await this.client.getChildren(this.path)).children;
    names.sort((a, b) => Number(a) - Number(b));
    const effects = await Promise.all(
      names.map(async (name) => {
        const { data } = await this.client.getData(`${this.path}/${name}`);
        return decodeValue(data) as SinkEffect;
      }),
    );
    const { counters, distributions } = sumOfMetrics(heads.map(({ metrics }) => metrics));
    return {
      effects,
      droppedLate: heads.reduce((sum, head) => sum + head.counters.droppedLate, 0),
      counters: new Map(Object.entries(counters)),
      distributions: new Map(Object.entries(distributions)),
    };
  }

  private shard(shard: StageShard): StageShard {
    return {
      accept: () => shard.accept(),
      beginBundle: (...begin) => this.bundle(shard.beginBundle(...begin)),
    };
  }

  private bundle(bundle: TentativeBundle): TentativeBundle {
    const replaced: Partial<TentativeBundle> = {
      processSourceElement: (value, timestampMs) => {
        const isImpulse = value instanceof Uint8Array;
        const given = isImpulse ? value : decodeValue((value as ZnodeChange).data!);
        bundle.processSourceElement(given, timestampMs);
      },
      finish: () => this.finished(bundle.finish()),
    };
    return new Proxy(bundle, {
      get(target, name) {
        const member = (Reflect.get(replaced, name) ?? Reflect.get(target, name, target)) as unknown;
        return typeof member === "function" ? member.bind(target) : member;
      },
    });
  }

  private finished(result: BundleResult): BundleResult {
    const effects = result.effects.map((effect): SinkEffect => {
      const path = `${this.path}/${this.written++}`;
      const payload = { path, data: encodeValue(effect), mode: "create", onConflict: "fail" };
      return { ...effect, sink: ZNODES_SINK, payload };
    });
    return { ...result, effects, shard: this.shard(result.shard) };
  }
}
