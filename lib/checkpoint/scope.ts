import {
  MultiError,
  NoAuthError,
  NodeExistsError,
  NoNodeError,
  type Op,
  type ZooKeeperClient,
} from "../zookeeper";
import { reading } from "./commit";
import { encodeBucket, ID_BUCKETS, NEW_BUCKET } from "./event-ids";
import { compareGraphs, decodeGraph, encodeGraph, NO_CHOICES, type StoredGraph } from "./graph";
import { type PipelineLayout, type ScopeLayout, segmentPrefix } from "./layout";
import {
  decodeGeneration,
  encodeCursor,
  encodeGeneration,
  encodeHead,
  encodeManifestIndex,
  type Generation,
  NEW_CURSOR,
  NEW_HEAD,
  NEW_MANIFEST,
  type Upstream,
} from "./records";
import { encodeSegment } from "./segment";

/** The shape that a pipeline's znodes are created with. */
export interface ScopePlan {
  readonly fingerprint: string;
  /** What the fingerprint is of (default: it is not stored, and other code can't be told what differs). */
  readonly graph?: StoredGraph;
  /** Ids of the sources that a relay reads. */
  readonly sources: readonly string[];
  /** Ids of the sources that events are appended to (default: none). */
  readonly eventSources?: readonly string[];
  /** The number of shards of each stage. */
  readonly shards: Readonly<Record<string, number>>;
  /** What each stage reads, the stages in the order in which data flows. */
  readonly upstream: Readonly<Record<string, readonly Upstream[]>>;
  /** Stages whose shards each hold all side inputs (default: none). */
  readonly sideInputStages?: readonly string[];
  /** Stages whose elements have no key, so that any shard may process them (default: none). */
  readonly keylessStages?: readonly string[];
  /** Stages that start from one element at the smallest time, instead of a source. */
  readonly impulses: readonly string[];
  /** Stages that start from one element that tells of the run, instead of a source. */
  readonly runStarts?: readonly string[];
  /** The smallest time of the Beam model, in ms: that of the impulse. */
  readonly minTimestampMs: number;
}

/** In the generation of a bounded pipeline, whose runs have the fingerprints of their own code. */
export const RUNS_FINGERPRINT = "runs";

/** The pipeline's generation with the version that commits check. */
export interface CurrentGeneration {
  readonly generation: Generation;
  readonly version: number;
  readonly layout: PipelineLayout;
  readonly scope: ScopeLayout;
  /** Of a run: its id. */
  readonly run?: string;
  /** Of a run: what its commits check beside the generation. */
  readonly control?: { readonly path: string; readonly version: number };
}

/** What every multi of the scope begins with: nothing is committed once the pipeline, or the run, is stopped. */
export function scopeChecks({ layout, version, control }: CurrentGeneration): Op[] {
  const generation: Op = { type: "check", path: layout.generation, version };
  return control ? [generation, { type: "check", ...control }] : [generation];
}

/** The pipeline does not exist below this root, or what exists was made by other code. Terminal. */
export class PipelineMismatchError extends Error {
  override readonly name = "PipelineMismatchError";
}

/** Reads `generation`; undefined where the pipeline was never started. Throws EncodingError. */
export async function readGeneration(
  client: ZooKeeperClient,
  layout: PipelineLayout,
): Promise<CurrentGeneration | undefined> {
  try {
    const { data, stat } = await reading(client, () => client.getData(layout.generation));
    const generation = decodeGeneration(data, layout.generation);
    return { generation, version: stat.version, layout, scope: layout.epoch(generation.epoch) };
  } catch (error) {
    if (error instanceof NoNodeError) return undefined;
    throw error;
  }
}

/**
 * The pipeline's generation, created with its first epoch where it does not exist. Creation is one multi, so
 * that two starters make one pipeline. Throws {@link PipelineMismatchError} where it exists and was made by
 * other code. Its numbers of shards stay what they are: `rescalePipeline` changes them.
 */
export async function openPipeline(
  client: ZooKeeperClient,
  layout: PipelineLayout,
  plan: ScopePlan,
): Promise<CurrentGeneration> {
  for (let isPartlyThere = false; ; ) {
    const current = await readGeneration(client, layout);
    if (current) {
      try {
        return await requireSame(client, current, plan);
      } catch (error) {
        if (!(error instanceof NoNodeError)) throw error;
        // A rescale or an update may have removed the epoch since.
        await reading(client, () => client.sync(layout.generation));
        if ((await readGeneration(client, layout))?.version === current.version) throw error;
        continue;
      }
    }
    if (isPartlyThere) throw partlyThere(layout);
    await createPath(client, layout.epochs);
    try {
      await client.multi(creation(layout, plan));
    } catch (error) {
      // Someone else created it, or our reply was lost: either way the next read tells.
      const exists = error instanceof MultiError && error.cause instanceof NodeExistsError;
      const lost = error instanceof Error && "outcome" in error && error.outcome === "ambiguous";
      if (!exists && !lost) throw error;
      isPartlyThere = exists;
      await client.connected();
    }
  }
}

/** What a refused creation found must be a whole pipeline, since creation is one multi: else someone deleted a part. */
function partlyThere(layout: PipelineLayout): PipelineMismatchError {
  return new PipelineMismatchError(
    `${layout.path} holds an epoch and no "generation": a part of the pipeline was deleted. Nothing was changed. ` +
      `Restore ${layout.generation} from a backup, or delete ${layout.path} with everything below it to begin again.`,
  );
}

