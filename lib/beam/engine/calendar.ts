import { MAX_TIMESTAMP_MS, MIN_TIMESTAMP_MS } from "./time";
import type { IntervalWindow } from "./windows";

/**
 * Windows of whole days, months or years in a time zone, counted from a date. Beam model: `CalendarWindows`.
 * The zone's rules are those of the JavaScript engine; nothing else outside of the arguments is read.
 */
export interface CalendarWindowFn {
  readonly kind: "calendar";
  readonly unit: "days" | "months" | "years";
  /** How many units a window lasts. */
  readonly count: number;
  /** A window begins on this date. The day is at most 28 unless windows are days. */
  readonly from: { readonly year: number; readonly month: number; readonly day: number };
  /** An IANA name. */
  readonly timeZone: string;
}

const DAY_MS = 86_400_000;

/** Dates reach less far than Beam's time line; beyond this the last window goes on to the end of time. */
const LAST_DATE_MS = 8_640_000_000_000_000 - 800 * DAY_MS;

/** The window of a timestamp: from the first moment of a day to the first moment of another. */
export function assignCalendar(windowFn: CalendarWindowFn, timestampMs: number): IntervalWindow {
  const within = Math.max(-LAST_DATE_MS, Math.min(LAST_DATE_MS, timestampMs));
  const { timeZone } = windowFn;
  let index = windowIndex(windowFn, localDay(within, timeZone));
  // Where clocks go back over midnight, a day's first moment comes before the end of the day before it.
  while (boundary(windowFn, index, timeZone) > within) index--;
  while (boundary(windowFn, index + 1, timeZone) <= within) index++;
  const startMs = boundary(windowFn, index, timeZone);
  const endMs = boundary(windowFn, index + 1, timeZone);
  if (timestampMs < -LAST_DATE_MS) return { kind: "interval", startMs: MIN_TIMESTAMP_MS, endMs };
  if (timestampMs > LAST_DATE_MS) return { kind: "interval", startMs, endMs: MAX_TIMESTAMP_MS };
  return { kind: "interval", startMs, endMs };
}

function windowIndex({ unit, count, from }: CalendarWindowFn, day: number): number {
  if (unit === "days") return Math.floor((day - dayNumber(from.year, from.month, from.day)) / count);
  const date = dateOf(day);
  const months = (date.year - from.year) * 12 + date.month - from.month - (date.day < from.day ? 1 : 0);
  return Math.floor(months / (unit === "months" ? count : count * 12));
}

/** When the window of this index begins. */
function boundary({ unit, count, from }: CalendarWindowFn, index: number, timeZone: string): number {
  let day: number;
  if (unit === "days") day = dayNumber(from.year, from.month, from.day) + index * count;
  else {
    const months = from.month - 1 + index * count * (unit === "months" ? 1 : 12);
    const year = from.year + Math.floor(months / 12);
    day = dayNumber(year, months - Math.floor(months / 12) * 12 + 1, from.day);
  }
  if (day * DAY_MS < -LAST_DATE_MS - 400 * DAY_MS) return MIN_TIMESTAMP_MS;
  if (day * DAY_MS > LAST_DATE_MS + 400 * DAY_MS) return MAX_TIMESTAMP_MS;
  return firstMoment(day, timeZone);
}

/** The first moment of a local day; where clocks skip midnight, the moment after the gap. */
function firstMoment(day: number, timeZone: string): number {
  const midnight = day * DAY_MS;
  const before = midnight - offsetMs(midnight - DAY_MS, timeZone);
  const after = midnight - offsetMs(midnight + DAY_MS, timeZone);
  const exact = [before, after].filter((time) => localMs(time, timeZone) === midnight);
  if (exact.length > 0) return Math.min(...exact);
  let low = Math.min(before, after) - 1;
  let high = Math.max(before, after);
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2);
    if (localMs(middle, timeZone) >= midnight) high = middle;
    else low = middle;
  }
  return high;
}

function localDay(timestampMs: number, timeZone: string): number {
  return Math.floor(localMs(timestampMs, timeZone) / DAY_MS);
}

function offsetMs(timestampMs: number, timeZone: string): number {
  return localMs(timestampMs, timeZone) - timestampMs;
}

const formats = new Map<string, Intl.DateTimeFormat>();

/** What a wall clock in the zone shows, as if it were UTC. */
function localMs(timestampMs: number, timeZone: string): number {
  if (timeZone === "UTC") return timestampMs;
  const part: Record<string, string> = {};
  for (const { type, value } of formatOf(timeZone).formatToParts(timestampMs)) part[type] = value;
  const year = part.era!.startsWith("B") ? 1 - Number(part.year) : Number(part.year);
  const day = dayNumber(year, Number(part.month), Number(part.day));
  const seconds = (Number(part.hour) * 60 + Number(part.minute)) * 60 + Number(part.second);
  return day * DAY_MS + seconds * 1000 + (((timestampMs % 1000) + 1000) % 1000);
}

function formatOf(timeZone: string): Intl.DateTimeFormat {
  let format = formats.get(timeZone);
  if (format === undefined) {
    const numeric = "numeric";
    format = new Intl.DateTimeFormat("en-US-u-ca-gregory-nu-latn", {
      timeZone,
      hourCycle: "h23",
      era: "short",
      year: numeric,
      month: numeric,
      day: numeric,
      hour: numeric,
      minute: numeric,
      second: numeric,
    });
    formats.set(timeZone, format);
  }
  return format;
}

/** Days since 1970-01-01 of a date of the Gregorian calendar, for any year. */
function dayNumber(year: number, month: number, day: number): number {
  const shifted = month <= 2 ? year - 1 : year;
  const era = Math.floor(shifted / 400);
  const yearOfEra = shifted - era * 400;
  const dayOfYear = Math.floor((153 * (month + (month > 2 ? -3 : 9)) + 2) / 5) + day - 1;
  const dayOfEra = yearOfEra * 365 + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100) + dayOfYear;
  return era * 146_097 + dayOfEra - 719_468;
}

function dateOf(dayNumberSince1970: number): { year: number; month: number; day: number } {
  const days = dayNumberSince1970 + 719_468;
  const era = Math.floor(days / 146_097);
  const dayOfEra = days - era * 146_097;
  const yearOfEra = Math.floor(
    (dayOfEra -
      Math.floor(dayOfEra / 1460) +
      Math.floor(dayOfEra / 36_524) -
      Math.floor(dayOfEra / 146_096)) /
      365,
  );
  const dayOfYear = dayOfEra - (365 * yearOfEra + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100));
  const shiftedMonth = Math.floor((5 * dayOfYear + 2) / 153);
  const month = shiftedMonth < 10 ? shiftedMonth + 3 : shiftedMonth - 9;
  return {
    year: yearOfEra + era * 400 + (month <= 2 ? 1 : 0),
    month,
    day: dayOfYear - Math.floor((153 * shiftedMonth + 2) / 5) + 1,
  };
}
