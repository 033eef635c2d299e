import { commandsIn, UsageError, usageOf } from "./arguments";
import { CHECK_USAGE, check } from "./check";
import { COST_USAGE, cost } from "./cost";
import { DEAD_LETTER_USAGE, deadLetter } from "./dead-letter";
import { DEV_USAGE, dev } from "./dev";
import { INIT_USAGE, init } from "./init";
import { isOperation, OPERATIONS_USAGE, operate } from "./operations";
import { RELAY_USAGE, relay } from "./relay";
import { RUNS_USAGE, runs } from "./runs";
import { SEND_USAGE, send } from "./send";
import { describe, type Terminal } from "./terminal";
import { UPDATE_USAGE, update } from "./update";
import { auditLogs, VERIFY_USAGE, verify } from "./verify";

const USAGE = `beamkeeper dev ...   run a pipeline on this machine

${DEV_USAGE}

${OPERATIONS_USAGE}

${UPDATE_USAGE}

${RELAY_USAGE}

${DEAD_LETTER_USAGE}

${RUNS_USAGE}

${SEND_USAGE}

${CHECK_USAGE}

${COST_USAGE}

${VERIFY_USAGE}

${INIT_USAGE}`;

/** The command: resolves with its exit code, 0 right, 1 wrong, 2 not usable as called, 130 interrupted. Never rejects. */
export async function runCommand(
  [verb, ...args]: readonly string[],
  environment: NodeJS.ProcessEnv,
  terminal: Terminal,
  signal: AbortSignal,
): Promise<number> {
  try {
    if (isOperation(verb)) return await operate(verb, args, environment, terminal, signal);
    if (verb === "dead-letter") return await deadLetter(args, environment, terminal);
    if (verb === "verify") return await verify(args, terminal, signal);
    if (verb === "audit") return auditLogs(args, environment, terminal);
    if (verb === "init") return init(args, process.cwd(), terminal);
    if (verb === "runs" || verb === "backfill") return await runs(verb, args, environment, terminal);
    if (verb === "update") return await update(args, environment, terminal);
    if (verb === "relay") return await relay(args, environment, terminal, signal);
    if (verb === "send") return await send(args, environment, terminal);
    if (verb === "check") return await check(args, environment, terminal);
    if (verb === "cost") return await cost(args, terminal);
    if (verb === "dev") return await dev(args, environment, signal);
    const known = commandsIn(USAGE).join(", ");
    const unknown = `there is no command "${verb}"; there are ${known}. "beamkeeper" alone says what they do.`;
    terminal.complain(verb === undefined ? USAGE : unknown);
    return 2;
  } catch (error) {
    if (error instanceof UsageError && error.usage !== undefined) {
      terminal.complain(`\nbeamkeeper: ${error.problem}\n\n${usageOf(verb!, error.usage)}`);
      return 2;
    }
    terminal.complain(`\nbeamkeeper: ${describe(error)}`);
    return error instanceof Error && error.name === "UsageError" ? 2 : 1;
  }
}
