import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FAULT_KINDS } from "../../lib/simulation/faults";
import { STEPS } from "../../lib/simulation/steps";
import { Rounds, SeedProgress } from "./seed-progress";
import type { SeedTotals } from "./seeds";

const folder = mkdtempSync(join(tmpdir(), "beamkeeper-progress-"));
afterAll(() => rmSync(folder, { recursive: true }));

const report = (runs: number, elements = 200 * runs): SeedTotals => ({
  runs,
  least: { elements: 200, faults: 5, stages: 2, shards: 2 },
  totals: { elements, faults: 5 * runs, writes: 300 * runs, givenUp: 0, cpuMs: 100 * runs },
  coverage: { "stalled x relay: walk": runs },
});

test("what has been run is all seeds up to one, however far single workers are", () => {
  const counted: number[] = [];
  const rounds = new Rounds(2, (reports) => counted.push(...reports.map(({ totals }) => totals.runs)));
  rounds.take(report(50), 0);
  rounds.take(report(49), 0);
  expect(counted).toEqual([]);
  rounds.take({ seed: 7, problems: ["lost"] }, 1);
  rounds.take(report(48), 1);
  expect(counted).toEqual([50, 48]);
  rounds.end();
  expect(counted).toEqual([50, 48, 49]);
});

test("a long run goes on where its file says that it was", () => {
  const file = join(folder, "progress.json");
  const begun = SeedProgress.open(file, 11);
  begun.add([{ totals: report(50), failed: [{ seed: 12, problems: ["lost"] }] }], 61);
  const resumed = SeedProgress.open(file, 999);
  expect(resumed.first).toBe(11);
  expect(resumed.next).toBe(61);
  resumed.add([{ totals: report(50), failed: [] }], 111);
  expect(resumed.failed).toEqual([{ seed: 12, problems: ["lost"] }]);
  const unmet = FAULT_KINDS.length * STEPS.length - 1;
  const line = `100 runs, 1 failed; next seed 111; 100 ms of CPU each; ${unmet} pairs not met`;
  expect(resumed.line).toBe(line);
  expect(SeedProgress.open(file, 1).summary).toContain("seeds 11 to 110: 100 runs, 1 failed");
});
