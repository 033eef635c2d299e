/** `npm run bench [-- NAME [--record] [--note TEXT]]`: runs a benchmark, or lists them. It never fails on a figure. */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { asynchronous } from "./async";
import { engine } from "./beam";
import { commit } from "./commit";
import { type Baseline, type Benchmark, machine, measure, progressLine, table } from "./frame";
import { lambda } from "./lambda";
import { packages } from "./package";
import { pipeline } from "./pipeline";
import { relay } from "./relay";
import { state } from "./state";
import { wordcount } from "./wordcount";
import { contest, type RowResult, runContest } from "./zookeeper";
import type { Verdict } from "./zookeeper-verdicts";

const BENCHMARKS: readonly Benchmark[] = [
  ...[pipeline, commit, engine, asynchronous, state, relay],
  ...[packages, lambda, wordcount],
];
const BASELINES = join(__dirname, "baselines.json");

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

function readBaselines(): Record<string, Baseline> {
  return existsSync(BASELINES) ? JSON.parse(readFileSync(BASELINES, "utf8")) : {};
}

/** The baseline of the contest of ZooKeeper clients, which has a form of its own. */
function readContestBaseline():
  | { readonly recordedAt: string; readonly note: string; readonly figures: RowResult[] }
  | undefined {
  if (!existsSync(BASELINES)) return undefined;
  return JSON.parse(readFileSync(BASELINES, "utf8"))[contest.name];
}

function list(): void {
  const names = [contest, ...BENCHMARKS].map(
    ({ name, description }) => `  ${name.padEnd(12)} ${description}`,
  );
  say(`npm run bench -- NAME [--record [--note TEXT]]\n\n${names.join("\n")}\n`);
  say("--record makes the figures the baseline that later runs are shown beside.");
}

async function run(benchmark: Benchmark, record: boolean, note: string): Promise<void> {
  const baseline = readBaselines()[benchmark.name];
  say(`${benchmark.name}: ${benchmark.description}\n${benchmark.conditions}`);
  say(`${machine()}; medians of ${benchmark.rounds} interleaved rounds`);
  if (baseline)
    say(`Baseline: ${baseline.recordedAt}, ${baseline.machine}${baseline.note && `; ${baseline.note}`}`);
  const startedAt = performance.now();
  const seconds = (): string => ((performance.now() - startedAt) / 1000).toFixed(0);
  const figures = await measure(benchmark, (measured) => {
    for (const figure of measured)
      process.stderr.write(`  ${seconds().padStart(4)} s  ${progressLine(figure)}\n`);
  });
  say(`\n${table(figures, baseline)}\n\n${seconds()} s`);
  if (record) keep(benchmark.name, note, figures);
}

/** The contest of ZooKeeper clients has more than one peer, and so figures of its own form. */
async function runClients(values: Record<string, unknown>): Promise<void> {
  const list = (text: unknown): string[] =>
    String(text ?? "")
      .split(",")
      .filter(Boolean);
  const servers = list(values.servers).map((text) => (text === "3" ? 3 : 1));
  say(
    `${contest.name}: ${contest.description}\n${machine()}; medians of ${values.rounds} interleaved rounds, ` +
      "with the interval of 95% certainty; ratios are of the same round",
  );
  const baseline = readContestBaseline();
  if (baseline) say(`Baseline: ${baseline.recordedAt}${baseline.note && `; ${baseline.note}`}`);
  const options = {
    rows: list(values.rows),
    peers: list(values.peers),
    rounds: Number(values.rounds),
    servers,
  };
  const figures = await runContest(options, baseline?.figures ?? [], say);
  const findings = figures.flatMap((row) => row.findings);
  const count = (wanted: Verdict) => findings.filter(({ verdict }) => verdict === wanted).length;
  const verdicts = (["pass", "tie", "ceiling", "MISS"] as const).map((name) => `${count(name)} ${name}`);
  say(`\n${findings.length} targets in ${figures.length} rows: ${verdicts.join(", ")}`);
  if (!values.record) return;
  const isMeasured = (old: RowResult) =>
    figures.some(({ row, servers }) => row === old.row && servers === old.servers);
  const others = baseline?.figures.filter((row) => !isMeasured(row)) ?? [];
  keep(contest.name, String(values.note), [...others, ...figures]);
}

function keep(name: string, note: string, figures: unknown): void {
  const recordedAt = new Date().toISOString().slice(0, 10);
  const baselines = {
    ...readBaselines(),
    [name]: { recordedAt, machine: machine(), note, figures },
  };
  const rounded = (_key: string, value: unknown): unknown =>
    typeof value === "number" ? Number(value.toPrecision(4)) : value;
  writeFileSync(BASELINES, `${JSON.stringify(baselines, rounded, 2)}\n`);
  say("Recorded in bench/baselines.json.");
}

async function main(): Promise<number> {
  const options = {
    record: { type: "boolean", default: false },
    note: { type: "string", default: "" },
    rows: { type: "string" },
    peers: { type: "string" },
    rounds: { type: "string", default: "21" },
    servers: { type: "string", default: "1,3" },
  } as const;
  const { values, positionals } = parseArgs({ options, allowPositionals: true });
  const [name] = positionals;
  if (name === undefined) {
    list();
    return 0;
  }
  if (name === contest.name) {
    await runClients(values);
    return 0;
  }
  const benchmark = BENCHMARKS.find((each) => each.name === name);
  if (!benchmark) {
    process.stderr.write(`There is no benchmark "${name}".\n`);
    list();
    return 1;
  }
  await run(benchmark, values.record, values.note);
  return 0;
}

main().then(
  (code) => process.exit(code),
  (error: unknown) => {
    console.error(error);
    process.exit(1);
  },
);
