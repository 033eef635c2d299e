import { reading } from "../checkpoint/commit";
import type { PipelineLayout } from "../checkpoint/layout";
import {
  admitsCommits,
  encodeGeneration,
  type FunctionCode,
  type GenerationState,
} from "../checkpoint/records";
import {
  encodeRun,
  encodeRunStart,
  encodeSchedule,
  NEW_SCHEDULE,
  type QueuedRun,
  RUN_HISTORY,
  type RunCounters,
  type RunRecord,
  readRun,
  readRunScope,
  readScheduleRecord,
  type ScheduleRecord,
} from "../checkpoint/run";
import {
  type CurrentGeneration,
  createPath,
  openPipeline,
  RUNS_FINGERPRINT,
  readGeneration,
  type ScopePlan,
  scopeChecks,
  scopeCreation,
} from "../checkpoint/scope";
import {
  ConnectionLossError,
  MultiError,
  NodeExistsError,
  NoNodeError,
  NotEmptyError,
  type Op,
  SessionExpiredError,
  type ZooKeeperClient,
} from "../zookeeper";
import { ended, knowsRun } from "./decisions";

/** A change of the schedule's record and what belongs to it, in one multi. */
export interface Change {
  readonly record: ScheduleRecord;
  readonly ops: readonly Op[];
}

/** The pipeline's runs can't be changed: it has none, it has ended, or others change them without an end. Terminal. */
export class RunError extends Error {
  override readonly name = "RunError";
  readonly outcome = "terminal";
}

/** How a run ended. */
export interface RunEnd {
  readonly state: "succeeded" | "failed" | "cancelled";
  readonly endedMs: number;
  readonly counters: RunCounters | null;
  readonly error: string | null;
}

const MAX_TRIES = 100;

/** Of a pipeline that only has runs: its generation is there to pause and to cancel them all. */
function withoutStages(minTimestampMs: number): ScopePlan {
  return {
    fingerprint: RUNS_FINGERPRINT,
    sources: [],
    shards: {},
    upstream: {},
    impulses: [],
    minTimestampMs,
  };
}

/** Creates the znodes of a bounded pipeline where they are missing. Throws PipelineMismatchError. */
export async function openRuns(
  client: ZooKeeperClient,
  layout: PipelineLayout,
  plan: ScopePlan,
): Promise<CurrentGeneration> {
  const current = await openPipeline(client, layout, withoutStages(plan.minTimestampMs));
  if (await reading(client, () => client.exists(layout.schedule))) return current;
  await createPath(client, layout.runs);
  await createPath(client, layout.schedules);
  const create = (): Promise<unknown> => client.create(layout.schedule, encodeSchedule(NEW_SCHEDULE));
  await reading(client, create).catch((error: unknown) => {
    if (!(error instanceof NodeExistsError)) throw error;
  });
  return current;
}

/**
 * One multi: check(generation), setData(schedule) with its version, and what the change brings with it. `decide` is
 * asked again whenever another change came first, or a reply was lost: it decides by what the record says, so what has
 * been done already is not done again. Undefined where `decide` wants nothing, or the pipeline does not run.
 */
export async function changeSchedule(
  client: ZooKeeperClient,
  layout: PipelineLayout,
  decide: (record: ScheduleRecord, current: CurrentGeneration) => Promise<Change | undefined>,
): Promise<ScheduleRecord | undefined> {
  for (let tries = 0; tries < MAX_TRIES; tries++) {
    const current = await readGeneration(client, layout);
    const stored = await readScheduleRecord(client, layout);
    if (!current || !stored)
      throw new RunError(`${layout.path} has no runs; its batch function was never started`);
    if (!admitsCommits(current.generation)) return undefined;
    const change = await decide(stored.record, current);
    if (!change) return undefined;
    const record = { ...change.record, ended: change.record.ended.slice(0, RUN_HISTORY) };
    const data = encodeSchedule(record);
    try {
      await client.multi([
        ...scopeChecks(current),
        { type: "setData", path: layout.schedule, data, version: stored.version },
        ...change.ops,
      ]);
      return record;
    } catch (error) {
      const isOvertaken = error instanceof MultiError;
      const isLost = error instanceof ConnectionLossError || error instanceof SessionExpiredError;
      if (!isOvertaken && !isLost) throw error;
      await client.connected();
    }
  }
  throw new RunError(
    `${layout.schedule} could not be changed in ${MAX_TRIES} tries: others change it all the time, or a run of the same name is left below ${layout.runs}`,
  );
}

/**
 * The operations that create a run: its record, its scope with the first segment, its control, which names the code that
 * the run begins with.
 */
