/**
 * The commit: shards that work off a backlog, against the bare client that sends the same multis, one at a time for
 * each shard; what a commit costs with more and more state; and a write to its committed result, against the least
 * that anyone could do.
 */
import { startZooKeeper } from "../infra/zookeeper/server";
import { loadBundled } from "./beam";
import type { Benchmark } from "./frame";

export const commit: Benchmark = {
  name: "commit",
  description: "shards that work off a backlog, and the bare client that sends the same multis",
  conditions:
    "Backlog: 2,000 segments of 100 elements over all shards, through two stages that sum for each key; a bundle takes 100 elements.\n" +
    "The peer sends the multis of ours again below another root, one at a time for each shard. To reach: 0.8 of its commits/s.\n" +
    "A write to its copy: at most 3 times the peer. State: a ratio of 1 is flat; filling it is not counted, and the first 200\n" +
    "commits behind that are counted apart. Servers on loopback that wait for their disk.",
  rounds: 3,
  warmUpRounds: 1,
  async prepare() {
    const { module, remove } = await loadBundled<typeof import("./commit-cases")>("commit-cases");
    const one = await startZooKeeper();
    const three = await startZooKeeper({ servers: 3 });
    const { cases, end } = module.commitCases(one.connectString, three.connectString);
    return {
      cases,
      async end() {
        await end();
        await three.stop();
        await one.stop();
        remove();
      },
    };
  },
};
