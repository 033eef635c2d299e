import { DEV_USAGE, dev } from "./dev";
import { isOperation, OPERATIONS_USAGE, operate } from "./operations";
import { describe, terminal } from "./terminal";

const USAGE = `beamkeeper dev ...   run a pipeline on this machine

${DEV_USAGE}

${OPERATIONS_USAGE}`;

/** The command: 0 right, 1 wrong, 2 not usable as called, 130 interrupted. */
async function main(): Promise<number> {
  const [verb, ...args] = process.argv.slice(2);
  if (isOperation(verb)) return operate(verb, args, process.env, terminal);
  if (verb !== "dev") {
    terminal.complain(verb === undefined ? USAGE : `there is no command "${verb}"\n\n${USAGE}`);
    return 2;
  }
  const stop = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => stop.abort());
  return dev(args, process.env, stop.signal);
}

main().then(
  (code) => {
    process.exitCode = code;
  },
  (error: unknown) => {
    terminal.complain(`\nbeamkeeper: ${describe(error)}`);
    process.exitCode = error instanceof Error && error.name === "UsageError" ? 2 : 1;
  },
);
