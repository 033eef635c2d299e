/**
 * `npm run soak`: what is too long for `npm test`.
 *
 *   npm run soak -- simulation [--from SEED] [--seeds N] [--workers N] [--nice N] [--progress FILE]
 *                                                                        new seeds until ctrl-C, or N of them
 *   npm run soak -- mutants [--seeds N] [--workers N] [NAME...]          breaks the code on purpose, see mutants.ts
 *   npm run soak -- client                                               the client's fuzz and re-establishments, long
 *   npm run soak -- matrix                                               the client on every kind of server
 *   npm run soak -- node                                                 all tests under the other versions of Node
 *
 * Exit code 1 when something was lost, doubled, out of order or stuck, or when a mutant survived.
 */
import { spawn } from "node:child_process";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { ensureNode, NODE_VERSIONS } from "../../infra/node/versions";
import { terminal } from "../../lib/cli/terminal";
import { verify } from "../../lib/cli/verify";
import { hunt, MUTANTS } from "./mutants";
import { Rounds, SeedProgress } from "./seed-progress";
import { REPORT_EVERY, runSeeds } from "./seed-runner";

const [verb = "simulation", ...args] = process.argv.slice(2);
const stop = new AbortController();
process.on("SIGINT", () => stop.abort());
process.on("SIGTERM", () => stop.abort());

/**
 * Runs seed after seed, and says now and then how far it is; the coverage comes at the end. With `--progress`, a file
 * keeps what has been run, and the same command goes on behind it.
 */
async function simulation(): Promise<number> {
  const options = {
    from: { type: "string" },
    seeds: { type: "string" },
    workers: { type: "string", default: "2" },
    nice: { type: "string" },
    progress: { type: "string" },
  } as const;
  const { values } = parseArgs({ args, options });
  const workers = Number(values.workers);
  const progress = SeedProgress.open(values.progress, Number(values.from ?? Date.now() % 1_000_000_000));
  const { first, next } = progress;
  const to = values.seeds ? first + Number(values.seeds) : Number.MAX_SAFE_INTEGER;
  say(`Simulating from seed ${next} on. Ctrl-C stops.`);
  const rounds = new Rounds(workers, (reports) => {
    progress.add(reports, Math.min(to, progress.next + workers * REPORT_EVERY));
    say(progress.line);
  });
  await runSeeds({
    ...{ from: next, to, workers, signal: stop.signal },
    ...(values.nice ? { nice: Number(values.nice) } : {}),
    onReport: (report, worker) => {
      if ("seed" in report) say(`seed ${report.seed}:\n  ${report.problems.slice(0, 5).join("\n  ")}`);
      rounds.take(report, worker);
    },
  });
  if (!stop.signal.aborted) rounds.end();
  say(progress.summary);
  return progress.failed.length === 0 ? 0 : 1;
}

async function mutants(): Promise<number> {
  const options = {
    seeds: { type: "string", default: "1000" },
    workers: { type: "string", default: "2" },
  } as const;
  const { values, positionals } = parseArgs({ args, options, allowPositionals: true });
  let survivors = 0;
  for (const mutant of MUTANTS.filter(({ name }) => isWanted(name, positionals))) {
    const began = performance.now();
    const seed = await hunt(mutant, { seeds: Number(values.seeds), workers: Number(values.workers) });
    if (stop.signal.aborted) {
      say(`${mutant.name.padEnd(50)} stopped before a verdict`);
      return 1;
    }
    if (seed === undefined) survivors += 1;
    const verdict = seed === undefined ? `SURVIVED ${values.seeds} seeds` : `found at seed ${seed}`;
    const seconds = ((performance.now() - began) / 1000).toFixed(0);
    say(`${mutant.name.padEnd(50)} ${verdict.padEnd(24)} ${seconds} s`);
  }
  return survivors === 0 ? 0 : 1;
}

function isWanted(name: string, words: readonly string[]): boolean {
  return words.length === 0 || words.some((word) => name.includes(word));
}

/** The chaos of `beamkeeper verify`, for longer. */
function chaos(): Promise<number> {
  const options = { minutes: { type: "string", default: "10" }, seed: { type: "string" } } as const;
  const { values } = parseArgs({ args, options });
  const seed = values.seed ?? String(Date.now() % 1_000_000_000);
  return verify(["--seeds", "0", "--seed", seed, "--minutes", values.minutes], terminal, stop.signal);
}

/** The client's own long runs are tests that take their size from the environment. */
function tests(
  files: readonly string[],
  env: Readonly<Record<string, string>>,
  node = process.execPath,
): Promise<number> {
  const jest = join(__dirname, "../../node_modules/jest/bin/jest.js");
  const child = spawn(node, [jest, "--runInBand", "--verbose", ...files], {
    stdio: "inherit",
    env: { ...env, ...process.env },
  });
  stop.signal.addEventListener("abort", () => child.kill("SIGTERM"));
  return new Promise((done, fail) => {
    child.once("error", fail);
    child.once("exit", (code) => done(code ?? 1));
  });
}

const CLIENT = { FUZZ_FRAMES: "1000000", SOAK_ROUNDS: "10000" };

/** All tests, or those named, under each other version; ends with the first that fails. */
async function nodes(): Promise<number> {
  for (const major of [22, 24] as const) {
    say(`Node ${NODE_VERSIONS[major]}`);
    const code = await tests(args, {}, ensureNode(major));
    if (code !== 0 || stop.signal.aborted) return code;
  }
  return 0;
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

const VERBS: Readonly<Record<string, () => Promise<number>>> = {
  simulation,
  mutants,
  chaos,
  client: () => tests(["test/zookeeper/fuzz", "test/zookeeper/defects"], CLIENT),
  matrix: () => tests(["test/zookeeper/matrix"], { MATRIX: "all" }),
  node: nodes,
};

async function main(): Promise<number> {
  const run = VERBS[verb];
  if (run) return run();
  process.stderr.write(`there is no soak "${verb}"; there are ${Object.keys(VERBS).join(", ")}\n`);
  return 2;
}

main().then(
  (code) => process.exit(code),
  (error: unknown) => {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
    process.exit(2);
  },
);
