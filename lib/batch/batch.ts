import { takeOver } from "../checkpoint/code";
import { admitsCommits } from "../checkpoint/records";
import type { RunCounters, ScheduleRecord } from "../checkpoint/run";
import { readScheduleRecord } from "../checkpoint/run";
import { readGeneration } from "../checkpoint/scope";
import { nextTick, type Schedule } from "../schedule/schedule";
import { decide } from "./decisions";
import { type DriveEnd, type DriverOptions, driveRun } from "./driver";
import { type Change, changeSchedule, endOps, forgetOldRuns, openRuns, startOps } from "./ledger";

export interface BatchOptions extends Omit<DriverOptions, "retries" | "onProgress"> {
  /** Undefined where the pipeline runs only when someone asks for it. */
  readonly schedule: Schedule | undefined;
  /** The tick that this invocation is for, in ms, where it is known. */
  readonly tickMs?: number | undefined;
  /** Goes on until the signal, waiting for ticks; else it ends when it drives nothing any more. */
  readonly stays: boolean;
  readonly onProgress?: (run: string, counters: RunCounters) => void;
  readonly onEnd?: (run: string, end: DriveEnd) => void;
}

const STAY_POLL_MS = 500;
const DRIVING_POLL_MS = 1_000;

/**
 * Starts the runs of a bounded pipeline that are due or waiting, and drives every run that nobody else drives.
 *
 * It decides by the schedule and the record, not by what woke it, so ticks that were delivered twice, late or never
 * make no difference: each is decided on once, in order, as far back as the catch-up window goes.
 * Resolves with how the runs that it drove ended. Rejects with PipelineMismatchError, RunError, EncodingError, or the
 * client's error.
 */
export async function runBatch(
  options: BatchOptions,
  signal: AbortSignal,
): Promise<Record<string, DriveEnd>> {
  const { client, layout, pipeline, clock } = options;
  const opened = await openRuns(client, layout, pipeline.plan);
  await takeOver(client, opened, options.code);
  await forgetOldRuns(client, layout);
  const ends: Record<string, DriveEnd> = {};
  const driving = new Map<string, Promise<void>>();
  let failure: unknown;
  const stop = new AbortController();
  const abort = (): void => stop.abort();
  signal.addEventListener("abort", abort, { once: true });
  if (signal.aborted) abort();
  const drive = async (id: string): Promise<void> => {
    try {
      const end = await driveRun({ ...options, retries: options.schedule?.retries ?? 0 }, id, stop.signal);
      if (end === "elsewhere") return;
      ends[id] = end;
      options.onEnd?.(id, end);
    } catch (error) {
      failure ??= error;
      stop.abort();
    } finally {
      driving.delete(id);
    }
  };
  try {
    while (!stop.signal.aborted) {
      const record = await advance(options);
      for (const id of record?.active ?? []) if (!driving.has(id)) driving.set(id, drive(id));
      // Whether a run is driven elsewhere is known as soon as its driver was asked for.
      await clock.sleep(0, stop.signal);
      const pausing = new AbortController();
      const woken = AbortSignal.any([stop.signal, pausing.signal]);
      await Promise.race([...driving.values(), pause(options, record, woken)]);
      pausing.abort();
      if (driving.size === 0 && !options.stays && !(await hasMore(options))) break;
    }
  } finally {
    stop.abort();
    await Promise.all(driving.values());
    signal.removeEventListener("abort", abort);
  }
  if (failure !== undefined) throw failure;
  return ends;
}

/** Decides on every tick that is due and starts what waits, one multi for each. Undefined while the pipeline does not run. */
async function advance(options: BatchOptions): Promise<ScheduleRecord | undefined> {
  const { client, layout, schedule, clock, log, tickMs, pipeline } = options;
  for (;;) {
    const changed = await changeSchedule(
      client,
      layout,
      async (record, current): Promise<Change | undefined> => {
        const decision = decide(record, schedule, clock.now(), tickMs);
        if (!decision) return undefined;
        const endedMs = clock.now();
        const why = {
          state: "cancelled",
          endedMs,
          counters: null,
          error: "the next run took its place",
        } as const;
        const ends = await Promise.all((decision.cancel ?? []).map((id) => endOps(client, current, id, why)));
        const { start } = decision;
        const { code } = current.generation;
        const starts = start ? startOps(layout, pipeline.plan, start, clock.now(), code) : [];
        if (start)
          log("info", "a run starts", { pipeline: pipeline.name, run: start.id, cause: start.cause });
        return { record: decision.record, ops: [...ends.flat(), ...starts] };
      },
    );
    if (!changed) break;
  }
  const current = await readGeneration(client, layout);
  if (!current || !admitsCommits(current.generation)) return undefined;
  return (await readScheduleRecord(client, layout))?.record;
}

/** Whether something can be started now that a run has ended; runs that others drive are theirs. */
async function hasMore({ client, layout }: BatchOptions): Promise<boolean> {
  const record = (await readScheduleRecord(client, layout))?.record;
  const [first] = record?.queue ?? [];
  const isOpen = first !== undefined && (first.limit === 0 || record!.active.length < first.limit);
  const current = await readGeneration(client, layout);
  return isOpen && current !== undefined && admitsCommits(current.generation);
}

/** Until the next tick, or until it is time to look whether someone else has changed something. */
async function pause(
  { schedule, clock, stays }: BatchOptions,
  record: ScheduleRecord | undefined,
  signal: AbortSignal,
): Promise<void> {
  const next = schedule && record ? nextTick(schedule, clock.now()) : undefined;
  const pollMs = stays ? STAY_POLL_MS : DRIVING_POLL_MS;
  await clock.sleep(Math.min(pollMs, next === undefined ? pollMs : next - clock.now()), signal);
}
