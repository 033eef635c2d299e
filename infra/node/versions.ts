/** Other versions of Node than the one that runs, in folders of the project's own: what functions are deployed on. */
import { spawnSync } from "node:child_process";
import { existsSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";

const STATE = join(__dirname, "..", "..", ".beamkeeper");
const INSTALL_TIMEOUT_MS = 300_000;

/** By major version; the package `node` of npm brings the executable. */
export const NODE_VERSIONS = { 22: "22.23.3", 24: "24.21.0" } as const;

export type NodeMajor = keyof typeof NODE_VERSIONS;

/**
 * The executable of that version, installed with npm when it is not there; others may do the same meanwhile. Throws an
 * Error that says what npm said.
 */
export function ensureNode(major: NodeMajor): string {
  const version = NODE_VERSIONS[major];
  const folder = join(STATE, `node-${version}`);
  const executable = join(folder, "node_modules", "node", "bin", "node");
  if (existsSync(executable)) return executable;
  const own = `${folder}.${process.pid}`;
  const args = ["install", "--no-save", "--no-audit", "--no-fund", "--loglevel=error", "--prefix", own];
  const { status, stderr, error } = spawnSync("npm", [...args, `node@${version}`], {
    encoding: "utf8",
    timeout: INSTALL_TIMEOUT_MS,
  });
  try {
    if (status === 0) renameSync(own, folder);
  } catch {
    // Someone else was faster.
  }
  rmSync(own, { recursive: true, force: true });
  if (existsSync(executable)) return executable;
  throw new Error(`npm could not install Node ${version}: ${error?.message ?? stderr.trim()}`);
}
