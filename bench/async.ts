/** Asynchronous transforms in memory: how near to the ideal rate calls come, and what the machinery around them costs. */
import { loadBundled } from "./beam";
import type { Benchmark } from "./frame";

export const asynchronous: Benchmark = {
  name: "async",
  description: "asynchronous calls of a transform against the ideal rate, and against a loop written by hand",
  conditions:
    "One process, no ZooKeeper. One bundle of 40,000 elements through mapAsync (1,000 in flight, unordered), with a service\n" +
    "that answers 10 ms after each call. The ideal is 100,000 calls a second.",
  rounds: 5,
  warmUpRounds: 1,
  async prepare() {
    const { module, remove } = await loadBundled<typeof import("./async-cases")>("async-cases");
    return { cases: module.asyncCases(), end: async () => remove() };
  },
};
