/**
 * Runs seeds one after the other in a process of its own, and writes one line of JSON for each seed that failed and
 * one for every so many that were run: what {@link SeedReport} says.
 *
 *   node seeds.js FROM TO STRIDE STOP_AT REPORT_EVERY
 */
import { Coverage } from "../../lib/simulation/faults";
import { simulate } from "../../lib/simulation/simulate";

export type SeedReport = FailedSeed | SeedTotals;

export interface FailedSeed {
  readonly seed: number;
  readonly problems: readonly string[];
}

/** Of the seeds that a worker has run since its last report. */
export interface SeedTotals {
  readonly runs: number;
  /** The least that any of them had. */
  readonly least: {
    readonly elements: number;
    readonly faults: number;
    readonly stages: number;
    readonly shards: number;
  };
  readonly totals: {
    readonly elements: number;
    readonly faults: number;
    readonly writes: number;
    readonly givenUp: number;
    /** Of the worker's process. */
    readonly cpuMs: number;
  };
  readonly coverage: Readonly<Record<string, number>>;
}

const [from, to, stride, stopAt, reportEvery] = process.argv.slice(2).map(Number) as [
  number,
  number,
  number,
  number,
  number,
];

// Errors are part of every run, and their stacks are not: `beamkeeper verify --seed N` shows them.
Error.stackTraceLimit = 0;

async function main(): Promise<void> {
  let failed = 0;
  for (let seed = from; seed < to && failed < stopAt; ) {
    const coverage = new Coverage();
    const most = Number.MAX_SAFE_INTEGER;
    const least = { elements: most, faults: most, stages: most, shards: most };
    const totals = { elements: 0, faults: 0, writes: 0, givenUp: 0, cpuMs: 0 };
    const cpuBefore = process.cpuUsage();
    let runs = 0;
    for (; runs < reportEvery && seed < to && failed < stopAt; seed += stride, runs++) {
      const report = await simulate({ seed, coverage });
      least.elements = Math.min(least.elements, report.elements);
      least.faults = Math.min(least.faults, report.faults);
      least.stages = Math.min(least.stages, report.stages);
      least.shards = Math.min(least.shards, report.shards);
      totals.elements += report.elements;
      totals.faults += report.faults;
      totals.writes += report.writes;
      totals.givenUp += report.givenUp;
      if (report.problems.length === 0) continue;
      failed += 1;
      say({ seed, problems: report.problems });
    }
    const { user, system } = process.cpuUsage(cpuBefore);
    totals.cpuMs = (user + system) / 1000;
    say({ runs, least, totals, coverage: coverage.toJSON() });
  }
}

function say(report: SeedReport): void {
  process.stdout.write(`${JSON.stringify(report)}\n`);
}

main().then(
  () => process.exit(0),
  (error: unknown) => {
    process.stderr.write(`${error instanceof Error ? error.stack : String(error)}\n`);
    process.exit(2);
  },
);
