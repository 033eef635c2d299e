import {
  BadVersionError,
  ConnectionLossError,
  type Op,
  SessionExpiredError,
  type ZooKeeperClient,
} from "../zookeeper";
import { type BlobStore, blobPrefix, CommitBlobs } from "./blobs";
import { COMMIT_SIZE_BYTES, reading, SEGMENT_SIZE_BYTES } from "./commit";
import { ControlError, requireGeneration } from "./control";
import { newEpoch, removeScope, writeZnodes } from "./epochs";
import { KEY_GROUPS, type PipelineLayout, type ScopeLayout } from "./layout";
import { encodeGeneration, type Generation } from "./records";
import { type KeyKnowledge, moveStage, type NewZnode } from "./redistribution";
import { type CurrentGeneration, readGeneration } from "./scope";
import { readRecord } from "./stored-record";

export interface RescaleOptions {
  readonly client: ZooKeeperClient;
  readonly blobs: BlobStore;
  readonly layout: PipelineLayout;
  /** The new number of shards of some stages. */
  readonly shards: Readonly<Record<string, number>>;
  readonly keys: KeyKnowledge;
}

/** Half of an inline segment: state that is moved is compacted by the shards' own commits. */
const RUN_SIZE_BYTES = SEGMENT_SIZE_BYTES / 2;
const EMPTY = Buffer.alloc(0);

/**
 * Gives stages of a pipeline other numbers of shards: pauses it, builds a new epoch from the old one, switches to it in
 * one write that is fenced by the generation's version, and removes the old one. A pipeline that ran goes on.
 *
 * Until the switch nothing of the old epoch is changed. What fails before it leaves the pipeline as it was; whoever is
 * killed before it leaves it paused, and the same call again (or `resume`) goes on. What is killed after it is cleaned
 * up by the next call. Throws ControlError, EncodingError, or the client's error.
 */
