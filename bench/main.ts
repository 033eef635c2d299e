/** `npm run bench [-- NAME [--record] [--note TEXT]]`: runs a benchmark, or lists them. It never fails on a figure. */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { type Baseline, type Benchmark, machine, measure, table } from "./frame";
import { pipeline } from "./pipeline";
import { zookeeper } from "./zookeeper";

const BENCHMARKS: readonly Benchmark[] = [zookeeper, pipeline];
const BASELINES = join(__dirname, "baselines.json");

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

function readBaselines(): Record<string, Baseline> {
  return existsSync(BASELINES) ? JSON.parse(readFileSync(BASELINES, "utf8")) : {};
}

function list(): void {
  const names = BENCHMARKS.map(({ name, description }) => `  ${name.padEnd(12)} ${description}`);
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
  const progress = process.stderr.isTTY
    ? (name: string) => process.stderr.write(`  ${name}\n`)
    : () => undefined;
  const figures = await measure(benchmark, progress);
  say(`\n${table(figures, baseline)}\n\n${((performance.now() - startedAt) / 1000).toFixed(0)} s`);
  if (!record) return;
  const recordedAt = new Date().toISOString().slice(0, 10);
  const baselines = {
    ...readBaselines(),
    [benchmark.name]: { recordedAt, machine: machine(), note, figures },
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
  } as const;
  const { values, positionals } = parseArgs({ options, allowPositionals: true });
  const [name] = positionals;
  if (name === undefined) {
    list();
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
