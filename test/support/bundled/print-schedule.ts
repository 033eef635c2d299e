import { nextTick, readSchedule } from "../../../lib/schedule/schedule";

/** A function whose pipeline has a cron expression. */
const schedule = readSchedule({ cron: "0 12 * * *" });
process.stdout.write(`${schedule.expression} ${nextTick(schedule, 0)}`);
