import type { PCollection, PTransform, Root } from "apache-beam";
import { readPrimitive } from "../beam/primitives";

/** What a run of a bounded pipeline is for. */
export interface RunInfo {
  /** The run's id. */
  readonly run: string;
  readonly cause: "schedule" | "manual" | "backfill";
  /** The time that the run is for, in ms: the tick of the schedule, or when it was asked for. */
  readonly timeMs: number;
}

/**
 * Reads what the run is for: one element, whose event time is the run's. A bounded source; each run of the pipeline,
 * scheduled or of a backfill, starts from its own.
 */
export function readRun(): PTransform<Root, PCollection<RunInfo>> {
  return readPrimitive<RunInfo>("readRun", { kind: "run", config: {}, bounded: true });
}
