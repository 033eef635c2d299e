import { decide, ended } from "../../lib/batch/decisions";
import { NEW_SCHEDULE, type QueuedRun, type ScheduleRecord, tickRunId } from "../../lib/checkpoint/run";
import { readSchedule, type ScheduleOptions } from "../../lib/schedule/schedule";

const MINUTE = 60_000;
const NOON = Date.parse("2026-11-23T12:00:00Z");
const id = (minute: number): string => tickRunId(NOON + minute * MINUTE);

function minutely(options: Partial<ScheduleOptions> = {}) {
  return readSchedule({ cron: "* * * * *", ...options });
}

/** Everything that is to be done at this moment; the runs that started, and those that were cancelled. */
function settle(
  before: ScheduleRecord,
  schedule: ReturnType<typeof minutely>,
  nowMs: number,
  tickMs?: number,
) {
  const started: string[] = [];
  const cancelled: string[] = [];
  let record = before;
  for (
    let next = decide(record, schedule, nowMs, tickMs);
    next;
    next = decide(record, schedule, nowMs, tickMs)
  ) {
    if (next.start) started.push(next.start.id);
    cancelled.push(...(next.cancel ?? []));
    record = next.record;
  }
  return { record, started, cancelled };
}

const seen = (schedule: ReturnType<typeof minutely>): ScheduleRecord =>
  settle(NEW_SCHEDULE, schedule, NOON).record;

test("a pipeline that is seen first makes up for nothing; the tick that wakes it runs", () => {
  expect(settle(NEW_SCHEDULE, minutely(), NOON).started).toEqual([]);
  expect(settle(NEW_SCHEDULE, minutely(), NOON + 7, NOON).started).toEqual([id(0)]);
  // The function's clock may be behind that of the scheduler.
  expect(settle(NEW_SCHEDULE, minutely(), NOON - 7, NOON).started).toEqual([id(0)]);
});

test("a tick that comes twice, or late, runs once", () => {
  const schedule = minutely({ overlap: "allow" });
  const late = settle(seen(schedule), schedule, NOON + 2 * MINUTE, NOON + 2 * MINUTE);
  expect(late.started).toEqual([id(1), id(2)]);
  expect(settle(late.record, schedule, NOON + 2 * MINUTE + 5, NOON + MINUTE).started).toEqual([]);
});

test.each([
  ["skip", [id(1)], [], [], 2],
  ["queue", [id(1)], [], [id(2), id(3)], 0],
  ["allow", [id(1), id(2), id(3)], [], [], 0],
  ["cancel-previous", [id(1), id(2), id(3)], [id(1), id(2)], [], 0],
] as const)("overlap %s", (overlap, starts, cancels, waits, skips) => {
  const schedule = minutely({ overlap });
  const { record, started, cancelled } = settle(seen(schedule), schedule, NOON + 3 * MINUTE);
  expect(started).toEqual(starts);
  expect(cancelled).toEqual(cancels);
  expect(record.queue.map((run) => run.id)).toEqual(waits);
  expect(record.skippedTicks).toBe(skips);
  expect(record.highestTickMs).toBe(NOON + 3 * MINUTE);
  expect(record.ended).toEqual(cancels.toReversed());
});

test("a queued run starts when the one before it has ended, and before a backfill that waits", () => {
  const schedule = minutely({ overlap: "queue" });
  const backfill: QueuedRun = { id: "tick-old", cause: "backfill", timeMs: 0, limit: 1 };
  const first = settle(seen(schedule), schedule, NOON + MINUTE).record;
  const waiting = settle({ ...first, queue: [backfill] }, schedule, NOON + 2 * MINUTE);
  expect(waiting.started).toEqual([]);
  const second = settle(ended(waiting.record, [id(1)]), schedule, NOON + 2 * MINUTE);
  expect(second.started).toEqual([id(2)]);
  expect(settle(ended(second.record, [id(2)]), schedule, NOON + 2 * MINUTE).started).toEqual(["tick-old"]);
});

test("a backfill runs as many at once as it may", () => {
  const queue = [1, 2, 3, 4].map((n): QueuedRun => ({ id: `b${n}`, cause: "backfill", timeMs: n, limit: 3 }));
  const schedule = minutely();
  expect(settle({ ...seen(schedule), queue }, schedule, NOON).started).toEqual(["b1", "b2", "b3"]);
});

test("what was missed is made up for within the window, and what lies before it is not", () => {
  const schedule = minutely({ overlap: "allow", catchUpMs: 5 * MINUTE });
  expect(settle(seen(schedule), schedule, NOON + 60 * MINUTE).started).toEqual(
    [55, 56, 57, 58, 59, 60].map(id),
  );
  const strict = minutely({ overlap: "allow", catchUpMs: 0 });
  expect(settle(seen(strict), strict, NOON + 60 * MINUTE).started).toEqual([58, 59, 60].map(id));
});

test("a tick that a backfill has run already does not run again", () => {
  const schedule = minutely({ overlap: "allow" });
  const record = { ...seen(schedule), ended: [id(1)] };
  expect(settle(record, schedule, NOON + 2 * MINUTE).started).toEqual([id(2)]);
});

test("a schedule that changes is taken over, and what was decided stays decided", () => {
  const first = settle(seen(minutely()), minutely(), NOON + MINUTE).record;
  const hourly = readSchedule({ cron: "0 * * * *" });
  const { record, started } = settle(first, hourly, NOON + 2 * MINUTE);
  expect([record.schedule, started]).toEqual([hourly, []]);
  expect(settle(record, hourly, NOON + 60 * MINUTE).record.skippedTicks).toBe(1);
});