export function startOps(
  layout: PipelineLayout,
  plan: ScopePlan,
  { id, cause, timeMs }: QueuedRun,
  startedMs: number,
  code: FunctionCode | undefined,
): Op[] {
  const scope = layout.run(id);
  const record: RunRecord = {
    ...{ id, cause, timeMs, state: "running", attempt: 1, startedMs },
    ...{ endedMs: null, counters: null, error: null },
  };
  const { fingerprint, shards, upstream, sideInputStages = [] } = plan;
  const graph = { fingerprint, shards, upstream, sideInputStages };
  const control = encodeGeneration({ state: "running", epoch: 0, ...graph, ...(code ? { code } : {}) });
  const start = { bytes: encodeRunStart({ run: id, cause, timeMs }), timestampMs: timeMs };
  return [
    ...scopeCreation(scope, plan, encodeRun(record), start),
    { type: "create", path: scope.control, data: control },
  ];
}

const LAST_STATES: Readonly<Record<RunEnd["state"], GenerationState>> = {
  succeeded: "drained",
  failed: "cancelled",
  cancelled: "cancelled",
};

/** The operations that end a run; its control's new version stops every commit of it. */
export async function endOps(
  client: ZooKeeperClient,
  current: CurrentGeneration,
  id: string,
  end: RunEnd,
): Promise<Op[]> {
  const scope = await readRunScope(client, current, id);
  const run = await readRun(client, current.layout, id);
  if (!scope?.control || !run) return [];
  const control = encodeGeneration({ ...scope.generation, state: LAST_STATES[end.state] });
  return [
    { type: "setData", ...scope.control, data: control },
    { type: "setData", path: current.layout.run(id).path, data: encodeRun({ ...run, ...end }) },
  ];
}

/** Ends a run; false where it was no longer at work. */
export async function endRun(
  client: ZooKeeperClient,
  layout: PipelineLayout,
  id: string,
  end: RunEnd,
): Promise<boolean> {
  const changed = await changeSchedule(client, layout, async (record, current) => {
    if (!record.active.includes(id)) return undefined;
    return { record: ended(record, [id]), ops: await endOps(client, current, id, end) };
  });
  return changed !== undefined;
}

/**
 * Puts runs into the queue that are not known yet; returns those. Throws RunError where the pipeline does not run, or
 * with what `problem` says against it.
 */
export async function enqueue(
  client: ZooKeeperClient,
  layout: PipelineLayout,
  runs: readonly QueuedRun[],
  problem: (record: ScheduleRecord, fresh: readonly QueuedRun[]) => string | undefined = () => undefined,
): Promise<readonly QueuedRun[]> {
  let queued: readonly QueuedRun[] | undefined;
  const changed = await changeSchedule(client, layout, async (record) => {
    const fresh = runs.filter(({ id }) => !knowsRun(record, id));
    // After a reply that was lost, none is fresh any more by our own doing.
    queued ??= fresh;
    if (fresh.length === 0) return undefined;
    const refusal = problem(record, fresh);
    if (refusal !== undefined) throw new RunError(refusal);
    queued = fresh;
    return { record: { ...record, queue: [...record.queue, ...fresh] }, ops: [] };
  });
  if (!changed && queued === undefined)
    throw new RunError(
      `${layout.path} is paused, or was cancelled, so nothing was asked for: resume it first`,
    );
  return queued!;
}

/** Removes the runs that are no longer in the history: what is listed before the record is read is in it, or past. */
export async function forgetOldRuns(client: ZooKeeperClient, layout: PipelineLayout): Promise<void> {
  const { children } = await reading(client, () => client.getChildren(layout.runs));
  const stored = await readScheduleRecord(client, layout);
  if (!stored) return;
  const kept = new Set([...stored.record.active, ...stored.record.ended]);
  for (const child of children)
    if (!kept.has(decodeURIComponent(child))) await removeBelow(client, `${layout.runs}/${child}`, true);
}

/** What a run that succeeded leaves is of no more use: its record and its control stay. */
export async function forgetScope(
  client: ZooKeeperClient,
  layout: PipelineLayout,
  id: string,
): Promise<void> {
  const { stages, sources, outputs, replays } = layout.run(id);
  for (const path of [stages, sources, outputs, replays]) await removeBelow(client, path, true);
}

async function removeBelow(client: ZooKeeperClient, path: string, itself: boolean): Promise<void> {
  try {
    const { children } = await reading(client, () => client.getChildren(path));
    for (const child of children) await removeBelow(client, `${path}/${child}`, true);
    if (itself) await reading(client, () => client.delete(path));
  } catch (error) {
    if (error instanceof NotEmptyError) return removeBelow(client, path, itself);
    if (!(error instanceof NoNodeError)) throw error;
  }
}
