import type { CompiledPipeline } from "../../lib/beam/api";
import { compilePipeline } from "../../lib/beam/pipeline";
import { cancelPipeline, drainPipeline, pausePipeline, resumePipeline } from "../../lib/checkpoint/control";
import type { FileStore } from "../../lib/checkpoint/files";
import type { ShardReply, ShardRequest } from "../../lib/checkpoint/invocation";
import { PipelineLayout } from "../../lib/checkpoint/layout";
import { isSettled, readStatus } from "../../lib/checkpoint/status";
import { silent } from "../../lib/log";
import { runRelay } from "../../lib/relay/relay";
import { planPipeline } from "../../lib/runner/deployment";
import { ShardRunner } from "../../lib/runner/shard-runner";
import { isCommit } from "../support/faults";
import { type Summary, summaryPipeline } from "../support/sample-pipelines";
import { type Fault, type ModelClient, ModelEnsemble } from "./model-ensemble";
import { VirtualTime } from "./virtual-time";

/** Where faults strike: the protocol's steps, as far as a client's requests tell them apart. */
export type Step = "relay read" | "relay commit" | "bundle read" | "bundle commit" | "publish";

export interface Scenario {
  readonly seed: number;
  /** Faults by kind and step, counted; a run adds to it. */
  readonly coverage: Map<string, number>;
}

/** What a run gave. `problems` is empty when nothing was lost or doubled. */
export interface Report {
  readonly seed: number;
  readonly problems: readonly string[];
  readonly writes: number;
  readonly faults: number;
  readonly virtualMs: number;
}

const START_MS = Date.parse("2026-01-01T00:00:00Z");
const ROOT = "/beamkeeper";
// Some ten times what a run takes; whoever needs more is going round in circles.
const LIMIT_MS = 600_000;
const LIMIT_STEPS = 150_000;
const FAULT_KINDS: readonly Fault[] = ["request lost", "reply lost", "killed before", "killed after"];

const compiled = new Map<number, CompiledPipeline>();

/** Compiling is slow and gives the same every time. */
function compiledWith(shards: number): CompiledPipeline {
  const known = compiled.get(shards);
  if (known) return known;
  const pipeline = compilePipeline(summaryPipeline({ source: "/app", results: "/results", shards }));
  compiled.set(shards, pipeline);
  return pipeline;
}

/** Text output in memory; what is published is visible. */
class MemoryFiles implements FileStore {
  readonly temporary = new Map<string, string>();
  readonly published = new Map<string, string>();
  readonly problems: string[] = [];

  checkName(): void {}

  async writeTemporary(name: string, data: Uint8Array): Promise<void> {
    this.temporary.set(name, Buffer.from(data).toString("utf8"));
  }

  async publish(temporary: string, final: string): Promise<void> {
    const text = this.temporary.get(temporary);
    if (text === undefined) {
      if (!this.published.has(final)) throw new Error(`${temporary} is gone, and ${final} is not there`);
      return;
    }
    const before = this.published.get(final);
    if (before !== undefined && before !== text)
      this.problems.push(`${final} was published with two contents`);
    this.published.set(final, text);
    this.temporary.delete(temporary);
  }

  async listTemporary(prefix: string): Promise<string[]> {
    return [...this.temporary.keys()].filter((name) => name.startsWith(prefix));
  }

  async removeTemporary(name: string): Promise<void> {
    this.temporary.delete(name);
  }
}

/** A running system in virtual time: the real relay and runner on a model of ZooKeeper, with faults. */
class World {
  readonly time: VirtualTime;
  readonly ensemble: ModelEnsemble;
  readonly files = new MemoryFiles();
  readonly history = new Map<string, (string | null)[]>();
  readonly pipeline: CompiledPipeline;
  private readonly stop = new AbortController();
  private readonly warm: { readonly client: ModelClient; readonly runner: ShardRunner }[] = [];
  private quiet = false;
  private cancelled = false;
  private fromTheStart = true;
  /** Whether a relay's watch was ever interrupted: then whole lives may have gone by. */
  private gap = false;
  private readonly faultRate: number;
  faults = 0;
  pauses = 0;
  writes = 0;
  problems: string[] = [];

  constructor(private readonly scenario: Scenario) {
    this.time = new VirtualTime(scenario.seed, START_MS);
    const { time } = this;
    this.ensemble = new ModelEnsemble(time, {
      servers: time.chance(0.5) ? 1 : 3,
      latencyMs: time.between(1, 8),
      lagMs: time.between(0, 60),
    });
    this.ensemble.clockSkewMs = time.chance(0.5) ? 0 : time.between(-10_000, 10_000);
    this.pipeline = compiledWith(time.between(1, 4));
    this.faultRate = 0.004 + time.random() * 0.03;
  }

