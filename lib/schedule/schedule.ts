import { type CronFields, cronText, nextCron, readCron } from "./cron";

/** What becomes of a tick that comes while a run is at work. */
export type Overlap = "skip" | "queue" | "allow" | "cancel-previous";

export interface ScheduleOptions {
  /**
   * When to run: `0 12 * * ? *` as in EventBridge Scheduler (minute, hour, day of the month, month, day of the week,
   * year; one of the two days is `?`, Sunday is 1), or `0 12 * * *` as in Unix (Sunday is 0). Either this or `rate`.
   */
  readonly cron?: string;
  /** How often to run: `5 minutes`, `1 hour`, `2 days`, counted from `start`, else from the beginning of 1970. */
  readonly rate?: string;
  /** An IANA name. Default: "UTC". */
  readonly timeZone?: string;
  /** No tick before this time. Default: none. */
  readonly start?: string | Date;
  /** No tick from this time on. Default: none. */
  readonly end?: string | Date;
  /** What becomes of a tick that comes while a run is at work. Default: "skip". */
  readonly overlap?: Overlap;
  /** How late a tick may be made up for, in ms. Default: 3,600,000 (an hour). */
  readonly catchUpMs?: number;
  /** How often a run that has failed goes on again, from where it stood. Default: 0. */
  readonly retries?: number;
}

/** A schedule whose options are known to be right: plain data, so that it can be stored. */
export interface Schedule {
  /** As EventBridge Scheduler takes it: `cron(0 12 * * ? *)` or `rate(5 minutes)`. */
  readonly expression: string;
  readonly timeZone: string;
  readonly startMs: number | null;
  readonly endMs: number | null;
  readonly overlap: Overlap;
  readonly catchUpMs: number;
  readonly retries: number;
}

const OVERLAPS: readonly Overlap[] = ["skip", "queue", "allow", "cancel-previous"];
const OPTIONS = ["cron", "rate", "timeZone", "start", "end", "overlap", "catchUpMs", "retries"] as const;
const HOUR_MS = 3_600_000;
const UNITS_MS: Readonly<Record<string, number>> = { minute: 60_000, hour: HOUR_MS, day: 24 * HOUR_MS };
const MAX_RETRIES = 100;
/** Where it is looked for the first tick: there was no Beamkeeper before. */
const BEGINNING_MS = Date.UTC(2026, 0, 1);

/** The options with their defaults; throws RangeError with what is wrong. */
export function readSchedule(options: ScheduleOptions): Schedule {
  if (typeof options !== "object" || options === null)
    throw new RangeError('schedule must be an object such as { cron: "0 12 * * ? *" }');
  for (const name of Object.keys(options))
    if (!(OPTIONS as readonly string[]).includes(name))
      throw new RangeError(`schedule has no option "${name}"; it has ${OPTIONS.join(", ")}`);
  const { overlap = "skip", catchUpMs = HOUR_MS, retries = 0, timeZone = "UTC" } = options;
  if (!OVERLAPS.includes(overlap))
    throw new RangeError(`schedule.overlap must be one of ${OVERLAPS.join(", ")}`);
  whole("catchUpMs", catchUpMs, Number.MAX_SAFE_INTEGER);
  whole("retries", retries, MAX_RETRIES);
  requireTimeZone(timeZone);
  const startMs = time("start", options.start);
  const endMs = time("end", options.end);
  const schedule = {
    expression: expressionOf(options),
    timeZone,
    startMs,
    endMs,
    overlap,
    catchUpMs,
    retries,
  };
  if (nextTick(schedule, (startMs ?? BEGINNING_MS) - 1) === undefined)
    throw new RangeError(
      `schedule: ${schedule.expression} never fires${startMs === null ? ` after ${iso(BEGINNING_MS)}` : ` from ${iso(startMs)} on`}${endMs === null ? "" : ` and before ${iso(endMs)}`}; mend the expression, start or end`,
    );
  return Object.freeze(schedule);
}

/** The first tick after `afterMs`; undefined where there is none any more. */
export function nextTick(schedule: Schedule, afterMs: number): number | undefined {
  const { expression, timeZone, startMs, endMs } = schedule;
  const fromMs = startMs === null ? afterMs : Math.max(afterMs, startMs - 1);
  const rateMs = rateOf(expression);
  const anchorMs = startMs ?? 0;
  const tickMs =
    rateMs === undefined
      ? nextCron(parsed(expression), timeZone, fromMs)
      : anchorMs + (Math.floor((fromMs - anchorMs) / rateMs) + 1) * rateMs;
  return tickMs === undefined || (endMs !== null && tickMs >= endMs) ? undefined : tickMs;
}

/** The ticks from `fromMs` on and before `toMs`, at most `limit` of them. */
export function ticksBetween(schedule: Schedule, fromMs: number, toMs: number, limit: number): number[] {
  const ticks: number[] = [];
  for (let at = nextTick(schedule, fromMs - 1); at !== undefined && at < toMs; at = nextTick(schedule, at)) {
    if (ticks.length === limit) break;
    ticks.push(at);
  }
  return ticks;
}

const fieldsOf = new Map<string, CronFields>();

function parsed(expression: string): CronFields {
  const fields = fieldsOf.get(expression) ?? readCron(expression);
  fieldsOf.set(expression, fields);
  return fields;
}

function expressionOf({ cron, rate }: ScheduleOptions): string {
  if ((cron === undefined) === (rate === undefined))
    throw new RangeError('schedule needs either cron ("0 12 * * ? *") or rate ("5 minutes")');
  if (rate !== undefined) {
    const match = /^\s*(?:rate\s*\()?\s*([1-9]\d{0,6})\s+(minute|hour|day)s?\s*\)?\s*$/.exec(String(rate));
    if (!match)
      throw new RangeError(
        `schedule.rate must be a whole number of minutes, hours or days, such as "5 minutes"; it is ${JSON.stringify(rate)}`,
      );
    return `rate(${match[1]} ${match[2]}${match[1] === "1" ? "" : "s"})`;
  }
  try {
    return cronText(readCron(String(cron)));
  } catch (error) {
    throw new RangeError(`schedule.cron ${JSON.stringify(cron)} can't be used: ${(error as Error).message}`);
  }
}

function rateOf(expression: string): number | undefined {
  const match = /^rate\((\d+) (minute|hour|day)s?\)$/.exec(expression);
  return match ? Number(match[1]) * UNITS_MS[match[2]!]! : undefined;
}

function requireTimeZone(timeZone: string): void {
  try {
    new Intl.DateTimeFormat("en", { timeZone });
  } catch {
    throw new RangeError(
      `schedule.timeZone must be an IANA name such as "Europe/Berlin"; it is ${JSON.stringify(timeZone)}`,
    );
  }
}

function time(name: string, value: string | Date | undefined): number | null {
  if (value === undefined) return null;
  const isDated = value instanceof Date || /^\d{4}-\d\d-\d\d(T\d\d:\d\d.*(Z|[+-]\d\d:?\d\d))?$/.test(value);
  const ms = new Date(value).getTime();
  if (isDated && Number.isFinite(ms)) return ms;
  throw new RangeError(
    `schedule.${name} must be a Date, a day such as "2027-01-31", or a time with its offset such as "2027-01-31T08:00:00Z"`,
  );
}

function whole(name: string, value: unknown, max: number): void {
  if (!Number.isInteger(value) || (value as number) < 0 || (value as number) > max)
    throw new RangeError(`schedule.${name} must be a whole number from 0 to ${max}`);
}

function iso(ms: number): string {
  return new Date(ms).toISOString();
}
