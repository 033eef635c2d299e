/**
 * `npm run soak`: what is too long for `npm test`.
 *
 *   npm run soak -- simulation [--from SEED] [--seeds N]   new seeds until ctrl-C, or N of them
 *   npm run soak -- mutants [NAME...]                       breaks the code on purpose, see mutants.ts
 *
 * Exit code 1 when something was lost, doubled or stuck, or when a mutant survived.
 */
import { parseArgs } from "node:util";
import { Coverage } from "../../lib/simulation/faults";
import { simulate } from "../../lib/simulation/simulate";
import { hunt } from "./mutants";

const [verb = "simulation", ...args] = process.argv.slice(2);
const PROGRESS_SEEDS = 100;

/** Runs seed after seed, and says now and then how far it is; the coverage comes at the end. */
async function simulation(): Promise<number> {
  const options = { from: { type: "string" }, seeds: { type: "string" } } as const;
  const { values } = parseArgs({ args, options });
  const first = Number(values.from ?? Date.now() % 1_000_000_000);
  const last = first + Number(values.seeds ?? Number.POSITIVE_INFINITY);
  const coverage = new Coverage();
  let stopped = false;
  let failed = 0;
  process.on("SIGINT", () => {
    stopped = true;
  });
  say(`Simulating from seed ${first} on. Ctrl-C stops.`);
  let seed = first;
  for (; seed < last && !stopped; seed++) {
    const { problems, faults, writes } = await simulate({ seed, coverage });
    if (problems.length > 0) {
      failed += 1;
      say(`seed ${seed} (${writes} writes, ${faults} faults):\n  ${problems.slice(0, 5).join("\n  ")}`);
    }
    if ((seed - first + 1) % PROGRESS_SEEDS === 0) say(`${seed - first + 1} runs, ${failed} failed`);
  }
  say(coverage.table());
  say(`${seed - first} runs, ${failed} failed`);
  return failed === 0 ? 0 : 1;
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

async function main(): Promise<number> {
  if (verb === "simulation") return simulation();
  if (verb === "mutants") return hunt(args) === 0 ? 0 : 1;
  process.stderr.write(`there is no soak "${verb}"; there are simulation and mutants\n`);
  return 2;
}

main().then(
  (code) => process.exit(code),
  (error: unknown) => {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
    process.exit(2);
  },
);
