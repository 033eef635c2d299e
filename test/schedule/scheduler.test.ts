import { readSchedule, type ScheduleOptions, ticksBetween } from "../../lib/schedule/schedule";
import { schedulerEntry } from "../../lib/schedule/scheduler";

const NOW = Date.parse("2026-11-23T10:20:30Z");
const DAY = 86_400_000;

const entry = (options: ScheduleOptions) => schedulerEntry("nightly", readSchedule(options), NOW);

test.each([
  ["1 minute", "cron(* * * * ? *)"],
  ["5 minutes", "cron(0/5 * * * ? *)"],
  ["1 hour", "cron(0 * * * ? *)"],
  ["60 minutes", "cron(0 * * * ? *)"],
  ["6 hours", "cron(0 0/6 * * ? *)"],
  ["1 day", "cron(0 0 * * ? *)"],
  ["7 minutes", "rate(7 minutes)"],
  ["5 hours", "rate(5 hours)"],
  ["2 days", "rate(2 days)"],
])("a rate of %s is fired as %s, at its own ticks", (rate, expression) => {
  const schedule = readSchedule({ rate });
  expect(entry({ rate })).toEqual({ expression, timeZone: "UTC", start: null, end: null, isOver: false });
  if (!expression.startsWith("cron")) return;
  const fired = readSchedule({ cron: expression });
  expect(ticksBetween(fired, NOW, NOW + 3 * DAY, 500)).toEqual(
    ticksBetween(schedule, NOW, NOW + 3 * DAY, 500),
  );
});

test("a rate counts from its start", () => {
  const options = { rate: "8 hours", start: "2026-11-30T03:07:00Z" };
  const { expression, start } = entry(options);
  expect([expression, start]).toEqual(["cron(7 3/8 * * ? *)", "2026-11-30T03:07:00.000Z"]);
  const from = Date.parse(options.start);
  expect(ticksBetween(readSchedule({ cron: expression }), from, from + 2 * DAY, 100)).toEqual(
    ticksBetween(readSchedule(options), from, from + 2 * DAY, 100),
  );
});

test("a cron expression keeps its zone, and its start only while that is to come", () => {
  const cron = { cron: "30 2 * * ? *", timeZone: "Europe/Berlin", end: "2027-12-31" };
  expect(entry({ ...cron, start: "2026-02-01" })).toEqual({
    expression: "cron(30 2 * * ? *)",
    timeZone: "Europe/Berlin",
    start: null,
    end: "2027-12-31T00:00:00.000Z",
    isOver: false,
  });
});

test("a schedule that has ended is over; an expression that never fires again is refused, with what to do", () => {
  expect(entry({ rate: "1 day", end: "2026-11-01" }).isOver).toBe(true);
  expect(() => entry({ cron: "0 0 1 2 ? 2026" })).toThrow(
    'pipeline "nightly": cron(0 0 1 2 ? 2026) never fires again after 2026-11-23T10:20:30.000Z; mend the expression, or leave out the schedule',
  );
});
