import { simulate } from "./world";

/**
 * Fixed seeds here; `SIMULATION_FIRST` and `SIMULATION_SEEDS` choose others. A seed that fails is printed, and
 * fails again in the same way.
 */
const SEEDS = Number(process.env.SIMULATION_SEEDS ?? 80);
const FIRST = Number(process.env.SIMULATION_FIRST ?? 1);
const STOP_AT = Number(process.env.SIMULATION_STOP_AT ?? 5);
const FAULTS = ["request lost", "reply lost", "killed before", "killed after", "session expired"];
const STEPS = ["relay read", "relay commit", "bundle read", "bundle commit", "publish"];

test(`nothing is lost or doubled under ${SEEDS} seeds of faults`, async () => {
  const coverage = new Map<string, number>();
  const failed: string[] = [];
  for (let seed = FIRST; seed < FIRST + SEEDS && failed.length < STOP_AT; seed++) {
    const { problems } = await simulate({ seed, coverage });
    if (problems.length > 0) failed.push(`seed ${seed}: ${problems.slice(0, 3).join("\n  ")}`);
  }
  expect(failed).toEqual([]);
  const empty = FAULTS.flatMap((fault) => STEPS.map((step) => `${fault} x ${step}`)).filter(
    (cell) => !coverage.has(cell),
  );
  expect(SEEDS < 50 ? [] : empty).toEqual([]);
}, 600_000);

test("a seed replays exactly", async () => {
  const first = await simulate({ seed: 3, coverage: new Map() });
  expect(first.faults).toBeGreaterThan(0);
  expect(await simulate({ seed: 3, coverage: new Map() })).toEqual(first);
});