  /** Starts everything; resolves when the writer is done and everything has settled. */
  async run(): Promise<Report> {
    let done = false;
    this.play().then(
      () => {
        done = true;
      },
      (error: unknown) => {
        this.problems.push(
          `the run failed: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`,
        );
        done = true;
      },
    );
    const inTime = await this.time.run(() => done, LIMIT_MS, LIMIT_STEPS);
    if (!inTime) this.problems.push(`stuck: ${await this.describe()}`);
    this.stop.abort();
    const { seed } = this.scenario;
    return {
      seed,
      problems: this.problems,
      writes: this.writes,
      faults: this.faults,
      virtualMs: this.time.now() - START_MS,
    };
  }

  private async play(): Promise<void> {
    const observer = this.ensemble.connect();
    await observer.create("/app");
    await observer.create("/results");
    void this.keepRelay();
    if (this.time.chance(0.3)) void this.keepRelay();
    // A writer that begins before the source does leaves values that no one can count.
    this.fromTheStart = this.time.chance(0.7);
    if (this.fromTheStart) await this.sourceStarted(observer);
    const end = this.time.between(0, 5);
    if (end === 0) return this.playToTheDrain(observer);
    if (end === 1) return this.playToTheCancellation(observer);
    if (this.time.chance(0.5)) void this.pauseSometimes();
    await this.write(observer);
    this.quiet = true;
    await this.settle(observer);
    await this.judge(observer);
  }

  /** Drains at any time, under faults: what was acknowledged before is delivered, of the rest a prefix. */
  private async playToTheDrain(observer: ModelClient): Promise<void> {
    const layout = new PipelineLayout(ROOT, this.pipeline.name);
    const writing = this.write(observer);
    await this.sourceStarted(this.ensemble.connect());
    await this.time.sleep(this.time.random() * 5_000);
    const acknowledged = new Map([...this.history].map(([path, values]) => [path, values.length]));
    const client = this.ensemble.connect();
    await drainPipeline(client, layout);
    while ((await readStatus(client, layout))?.generation.state !== "drained") await this.time.sleep(100);
    await writing;
    this.quiet = true;
    await observer.sync();
    await this.judge(observer, acknowledged);
  }

  /** Cancels at any time: nothing changes from then on, and what was written by then was not written twice. */
  private async playToTheCancellation(observer: ModelClient): Promise<void> {
    const layout = new PipelineLayout(ROOT, this.pipeline.name);
    const writing = this.write(observer);
    const client = this.ensemble.connect();
    await this.sourceStarted(client);
    await this.time.sleep(this.time.random() * 5_000);
    await cancelPipeline(client, layout);
    this.cancelled = true;
    const cut = async (): Promise<string> => {
      await client.sync();
      return JSON.stringify([await readStatus(client, layout), await this.results(client)]);
    };
    const before = await cut();
    await writing;
    await this.time.sleep(5_000);
    if ((await cut()) !== before) this.problems.push("something was committed after the cancellation");
    await this.judge(observer, new Map());
  }

  /** A pause is a consistent cut: from its reply until it is resumed, nothing below the epoch changes. */
  private async pauseSometimes(): Promise<void> {
    const client = this.ensemble.connect();
    const layout = new PipelineLayout(ROOT, this.pipeline.name);
    const cut = async (): Promise<string> => {
      await client.sync();
      return JSON.stringify(await readStatus(client, layout));
    };
    while (!this.quiet) {
      await this.time.sleep(this.time.between(50, 1_500));
      if (this.quiet || !(await client.exists(layout.generation))) continue;
      await pausePipeline(client, layout);
      this.pauses += 1;
      // A relay that is told so ends, and the next one finds what happened by walking.
      this.gap = true;
      const before = await cut();
      await this.time.sleep(this.time.between(0, 1_000));
      if ((await cut()) !== before)
        this.problems.push("something was committed while the pipeline was paused");
      await resumePipeline(client, layout);
    }
  }

  private async sourceStarted(observer: ModelClient): Promise<void> {
    const layout = new PipelineLayout(ROOT, this.pipeline.name);
    for (;;) {
      await this.time.sleep(20);
      const status = await readStatus(observer, layout);
      if (status?.sources.every(({ commits }) => commits > 0)) return;
    }
  }

  private async write(client: ModelClient): Promise<void> {
    const { time } = this;
    const writes = time.between(200, 260);
    const znodes = time.between(4, 30);
    const deletions = time.random() * 0.3;
    const alive = new Set<string>();
    const pauseMs = time.between(0, 40);
    for (this.writes = 0; this.writes < writes; this.writes++) {
      const path = `/app/znode-${time.between(1, znodes)}`;
      const value = alive.has(path) && time.chance(deletions) ? null : `value-${this.writes}`;
      if (value === null) await client.delete(path);
      else if (alive.has(path)) await client.setData(path, Buffer.from(value));
      else await client.create(path, Buffer.from(value));
      if (value === null) alive.delete(path);
      else alive.add(path);
      this.history.set(path, [...(this.history.get(path) ?? []), value]);
      if (time.chance(0.3)) await time.sleep(time.random() * pauseMs * 3);
      if (time.chance(0.01)) this.ensemble.clockSkewMs += time.between(-5_000, 5_000);
    }
  }

