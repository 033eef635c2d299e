import {
  BadVersionError,
  ConnectionLossError,
  MultiError,
  NoNodeError,
  type Op,
  SessionExpiredError,
  type ZooKeeperClient,
} from "../zookeeper";
import { type BlobStore, blobPrefix, CommitBlobs } from "./blobs";
import { COMMIT_SIZE_BYTES, reading, SEGMENT_SIZE_BYTES } from "./commit";
import { ControlError, requireGeneration } from "./control";
import { newEpoch, removeScope, writeZnodes } from "./epochs";
import { encodeGraph, type StoredGraph } from "./graph";
import type { PipelineLayout, ScopeLayout, SourceLayout } from "./layout";
import { encodeGeneration, type Generation } from "./records";
import { type KeyKnowledge, moveStage, type NewZnode, type StageMove } from "./redistribution";
import { type CurrentGeneration, readGeneration } from "./scope";
import { readRecord } from "./stored-record";

export interface RotationOptions {
  readonly client: ZooKeeperClient;
  readonly blobs: BlobStore;
  readonly layout: PipelineLayout;
  readonly keys: KeyKnowledge;
  /** Of the command, for messages: "rescaled" or "updated". */
  readonly done: string;
}

/** What the next epoch is to be. */
export interface NextEpoch {
  /** Of the generation what the epoch changes. */
  readonly changed: Pick<Generation, "shards"> & Partial<Generation>;
  /** Undefined where it is not known. */
  readonly graph: StoredGraph | undefined;
  /** The stages that go on, by their new names, with the old ones. */
  readonly stages: ReadonlyMap<string, string>;
  /** The sources that go on, in the same way. */
  readonly sources: ReadonlyMap<string, string>;
  /** What begins anew beside them. */
  readonly added: readonly NewZnode[];
}

/** Half of an inline segment: state that is moved is compacted by the shards' own commits. */
const RUN_SIZE_BYTES = SEGMENT_SIZE_BYTES / 2;
const EMPTY = Buffer.alloc(0);

/**
 * Takes a pipeline to a new epoch: pauses it, builds the epoch from the old one, switches to it in one write that is
 * fenced by the generation's version, and removes the old one. A pipeline that ran goes on.
 *
 * Until the switch nothing of the old epoch is changed. What fails before it leaves the pipeline as it was; whoever is
 * killed before it leaves it paused, and the same call again (or `resume`) goes on. What is killed after it is cleaned
 * up by the next call. Throws ControlError, EncodingError, or the client's error.
 *
 * @param plan is asked once nothing commits any more; what it throws leaves the pipeline as it was.
 */
export async function rotateEpoch(
  options: RotationOptions,
  plan: (frozen: CurrentGeneration, to: ScopeLayout) => Promise<NextEpoch>,
): Promise<Generation> {
  const { client, layout } = options;
  const frozen = await freeze(options);
  let epoch: number | undefined;
  try {
    epoch = await newEpoch(client, layout, frozen.generation.epoch);
    const to = layout.epoch(epoch);
    const next = await plan(frozen, to);
    const check: Op = { type: "check", path: layout.generation, version: frozen.version };
    await writeZnodes(client, check, newZnodes(options, frozen, to, next), COMMIT_SIZE_BYTES);
    await switchTo(options, frozen, epoch, next);
  } catch (error) {
    const now = await undo(options, frozen, epoch);
    // Whoever made it go on, or took it to another epoch, has taken away what was read here.
    const isStale = error instanceof NoNodeError || error instanceof MultiError;
    throw isStale && now?.version !== frozen.version ? changedMeanwhile(options, now, error) : error;
  }
  return removeEarlier(options, await requireGeneration(client, layout));
}

/** Pauses, and remembers that the pipeline is to go on after the switch. From its reply on nothing commits. */
async function freeze({ client, layout, done }: RotationOptions): Promise<CurrentGeneration> {
  for (;;) {
    const current = await requireGeneration(client, layout);
    const { state } = current.generation;
    if (state === "paused") return current;
    if (state !== "running")
      throw new ControlError(`${layout.path} is ${state}; only a running or paused pipeline can be ${done}`);
    await write(client, current, { ...current.generation, state: "paused", isRescaling: true });
  }
}

/** One write with the version that was read; a lost reply is found out about by reading again. */
async function write(
  client: ZooKeeperClient,
  { layout, version }: CurrentGeneration,
  next: Generation,
): Promise<boolean> {
  try {
    await client.setData(layout.generation, encodeGeneration(next), version);
    return true;
  } catch (error) {
    const isLoss = error instanceof ConnectionLossError || error instanceof SessionExpiredError;
    if (!isLoss && !(error instanceof BadVersionError)) throw error;
    await client.connected();
    return false;
  }
}

async function switchTo(
  options: RotationOptions,
  frozen: CurrentGeneration,
  epoch: number,
  { changed }: NextEpoch,
): Promise<void> {
  const { isRescaling, ...generation } = frozen.generation;
  const state = isRescaling ? "running" : "paused";
  if (await write(options.client, frozen, { ...generation, ...changed, epoch, state })) return;
  const now = await readGeneration(options.client, options.layout);
  if (now?.generation.epoch !== epoch) throw changedMeanwhile(options, now);
}

