/** How large the deployed functions are and what loading them costs, beside their budgets. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { build } from "esbuild";
import type { Benchmark, Case, Metric, Sample } from "./frame";

import functionBuildOptions = require("../infra/esbuild/options");

const PROJECT = join(__dirname, "..");
const FUNCTIONS = ["relay", "batch", "bundle", "events", "driver"] as const;
const SIZE: Metric = { name: "KB minified", better: "lower" };
const LOAD: Metric = { name: "CPU ms to load", better: "lower" };
/** Of each function, without the AWS clients that lie beside it and are loaded when they are used. */
const BUDGET: Sample = { [SIZE.name]: 700, [LOAD.name]: 90 };

/** Prints user and system CPU of loading the module, in ms; the process's own start is not in it. */
const LOADING = `
const before = process.cpuUsage();
require(process.argv[1]);
const { user, system } = process.cpuUsage(before);
process.stdout.write(String((user + system) / 1000));`;

function measureFunction(file: string): Sample {
  const text = execFileSync(process.execPath, ["-e", LOADING, file], { encoding: "utf8" });
  return { [SIZE.name]: statSync(file).size / 1000, [LOAD.name]: Number(text) };
}

export const packages: Benchmark = {
  name: "package",
  description: "size and load time of each function, as it is deployed",
  conditions:
    "The peer is the budget. Loading is CPU time of requiring the bundled file with the project's own pipelines, in a new process each round.",
  rounds: 7,
  warmUpRounds: 1,
  async prepare() {
    const folder = mkdtempSync(join(tmpdir(), "beamkeeper-package-"));
    const entryPoints = FUNCTIONS.map((name) => `functions/${name}.ts`);
    await build({ ...functionBuildOptions(), absWorkingDir: PROJECT, entryPoints, outdir: folder });
    const cases = FUNCTIONS.map(
      (name): Case => ({
        name,
        metrics: [SIZE, LOAD],
        ours: async () => measureFunction(join(folder, `${name}.js`)),
        peer: async () => BUDGET,
      }),
    );
    return { cases, end: async () => rmSync(folder, { recursive: true, force: true }) };
  },
};
