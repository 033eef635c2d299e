/**
 * Installs the AWS emulator, MiniStack, and the linter of CloudFormation's templates into a Python environment of the
 * project's own. Plain Node, as the rest of the set-up. Only the tests and benchmarks of deployments need them.
 */
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { isOnPath, run, SetupError } from "../zookeeper/install.mjs";

const REQUIREMENTS = join(dirname(fileURLToPath(import.meta.url)), "requirements.txt");

/** Does nothing where it is installed; throws SetupError, with the reason, where it cannot be. */
export function ensureEmulator(directory, say) {
  const requirements = readFileSync(REQUIREMENTS, "utf8");
  const folder = join(directory, "emulator");
  const stamp = join(folder, "installed");
  if (existsSync(stamp) && readFileSync(stamp, "utf8") === requirements) return;
  if (!isOnPath("python3")) throw new SetupError("Python 3 is missing, which the AWS emulator runs on.");
  say("Installing the AWS emulator (MiniStack, from PyPI) and cfn-lint ...");
  mkdirSync(directory, { recursive: true });
  rmSync(folder, { recursive: true, force: true });
  run("python3", ["-m", "venv", folder]);
  run(join(folder, "bin", "python"), ["-m", "pip", "install", "--quiet", "--no-input", "-r", REQUIREMENTS]);
  // Written last, so that an installation that was interrupted is done again.
  writeFileSync(stamp, requirements);
}
