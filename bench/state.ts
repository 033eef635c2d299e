/** Stateful transforms and side inputs in memory, against a plain ParDo in the same run. */
import { loadBundled } from "./beam";
import type { Benchmark } from "./frame";

export const state: Benchmark = {
  name: "state",
  description: "stateful transforms and side inputs against a plain parDo that needs no shuffle",
  conditions:
    "One process, no ZooKeeper. 100,000 elements of 1,000 keys in bundles of 10,000; ours go through a shuffle, encoded, and\n" +
    "their state is encoded at the end of each bundle. The plain parDo is fused with its source.",
  rounds: 5,
  warmUpRounds: 1,
  async prepare() {
    const { module, remove } = await loadBundled<typeof import("./state-cases")>("state-cases");
    return { cases: module.stateCases(), end: async () => remove() };
  },
};
