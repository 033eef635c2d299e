import { type ParseArgsConfig, parseArgs } from "node:util";
import { describe } from "./terminal";

/** The command line cannot be used; the exit code is 2. */
export class UsageError extends Error {
  override readonly name = "UsageError";

  /** @param usage how the verb is used, shown below the problem */
  constructor(problem: string, usage?: string) {
    super(usage === undefined ? problem : `${problem}\n\n${usage}`);
  }
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