async function requireSame(
  client: ZooKeeperClient,
  current: CurrentGeneration,
  plan: ScopePlan,
): Promise<CurrentGeneration> {
  const { layout, generation } = current;
  const { fingerprint, upstream } = generation;
  if (fingerprint === plan.fingerprint) return current;
  const was =
    `${layout.path} was started by a pipeline with another graph (fingerprint ${fingerprint.slice(0, 12)}, ` +
    `this code has ${plan.fingerprint.slice(0, 12)}). Nothing was changed.`;
  const start =
    "start the changed pipeline under another name, or delete the old one's znodes to begin again";
  const stored = await readGraph(client, current);
  if (stored === undefined || plan.graph === undefined)
    throw new PipelineMismatchError(`${was} Run the code that started it, or ${start}.`);
  const { graph, upstream: planned } = plan;
  const { stages, problems } = compareGraphs(
    { graph: stored, upstream },
    { graph, upstream: planned },
    NO_CHOICES,
  );
  const differences = stages.map(
    ({ stage, change, what }) => `stage "${stage}" is ${change}: ${what.join("; ")}`,
  );
  const what = differences.length > 0 ? ` ${differences.join(". ")}.` : "";
  const update =
    problems.length === 0
      ? `"beamkeeper update ${layout.pipeline}" lets this code go on with what is there`
      : `Run the code that started it, or ${start}; "beamkeeper update ${layout.pipeline} --dry-run" says more`;
  throw new PipelineMismatchError(`${was}${what} ${update}.`);
}

/** The graph that the epoch was made for; undefined where an older version made it. Throws EncodingError. */
export async function readGraph(
  client: ZooKeeperClient,
  { scope }: CurrentGeneration,
): Promise<StoredGraph | undefined> {
  const { data } = await reading(client, () => client.getData(scope.path));
  return decodeGraph(data, scope.path);
}

function creation(layout: PipelineLayout, plan: ScopePlan): Op[] {
  const epoch = 1;
  const generation: Generation = {
    state: "running",
    epoch,
    fingerprint: plan.fingerprint,
    shards: plan.shards,
    upstream: plan.upstream,
    sideInputStages: plan.sideInputStages ?? [],
    keylessStages: plan.keylessStages ?? [],
  };
  return [
    ...scopeCreation(layout.epoch(epoch), plan, plan.graph && encodeGraph(plan.graph)),
    create(layout.generation, encodeGeneration(generation)),
  ];
}

interface CreateOp {
  readonly type: "create";
  readonly path: string;
  readonly data: Uint8Array;
}

function create(path: string, data: Uint8Array = Buffer.alloc(0)): CreateOp {
  return { type: "create", path, data };
}

/** What a run starts from, where its pipeline asks for it. */
export interface RunStart {
  readonly bytes: Uint8Array;
  readonly timestampMs: number;
}

/** The operations that create a scope: its znode with the data, heads, inboxes, and the elements that it starts from. */
export function scopeCreation(
  scope: ScopeLayout,
  plan: ScopePlan,
  data: Uint8Array = Buffer.alloc(0),
  runStart?: RunStart,
): Op[] {
  const atTheBeginning = { bytes: Buffer.alloc(0), timestampMs: plan.minTimestampMs };
  return [
    create(scope.path, data),
    create(scope.outputs),
    create(scope.replays),
    create(scope.sources),
    ...sourceCreation(scope, plan),
    create(scope.stages),
    ...stageCreation(scope, plan),
    ...plan.impulses.map((stage) => firstSegment(scope, stage, atTheBeginning)),
    ...(plan.runStarts ?? []).map((stage) => firstSegment(scope, stage, runStart ?? atTheBeginning)),
  ];
}

/** The znodes of new sources. */
export function sourceCreation(
  scope: ScopeLayout,
  plan: Pick<ScopePlan, "sources" | "eventSources">,
): CreateOp[] {
  return [
    ...plan.sources.flatMap((id) => {
      const source = scope.source(id);
      return [
        create(source.cursor, encodeCursor(NEW_CURSOR)),
        create(source.manifest, encodeManifestIndex(NEW_MANIFEST)),
      ];
    }),
    ...(plan.eventSources ?? []).flatMap((id) => {
      const source = scope.source(id);
      const buckets = Array.from({ length: ID_BUCKETS }, (_, bucket) => source.idBucket(bucket));
      return [
        create(source.cursor, encodeCursor(NEW_CURSOR)),
        create(source.ids),
        ...buckets.map((path) => create(path, encodeBucket(NEW_BUCKET))),
      ];
    }),
  ];
}

/** The znodes of new stages. */
export function stageCreation(scope: ScopeLayout, { shards: all }: Pick<ScopePlan, "shards">): CreateOp[] {
  return Object.entries(all).flatMap(([stage, shards]) => [
    create(scope.stage(stage)),
    ...Array.from({ length: shards }, (_, shard) => scope.shard(stage, shard)).flatMap((shard) => [
      create(shard.head, encodeHead(NEW_HEAD)),
      create(shard.inbox),
      create(shard.state),
      create(shard.deadLetters),
    ]),
  ]);
}

function firstSegment(scope: ScopeLayout, stage: string, element: RunStart): Op {
  const path = segmentPrefix(scope.shard(stage, 0).inbox, element.timestampMs);
  const segment = encodeSegment([element]);
  return { type: "create", path, data: segment.data, mode: "persistent-sequential" };
}

/** Creates the znode and its parents, empty, where they are missing. */
export async function createPath(client: ZooKeeperClient, path: string): Promise<void> {
  const parts = path.split("/").slice(1);
  for (let depth = 1; depth <= parts.length; depth++) {
    const prefix = `/${parts.slice(0, depth).join("/")}`;
    await reading(client, () =>
      client.create(prefix).catch(async (error: unknown) => {
        // The right to create in the parent is asked for first, also where there is nothing to create.
        const isThere = error instanceof NoAuthError && (await client.exists(prefix)) !== null;
        if (!isThere && !(error instanceof NodeExistsError)) throw error;
      }),
    );
  }
}
