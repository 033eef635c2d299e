import {
  BadVersionError,
  ConnectionLossError,
  SessionExpiredError,
  type ZooKeeperClient,
} from "../zookeeper";
import type { PipelineLayout } from "./layout";
import { encodeGeneration, type Generation, type GenerationState } from "./records";
import { readGeneration } from "./scope";

/** The pipeline is not in a state from which that can be done. Terminal. */
export class ControlError extends Error {
  override readonly name = "ControlError";
}

/**
 * Pauses the pipeline with one write to `generation`: its version stops every commit in flight, the relay's too, so
 * that nothing below the epoch changes until it is resumed. Pausing what is paused changes nothing.
 * Throws {@link ControlError} where there is no such pipeline, or it has ended.
 */
export function pausePipeline(client: ZooKeeperClient, layout: PipelineLayout): Promise<Generation> {
  return changeState(client, layout, "running", "paused");
}

/** Lets a paused pipeline go on from where it stands. Resuming what runs changes nothing. Throws {@link ControlError}. */
export function resumePipeline(client: ZooKeeperClient, layout: PipelineLayout): Promise<Generation> {
  return changeState(client, layout, "paused", "running");
}

async function changeState(
  client: ZooKeeperClient,
  layout: PipelineLayout,
  from: GenerationState,
  to: GenerationState,
): Promise<Generation> {
  for (;;) {
    const current = await readGeneration(client, layout);
    if (!current)
      throw new ControlError(
        `there is no pipeline at ${layout.path}; start its relay first, or look for it under another root`,
      );
    const { generation, version } = current;
    if (generation.state === to) return generation;
    if (generation.state !== from)
      throw new ControlError(`${layout.path} is ${generation.state}; only a ${from} pipeline can be ${to}`);
    const next: Generation = { ...generation, state: to };
    try {
      await client.setData(layout.generation, encodeGeneration(next), version);
      return next;
    } catch (error) {
      // Someone else changed it, or the reply was lost: the next read tells which, and doing it twice does no harm.
      if (!(error instanceof BadVersionError || isLoss(error))) throw error;
      await client.connected();
    }
  }
}

function isLoss(error: unknown): boolean {
  return error instanceof ConnectionLossError || error instanceof SessionExpiredError;
}
