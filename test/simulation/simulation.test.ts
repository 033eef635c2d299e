import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Coverage } from "../../lib/simulation/faults";
import { simulate } from "../../lib/simulation/simulate";
import { hunt, MUTANTS } from "./mutants";
import { runSeeds } from "./seed-runner";

/**
 * Fixed seeds here; `SIMULATION_FIRST` and `SIMULATION_SEEDS` choose others. A seed that fails is printed, and
 * fails again in the same way.
 */
const SEEDS = Number(process.env.SIMULATION_SEEDS ?? 300);
const FIRST = Number(process.env.SIMULATION_FIRST ?? 1);
const WORKERS = 2;

test(`nothing is lost, doubled or out of order under ${SEEDS} seeds of faults`, async () => {
  const coverage = new Coverage();
  const failed: string[] = [];
  let runs = 0;
  let givenUp = 0;
  await runSeeds({
    from: FIRST,
    to: FIRST + SEEDS,
    workers: WORKERS,
    stopAt: 3,
    onReport: (report) => {
      if ("seed" in report) {
        failed.push(`seed ${report.seed}: ${report.problems.slice(0, 3).join("\n  ")}`);
        return;
      }
      runs += report.runs;
      givenUp += report.totals.givenUp;
      coverage.merge(report.coverage);
      // What makes a run worth something.
      expect(report.least.elements).toBeGreaterThanOrEqual(200);
      expect(report.least.faults).toBeGreaterThanOrEqual(5);
      expect(report.least.stages).toBeGreaterThanOrEqual(2);
      expect(report.least.shards).toBeGreaterThanOrEqual(2);
    },
  });
  expect(failed).toEqual([]);
  expect(runs).toBe(SEEDS);
  // Faults strike between a bundle that runs ahead and its commit.
  expect(givenUp).toBeGreaterThan(SEEDS / 10);
  expect(SEEDS < 300 ? [] : coverage.empty).toEqual([]);
}, 1_800_000);

test("a seed replays exactly", async () => {
  const first = await simulate({ seed: 3 });
  expect(await simulate({ seed: 3 })).toEqual(first);
});

/** The proof of the proof: the simulator is able to find faults. The others are in `npm run soak -- mutants`. */
test.each([
  ["no head check", 40],
  ["segments deleted outside the multi", 40],
  ["cursor outside the multi", 40],
  ["no walk after reconnect", 200],
])("a mutant is found: %s, within %i seeds", async (name, seeds) => {
  const mutant = MUTANTS.find((each) => each.name === name)!;
  expect(await hunt(mutant, { seeds, workers: WORKERS })).toBeDefined();
});

test("every mutant is still one of the code as it is", () => {
  const gone = MUTANTS.flatMap(({ name, replacements }) =>
    replacements
      .filter(({ file, from }) => !readFileSync(join(__dirname, "../..", file), "utf8").includes(from))
      .map(({ file }) => `${name}: ${file}`),
  );
  expect(gone).toEqual([]);
});
