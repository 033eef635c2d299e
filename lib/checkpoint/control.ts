import {
  BadVersionError,
  ConnectionLossError,
  SessionExpiredError,
  type ZooKeeperClient,
} from "../zookeeper";
import { reading } from "./commit";
import type { PipelineLayout } from "./layout";
import { encodeGeneration, type Generation, type GenerationState } from "./records";
import { type CurrentGeneration, RUNS_FINGERPRINT, readGeneration } from "./scope";
import { isDrained, readStatus } from "./status";

/** The pipeline is not in a state from which that can be done. Terminal. */
export class ControlError extends Error {
  override readonly name = "ControlError";
}

/** There is no such pipeline below this root. Terminal. */
export class NoPipelineError extends ControlError {
  constructor(layout: PipelineLayout, existing: readonly string[]) {
    const others =
      existing.length > 0
        ? `below ${layout.root} there are ${existing.join(", ")}`
        : `below ${layout.root} there is none; set BEAMKEEPER_ROOT, or start its relay first`;
    super(`there is no pipeline at ${layout.path}; ${others}`);
  }
}

/** From which states a pipeline gets into which, and what to do about the others. */
const TRANSITIONS = {
  paused: { from: ["running"], done: ["paused"] },
  running: { from: ["paused"], done: ["running"] },
  draining: { from: ["running", "paused"], done: ["draining", "drained"] },
  cancelled: { from: ["running", "paused", "draining"], done: ["cancelled"] },
} as const satisfies Partial<Record<GenerationState, Record<"from" | "done", readonly GenerationState[]>>>;

type Target = keyof typeof TRANSITIONS;

/** Why a pipeline in this state does not change as wanted, and what can be done. */
const REMEDIES: Readonly<Record<GenerationState, string>> = {
  running: "it runs",
  paused: "resume it first",
  draining: "wait until it is drained, or cancel it",
  drained: "it was finished, its windows are closed, and it does not go on",
  cancelled: "it was stopped for good; what it had not finished stays to be looked at",
};

/**
 * Pauses the pipeline with one write to `generation`: its version stops every commit in flight, the relay's too, so
 * that nothing below the epoch changes until it is resumed. Pausing what is paused changes nothing.
 * Throws {@link NoPipelineError}, or {@link ControlError} where it drains or has ended.
 */
export function pausePipeline(client: ZooKeeperClient, layout: PipelineLayout): Promise<Generation> {
  return changeState(client, layout, "paused");
}

/** Lets a paused pipeline go on from where it stands. Resuming what runs changes nothing. Throws {@link ControlError}. */
export function resumePipeline(client: ZooKeeperClient, layout: PipelineLayout): Promise<Generation> {
  return changeState(client, layout, "running");
}

/**
 * Lets the pipeline finish: its sources deliver what happened before this write and end with the watermark at
 * infinity, every window fires, results are written, files get their names; then {@link completeDrain} writes
 * `drained`. A paused pipeline goes on for that. Draining again changes nothing. Throws {@link ControlError}.
 */
export async function drainPipeline(client: ZooKeeperClient, layout: PipelineLayout): Promise<Generation> {
  const { generation } = await requireGeneration(client, layout);
  if (generation.fingerprint === RUNS_FINGERPRINT)
    throw new ControlError(
      `${layout.path} is bounded: each of its runs ends by itself. Pause it so that none starts, or cancel a run with "beamkeeper runs cancel"`,
    );
  return changeState(client, layout, "draining");
}

/** Stops the pipeline for good: nothing is committed after this write, and what is unfinished stays. Throws {@link ControlError}. */
export function cancelPipeline(client: ZooKeeperClient, layout: PipelineLayout): Promise<Generation> {
  return changeState(client, layout, "cancelled");
}

/**
 * Writes `drained` where a draining pipeline has nothing left to do; anyone may call it, any number of times. What is
 * settled under an infinite watermark stays so, so only the generation itself can have changed since it was looked at.
 * Returns the generation as it then is. Throws {@link NoPipelineError}.
 */
export async function completeDrain(client: ZooKeeperClient, layout: PipelineLayout): Promise<Generation> {
  const current = await requireGeneration(client, layout);
  if (current.generation.state !== "draining") return current.generation;
  const status = await readStatus(client, layout);
  if (!status || !isDrained(status)) return current.generation;
  return (await write(client, current, "drained")) ?? (await requireGeneration(client, layout)).generation;
}

async function changeState(client: ZooKeeperClient, layout: PipelineLayout, to: Target): Promise<Generation> {
  const { from, done }: Record<"from" | "done", readonly GenerationState[]> = TRANSITIONS[to];
  for (let isLatest = false; ; ) {
    const current = await (isLatest ? latestGeneration : requireGeneration)(client, layout);
    const { state } = current.generation;
    // A write to what has changed since is refused; what ends without one must not rest on a server that is behind.
    if (!from.includes(state) && !isLatest) {
      isLatest = true;
      continue;
    }
    if (done.includes(state)) return current.generation;
    if (!from.includes(state))
      throw new ControlError(`${layout.path} is ${state} and can't be ${to}: ${REMEDIES[state]}`);
    const written = await write(client, current, to);
    if (written) return written;
  }
}

/** The pipeline's generation. Throws {@link NoPipelineError}. */
export async function requireGeneration(
  client: ZooKeeperClient,
  layout: PipelineLayout,
): Promise<CurrentGeneration> {
  return (await readGeneration(client, layout)) ?? latestGeneration(client, layout);
}

/** The pipeline's generation, from a server that is not behind. Throws {@link NoPipelineError}. */
export async function latestGeneration(
  client: ZooKeeperClient,
  layout: PipelineLayout,
): Promise<CurrentGeneration> {
  await reading(client, () => client.sync(layout.generation));
  const current = await readGeneration(client, layout);
  if (!current) throw new NoPipelineError(layout, await listPipelines(client, layout.root));
  return current;
}

/** The new generation; undefined where someone else changed it, or the reply was lost: the next read tells which. */
async function write(
  client: ZooKeeperClient,
  { generation, version, layout }: CurrentGeneration,
  state: GenerationState,
): Promise<Generation | undefined> {
  // Whoever is paused for a rescale, and decides otherwise, gives the rescale up.
  const { isRescaling: _, ...rest } = generation;
  const next: Generation = { ...rest, state };
  try {
    await client.setData(layout.generation, encodeGeneration(next), version);
    return next;
  } catch (error) {
    if (!(error instanceof BadVersionError || isLoss(error))) throw error;
    await client.connected();
    return undefined;
  }
}

/** The names of the pipelines below the root, sorted. */
export async function listPipelines(client: ZooKeeperClient, root: string): Promise<string[]> {
  if (!(await reading(client, () => client.exists(root)))) return [];
  const { children } = await reading(client, () => client.getChildren(root));
  const isPipeline = await Promise.all(
    children.map((child) => reading(client, () => client.exists(`${root}/${child}/generation`))),
  );
  return children
    .filter((_, index) => isPipeline[index])
    .map(decodeURIComponent)
    .sort();
}

function isLoss(error: unknown): boolean {
  return error instanceof ConnectionLossError || error instanceof SessionExpiredError;
}
