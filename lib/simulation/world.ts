import type { CompiledPipeline } from "../beam/api";
import { PipelineLayout } from "../checkpoint/layout";
import { type CommitFate, tellingCommits } from "../verify/commit-fates";
import type { ZooKeeperClient } from "../zookeeper";
import type { Coverage, FaultKind } from "./faults";
import { FAULT_KINDS } from "./faults";
import { MemoryBlobs, MemoryFiles } from "./memory-files";
import type { RequestFault } from "./model-client";
import { ModelEnsemble } from "./model-ensemble";
import { SimulatedProcess } from "./process";
import { randomNumbers } from "./random-numbers";
import { type Part, type Step, stepOf } from "./steps";
import {
  ASYNC_SHARDS,
  type FinalizedElement,
  FOLLOWING_SHARDS,
  PoisonError,
  type Probe,
  probedPipeline,
} from "./summary-pipeline";
import { VirtualTime } from "./virtual-time";

export const ROOT = "/beamkeeper";
/** What a run has at least. */
export const LEAST_ELEMENTS = 200;
export const LEAST_FAULTS = 5;
/** What a value begins with that user code fails on. */
export const POISON = "poison";
/** What a value begins with that user code fails on later, when the summary with it is emitted, until it is mended. */
export const LATE_POISON = "late poison";
/** How much more often faults strike when a run has had all that it needs but faults. */
const URGENCY = 10;
/** What some runs have and others lack is drawn apart, so that the other runs go on as they did without it. */
const TRAITS = 0x5eed;
/** The shares of runs whose relays stand for the real election, of those with an update, and of those with records of services. */
const ELECTED = 0.15;
const UPDATED = 0.1;
const FED = 0.12;
const START_MS = Date.parse("2026-01-01T00:00:00Z");

/**
 * How often a request of each step is struck, against each other: steps that every run takes hundreds of times are
 * struck seldom, and rare ones often, so that each is met.
 */
const WEIGHTS: Record<Step, number> = {
  "relay: open the pipeline": 1,
  "relay: stand for election": 5,
  "relay: hand its turn over": 20,
  "relay: load the cursor and the manifest": 0.1,
  "relay: arm the watch": 3,
  "relay: walk": 0.3,
  "relay: read a changed znode": 0.2,
  "relay: commit elements": 1,
  "relay: commit a watermark": 20,
  "relay: compact the manifest": 20,
  "relay: write a blob": 0.5,
  "relay: read a blob": 2,
  "relay: delete a blob": 20,
  "bundle: open the shard": 0.03,
  "bundle: derive the watermark and list the inbox": 0.02,
  "bundle: read segments": 0.3,
  "bundle: read the state": 0.5,
  "bundle: plan the user's writes": 0.5,
  "bundle: write a temporary file": 8,
  "bundle: write a blob": 1,
  "bundle: read a blob": 1,
  "bundle: delete a blob": 2,
  "bundle: commit": 1,
  "bundle: give a file its final name": 8,
  "bundle: remove entries of files": 8,
  "intake: open the pipeline": 8,
  "intake: read what was taken": 2,
  "intake: look for room": 2,
  "intake: append records": 6,
  "intake: write a blob": 8,
};
const MAX_WEIGHT = Math.max(...Object.values(WEIGHTS));

/** What happened in a run, counted. */
export interface Tally {
  writes: number;
  /** Elements that relays appended, as far as they heard of it. */
  elements: number;
  /** Values that were overwritten before a relay could read them, as far as relays heard of their commits. */
  missed: number;
  faults: number;
  pauses: number;
  rescales: number;
  /** Updates that were begun. */
  updates: number;
  /** How often a dead letter was to be replayed. */
  replays: number;
  /** Bundles that were run ahead of a commit, and given up. */
  givenUp: number;
}

/** What all parts of a simulated system share: time, the ensemble, the pipeline, the faults, and what was found wrong. */
export class World {
  readonly time: VirtualTime;
  readonly ensemble: ModelEnsemble;
  readonly files = new MemoryFiles();
  readonly blobs = new MemoryBlobs();
  /** The code that the run begins with. */
  readonly pipeline: CompiledPipeline;
  /** The code that an update hands the pipeline to; undefined where there is no update. */
  readonly changed: CompiledPipeline | undefined;
  /** The code that new processes have. */
  deployed: CompiledPipeline;
  readonly probe: Probe;
  /** Its summaries are written as text, too. */
  readonly hasFiles: boolean;
  readonly layout: PipelineLayout;
  readonly problems: string[] = [];
  /** What finalisers were given, in every attempt. */
  readonly finalized: FinalizedElement[] = [];
  /** What the senders of commits heard. */
  readonly fates: CommitFate[] = [];
  readonly tally: Tally = {
    writes: 0,
    elements: 0,
    missed: 0,
    faults: 0,
    pauses: 0,
    rescales: 0,
    updates: 0,
    replays: 0,
    givenUp: 0,
  };
  /** What is told when the run ends. */
  readonly ending = new Set<AbortController>();
  hasEnded = false;
  /** User code has been mended: from now on it fails on no summary any more. */
  isMended = false;
  /** From now on there are no faults. */
  isQuiet = false;
  /** From now on nobody pauses any more: the run is being ended on purpose. */
  isEnding = false;
  /** Little happens for a while, so that nothing makes up for what is lost; then faults strike more often. */
  isLull = false;
  /** Files that were committed may wait for their names for ever then. */
  isCancelled = false;
  /** Whether a relay's watch was ever interrupted: then whole lives may have gone by. */
  hadGap = false;
  /** Starts one more process that does the same; set by what runs processes. */
  duplicate: (process: SimulatedProcess) => void = () => undefined;
  /** Its relays stand for the real election; else whoever stands by has its turn at any time. */
  readonly isElected: boolean;
  /** Its pipeline reads a queue and a stream. */
  readonly hasRecords: boolean;
  private readonly faultRate: number;

