/** Stateful transforms and side inputs in memory, against a plain ParDo in the same run. */
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { bundled, ROOT } from "./beam";
import type { Benchmark, Case } from "./frame";

export const state: Benchmark = {
  name: "state",
  description: "stateful transforms and side inputs against a plain parDo that needs no shuffle",
  conditions:
    "One process, no ZooKeeper. 100,000 elements of 1,000 keys in bundles of 10,000; ours go through a shuffle, encoded, and\n" +
    "their state is encoded at the end of each bundle. The plain parDo is fused with its source.",
  rounds: 5,
  warmUp: true,
  async prepare() {
    const parent = join(ROOT, ".beamkeeper");
    mkdirSync(parent, { recursive: true });
    const folder = mkdtempSync(join(parent, "bench-"));
    const load = createRequire(__filename);
    const { stateCases } = load(await bundled(folder, "state-cases")) as { stateCases(): Case[] };
    return { cases: stateCases(), end: async () => rmSync(folder, { recursive: true, force: true }) };
  },
};