  /** A relay is always there: when one dies, the next one starts after a while. */
  private async keepRelay(): Promise<void> {
    while (!this.stop.signal.aborted) {
      const client = this.newClient("relay");
      const death = new Promise<void>((resolve) => {
        client.onDeath = resolve;
      });
      const relay = runRelay(
        {
          client,
          root: ROOT,
          pipeline: planPipeline(this.pipeline),
          invoke: (request) => (client.dead ? new Promise(() => undefined) : this.invoke(request)),
          clock: this.time,
          log: silent,
          limits: {
            commitSizeBytes: 512 * 1024,
            segmentSizeBytes: 2_048,
            maxBatchPaths: this.time.between(1, 50),
            idleIntervalMs: 200,
            lingerMs: this.time.between(0, 20),
          },
          maxInFlight: 8,
          maxFailures: Number.POSITIVE_INFINITY,
        },
        this.stop.signal,
      ).catch((error: unknown) => {
        const known =
          error instanceof Error &&
          ["SourceError", "ConnectionLossError", "SessionExpiredError"].includes(error.name);
        if (!known)
          this.problems.push(`the relay failed: ${error instanceof Error ? error.stack : String(error)}`);
      });
      await Promise.race([relay, death]);
      this.gap = true;
      client.die();
      await this.time.sleep(this.time.between(10, 1_500));
    }
  }

  /** Lambda's Invoke: some environment runs it, sometimes two do; a killed one is an error after a while. */
  private async invoke(request: ShardRequest): Promise<ShardReply> {
    const { time } = this;
    await time.sleep(time.random() * 5);
    if (!this.quiet && time.chance(0.05)) void this.runOnce(request).catch(() => undefined);
    const reply = await this.runOnce(request);
    await time.sleep(time.random() * 5);
    return JSON.parse(JSON.stringify(reply)) as ShardReply;
  }

  private async runOnce(request: ShardRequest): Promise<ShardReply> {
    const { time } = this;
    const place =
      this.warm.length > 0 && time.chance(0.8)
        ? this.warm.splice(time.between(0, this.warm.length - 1), 1)[0]!
        : this.newFunction();
    const died = new Promise<never>((_, reject) => {
      place.client.onDeath = () =>
        time.after(time.between(1, 200), () => reject(new Error("the function was killed")));
    });
    died.catch(() => undefined);
    const reply = await Promise.race([place.runner.run(request, time.now() + time.between(20, 2_000)), died]);
    if (!place.client.dead) this.warm.push(place);
    return reply;
  }

  private newFunction(): { client: ModelClient; runner: ShardRunner } {
    const client = this.newClient("bundle");
    const runner = new ShardRunner({
      client,
      root: ROOT,
      pipelines: new Map([[this.pipeline.name, this.pipeline]]),
      files: this.files,
      clock: this.time,
      log: silent,
      limits: { maxUnits: this.time.between(1, 60), commitSizeBytes: 512 * 1024, segmentSizeBytes: 2_048 },
    });
    return { client, runner };
  }

  private newClient(part: "relay" | "bundle"): ModelClient {
    const client = this.ensemble.connect();
    client.fault = (kind, ops) => {
      if (this.quiet) return undefined;
      const step: Step = isCommit(ops, part)
        ? `${part} commit`
        : kind === "write"
          ? "publish"
          : `${part} read`;
      // Reads are many and commits are few; each kind of step is to be met.
      const rate = step.endsWith("read") ? this.faultRate / 10 : this.faultRate * 2;
      if (this.time.chance(rate / 4)) this.expire(client, part, step);
      if (!this.time.chance(rate)) return undefined;
      const fault = FAULT_KINDS[this.time.between(0, FAULT_KINDS.length - 1)]!;
      this.count(fault, step, () => undefined);
      if (part === "relay") this.gap = true;
      return fault;
    };
    return client;
  }

  private expire(client: ModelClient, part: "relay" | "bundle", step: Step): void {
    if (part === "relay") this.gap = true;
    this.count("session expired", step, () =>
      this.time.after(this.time.random() * 10, () => client.expire()),
    );
  }

  private count(kind: string, step: Step, strike: () => void): void {
    this.faults += 1;
    const cell = `${kind} x ${step}`;
    this.scenario.coverage.set(cell, (this.scenario.coverage.get(cell) ?? 0) + 1);
    strike();
  }

