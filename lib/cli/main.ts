import { runCommand } from "./command";
import { terminal } from "./terminal";

const LAST_MS = 1_000;

const args = process.argv.slice(2);
const stop = new AbortController();
for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => stop.abort());
// An operation that does not listen to the signal, while it connects for instance, is not waited for.
if (args[0] !== "dev")
  stop.signal.addEventListener("abort", () => setTimeout(() => process.exit(130), LAST_MS).unref());
void runCommand(args, process.env, terminal, stop.signal).then((code) => {
  process.exitCode = code;
});
