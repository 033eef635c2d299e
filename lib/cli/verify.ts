import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startZooKeeper } from "../../infra/zookeeper/server";
import { PipelineLayout } from "../checkpoint/layout";
import { systemClock } from "../clock";
import { Coverage } from "../simulation/faults";
import { type Report, simulate } from "../simulation/simulate";
import { audit } from "../verify/auditor";
import { type ChaosReport, runChaos } from "../verify/chaos";
import { mergeTransactions, readTransactionLogs } from "../zookeeper/transaction-log";
import { readArguments, UsageError } from "./arguments";
import { grouped, type Terminal, table } from "./terminal";

export const VERIFY_USAGE = `beamkeeper verify                     proves on this machine that nothing is lost or doubled: simulations, then chaos
    [--seed N]                        the first seed; the same seed simulates the same (default 1)
    [--seeds N]                       simulations (default 50; 0 for none)
    [--minutes M]                     chaos on three servers and real processes (default 0.5; 0 for none)
beamkeeper audit --log DIR PIPELINE   proves the same for a real pipeline from the transaction logs of a server
    [--log DIR]                       of more servers of the ensemble: their data directories`;

interface SimulationTotals {
  readonly runs: number;
  readonly writes: number;
  readonly elements: number;
  readonly missed: number;
  readonly faults: Readonly<Record<string, number>>;
  readonly fates: Report["fates"];
  readonly problems: readonly string[];
}

/** `beamkeeper verify`: returns the exit code, 0 when every check held. Throws UsageError. */
export async function verify(
  args: readonly string[],
  terminal: Terminal,
  signal: AbortSignal,
): Promise<number> {
  const options = parseVerify(args);
  const say = (line: string): void => (options.json ? undefined : terminal.say(line));
  const simulations = options.seeds > 0 ? await simulateAll(options, say, signal) : undefined;
  const chaos = options.minutes > 0 && !signal.aborted ? await chaosOn(options, say, signal) : undefined;
  const problems = [...(simulations?.problems ?? []), ...(chaos?.problems ?? [])];
  if (options.json) terminal.say(JSON.stringify({ simulations, chaos, problems }));
  for (const problem of problems.slice(0, 20)) say(`  WRONG: ${problem}`);
  const held = signal.aborted ? "\nInterrupted; every check held until then." : "\nEvery check held.";
  say(problems.length === 0 ? held : `\n${grouped(problems.length)} checks failed.`);
  if (signal.aborted) return 130;
  return problems.length === 0 ? 0 : 1;
}

async function simulateAll(
  { seed: first, seeds }: VerifyOptions,
  say: (line: string) => void,
  signal: AbortSignal,
): Promise<SimulationTotals> {
  say(
    `Simulating seeds ${first} to ${first + seeds - 1}: relay and functions on a model of ZooKeeper, with faults`,
  );
  const coverage = new Coverage();
  const reports: Report[] = [];
  for (let seed = first; seed < first + seeds && !signal.aborted; seed++)
    reports.push(await simulate({ seed, coverage }));
  const sum = (value: (report: Report) => number): number =>
    reports.reduce((total, report) => total + value(report), 0);
  const fates = (name: keyof Report["fates"]): number => sum((report) => report.fates[name]);
  const totals: SimulationTotals = {
    runs: reports.length,
    writes: sum(({ writes }) => writes),
    elements: sum(({ elements }) => elements),
    missed: sum(({ missed }) => missed),
    faults: coverage.byKind,
    fates: {
      committed: fates("committed"),
      rejected: fates("rejected"),
      ambiguous: fates("ambiguous"),
      ambiguousTookEffect: fates("ambiguousTookEffect"),
      ambiguousDidNot: fates("ambiguousDidNot"),
    },
    problems: reports.flatMap(({ seed, problems }) => problems.map((each) => `seed ${seed}: ${each}`)),
  };
  say(`${coverage.table()}\n`);
  say(reportText(totals, [["runs", grouped(totals.runs)]]));
  return totals;
}

async function chaosOn(
  { seed, minutes }: VerifyOptions,
  say: (line: string) => void,
  signal: AbortSignal,
): Promise<ChaosReport> {
  say(`\nChaos for ${minutes} min: three servers, a relay and three functions in processes of their own`);
  const folder = mkdtempSync(join(tmpdir(), "beamkeeper-verify-"));
  const ensemble = await startZooKeeper({ servers: 3 });
  try {
    const report = await runChaos({
      ...{ ensemble, seed, folder, signal, readFiles, clock: systemClock, environment: process.env },
      forMs: minutes * 60_000,
      module: join(__dirname, "verify-process.ts"),
    });
    const { bundleCommits, relayCommits, segments, elementsAppended, elementsConsumed, waiting } =
      report.audit;
    say(
      reportText(report, [
        ["in the servers' logs: commits of functions", grouped(bundleCommits)],
        ["in the servers' logs: commits of relays", grouped(relayCommits)],
        [
          "segments, each consumed with its effects",
          `${grouped(segments - waiting)} of ${grouped(segments)}`,
        ],
        [
          "elements over all stages, consumed",
          `${grouped(elementsConsumed)} of ${grouped(elementsAppended)}`,
        ],
      ]),
    );
    return report;
  } finally {
    await ensemble.stop();
    rmSync(folder, { recursive: true, force: true });
  }
}

