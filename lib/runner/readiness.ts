import type { CompiledPipeline } from "../beam/api";
import type { PipelineDefinition } from "../beam/pipeline";
import { type SchedulerEntry, schedulerEntry } from "../schedule/scheduler";
import { isBounded, readsOnlyEvents, watchesZnodes } from "./deployment";

/**
 * The pipeline's schedule as it is deployed; null where it has none. Throws RangeError, with the remedy, where it can't
 * be: it never fires again, or the pipeline never ends.
 */
export function deployableSchedule(
  { name, schedule }: PipelineDefinition,
  compiled: CompiledPipeline,
  nowMs: number,
): SchedulerEntry | null {
  if (!schedule) return null;
  if (!isBounded(compiled))
    throw new RangeError(
      `pipeline "${name}" has a schedule and ${endlessly(compiled)}, so it never ends: leave out the schedule, or begin it with readRun()`,
    );
  return schedulerEntry(name, schedule, nowMs);
}

function endlessly(compiled: CompiledPipeline): string {
  if (watchesZnodes(compiled)) return "watches znodes";
  return readsOnlyEvents(compiled) ? "reads events" : "has a source without an end";
}
