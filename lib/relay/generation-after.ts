import { admitsCommits } from "../checkpoint/records";
import { type CurrentGeneration, readGeneration } from "../checkpoint/scope";
import type { ZooKeeperClient } from "../zookeeper";
import { nextEpoch, RelayStoppedError } from "./errors";

/** The generation as it is after a commit was refused. Rejects with RelayStoppedError where it admits no more of this relay's. */
export async function generationAfter(
  client: ZooKeeperClient,
  before: CurrentGeneration,
): Promise<CurrentGeneration> {
  const now = await readGeneration(client, before.layout);
  if (!now) throw new RelayStoppedError(`${before.layout.generation} is gone; the pipeline was deleted`);
  const { state, epoch } = now.generation;
  if (!admitsCommits(now.generation)) throw new RelayStoppedError(`the pipeline is ${state}`, state);
  if (epoch !== before.generation.epoch) throw nextEpoch(epoch);
  return now;
}