  constructor(
    seed: number,
    private readonly coverage: Coverage,
  ) {
    this.time = new VirtualTime(seed, START_MS);
    const { time } = this;
    this.ensemble = new ModelEnsemble(time, {
      servers: time.chance(0.5) ? 1 : 3,
      latencyMs: time.between(1, 8),
      lagMs: time.between(0, 60),
    });
    this.ensemble.clockSkewMs = time.chance(0.5) ? 0 : time.between(-10_000, 10_000);
    const shards = time.chance(0.7) ? 2 : time.between(3, 4);
    this.hasFiles = time.chance(0.6);
    const traits = randomNumbers(seed ^ TRAITS);
    this.isElected = traits() < ELECTED;
    const isUpdated = traits() < UPDATED;
    this.hasRecords = traits() < FED;
    const extras = { hasFiles: this.hasFiles, hasRecords: this.hasRecords, isChanged: false };
    const { pipeline, probe } = probedPipeline(shards, extras);
    this.pipeline = this.deployed = pipeline;
    this.probe = probe;
    let arrivals = 0;
    probe.arrive = ({ text }) => {
      if (text?.startsWith(POISON)) throw new PoisonError(`${text} is poison`);
      return ++arrivals;
    };
    probe.emit = ({ path, seen }) => {
      if (!this.isMended && seen.some(({ value }) => value?.startsWith(LATE_POISON)))
        throw new PoisonError(`a summary of ${path} is poison`);
    };
    probe.answer = () => time.sleep(time.random() * 40);
    probe.elapsedMs = () => this.elapsedMs;
    probe.finalize = async (elements) => {
      await time.sleep(time.random() * 5);
      for (const element of elements) this.finalized.push(element);
    };
    this.layout = new PipelineLayout(ROOT, pipeline.name);
    this.faultRate = 0.003 + time.random() * 0.025;
    if (!isUpdated) return;
    const changed = probedPipeline(shards, { ...extras, isChanged: true });
    this.changed = changed.pipeline;
    Object.assign(changed.probe, probe);
  }

  /** The pipeline has asynchronous calls and finalisers. */
  get isAsync(): boolean {
    return Math.min(...this.pipeline.shards.values()) >= ASYNC_SHARDS;
  }

  /** Its commits check the version of a znode, and it reads a source without an end. */
  get isFollowing(): boolean {
    return Math.min(...this.pipeline.shards.values()) >= FOLLOWING_SHARDS;
  }

  get elapsedMs(): number {
    return this.time.now() - START_MS;
  }

  end(): void {
    this.hasEnded = true;
    for (const stop of this.ending) stop.abort();
  }

  /** A process that faults may strike at everything that it waits for. */
  newProcess(part: Part): SimulatedProcess {
    const skewMs = this.time.chance(0.5) ? 0 : this.time.between(-2_000, 2_000);
    const process = new SimulatedProcess(this.time, this.ensemble.connect(), skewMs);
    process.client.fault = (request) => {
      if (!this.mayStrike()) return undefined;
      return this.strike(process, stepOf(part, request, ROOT));
    };
    return process;
  }

  /** The client that a process's code gets. */
  clientOf({ client }: SimulatedProcess): ZooKeeperClient {
    return tellingCommits(client, (fate) => void this.fates.push(fate));
  }

  /** The run has had all that it needs but faults. */
  get isUrgent(): boolean {
    const { elements, faults } = this.tally;
    return elements >= LEAST_ELEMENTS && faults < LEAST_FAULTS;
  }

  /** First of all a cheap draw: almost every step goes well. */
  mayStrike(): boolean {
    if (this.isQuiet) return false;
    return this.time.chance(this.faultRate * MAX_WEIGHT * (this.isUrgent || this.isLull ? URGENCY : 1));
  }

  /** Chooses what strikes the process at this step, if anything, and does what is not the request's own fate. */
  strike(process: SimulatedProcess, step: Step): RequestFault | undefined {
    const { time } = this;
    if (!time.chance(WEIGHTS[step] / MAX_WEIGHT)) return undefined;
    const kind = FAULT_KINDS[time.between(0, FAULT_KINDS.length - 1)]!;
    this.tally.faults += 1;
    this.coverage.add(kind, step);
    if (step.startsWith("relay")) this.hadGap = true;
    return this.befall(process, kind);
  }

  private befall(process: SimulatedProcess, kind: FaultKind): RequestFault | undefined {
    const { time } = this;
    if (kind === "session expired") time.after(time.random() * 10, () => process.client.expire());
    else if (kind === "stalled")
      process.client.freeze(time.chance(0.5) ? time.between(1, 200) : time.between(200, 6_000));
    else if (kind === "duplicated") this.duplicate(process);
    else return kind;
    return undefined;
  }
}
