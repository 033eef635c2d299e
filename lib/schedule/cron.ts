import type { Cron, CronOptions } from "croner";

/** Few pipelines have a cron expression: the library is loaded with the first one, in functions from a file of its own. */
function newCron(pattern: string, options: CronOptions): Cron {
  const library: typeof import("croner") = require("croner");
  return new library.Cron(pattern, { ...options, paused: true });
}

/**
 * Cron expressions as EventBridge Scheduler has them, which is the form that is kept: `cron(minute hour day-of-month
 * month day-of-week year)`, with `?` for the one of the two days that is not asked for, and Sunday as 1.
 */
export interface CronFields {
  readonly minute: string;
  readonly hour: string;
  readonly dayOfMonth: string;
  readonly month: string;
  readonly dayOfWeek: string;
  readonly year: string;
}

const NAMES = ["minute", "hour", "day of the month", "month", "day of the week", "year"] as const;
const UNIX_FIELDS = 5;

/**
 * Reads `0 12 * * ? *` (EventBridge, with or without `cron(...)` around it) or `0 12 * * *` (Unix: Sunday is 0 or 7).
 * Throws RangeError with what is wrong with it.
 */
export function readCron(text: string): CronFields {
  const inner = /^\s*cron\s*\((.*)\)\s*$/i.exec(text)?.[1] ?? text;
  const fields = inner.trim().split(/\s+/);
  if (fields.length !== NAMES.length && fields.length !== UNIX_FIELDS)
    throw new RangeError(
      `a cron expression has ${UNIX_FIELDS} fields (minute, hour, day of the month, month, day of the week) or ${NAMES.length} (and the year), not ${inner.trim() === "" ? 0 : fields.length}`,
    );
  const isUnix = fields.length === UNIX_FIELDS;
  const [minute, hour, dayOfMonth, month, day, year = "*"] = fields as [
    string,
    string,
    string,
    string,
    string,
  ];
  const dayOfWeek = isUnix ? fromUnixDays(day) : day;
  const read = { minute, hour, ...oneDay(dayOfMonth, dayOfWeek), month, year };
  pattern(read);
  return read;
}

/** EventBridge asks for `?` in the day that does not matter. */
function oneDay(dayOfMonth: string, dayOfWeek: string): Pick<CronFields, "dayOfMonth" | "dayOfWeek"> {
  const isAny = (field: string): boolean => field === "*" || field === "?";
  if (!isAny(dayOfMonth) && !isAny(dayOfWeek))
    throw new RangeError(
      `it names a day of the month (${dayOfMonth}) and a day of the week (${dayOfWeek}); EventBridge takes only one of them, the other must be "?"`,
    );
  return isAny(dayOfWeek)
    ? { dayOfMonth: isAny(dayOfMonth) ? "*" : dayOfMonth, dayOfWeek: "?" }
    : { dayOfMonth: "?", dayOfWeek };
}

export function cronText({ minute, hour, dayOfMonth, month, dayOfWeek, year }: CronFields): string {
  return `cron(${[minute, hour, dayOfMonth, month, dayOfWeek, year].join(" ")})`;
}

/** The first moment after `afterMs` that fits; undefined where there is none. */
export function nextCron(fields: CronFields, timeZone: string, afterMs: number): number | undefined {
  const key = `${timeZone} ${cronText(fields)}`;
  const cron = known.get(key) ?? newCron(pattern(fields), { timezone: timeZone });
  if (known.size < MAX_KNOWN) known.set(key, cron);
  // The library looks from the next whole second on.
  return cron.nextRun(new Date(Math.floor(afterMs / 1000) * 1000))?.getTime();
}

const MAX_KNOWN = 1_000;
const known = new Map<string, Cron>();

/** As the library reads it: with seconds, with Sunday as 0. Throws RangeError where it does not. */
function pattern({ minute, hour, dayOfMonth, month, dayOfWeek, year }: CronFields): string {
  const days = dayOfWeek === "?" ? "*" : dayOfWeek === "L" ? "6" : shiftDays(dayOfWeek, -1);
  const text = [
    ...["0", upTo(minute, 59), upTo(hour, 23), dayOfMonth === "?" ? "*" : upTo(dayOfMonth, 31)],
    ...[upTo(month, 12), upTo(days, 6), upTo(year, LAST_YEAR)],
  ].join(" ");
  try {
    newCron(text, {});
  } catch (error) {
    throw new RangeError((error as Error).message.replace(/^CronPattern: /, ""));
  }
  return text;
}

const LAST_YEAR = 2199;

/** EventBridge's `5/10` is every tenth from the fifth on. */
function upTo(field: string, last: number): string {
  return field.replace(/(^|,)(\d+)\//g, `$1$2-${last}/`);
}

/** Unix counts days from 0 (Sunday), and 7 is Sunday again. */
function fromUnixDays(field: string): string {
  const parts = field.split(",").map((part) => {
    if (part === "7") return "0";
    const from = /^(\d)-7$/.exec(part)?.[1];
    return from === undefined ? part : `${from}-6,0`;
  });
  return shiftDays(parts.join(","), 1);
}

/** Moves the numbers of days: `2-6` to `1-5`, `6L` to `5L`, `3#2` to `2#2`; steps and counts stay. */
function shiftDays(field: string, by: number): string {
  const shifted = (digits: string): string => {
    const day = Number(digits) + by;
    if (day < (by < 0 ? 0 : 1) || day > (by < 0 ? 6 : 7))
      throw new RangeError(
        `${digits} is no day of the week: with six fields days are 1 (Sunday) to 7, with five 0 (Sunday) to 6`,
      );
    return String(day);
  };
  return field
    .split(",")
    .map((part) =>
      part.replace(/^(\d+)(?:-(\d+))?/, (_, from, to) => shifted(from) + (to ? `-${shifted(to)}` : "")),
    )
    .join(",");
}
