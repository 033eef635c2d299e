import type { ZooKeeperClient } from "../zookeeper";
import type { BlobStore } from "./blobs";
import { reading } from "./commit";
import { ControlError, latestGeneration, requireGeneration } from "./control";
import { compareGraphs, type GraphDifference, type StoredGraph, type UpdateChoices } from "./graph";
import { numberedSegment, type ScopeLayout } from "./layout";
import { decodeOutput, type Generation } from "./records";
import type { KeyKnowledge, NewZnode } from "./redistribution";
import { type NextEpoch, removeEarlier, rotateEpoch } from "./rotation";
import {
  type CurrentGeneration,
  RUNS_FINGERPRINT,
  readGraph,
  type ScopePlan,
  sourceCreation,
  stageCreation,
} from "./scope";
import { encodeSegment } from "./segment";
import { loadState, readHead } from "./stored-state";

/** The plan of the changed code. */
export type UpdatePlan = ScopePlan & { readonly graph: StoredGraph };

export interface UpdateOptions {
  readonly client: ZooKeeperClient;
  readonly blobs: BlobStore;
  readonly layout: CurrentGeneration["layout"];
  readonly plan: UpdatePlan;
  readonly choices: UpdateChoices;
  readonly keys: KeyKnowledge;
}

/**
 * How the code's graph differs from that of the pipeline as it is now. Reads only. Throws NoPipelineError, ControlError
 * where nothing tells what the pipeline's graph is, EncodingError, or the client's error.
 */
export async function compareWithStored({
  client,
  layout,
  plan,
  choices,
}: Pick<UpdateOptions, "client" | "layout" | "plan" | "choices">): Promise<GraphDifference> {
  return differenceTo(client, await requireGeneration(client, layout), plan, choices);
}

/**
 * Hands what a pipeline has to code with another graph, in a new epoch (see {@link rotateEpoch}): stages that go on keep
 * shards, inboxes, state and dead letters, sources their cursors; new ones begin empty; what is gone must have nothing
 * left. No code is named in the new generation, so a deployment with this graph takes over. Doing so again changes
 * nothing. Throws ControlError with all that stands against it.
 */
export async function updatePipeline(options: UpdateOptions): Promise<Generation> {
  const { client, layout, plan, choices, ...rest } = options;
  const before = await latestGeneration(client, layout);
  if (before.generation.fingerprint === plan.fingerprint && !before.generation.isRescaling)
    return removeEarlier(options, before);
  requireCompatible(layout.path, await differenceTo(client, before, plan, choices));
  return rotateEpoch({ ...rest, client, layout, done: "updated" }, async (frozen, to) => {
    const difference = await differenceTo(client, frozen, plan, choices);
    requireCompatible(layout.path, difference);
    await requireNothingLeft(options, frozen, difference);
    return nextEpoch(frozen, to, plan, difference);
  });
}

async function differenceTo(
  client: ZooKeeperClient,
  current: CurrentGeneration,
  plan: UpdatePlan,
  choices: UpdateChoices,
): Promise<GraphDifference> {
  const { layout, generation } = current;
  if (generation.fingerprint === RUNS_FINGERPRINT)
    throw new ControlError(
      `${layout.path} is bounded: each run has the code that it began with, and the next one the code that is deployed then`,
    );
  const graph = await readGraph(client, current);
  if (graph === undefined)
    throw new ControlError(
      `${layout.path} was made by a version of Beamkeeper that did not store its graph: what differs can't be told. ` +
        "Start the changed pipeline under another name",
    );
  const stored = { graph, upstream: generation.upstream };
  return compareGraphs(stored, { graph: plan.graph, upstream: plan.upstream }, choices);
}

function requireCompatible(path: string, { problems }: GraphDifference): void {
  if (problems.length > 0)
    throw new ControlError(
      `the changed code can't go on with what ${path} has. Nothing was changed.\n- ${problems.join("\n- ")}\n` +
        "Deploy the code of before, or give the changed pipeline, or the changed transform, another name",
    );
}

