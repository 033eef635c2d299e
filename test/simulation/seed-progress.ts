import { existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { Coverage } from "../../lib/simulation/faults";
import type { FailedSeed, SeedReport, SeedTotals } from "./seeds";

/** What one worker has told of as many seeds as every other. */
interface WorkerRound {
  readonly totals: SeedTotals;
  readonly failed: readonly FailedSeed[];
}

/** Puts the reports of the workers together in rounds, so that what has been run is all seeds up to some one. */
export class Rounds {
  private readonly waiting: WorkerRound[][];
  private readonly failed: FailedSeed[][];

  constructor(
    workers: number,
    private readonly onRound: (reports: readonly WorkerRound[]) => void,
  ) {
    this.waiting = Array.from({ length: workers }, () => []);
    this.failed = Array.from({ length: workers }, () => []);
  }

  take(report: SeedReport, worker: number): void {
    if ("seed" in report) {
      this.failed[worker]!.push(report);
      return;
    }
    this.waiting[worker]!.push({ totals: report, failed: this.failed[worker]!.splice(0) });
    while (this.waiting.every((each) => each.length > 0))
      this.onRound(this.waiting.map((each) => each.shift()!));
  }

  /** The last round, in which some workers may have had nothing to do. To be called when all have come to their end. */
  end(): void {
    const rest = this.waiting.flatMap((each) => each.splice(0));
    if (rest.length > 0) this.onRound(rest);
  }
}

/** As it is kept in a file. */
interface Stored {
  /** All seeds from `first` up to and without `next` have been run. */
  first: number;
  next: number;
  runs: number;
  elements: number;
  faults: number;
  cpuMs: number;
  least: { elements: number; faults: number };
  failed: FailedSeed[];
  coverage: Readonly<Record<string, number>>;
}

/** How far a long run of seeds is, kept in a file where there is one, so that it can be stopped and gone on with. */
export class SeedProgress {
  private readonly coverage = new Coverage();

  private constructor(
    private readonly file: string | undefined,
    private readonly stored: Stored,
  ) {
    this.coverage.merge(stored.coverage);
  }

  /** What the file tells, or a run that begins with the seed `first`. */
  static open(file: string | undefined, first: number): SeedProgress {
    if (file !== undefined && existsSync(file))
      return new SeedProgress(file, JSON.parse(readFileSync(file, "utf8")) as Stored);
    const most = Number.MAX_SAFE_INTEGER;
    return new SeedProgress(file, {
      ...{ first, next: first, runs: 0, elements: 0, faults: 0, cpuMs: 0, failed: [], coverage: {} },
      least: { elements: most, faults: most },
    });
  }

  get first(): number {
    return this.stored.first;
  }

  get next(): number {
    return this.stored.next;
  }

  get failed(): readonly FailedSeed[] {
    return this.stored.failed;
  }

  /** Everything up to the seed `next` has been run. */
  add(rounds: readonly WorkerRound[], next: number): void {
    const { stored, coverage } = this;
    for (const { totals: report, failed } of rounds) {
      stored.runs += report.runs;
      stored.elements += report.totals.elements;
      stored.faults += report.totals.faults;
      stored.cpuMs += report.totals.cpuMs;
      stored.least.elements = Math.min(stored.least.elements, report.least.elements);
      stored.least.faults = Math.min(stored.least.faults, report.least.faults);
      stored.failed.push(...failed);
      coverage.merge(report.coverage);
    }
    stored.next = next;
    stored.coverage = coverage.toJSON();
    if (this.file === undefined) return;
    // Whoever stops this at any moment leaves a whole file.
    writeFileSync(`${this.file}.new`, JSON.stringify(stored, null, 1));
    renameSync(`${this.file}.new`, this.file);
  }

  get line(): string {
    const { runs, failed, next, cpuMs } = this.stored;
    const each = `${(cpuMs / Math.max(1, runs)).toFixed(0)} ms of CPU each`;
    return `${runs} runs, ${failed.length} failed; next seed ${next}; ${each}; ${this.coverage.empty.length} pairs not met`;
  }

  get summary(): string {
    const { runs, failed, elements, faults, least, first, next } = this.stored;
    return [
      this.coverage.table(),
      ...(this.coverage.empty.length > 0 ? [`never met: ${this.coverage.empty.join("; ")}`] : []),
      `each run had at least ${least.elements} elements and ${least.faults} faults`,
      `${elements} elements, ${faults} faults`,
      ...(failed.length > 0 ? [`failed: ${failed.map(({ seed }) => seed).join(", ")}`] : []),
      `seeds ${first} to ${next - 1}: ${runs} runs, ${failed.length} failed`,
    ].join("\n");
  }
}
