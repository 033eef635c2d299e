import type { Schedule } from "../schedule/schedule";
import { NoNodeError, type ZooKeeperClient } from "../zookeeper";
import { reading } from "./commit";
import { decodeJson, encodeJson } from "./encoding";
import type { PipelineLayout } from "./layout";
import { admitsCommits, decodeGeneration } from "./records";
import type { CurrentGeneration } from "./scope";

/** Why a run is there. */
export type RunCause = "schedule" | "manual" | "backfill";

export type RunState = "queued" | "running" | "succeeded" | "failed" | "cancelled";

/** What a run has done so far, over all shards. */
export interface RunCounters {
  readonly elementsIn: number;
  readonly elementsOut: number;
  readonly commits: number;
  readonly failures: number;
  readonly deadLettered: number;
  /** What its sources have found that there is to read, and have read of it, in bytes; 0 where they do not say. */
  readonly totalBytes: number;
  readonly readBytes: number;
}

/** A run that waits until fewer than `limit` runs of the pipeline are at work. */
export interface QueuedRun {
  readonly id: string;
  readonly cause: RunCause;
  /** The time that it is for: the tick of the schedule, or when it was asked for. In ms. */
  readonly timeMs: number;
  /** 0 for no bound. */
  readonly limit: number;
}

/** The record of a run, in the znode of its scope. */
export interface RunRecord {
  readonly id: string;
  readonly cause: RunCause;
  readonly timeMs: number;
  readonly state: Exclude<RunState, "queued">;
  /** From 1; each goes on from where the one before it failed. */
  readonly attempt: number;
  readonly startedMs: number;
  readonly endedMs: number | null;
  readonly counters: RunCounters | null;
  readonly error: string | null;
}

/** What is known of a pipeline's runs; it changes in the multi that creates or ends one. */
export interface ScheduleRecord {
  /** The schedule of the code that was deployed last; null where it has none. */
  readonly schedule: Schedule | null;
  /** Of the schedule's ticks, the highest that was decided on. Null before the pipeline was seen first. */
  readonly highestTickMs: number | null;
  /** Runs at work, oldest first. */
  readonly active: readonly string[];
  readonly queue: readonly QueuedRun[];
  /** Runs that have ended, newest first: the history. */
  readonly ended: readonly string[];
  /** Ticks that were left out because a run was at work. */
  readonly skippedTicks: number;
}

export const NEW_SCHEDULE: ScheduleRecord = {
  schedule: null,
  highestTickMs: null,
  active: [],
  queue: [],
  ended: [],
  skippedTicks: 0,
};

/** So many ended runs are remembered, with their counters and errors. */
export const RUN_HISTORY = 50;
/** More than this in one queue would come near the size of a znode. */
export const MAX_QUEUE = 2_000;

/** The id of the run for a tick: the same for whoever works it out. */
export function tickRunId(tickMs: number): string {
  return `tick-${compact(tickMs)}`;
}

export function manualRunId(nowMs: number, uniqueId: string): string {
  return `manual-${compact(nowMs)}-${uniqueId.slice(0, 6)}`;
}

/** 2026-11-23T10:00:00Z -> 20261123T100000Z */
function compact(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 19).replaceAll(/[-:]/g, "")}Z`;
}

/** The element that a run starts from, where its pipeline asks for it. */
export interface RunStartElement {
  readonly run: string;
  readonly cause: RunCause;
  readonly timeMs: number;
}

export function encodeRunStart({ run, cause, timeMs }: RunStartElement): Buffer {
  return Buffer.from(JSON.stringify({ run, cause, timeMs }), "utf8");
}

export function decodeRunStart(bytes: Uint8Array): RunStartElement {
  return JSON.parse(Buffer.from(bytes).toString("utf8")) as RunStartElement;
}

export function encodeRun(run: RunRecord): Buffer {
  return encodeJson("run", run);
}

export function encodeSchedule(record: ScheduleRecord): Buffer {
  return encodeJson("schedule", record);
}

export interface StoredSchedule {
  readonly record: ScheduleRecord;
  readonly version: number;
}

/** The pipeline's runs; undefined where it never had one. Rejects with EncodingError or the client's error. */
export function readScheduleRecord(
  client: ZooKeeperClient,
  layout: PipelineLayout,
): Promise<StoredSchedule | undefined> {
  return whereThere(async () => {
    const { data, stat } = await reading(client, () => client.getData(layout.schedule));
    return {
      record: decodeJson("schedule", data, layout.schedule) as ScheduleRecord,
      version: stat.version,
    };
  });
}

/** The run's record; undefined where there is no such run (any more). */
export function readRun(
  client: ZooKeeperClient,
  layout: PipelineLayout,
  id: string,
): Promise<RunRecord | undefined> {
  const { path } = layout.run(id);
  return whereThere(async () => {
    const { data } = await reading(client, () => client.getData(path));
    const run = decodeJson("run", data, path) as RunRecord;
    return { ...run, counters: run.counters && { ...NO_BYTES, ...run.counters } };
  });
}

/**
 * The scope of a run, with the version of its `control` that commits check; undefined where there is none. Where the
 * pipeline itself does not run, neither does the run.
 */
export function readRunScope(
  client: ZooKeeperClient,
  pipeline: CurrentGeneration,
  id: string,
): Promise<CurrentGeneration | undefined> {
  const scope = pipeline.layout.run(id);
  return whereThere(async () => {
    const { data, stat } = await reading(client, () => client.getData(scope.control));
    const control = decodeGeneration(data, scope.control);
    const state = admitsCommits(pipeline.generation) ? control.state : pipeline.generation.state;
    return {
      generation: { ...control, state },
      version: pipeline.version,
      layout: pipeline.layout,
      scope,
      run: id,
      control: { path: scope.control, version: stat.version },
    };
  });
}

/** Runs of before these were counted. */
const NO_BYTES = { totalBytes: 0, readBytes: 0 };

async function whereThere<T>(read: () => Promise<T>): Promise<T | undefined> {
  try {
    return await read();
  } catch (error) {
    if (error instanceof NoNodeError) return undefined;
    throw error;
  }
}
