/** Jars that tests and benchmarks run, fetched by Maven as a pom.xml pins them. */
import { spawnSync } from "node:child_process";
import { existsSync, renameSync } from "node:fs";

/** Copies a pom's jars to a directory, where that is not there yet; a fetch that is broken off leaves none. Throws where Maven can't. */
export function ensureJars(pom: string, directory: string): void {
  if (existsSync(directory)) return;
  const partial = `${directory}.${process.pid}.partial`;
  const goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", `-DoutputDirectory=${partial}`];
  const { status, error, stderr, stdout } = spawnSync("mvn", ["-q", "-B", "-f", pom, ...goal], {
    encoding: "utf8",
  });
  if (status !== 0)
    throw new Error(`Maven could not fetch the jars of ${pom}: ${error?.message ?? stdout + stderr}`);
  renameSync(partial, directory);
}
