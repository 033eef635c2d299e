import * as beam from "apache-beam";
import {
  definePipeline,
  type PipelineDefinition,
  readRun,
  type ScheduleOptions,
  writeToZnodes,
} from "beamkeeper";

export interface BatchSampleOptions {
  readonly name?: string;
  readonly schedule?: ScheduleOptions;
  /** How many numbers a run counts up to (default 40). */
  readonly numbers?: number;
  readonly shards?: number;
  /** Another graph: writes "more" beside each sum. */
  readonly withMore?: boolean;
  /** Called for each number; may throw. */
  readonly visit?: (n: number) => void;
}

/** A bounded pipeline: each run sums the numbers by their last digit, as /results/NAME/RUN/DIGIT. */
export function digitsPipeline({
  name = "digits",
  schedule,
  numbers = 40,
  shards = 2,
  withMore = false,
  visit = () => undefined,
}: BatchSampleOptions = {}): PipelineDefinition {
  return definePipeline({
    name,
    shards,
    failures: { maxAttempts: 1, onExhausted: "stop" },
    ...(schedule ? { schedule } : {}),
    build: (root) => {
      const sums = root
        .apply(readRun())
        .flatMap(({ run }) => Array.from({ length: numbers }, (_, n) => ({ run, n })))
        .map(({ run, n }) => ({ key: `${run}/${n % 10}`, n }))
        .apply(beam.groupBy("key").combining("n", (a: number, b: number) => a + b, "sum"))
        .map((digit) => {
          visit(digit.sum);
          return digit;
        });
      const write = (data: (sum: number) => string, suffix: string) =>
        writeToZnodes<{ key: string; sum: number }>(
          ({ key, sum }) => ({ path: `/results/${name}/${key}${suffix}`, data: data(sum) }),
          { mode: "create" },
        );
      sums.apply(write(String, ""));
      if (withMore) sums.apply(write(() => "more", "-more"));
    },
  });
}