export async function rescalePipeline(options: RescaleOptions): Promise<Generation> {
  const { client, layout } = options;
  const before = await requireGeneration(client, layout);
  checkShards(before, options.shards);
  if (isSo(before.generation, options.shards)) return finish(options, before);
  const frozen = await freeze(client, layout);
  let epoch: number | undefined;
  try {
    epoch = await newEpoch(client, layout, frozen.generation.epoch);
    await build(options, frozen, layout.epoch(epoch));
    await switchTo(client, frozen, epoch, options.shards);
  } catch (error) {
    await undo(options, frozen, epoch);
    throw error;
  }
  return finish(options, await requireGeneration(client, layout));
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

/** Pauses, and remembers that the pipeline is to go on after the switch. From its reply on nothing commits. */
async function freeze(client: ZooKeeperClient, layout: PipelineLayout): Promise<CurrentGeneration> {
  for (;;) {
    const current = await requireGeneration(client, layout);
    const { state } = current.generation;
    if (state === "paused") return current;
    if (state !== "running")
      throw new ControlError(`${layout.path} is ${state}; only a running or paused pipeline can be rescaled`);
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
  client: ZooKeeperClient,
  frozen: CurrentGeneration,
  epoch: number,
  shards: RescaleOptions["shards"],
): Promise<void> {
  const { isRescaling, ...generation } = frozen.generation;
  const next: Generation = {
    ...generation,
    epoch,
    shards: { ...generation.shards, ...shards },
    state: isRescaling ? "running" : "paused",
  };
  if (await write(client, frozen, next)) return;
  const now = await readGeneration(client, frozen.layout);
  if (now?.generation.epoch === epoch) return;
  throw new ControlError(
    `${frozen.layout.path} was changed while it was rescaled: it is ${now?.generation.state ?? "gone"} in epoch ` +
      `${now?.generation.epoch ?? "-"}. Nothing was lost; look at it, and rescale it again.`,
  );
}

/** The pipeline goes on as it was, unless someone else has decided otherwise meanwhile. */
async function undo(
  { client, blobs, layout }: RescaleOptions,
  frozen: CurrentGeneration,
  epoch: number | undefined,
): Promise<void> {
  const now = await readGeneration(client, layout);
  if (now?.version === frozen.version && frozen.generation.isRescaling) {
    const { isRescaling: _, ...generation } = frozen.generation;
    await write(client, frozen, { ...generation, state: "running" });
  }
  if (epoch !== undefined && now?.generation.epoch !== epoch)
    await removeScope(client, blobs, layout.epoch(epoch));
}

/** Removes what earlier epochs, and attempts at one, have left. */
async function finish(
  { client, blobs, layout }: RescaleOptions,
  { generation }: CurrentGeneration,
): Promise<Generation> {
  const { children } = await reading(client, () => client.getChildren(layout.epochs));
  for (const epoch of children.map(Number).filter((each) => each < generation.epoch))
    await removeScope(client, blobs, layout.epoch(epoch));
  return generation;
}

async function build(options: RescaleOptions, frozen: CurrentGeneration, to: ScopeLayout): Promise<void> {
  const check: Op = { type: "check", path: frozen.layout.generation, version: frozen.version };
  await writeZnodes(options.client, check, newZnodes(options, frozen, to), COMMIT_SIZE_BYTES);
}

async function* newZnodes(
  { client, blobs, keys, shards: changed }: RescaleOptions,
  { generation, scope: from }: CurrentGeneration,
  to: ScopeLayout,
): AsyncGenerator<NewZnode> {
  for (const path of [to.outputs, to.replays, to.sources, to.stages]) yield { path, data: EMPTY };
  yield* copySources(client, blobs, from.sources, to.sources);
  const shards = { ...generation.shards, ...changed };
  const limits = { segmentSizeBytes: SEGMENT_SIZE_BYTES, runSizeBytes: RUN_SIZE_BYTES };
  for (const [stage, count] of Object.entries(generation.shards)) {
    const isKeyless = generation.keylessStages?.includes(stage) ?? false;
    const [before, after] = [
      { scope: from, shards: count },
      { scope: to, shards: shards[stage]! },
    ];
    const move = { stage, isKeyless, from: before, to: after };
    yield* moveStage(client, blobs, move, keys, limits);
  }
  yield* moveOutputs(client, generation, from, to, shards);
}

/** Cursors and manifests: the sources go on where they stood. Blobs go with what refers to them. */
async function* copySources(
  client: ZooKeeperClient,
  blobs: BlobStore,
  from: string,
  to: string,
): AsyncGenerator<NewZnode> {
  const { children } = await reading(client, () => client.getChildren(from));
  for (const source of children) {
    // No commit has the number 0.
    const written = new CommitBlobs(blobs, `${to}/${source}`, 0, "manifest");
    yield* copyTree(client, { blobs, written }, `${from}/${source}`, `${to}/${source}`);
  }
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

/** Files that wait for their names: an entry's name begins with what names the shard that is to see to it. */
async function* moveOutputs(
  client: ZooKeeperClient,
  generation: Generation,
  from: ScopeLayout,
  to: ScopeLayout,
  shards: Readonly<Record<string, number>>,
): AsyncGenerator<NewZnode> {
  const owners = new Map<string, string>();
  for (const [stage, count] of Object.entries(generation.shards))
    for (let shard = 0; shard < count; shard++) {
      const heir = to.shard(stage, shard < shards[stage]! ? shard : 0);
      owners.set(blobPrefix(from.shard(stage, shard).head), blobPrefix(heir.head));
    }
  const { children } = await reading(client, () => client.getChildren(from.outputs));
  for (const [index, child] of children.sort().entries()) {
    const owner = [...owners].find(([prefix]) => child.startsWith(prefix))?.[1];
    if (owner === undefined) throw new ControlError(`${from.outputs}/${child} belongs to no shard`);
    const { data } = await reading(client, () => client.getData(`${from.outputs}/${child}`));
    yield { path: `${to.outputs}/${owner}0.moved.${index}`, data };
  }
}
