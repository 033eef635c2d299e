import { spawn } from "node:child_process";
import { join } from "node:path";
import type { PipelineLayout } from "../checkpoint/layout";
import { isSettled, readStatus } from "../checkpoint/status";
import type { Clock } from "../clock";
import type { ZooKeeperClient } from "../zookeeper";
import { grouped, type Terminal, table } from "./terminal";

const DEMO_FOLDER = join(__dirname, "../../infra/demo");
const POLL_MS = 50;
const SETTLE_DEADLINE_MS = 60_000;

export interface WriterOptions {
  readonly znodes: number;
  readonly writes: number;
  readonly seconds: number;
  readonly seed: number;
}

/** What the oracle found, see infra/demo/oracle.mjs. */
interface OracleReport {
  readonly written: number;
  readonly windows: number;
  readonly results: number;
  readonly elements: number;
  readonly finalValues: number;
  readonly missed: number;
  readonly files: number;
  readonly p50Ms: number | null;
  readonly p99Ms: number | null;
  readonly problems: readonly string[];
}

/** A child process of the demonstration that failed by itself. */
class DemonstrationError extends Error {
  override readonly name = "DemonstrationError";
}

/** Lets the independent writer write; resolves when it is done. */
export async function write(
  connectString: string,
  logFile: string,
  options: WriterOptions,
  signal: AbortSignal,
): Promise<void> {
  const numbers = Object.entries(options).flatMap(([name, value]) => [`--${name}`, String(value)]);
  const { code, errors } = await runNode(
    ["writer.mjs", "--connect", connectString, "--log", logFile, ...numbers],
    signal,
  );
  if (code !== 0 && !signal.aborted) throw new DemonstrationError(`the writer failed: ${errors.trim()}`);
}

/** Waits until the pipeline has written everything up to `timeMs` (the ensemble's clock). */
export async function settle(
  client: ZooKeeperClient,
  layout: PipelineLayout,
  timeMs: number,
  clock: Clock,
  signal: AbortSignal,
): Promise<void> {
  const deadlineMs = clock.now() + SETTLE_DEADLINE_MS;
  while (!signal.aborted) {
    const status = await readStatus(client, layout);
    if (status && isSettled(status, timeMs)) return;
    if (clock.now() > deadlineMs)
      throw new DemonstrationError(`the pipeline did not finish within ${SETTLE_DEADLINE_MS / 1000} s`);
    await clock.sleep(POLL_MS, signal);
  }
}

/** Asks the oracle, and prints the small table; false if a value was lost or counted twice. */
export async function judge(
  client: ZooKeeperClient,
  layout: PipelineLayout,
  paths: { connectString: string; logFile: string; files: string },
  terminal: Terminal,
  signal: AbortSignal,
): Promise<boolean> {
  const args = [
    "oracle.mjs",
    "--connect",
    paths.connectString,
    "--log",
    paths.logFile,
    "--files",
    paths.files,
  ];
  const { code, output, errors } = await runNode(args, signal);
  if (code === 2 || output === "") throw new DemonstrationError(`the oracle failed: ${errors.trim()}`);
  const report = JSON.parse(output) as OracleReport;
  const status = await readStatus(client, layout);
  const commits = status
    ? [...status.sources, ...status.shards].reduce((sum, part) => sum + part.commits, 0)
    : 0;
  terminal.say(
    table([
      ["writes acknowledged", grouped(report.written)],
      ["windows", grouped(report.windows)],
      ["results (znode and window)", grouped(report.results)],
      ["elements delivered", grouped(report.elements)],
      ["final values", grouped(report.finalValues)],
      ["values counted as missed", grouped(report.missed)],
      ["commits", grouped(commits)],
      ["text files", grouped(report.files)],
      ["delay to the committed result, p50", milliseconds(report.p50Ms)],
      ["delay to the committed result, p99", milliseconds(report.p99Ms)],
    ]),
  );
  for (const problem of report.problems.slice(0, 20)) terminal.complain(`  WRONG ${problem}`);
  const verdict =
    report.problems.length === 0
      ? "Every final value arrived once; nothing was lost or counted twice."
      : `${report.problems.length} values are wrong.`;
  terminal.say(`\n${verdict}`);
  return report.problems.length === 0;
}

function milliseconds(value: number | null): string {
  return value === null ? "-" : `${grouped(value)} ms`;
}

async function runNode(
  args: readonly string[],
  signal: AbortSignal,
): Promise<{ code: number; output: string; errors: string }> {
  const [script, ...rest] = args;
  const child = spawn(process.execPath, [join(DEMO_FOLDER, script!), ...rest], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  const kill = (): void => void child.kill("SIGKILL");
  signal.addEventListener("abort", kill, { once: true });
  let output = "";
  let errors = "";
  child.stdout.on("data", (chunk) => {
    output += chunk;
  });
  child.stderr.on("data", (chunk) => {
    errors += chunk;
  });
  const code = await new Promise<number>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (status) => resolve(status ?? 1));
  });
  signal.removeEventListener("abort", kill);
  return { code, output, errors };
}