  private async settle(observer: ModelClient): Promise<void> {
    const layout = new PipelineLayout(ROOT, this.pipeline.name);
    // Leaders' clocks differ: the end is after the latest time that any of them has given.
    const untilMs = Math.ceil((Math.max(this.ensemble.latestMs, this.ensemble.now()) + 1) / 1000) * 1000;
    for (;;) {
      await observer.sync();
      const status = await readStatus(observer, layout);
      if (status && isSettled(status, untilMs)) return;
      await this.time.sleep(100);
    }
  }

  private async describe(): Promise<string> {
    const observer = this.ensemble.connect();
    let text = "";
    void readStatus(observer, new PipelineLayout(ROOT, this.pipeline.name)).then((status) => {
      text = JSON.stringify(status);
    });
    await this.time.run(() => text !== "", 10_000, LIMIT_STEPS);
    return text;
  }

  /** The oracle: what the writer wrote against what came out, by plain counting. */
  private async judge(observer: ModelClient, acknowledged?: ReadonlyMap<string, number>): Promise<void> {
    const { problems } = this;
    problems.push(...this.files.problems);
    const summaries = await this.results(observer);
    const lines = [...this.files.published.values()].flatMap((text) => text.split("\n").filter(Boolean));
    const inFiles = lines.map((line) => JSON.stringify(JSON.parse(line).summary)).sort();
    const inZnodes = summaries.map((summary) => JSON.stringify(summary)).sort();
    // Files that were committed may wait for their names for ever after a cancellation.
    const inBoth = this.cancelled ? inZnodes.filter((each) => inFiles.includes(each)) : inZnodes;
    if (JSON.stringify(inFiles) !== JSON.stringify(inBoth))
      problems.push(`files and znodes differ: ${inFiles.length} and ${inZnodes.length} results`);
    const byPath = new Map<string, Summary[]>();
    for (const summary of summaries) byPath.set(summary.path, [...(byPath.get(summary.path) ?? []), summary]);
    for (const [path, values] of this.history) {
      // Where it was stopped on purpose, some prefix has to be right, with all that had to be in it.
      let found = this.judgePath(path, values, byPath.get(path) ?? []);
      for (let end = values.length - 1; acknowledged && found.length > 0; end--) {
        if (end < (acknowledged.get(path) ?? 0)) break;
        found = this.judgePath(path, values.slice(0, end), byPath.get(path) ?? []);
      }
      problems.push(...found);
    }
  }

  private judgePath(path: string, written: readonly (string | null)[], parts: readonly Summary[]): string[] {
    const found: string[] = [];
    const seen = parts
      .flatMap((part) => part.seen)
      .sort((a, b) => (a.order < b.order ? -1 : a.order > b.order ? 1 : 0));
    const values = seen.map(({ value }) => value).filter((value) => value !== null);
    const missed = parts.reduce((sum, part) => sum + part.missed, 0);
    const writtenValues = written.filter((value) => value !== null);
    const final = written.at(-1) ?? null;
    const problem = (text: string): void =>
      void found.push(
        `${path}: ${text} (wrote ${written.join(",")}; got ${seen.map(({ kind, value }) => `${kind} ${value}`).join(",")}; missed ${missed})`,
      );
    if (new Set(values).size !== values.length) problem("a value was delivered twice");
    for (const value of values) if (!written.includes(value)) problem(`${value} was never written`);
    if (seen.length === 0 ? final !== null : seen.at(-1)!.value !== final)
      problem(`the final value is ${final}`);
    // One life is counted exactly whatever happened; of several, some may have gone by in a gap.
    const livesUnseen = this.gap && written.includes(null);
    const atLeast =
      livesUnseen ||
      !this.fromTheStart ||
      parts.some((part) => part.atLeast) ||
      seen.some(({ kind }) => kind === "existing") ||
      seen.length === 0;
    const counted = values.length + missed;
    if (atLeast ? counted > writtenValues.length : counted !== writtenValues.length)
      problem(`${writtenValues.length} values, ${counted} counted`);
    return found;
  }

  private async results(observer: ModelClient): Promise<Summary[]> {
    const summaries: Summary[] = [];
    for (const window of (await observer.getChildren("/results")).children) {
      // Event time is the ensemble's: no element can be from later than any leader's clock has shown.
      if (Number(window) > this.ensemble.latestMs)
        this.problems.push(`a window begins at ${window}, in the future`);
      for (const name of (await observer.getChildren(`/results/${window}`)).children) {
        const { data } = await observer.getData(`/results/${window}/${name}`);
        summaries.push(JSON.parse(data.toString("utf8")) as Summary);
      }
    }
    return summaries;
  }
}

/** Runs one seed from beginning to end. The same seed gives the same report. */
export function simulate(scenario: Scenario): Promise<Report> {
  return new World(scenario).run();
}
