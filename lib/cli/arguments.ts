import { type ParseArgsConfig, parseArgs } from "node:util";
import { describe } from "./terminal";

/** The command line cannot be used; the exit code is 2. */
export class UsageError extends Error {
  override readonly name = "UsageError";

  /** @param usage how the verb and its siblings are used; {@link usageOf} takes from it what is shown below the problem */
  constructor(
    readonly problem: string,
    readonly usage?: string,
  ) {
    super(usage === undefined ? problem : `${problem}\n\n${usage}`);
  }
}

const COMMAND = /^beamkeeper (\S+)/;

/** The commands that a usage text is about, in its order. */
export function commandsIn(usage: string): string[] {
  return [...new Set(usage.split("\n").flatMap((line) => COMMAND.exec(line)?.[1] ?? []))];
}

/** Of a usage text what is about the verb, or about all; the whole text where it does not name the verb. */
export function usageOf(verb: string, usage: string): string {
  if (!commandsIn(usage).includes(verb)) return usage;
  let isShown = true;
  const lines = usage.split("\n").filter((line) => {
    const command = COMMAND.exec(line)?.[1];
    // What is indented belongs to the command above it.
    if (command !== undefined) isShown = command === verb;
    else if (!line.startsWith(" ")) isShown = true;
    return isShown;
  });
  return lines.join("\n").trim();
}

/** The options' values and what stands beside them. Throws UsageError with the usage where an option is not known or lacks its value. */
export function readArguments<const T extends NonNullable<ParseArgsConfig["options"]>>(
  args: readonly string[],
  options: T,
  usage: string,
): ReturnType<typeof parseArgs<{ options: T; allowPositionals: true }>> {
  try {
    return parseArgs({ args: [...args], options, allowPositionals: true });
  } catch (error) {
    throw new UsageError(describe(error), usage);
  }
}
