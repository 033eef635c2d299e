/**
 * The engine alone, with its state in memory: operators, grouping, combining, coders; against the SDK's own direct
 * runner and coders, against loops written by hand, and against a Map for what a million keys take.
 */
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { build } from "esbuild";
import type { Benchmark, Case, Sample } from "./frame";

const ROOT = join(__dirname, "..");

/**
 * Bundled as functions are, but with the SDK beside it, whose direct runner does not run in a bundle. Without a
 * bundle each call from module to module goes through a getter, which is not what is deployed.
 */
async function bundled(folder: string, name: string): Promise<string> {
  const outfile = join(folder, `${name}.cjs`);
  await build({
    entryPoints: [join(__dirname, `${name}.ts`)],
    outfile,
    bundle: true,
    packages: "external",
    alias: { beamkeeper: join(ROOT, "lib/index.ts") },
    platform: "node",
    target: "node20",
    format: "cjs",
    logLevel: "error",
  });
  return outfile;
}

/** A module of this folder, bundled, from below the project, so that the SDK is found. */
export async function loadBundled<M>(name: string): Promise<{ module: M; folder: string; remove(): void }> {
  const parent = join(ROOT, ".beamkeeper");
  mkdirSync(parent, { recursive: true });
  const folder = mkdtempSync(join(parent, "bench-"));
  const module = createRequire(__filename)(await bundled(folder, name)) as M;
  return { module, folder, remove: () => rmSync(folder, { recursive: true, force: true }) };
}

/** The most memory that a process took which does nothing else. */
function sessions(program: string): Case {
  // Once each: a process of its own does not vary much, and takes long.
  const run = (contestant: "engine" | "map") => {
    let sample: Sample | undefined;
    return async (): Promise<Sample> => {
      sample ??= JSON.parse(execFileSync(process.execPath, [program, contestant], { encoding: "utf8" }));
      return sample!;
    };
  };
  return {
    name: "a million keys in sessions / Map",
    metrics: [
      { name: "MB at most", better: "lower" },
      { name: "ns of CPU an element", better: "lower" },
    ],
    ours: run("engine"),
    peer: run("map"),
  };
}

export const engine: Benchmark = {
  name: "beam",
  description: "the engine in memory against the SDK's direct runner and coders, and loops written by hand",
  conditions:
    "One process, no ZooKeeper. Ours: bundles of 10,000 elements; what goes from stage to stage is encoded and decoded.\n" +
    "Direct runner: the elements come from one impulse; nothing is encoded. Loops: what one would write for this alone.\n" +
    "Five rounds that are not counted come first: until then Node compiles the inner loops anew.",
  rounds: 7,
  warmUpRounds: 5,
  async prepare() {
    const { module, folder, remove } = await loadBundled<typeof import("./engine-cases")>("engine-cases");
    const cases = [...module.engineCases(), sessions(await bundled(folder, "session-memory"))];
    return { cases, end: async () => remove() };
  },
};
