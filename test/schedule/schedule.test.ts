import { readSchedule, type ScheduleOptions, ticksBetween } from "../../lib/schedule/schedule";

const utc = (text: string): number => Date.parse(text);

function ticks(options: ScheduleOptions, from: string, to: string): string[] {
  const found = ticksBetween(readSchedule(options), utc(from), utc(to), 100);
  return found.map((ms) => new Date(ms).toISOString().slice(0, 16));
}

const berlin = (cron: string): ScheduleOptions => ({ cron, timeZone: "Europe/Berlin" });

test("noon stays noon over both changes of the clock", () => {
  expect(ticks(berlin("0 12 * * ? *"), "2027-03-27T00:00Z", "2027-03-30T00:00Z")).toEqual([
    ...["2027-03-27T11:00", "2027-03-28T10:00", "2027-03-29T10:00"],
  ]);
  expect(ticks(berlin("0 12 * * ? *"), "2026-10-24T00:00Z", "2026-10-27T00:00Z")).toEqual([
    ...["2026-10-24T10:00", "2026-10-25T11:00", "2026-10-26T11:00"],
  ]);
});

test("a time that the spring leaves out comes once, when the clock has moved", () => {
  expect(ticks(berlin("30 2 * * ? *"), "2027-03-27T00:00Z", "2027-03-30T00:00Z")).toEqual([
    ...["2027-03-27T01:30", "2027-03-28T01:00", "2027-03-29T00:30"],
  ]);
});

test("a time that the autumn has twice comes once, and every half hour comes through both", () => {
  expect(ticks(berlin("30 2 * * ? *"), "2026-10-24T00:00Z", "2026-10-27T00:00Z")).toEqual([
    ...["2026-10-24T00:30", "2026-10-25T00:30", "2026-10-26T01:30"],
  ]);
  expect(ticks(berlin("*/30 * * * ? *"), "2026-10-25T00:00Z", "2026-10-25T02:00Z")).toEqual([
    ...["2026-10-25T00:00", "2026-10-25T00:30", "2026-10-25T01:00", "2026-10-25T01:30"],
  ]);
});

test.each([
  ["EventBridge's Monday is 2", "0 9 ? * 2 *", "cron(0 9 ? * 2 *)", "2026-11-23T09:00"],
  ["EventBridge's steps have a beginning", "5/20 9/6 * * ? *", "cron(5/20 9/6 * * ? *)", "2026-11-23T09:05"],
  ["and in Unix 1", "0 9 * * 1", "cron(0 9 ? * 2 *)", "2026-11-23T09:00"],
  ["Unix's Sunday is 0 or 7", "0 9 * * 7", "cron(0 9 ? * 1 *)", "2026-11-29T09:00"],
  ["and ends a range", "0 9 * * 6-7", "cron(0 9 ? * 7-7,1 *)", "2026-11-28T09:00"],
  ["names of days", "0 9 ? * WED-FRI *", "cron(0 9 ? * WED-FRI *)", "2026-11-25T09:00"],
  ["the last day of the month", "0 9 L * ? *", "cron(0 9 L * ? *)", "2026-11-30T09:00"],
  ["the last Friday", "0 9 ? * 6L *", "cron(0 9 ? * 6L *)", "2026-11-27T09:00"],
  ["the first Tuesday", "0 9 ? * 3#1 *", "cron(0 9 ? * 3#1 *)", "2026-12-01T09:00"],
  ["the working day next to a day", "0 9 28W * ? *", "cron(0 9 28W * ? *)", "2026-11-27T09:00"],
  ["a year", "cron(0 0 1 1 ? 2028)", "cron(0 0 1 1 ? 2028)", "2028-01-01T00:00"],
])("%s", (_name, cron, expression, first) => {
  expect(readSchedule({ cron }).expression).toBe(expression);
  expect(ticks({ cron }, "2026-11-23T00:00Z", "2029-01-01T00:00Z")[0]).toBe(first);
});

test("a rate counts from its start, and start and end bound the ticks", () => {
  const schedule = { rate: "10 minutes", start: "2026-11-23T10:03:00Z", end: "2026-11-23T10:33:00Z" };
  expect(ticks(schedule, "2026-11-20T00:00Z", "2026-11-30T00:00Z")).toEqual([
    ...["2026-11-23T10:03", "2026-11-23T10:13", "2026-11-23T10:23"],
  ]);
  expect(readSchedule({ rate: "rate(1 hour)" }).expression).toBe("rate(1 hour)");
});

test("a tick is found from a moment between two seconds as well", () => {
  const schedule = readSchedule({ cron: "* * * * *" });
  const minute = utc("2026-11-23T10:00:00Z");
  expect(ticksBetween(schedule, minute - 1, minute + 1, 10)).toEqual([minute]);
  expect(ticksBetween(schedule, minute + 1, minute + 60_001, 10)).toEqual([minute + 60_000]);
});

test.each<[string, ScheduleOptions, RegExp]>([
  ["a day that no month has", { cron: "0 0 30 2 ? *" }, /cron\(0 0 30 2 \? \*\) never fires after 2026/],
  ["a year that is over", { cron: "0 0 1 1 ? 2020" }, /never fires/],
  [
    "an end before the first tick",
    { rate: "1 day", start: "2027-01-01", end: "2027-01-01" },
    /never fires.*and before/,
  ],
  ["too few fields", { cron: "0 12 * *" }, /has 5 fields .* or 6 .*, not 4/],
  ["a minute that is none", { cron: "61 12 * * ? *" }, /schedule\.cron "61 12 \* \* \? \*" can't be used/],
  ["both days", { cron: "0 12 1 * 2 *" }, /only one of them, the other must be "\?"/],
  ["a day of the week that is none", { cron: "0 12 ? * 8 *" }, /8 is no day of the week/],
  ["neither cron nor rate", {}, /either cron .* or rate/],
  ["both cron and rate", { cron: "0 12 * * ? *", rate: "1 day" }, /either cron .* or rate/],
  ["a rate of seconds", { rate: "5 seconds" }, /whole number of minutes, hours or days/],
  ["a zone that is none", { rate: "1 day", timeZone: "Europe/Atlantis" }, /IANA name/],
  [
    "a time without its offset",
    { rate: "1 day", start: "2027-01-01T10:00" },
    /schedule\.start must be a Date/,
  ],
  ["an overlap that is none", { rate: "1 day", overlap: "wait" as "skip" }, /must be one of skip, queue/],
  ["a negative window", { rate: "1 day", catchUpMs: -1 }, /catchUpMs must be a whole number from 0/],
  [
    "an unknown option",
    { rate: "1 day", retry: 1 } as ScheduleOptions,
    /no option "retry"; it has cron, rate/,
  ],
])("%s is refused", (_name, options, message) => {
  expect(() => readSchedule(options)).toThrow(message);
});
