import { nextTick, type Schedule } from "./schedule";

/** A schedule as EventBridge Scheduler takes it. */
export interface SchedulerEntry {
  readonly expression: string;
  readonly timeZone: string;
  /** ISO times; null where there is no such bound any more. */
  readonly start: string | null;
  readonly end: string | null;
  /** No tick comes any more. */
  readonly isOver: boolean;
}

const MINUTE_MS = 60_000;
const MINUTES: Readonly<Record<string, number>> = { minute: 1, hour: 60, day: 1440 };

/**
 * The schedule for EventBridge Scheduler, whose rates count from when they were made. So a rate that divides an hour or
 * a day is told as a cron expression, and fires at the ticks. Where it doesn't, the batch function's own look each
 * minute finds the tick, since it decides by its own arithmetic.
 * A start that has passed is left out, which Scheduler would refuse. Throws RangeError where an expression without an
 * end has no tick from now on.
 */
export function schedulerEntry(pipeline: string, schedule: Schedule, nowMs: number): SchedulerEntry {
  const { expression, timeZone, startMs, endMs } = schedule;
  const isOver = nextTick(schedule, nowMs) === undefined;
  if (isOver && (endMs === null || endMs > nowMs))
    throw new RangeError(
      `pipeline "${pipeline}": ${expression} never fires again after ${iso(nowMs)}; mend the expression, or leave out the schedule`,
    );
  const aligned = alignedCron(expression, startMs ?? 0);
  return {
    expression: aligned ?? expression,
    timeZone: aligned === undefined ? timeZone : "UTC",
    start: startMs !== null && startMs > nowMs ? iso(startMs) : null,
    end: endMs === null ? null : iso(endMs),
    isOver,
  };
}

/** The cron expression with the same ticks, in UTC; undefined where there is none. */
function alignedCron(expression: string, anchorMs: number): string | undefined {
  const rate = /^rate\((\d+) (minute|hour|day)s?\)$/.exec(expression);
  if (!rate || anchorMs % MINUTE_MS !== 0) return undefined;
  const every = Number(rate[1]) * MINUTES[rate[2]!]!;
  const first = (anchorMs / MINUTE_MS) % every;
  if (every <= 60 && 60 % every === 0) return `cron(${steps(first, every, 60)} * * * ? *)`;
  if (every % 60 === 0 && every <= 1440 && 1440 % every === 0)
    return `cron(${first % 60} ${steps(Math.floor(first / 60), every / 60, 24)} * * ? *)`;
  return undefined;
}

/** `first/every`, or what comes once as what it is. */
function steps(first: number, every: number, all: number): string {
  if (every === all) return String(first);
  return every === 1 ? "*" : `${first}/${every}`;
}

function iso(ms: number): string {
  return new Date(ms).toISOString();
}
