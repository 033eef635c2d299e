import { spawn } from "node:child_process";
import { join } from "node:path";
import { runCommand } from "../../lib/cli/command";

const PROJECT = join(__dirname, "../..");

export interface CommandResult {
  readonly code: number | null;
  readonly output: string;
  readonly errors: string;
}

/** Runs `beamkeeper ARGS...` in this process, which spares a second of starting one. */
export function beamkeeper(
  environment: Readonly<Record<string, string>>,
  ...args: readonly string[]
): Promise<CommandResult> {
  return beamkeeperOn({ size: undefined, signal: new AbortController().signal }, environment, ...args);
}

/** The same on a terminal of that size, until the signal aborts. */
export async function beamkeeperOn(
  { size, signal }: { size: { rows: number; columns: number } | undefined; signal: AbortSignal },
  environment: Readonly<Record<string, string>>,
  ...args: readonly string[]
): Promise<CommandResult> {
  const said: string[] = [];
  const complained: string[] = [];
  const terminal = {
    say: (line: string) => void said.push(`${line}\n`),
    size: () => size,
    complain: (line: string) => void complained.push(`${line}\n`),
  };
  const code = await runCommand(args, environment, terminal, signal);
  return { code, output: said.join(""), errors: complained.join("") };
}

/** Runs `beamkeeper ARGS...` as a user does, in a process of its own. */
export function beamkeeperProcess(
  environment: Readonly<Record<string, string>>,
  ...args: readonly string[]
): Promise<CommandResult> {
  return beamkeeperIn(PROJECT, environment, ...args);
}

/** The same in a folder with pipelines of its own, somewhere in the project. */
export function beamkeeperIn(
  folder: string,
  environment: Readonly<Record<string, string>>,
  ...args: readonly string[]
): Promise<CommandResult> {
  const main = join(PROJECT, "lib/cli/main.ts");
  const child = spawn(process.execPath, ["--import", "tsx", main, ...args], {
    cwd: folder,
    env: { ...process.env, ...environment },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  let errors = "";
  child.stdout.on("data", (chunk) => {
    output += chunk;
  });
  child.stderr.on("data", (chunk) => {
    errors += chunk;
  });
  return new Promise((resolve) => child.once("close", (code) => resolve({ code, output, errors })));
}