function changedMeanwhile(
  { layout, done }: RotationOptions,
  now: CurrentGeneration | undefined,
  cause?: Error,
): ControlError {
  return new ControlError(
    `${layout.path} was changed while it was ${done}: it is ${now?.generation.state ?? "gone"} in epoch ` +
      `${now?.generation.epoch ?? "-"}. Nothing was lost; look at it, and repeat the command.`,
    { cause },
  );
}

/** The pipeline goes on as it was, unless someone else has decided otherwise meanwhile. Resolves to what it is found as. */
async function undo(
  { client, blobs, layout }: RotationOptions,
  frozen: CurrentGeneration,
  epoch: number | undefined,
): Promise<CurrentGeneration | undefined> {
  const now = await readGeneration(client, layout);
  if (now?.version === frozen.version && frozen.generation.isRescaling) {
    const { isRescaling: _, ...generation } = frozen.generation;
    await write(client, frozen, { ...generation, state: "running" });
  }
  if (epoch !== undefined && now?.generation.epoch !== epoch)
    await removeScope(client, blobs, layout.epoch(epoch));
  return now;
}

/** Removes what earlier epochs, and attempts at one, have left. */
export async function removeEarlier(
  { client, blobs, layout }: Pick<RotationOptions, "client" | "blobs" | "layout">,
  { generation }: CurrentGeneration,
): Promise<Generation> {
  const { children } = await reading(client, () => client.getChildren(layout.epochs));
  for (const epoch of children.map(Number).filter((each) => each < generation.epoch))
    await removeScope(client, blobs, layout.epoch(epoch));
  return generation;
}

async function* newZnodes(
  { client, blobs, keys }: RotationOptions,
  { generation, scope: from }: CurrentGeneration,
  to: ScopeLayout,
  { changed, graph, stages, sources, added }: NextEpoch,
): AsyncGenerator<NewZnode> {
  if (graph) yield { path: to.path, data: encodeGraph(graph), isThere: true };
  for (const path of [to.outputs, to.replays, to.sources, to.stages]) yield { path, data: EMPTY };
  for (const [source, before] of sources)
    yield* copySource(client, blobs, from.source(before), to.source(source));
  const limits = { segmentSizeBytes: SEGMENT_SIZE_BYTES, runSizeBytes: RUN_SIZE_BYTES };
  for (const [stage, before] of stages) {
    const isKeyless = generation.keylessStages?.includes(before) ?? false;
    const move: StageMove = {
      ...{ isKeyless, from: { scope: from, stage: before, shards: generation.shards[before]! } },
      to: { scope: to, stage, shards: changed.shards[stage]! },
    };
    yield* moveStage(client, blobs, move, keys, limits);
  }
  yield* added;
  yield* moveOutputs(client, generation, from, to, { stages, shards: changed.shards });
}

/** Cursor and manifest: the source goes on where it stood. Blobs go with what refers to them. */
async function* copySource(
  client: ZooKeeperClient,
  blobs: BlobStore,
  from: SourceLayout,
  to: SourceLayout,
): AsyncGenerator<NewZnode> {
  // No commit has the number 0.
  const written = new CommitBlobs(blobs, to.cursor, 0, "manifest");
  yield* copyTree(client, { blobs, written }, from.cursor, to.cursor);
}

async function* copyTree(
  client: ZooKeeperClient,
  store: { readonly blobs: BlobStore; readonly written: CommitBlobs },
  from: string,
  to: string,
): AsyncGenerator<NewZnode> {
  const { frame, blob } = await readRecord(client, store.blobs, from);
  yield { path: to, data: blob === undefined ? frame : await store.written.put(to, frame) };
  const { children } = await reading(client, () => client.getChildren(from));
  for (const child of children) yield* copyTree(client, store, `${from}/${child}`, `${to}/${child}`);
}

/**
 * Files that wait for their names: an entry's name begins with what names the shard that is to see to it. That may be any
 * one, since the entry tells all.
 */
async function* moveOutputs(
  client: ZooKeeperClient,
  generation: Generation,
  from: ScopeLayout,
  to: ScopeLayout,
  { stages, shards }: { readonly stages: NextEpoch["stages"]; readonly shards: Generation["shards"] },
): AsyncGenerator<NewZnode> {
  const newNames = new Map([...stages].map(([stage, before]) => [before, stage]));
  const owners = new Map<string, string>();
  for (const [before, count] of Object.entries(generation.shards))
    for (let shard = 0; shard < count; shard++) {
      const stage = newNames.get(before) ?? Object.keys(shards)[0]!;
      const heir = to.shard(stage, shard < shards[stage]! ? shard : 0);
      owners.set(blobPrefix(from.shard(before, shard).head), blobPrefix(heir.head));
    }
  const { children } = await reading(client, () => client.getChildren(from.outputs));
  for (const [index, child] of children.sort().entries()) {
    const owner = [...owners].find(([prefix]) => child.startsWith(prefix))?.[1];
    if (owner === undefined) throw new ControlError(`${from.outputs}/${child} belongs to no shard`);
    const { data } = await reading(client, () => client.getData(`${from.outputs}/${child}`));
    yield { path: `${to.outputs}/${owner}0.moved.${index}`, data };
  }
}

/** The sources that have a cursor. */
export async function sourceNames(client: ZooKeeperClient, { sources }: ScopeLayout): Promise<string[]> {
  const { children } = await reading(client, () => client.getChildren(sources));
  return children.map(decodeURIComponent);
}
