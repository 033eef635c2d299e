/** kazoo, the Python client, in a folder of the project's own: a peer of tests and benchmarks. */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";

const VERSION = "2.10.0";
const ENVIRONMENT = join(__dirname, "..", "..", ".beamkeeper", `kazoo-${VERSION}`);
const PYTHON = join(ENVIRONMENT, "bin", "python");
const INSTALL_TIMEOUT_MS = 40_000;

function run(command: string, args: readonly string[]): boolean {
  return spawnSync(command, args, { stdio: "ignore", timeout: INSTALL_TIMEOUT_MS }).status === 0;
}

/** The Python that has kazoo, installed with pip when it is not there; undefined where that can't be done. */
export function ensureKazoo(): string | undefined {
  const isThere = () => existsSync(PYTHON) && run(PYTHON, ["-c", "import kazoo"]);
  const install = () =>
    run("python3", ["-m", "venv", ENVIRONMENT]) &&
    run(PYTHON, ["-m", "pip", "install", "--quiet", "--retries", "0", `kazoo==${VERSION}`]);
  return isThere() || (install() && isThere()) ? PYTHON : undefined;
}
