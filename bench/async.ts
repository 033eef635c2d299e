/** Asynchronous transforms in memory: how near to the ideal rate calls come, and what the machinery around them costs. */
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { bundled, ROOT } from "./beam";
import type { Benchmark, Case } from "./frame";

export const asynchronous: Benchmark = {
  name: "async",
  description: "asynchronous calls of a transform against the ideal rate, and against a loop written by hand",
  conditions:
    "One process, no ZooKeeper. One bundle of 40,000 elements through mapAsync (1,000 in flight, unordered), with a service\n" +
    "that answers 10 ms after each call. The ideal is 100,000 calls a second.",
  rounds: 5,
  warmUp: true,
  async prepare() {
    const parent = join(ROOT, ".beamkeeper");
    mkdirSync(parent, { recursive: true });
    const folder = mkdtempSync(join(parent, "bench-"));
    const load = createRequire(__filename);
    const { asyncCases } = load(await bundled(folder, "async-cases")) as { asyncCases(): Case[] };
    return { cases: asyncCases(), end: async () => rmSync(folder, { recursive: true, force: true }) };
  },
};