/** What is to be lost of the stages that are gone, unless it is discarded; and tokens that no finaliser takes any more. */
async function requireNothingLeft(
  { client, blobs, plan, choices }: UpdateOptions,
  { generation, scope, layout }: CurrentGeneration,
  { stages }: GraphDifference,
): Promise<void> {
  const left: string[] = [];
  for (const { stage, change } of stages)
    if (change === "removed" && !choices.discard.includes(stage))
      for (let shard = 0; shard < generation.shards[stage]!; shard++)
        left.push(...(await leftIn(client, blobs, scope, stage, shard)));
  const { children } = await reading(client, () => client.getChildren(scope.outputs));
  for (const child of children) {
    const path = `${scope.outputs}/${child}`;
    const entry = decodeOutput((await reading(client, () => client.getData(path))).data, path);
    if ("finalizer" in entry && !plan.graph.finalizers.includes(entry.finalizer))
      left.push(
        `tokens wait for the finaliser "${entry.finalizer}", which is gone: resume the pipeline with the code of before for a moment`,
      );
  }
  if (left.length > 0)
    throw new ControlError(
      `the changed code can't go on with what ${layout.path} has. Nothing was changed.\n- ${left.join("\n- ")}\n` +
        "Hand it over with --rename OLD=NEW, wait until nothing is left, or lose it with --discard STAGE",
    );
}

async function leftIn(
  client: ZooKeeperClient,
  blobs: BlobStore,
  scope: ScopeLayout,
  stage: string,
  shard: number,
): Promise<string[]> {
  const layout = scope.shard(stage, shard);
  let cells = 0;
  await loadState(client, blobs, layout, await readHead(client, layout), () => {
    cells += 1;
  });
  const count = async (path: string): Promise<number> =>
    (await reading(client, () => client.getChildren(path))).children.length;
  const found = [
    [cells, "cells of state"],
    [await count(layout.inbox), "segments that wait"],
    [await count(layout.deadLetters), "dead letters"],
  ] as const;
  const texts = found.filter(([number]) => number > 0).map(([number, what]) => `${number} ${what}`);
  return texts.length > 0
    ? [`stage "${stage}", which is gone, has ${texts.join(", ")} in shard ${shard}`]
    : [];
}

function nextEpoch(
  { generation }: CurrentGeneration,
  to: ScopeLayout,
  plan: UpdatePlan,
  { continued }: GraphDifference,
): NextEpoch {
  const isNew = (id: string): boolean => !continued.has(id);
  const shards = Object.entries(plan.shards).map(([id, count]) => {
    const before = continued.get(id);
    return [id, before === undefined ? count : generation.shards[before]!] as const;
  });
  const { fingerprint, upstream, graph, sideInputStages = [], keylessStages = [] } = plan;
  const sources = [...plan.sources, ...(plan.eventSources ?? [])];
  return {
    changed: {
      ...{ fingerprint, upstream, sideInputStages, keylessStages, code: undefined },
      shards: Object.fromEntries(shards),
    },
    graph: { ...graph, continued: Object.fromEntries(continued) },
    stages: continued,
    // A source has the name of the stage that reads it.
    sources: new Map(sources.filter((id) => !isNew(id)).map((id) => [id, continued.get(id)!])),
    added: [
      ...sourceCreation(to, {
        sources: plan.sources.filter(isNew),
        eventSources: (plan.eventSources ?? []).filter(isNew),
      }),
      ...stageCreation(to, { shards: Object.fromEntries(shards.filter(([id]) => isNew(id))) }),
      ...plan.impulses.filter(isNew).map((stage) => impulse(to, stage, plan.minTimestampMs)),
    ],
  };
}

function impulse(to: ScopeLayout, stage: string, timestampMs: number): NewZnode {
  const { data } = encodeSegment([{ bytes: Buffer.alloc(0), timestampMs }]);
  return { path: numberedSegment(to.shard(stage, 0), timestampMs, 0), data };
}
