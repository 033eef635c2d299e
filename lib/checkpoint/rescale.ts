import type { ZooKeeperClient } from "../zookeeper";
import type { BlobStore } from "./blobs";
import { ControlError, latestGeneration } from "./control";
import { KEY_GROUPS, type PipelineLayout } from "./layout";
import type { Generation } from "./records";
import type { KeyKnowledge } from "./redistribution";
import { removeEarlier, rotateEpoch, sourceNames } from "./rotation";
import { type CurrentGeneration, readGraph } from "./scope";

export interface RescaleOptions {
  readonly client: ZooKeeperClient;
  readonly blobs: BlobStore;
  readonly layout: PipelineLayout;
  /** The new number of shards of some stages. */
  readonly shards: Readonly<Record<string, number>>;
  readonly keys: KeyKnowledge;
}

/** Gives stages of a pipeline other numbers of shards, in a new epoch: see {@link rotateEpoch}. */
export async function rescalePipeline({ shards, ...options }: RescaleOptions): Promise<Generation> {
  const { client, layout } = options;
  const before = await latestGeneration(client, layout);
  checkShards(before, shards);
  if (isSo(before.generation, shards)) return removeEarlier(options, before);
  return rotateEpoch({ ...options, done: "rescaled" }, async (frozen) => {
    const { generation, scope } = frozen;
    const graph = await readGraph(client, frozen);
    return {
      changed: { shards: { ...generation.shards, ...shards } },
      // Each stage goes on with itself, whatever an update before has renamed.
      graph: graph && { ...graph, continued: undefined },
      stages: new Map(Object.keys(generation.shards).map((stage) => [stage, stage])),
      sources: new Map((await sourceNames(client, scope)).map((source) => [source, source])),
      added: [],
    };
  });
}

function checkShards({ generation, layout }: CurrentGeneration, shards: RescaleOptions["shards"]): void {
  const stages = Object.keys(generation.shards);
  if (stages.length === 0)
    throw new ControlError(
      `${layout.path} is bounded: each of its runs has the definition's numbers of shards`,
    );
  for (const [stage, count] of Object.entries(shards)) {
    if (!stages.includes(stage))
      throw new ControlError(`${layout.path} has no stage "${stage}"; its stages are ${stages.join(", ")}`);
    if (!Number.isInteger(count) || count < 1 || count > KEY_GROUPS)
      throw new ControlError(
        `stage "${stage}" can have 1 to ${KEY_GROUPS} shards, one for each group of keys at most; not ${count}`,
      );
    if (generation.sideInputStages.includes(stage) && count !== generation.shards[stage])
      throw new ControlError(
        `stage "${stage}" reads side inputs: each of its shards has all of them, and their number can't be changed`,
      );
  }
}

function isSo(generation: Generation, shards: RescaleOptions["shards"]): boolean {
  const isEqual = Object.entries(shards).every(([stage, count]) => generation.shards[stage] === count);
  return isEqual && !generation.isRescaling;
}