function reportText(
  { faults, writes, elements, missed, fates }: Omit<SimulationTotals, "runs" | "problems">,
  more: readonly (readonly [string, string])[],
): string {
  return table([
    ...more,
    ...Object.entries(faults).map(([kind, count]): [string, string] => [`faults: ${kind}`, grouped(count)]),
    ["commits acknowledged", grouped(fates.committed)],
    ["commits rejected, another had won", grouped(fates.rejected)],
    ["replies lost, outcome ambiguous", grouped(fates.ambiguous)],
    ["  of these commits had taken effect", grouped(fates.ambiguousTookEffect)],
    ["  and had not", grouped(fates.ambiguousDidNot)],
    ["values written", grouped(writes)],
    ["elements delivered", grouped(elements)],
    ["values overwritten before they could be read", grouped(missed)],
  ]);
}

/** The contents of every published file below the folder. */
function readFiles(folder: string): string[] {
  const results = join(folder, "results");
  if (!existsSync(results)) return [];
  return readdirSync(results).map((name) => readFileSync(join(results, name), "utf8"));
}

/** `beamkeeper audit`: returns the exit code. Throws UsageError, TransactionLogError. */
export function auditLogs(
  args: readonly string[],
  environment: NodeJS.ProcessEnv,
  terminal: Terminal,
): number {
  const { logs, root, pipeline, json } = parseAudit(args, environment);
  const transactions = mergeTransactions(logs.map((directory) => readTransactionLogs(directory)));
  const { commitIds: _ids, ...result } = audit(transactions, new PipelineLayout(root, pipeline));
  if (json) terminal.say(JSON.stringify(result));
  else {
    const { problems, ...counts } = result;
    terminal.say(
      table([
        ["transactions", grouped(counts.transactions)],
        ["commits of functions", grouped(counts.bundleCommits)],
        ["commits of relays", grouped(counts.relayCommits)],
        ["segments", grouped(counts.segments)],
        ["elements over all stages, appended", grouped(counts.elementsAppended)],
        ["elements over all stages, consumed", grouped(counts.elementsConsumed)],
        ["segments that still wait", grouped(counts.waiting)],
      ]),
    );
    for (const problem of problems) terminal.say(`  WRONG: ${problem}`);
    terminal.say(problems.length === 0 ? "\nEvery check held." : `\n${problems.length} checks failed.`);
  }
  if (result.relayCommits + result.bundleCommits === 0)
    terminal.complain(
      `there is no commit of ${root}/${pipeline} in these logs; was the server purged, or is the root another?`,
    );
  return result.problems.length === 0 && result.relayCommits + result.bundleCommits > 0 ? 0 : 1;
}

interface VerifyOptions {
  readonly seed: number;
  readonly seeds: number;
  readonly minutes: number;
  readonly json: boolean;
}

function parseVerify(args: readonly string[]): VerifyOptions {
  const { values, positionals } = readArguments(
    args,
    {
      seed: { type: "string", default: "1" },
      seeds: { type: "string", default: "50" },
      minutes: { type: "string", default: "0.5" },
      json: { type: "boolean", default: false },
    },
    VERIFY_USAGE,
  );
  if (positionals.length > 0) throw new UsageError("verify takes no names", VERIFY_USAGE);
  const number = (name: "seed" | "seeds" | "minutes"): number => {
    const value = Number(values[name]);
    const isRight = name === "minutes" ? value >= 0 && value <= 1_440 : Number.isInteger(value) && value >= 0;
    if (!isRight) throw new UsageError(`--${name} ${values[name]} is no such number`, VERIFY_USAGE);
    return value;
  };
  return {
    seed: number("seed"),
    seeds: number("seeds"),
    minutes: number("minutes"),
    json: values.json,
  };
}

function parseAudit(args: readonly string[], environment: NodeJS.ProcessEnv) {
  const { values, positionals } = readArguments(
    args,
    {
      log: { type: "string", multiple: true },
      root: { type: "string" },
      json: { type: "boolean", default: false },
    },
    VERIFY_USAGE,
  );
  const logs = values.log;
  const [pipeline, ...more] = positionals;
  if (!logs || pipeline === undefined || more.length > 0)
    throw new UsageError(`name a pipeline, and with --log the data directory of a server`, VERIFY_USAGE);
  const root = values.root ?? environment.BEAMKEEPER_ROOT ?? "/beamkeeper";
  return { logs, root, pipeline, json: values.json };
}
