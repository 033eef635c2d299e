import { MAX_QUEUE, type QueuedRun, type ScheduleRecord, tickRunId } from "../checkpoint/run";
import { nextTick, type Schedule } from "../schedule/schedule";

/** What the record becomes, which run starts with it, and which end by it. Pure. */
export interface Decision {
  readonly record: ScheduleRecord;
  readonly start?: QueuedRun;
  readonly cancel?: readonly string[];
}

/** Even without catch-up a tick is no tick of the past yet when it is a little late. */
const GRACE_MS = 120_000;

/**
 * What is to be done next, one step at a time: take note of the schedule, decide on the next tick that is due, or
 * start what waits. Undefined where nothing is. `tickMs` is the tick that woke us, where it is known: the first that is
 * ever decided on.
 */
export function decide(
  record: ScheduleRecord,
  schedule: Schedule | undefined,
  nowMs: number,
  tickMs?: number,
): Decision | undefined {
  const known = JSON.stringify(schedule ?? null);
  if (JSON.stringify(record.schedule) !== known || record.highestTickMs === null) {
    const highestTickMs = record.highestTickMs ?? (tickMs === undefined ? nowMs : tickMs - 1);
    return { record: { ...record, schedule: schedule ?? null, highestTickMs } };
  }
  const due = schedule && dueTick(record, schedule, Math.max(nowMs, tickMs ?? 0));
  return due === undefined ? startNext(record) : decideTick(record, schedule!, due);
}

function dueTick(record: ScheduleRecord, schedule: Schedule, nowMs: number): number | undefined {
  const windowMs = Math.max(schedule.catchUpMs, GRACE_MS);
  const tickMs = nextTick(schedule, Math.max(record.highestTickMs!, nowMs - windowMs - 1));
  return tickMs !== undefined && tickMs <= nowMs ? tickMs : undefined;
}

function decideTick(before: ScheduleRecord, { overlap }: Schedule, tickMs: number): Decision {
  const record = { ...before, highestTickMs: tickMs };
  const run: QueuedRun = { id: tickRunId(tickMs), cause: "schedule", timeMs: tickMs, limit: 1 };
  // A backfill has come before the tick.
  if (knowsRun(before, run.id)) return { record };
  if (overlap === "allow" || before.active.length + before.queue.length === 0) return started(record, run);
  if (overlap === "cancel-previous") {
    const { active } = record;
    return { ...started(ended(record, active), run), cancel: active };
  }
  if (overlap === "queue" && record.queue.length < MAX_QUEUE) {
    const ofBackfills = record.queue.findIndex(({ cause }) => cause === "backfill");
    const at = ofBackfills < 0 ? record.queue.length : ofBackfills;
    return { record: { ...record, queue: record.queue.toSpliced(at, 0, run) } };
  }
  if (overlap === "skip" && before.active.length === 0) return started(record, run);
  return { record: { ...record, skippedTicks: record.skippedTicks + 1 } };
}

function startNext(record: ScheduleRecord): Decision | undefined {
  const [first, ...queue] = record.queue;
  if (!first || (first.limit > 0 && record.active.length >= first.limit)) return undefined;
  return started({ ...record, queue }, first);
}

function started(record: ScheduleRecord, start: QueuedRun): Decision {
  return { record: { ...record, active: [...record.active, start.id] }, start };
}

/** The record once these runs have ended. */
export function ended(record: ScheduleRecord, ids: readonly string[]): ScheduleRecord {
  const now = record.active.filter((id) => ids.includes(id));
  return {
    ...record,
    active: record.active.filter((id) => !ids.includes(id)),
    ended: [...now.toReversed(), ...record.ended],
  };
}

/** Whether the record knows of a run, in whatever state. */
export function knowsRun({ active, queue, ended: past }: ScheduleRecord, id: string): boolean {
  return active.includes(id) || past.includes(id) || queue.some((run) => run.id === id);
}
