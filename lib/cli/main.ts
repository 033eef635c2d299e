import { runCommand } from "./command";
import { terminal } from "./terminal";

const LAST_MS = 1_000;
/** These end in order, however long that takes. */
const ENDS_IN_ORDER: ReadonlySet<string | undefined> = new Set(["dev", "relay"]);
const INTERRUPTED = 130;

const args = process.argv.slice(2);
const stop = new AbortController();
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.on(signal, () => {
    // Whoever runs a relay asks twice when it should not hand over any more.
    if (stop.signal.aborted && args[0] === "relay") process.exit(INTERRUPTED);
    stop.abort();
  });
}
// An operation that does not listen to the signal, while it connects for instance, is not waited for.
if (!ENDS_IN_ORDER.has(args[0]))
  stop.signal.addEventListener("abort", () => setTimeout(() => process.exit(INTERRUPTED), LAST_MS).unref());
void runCommand(args, process.env, terminal, stop.signal).then((code) => {
  process.exitCode = code;
  // What user code or a connection attempt holds open does not hold up the end of a relay.
  if (args[0] === "relay") setTimeout(() => process.exit(), LAST_MS).unref();
});
