import {
  BadVersionError,
  ConnectionLossError,
  MultiError,
  NoNodeError,
  type Op,
  SessionExpiredError,
  type ZooKeeperClient,
} from "../zookeeper";
import { type BlobStore, type CommitBlobs, missingBlob, openRecord } from "./blobs";
import { reading } from "./commit";
import { ControlError, requireGeneration } from "./control";
import { decodeFrame, EncodingError, encodeFrame } from "./encoding";
import { encodeName, type PipelineLayout, type ShardLayout, segmentPrefix } from "./layout";
import { admitsCommits } from "./records";
import type { CurrentGeneration } from "./scope";
import { decodeSegment } from "./segment";

/** An error as it is kept: `message` and `stack` are the user's, shortened. */
export interface KeptError {
  readonly name: string;
  readonly message: string;
  readonly stack: string;
}

/** Where it stood: an element in a segment, a pane (or the timer that would have fired it) at a key and window. */
export type LetterPosition =
  | { readonly segment: string; readonly index: number }
  | {
      readonly key: string;
      readonly window: unknown;
      readonly pane: unknown;
      readonly timestampMs: number;
    };

/** What could not be processed, with the reason. */
export interface DeadLetter {
  readonly kind: "element" | "pane" | "timer";
  readonly error: KeptError;
  readonly position: LetterPosition;
  /** For a person, shortened; the whole is the segment's element. */
  readonly text: string;
  /** Not later than its event time: the time that a segment with it is named by. */
  readonly minTimestampMs: number;
  readonly attempts: number;
  /** On the functions' clock, in ms since 1970. */
  readonly firstFailedMs: number;
  readonly deadMs: number;
  /** What the shard's inbox takes when it is replayed: a segment of one element, or the reference to its blob. */
  readonly segment: Buffer;
}

/** A dead letter with its place. `id` is what the command names it by: `<stage>/<shard>/<commit number>-<n>`. */
export interface StoredLetter {
  readonly id: string;
  readonly path: string;
  readonly stage: string;
  readonly shard: number;
  readonly letter: DeadLetter;
}

const LETTER_NAME = /^(\d+)-(\d+)$/;

/** payload = length of the JSON part (uint32, big-endian), JSON without the segment, the segment. */
export function encodeDeadLetter({ segment, ...rest }: DeadLetter): Buffer {
  const json = Buffer.from(JSON.stringify(rest), "utf8");
  const length = Buffer.alloc(4);
  length.writeUInt32BE(json.length, 0);
  return encodeFrame("dead-letter", Buffer.concat([length, json, segment]));
}

export function decodeDeadLetter(frame: Uint8Array, path: string): DeadLetter {
  const bytes = decodeFrame("dead-letter", frame, path);
  const end = bytes.length < 4 ? Number.POSITIVE_INFINITY : 4 + bytes.readUInt32BE(0);
  if (end > bytes.length)
    throw new EncodingError(
      path,
      "the dead-letter record is cut off",
      "Discard it, or restore it from a backup.",
    );
  return { ...JSON.parse(bytes.toString("utf8", 4, end)), segment: Buffer.from(bytes.subarray(end)) };
}

/** The one element that a letter's segment holds, wherever it lies: in the letter, or in a blob. Throws {@link EncodingError}. */
export async function letterElement(
  blobs: BlobStore,
  { segment }: DeadLetter,
  path: string,
): Promise<Buffer> {
  const record = await openRecord(blobs, segment, path);
  if (record === undefined) throw missingBlob(path);
  return decodeSegment(record.frame, path)[0]!;
}

/** The operations that put letters into dead-letter, for the commit with this number; see {@link placeLetter}. */
export function deadLetterOps(
  shard: ShardLayout,
  commitNumber: number,
  letters: readonly DeadLetter[],
  blobs: CommitBlobs,
  inlineBytes: number,
): Promise<Op[]> {
  const place = async (letter: DeadLetter, n: number): Promise<Op> => {
    const path = `${shard.deadLetters}/${commitNumber}-${n}`;
    return { type: "create", ...(await placeLetter(path, letter, blobs, inlineBytes)) };
  };
  return Promise.all(letters.map(place));
}

/**
 * The znode of a letter. A segment above `inlineBytes` goes to a blob, which is written when this resolves: no letter
 * is too large for a commit.
 */
export async function placeLetter(
  path: string,
  letter: DeadLetter,
  blobs: CommitBlobs,
  inlineBytes: number,
): Promise<{ readonly path: string; readonly data: Buffer }> {
  const { segment } = letter;
  const kept = segment.length > inlineBytes ? await blobs.put(path, segment) : segment;
  return { path, data: encodeDeadLetter({ ...letter, segment: kept }) };
}

/**
 * The dead letters of a pipeline's current epoch, of one stage or of all, in the order of stages and shards and, in
 * a shard, in the order in which they came. Throws {@link ControlError} where there is no such pipeline or stage.
 */
export async function listDeadLetters(
  client: ZooKeeperClient,
  layout: PipelineLayout,
  stage?: string,
): Promise<StoredLetter[]> {
  const current = await requireGeneration(client, layout);
  const { shards } = current.generation;
  if (stage !== undefined && shards[stage] === undefined)
    throw new ControlError(
      `${layout.path} has no stage "${stage}"; its stages are ${Object.keys(shards).join(", ")}`,
    );
  const letters: StoredLetter[] = [];
  for (const [each, count] of Object.entries(shards)) {
    if (stage !== undefined && each !== stage) continue;
    for (let shard = 0; shard < count; shard++)
      letters.push(...(await listShard(client, current, each, shard)));
  }
  return letters;
}

async function listShard(
  client: ZooKeeperClient,
  { scope }: CurrentGeneration,
  stage: string,
  shard: number,
): Promise<StoredLetter[]> {
  const { deadLetters } = scope.shard(stage, shard);
  const { children } = await reading(client, () => client.getChildren(deadLetters));
  const names = children.filter((name) => LETTER_NAME.test(name)).sort(byNumber);
  const letters: StoredLetter[] = [];
  for (const name of names) {
    const found = await readLetter(client, { stage, shard, name, path: `${deadLetters}/${name}` });
    if (found) letters.push(found);
  }
  return letters;
}

function byNumber(a: string, b: string): number {
  const [, commitA, nA] = LETTER_NAME.exec(a)!;
  const [, commitB, nB] = LETTER_NAME.exec(b)!;
  return Number(commitA) - Number(commitB) || Number(nA) - Number(nB);
}

interface LetterPlace {
  readonly stage: string;
  readonly shard: number;
  readonly name: string;
  readonly path: string;
}

async function readLetter(
  client: ZooKeeperClient,
  { stage, shard, name, path }: LetterPlace,
): Promise<StoredLetter | undefined> {
  try {
    const { data } = await reading(client, () => client.getData(path));
    const letter = decodeDeadLetter(data, path);
    return { id: `${encodeName(stage)}/${shard}/${name}`, path, stage, shard, letter };
  } catch (error) {
    if (error instanceof NoNodeError) return undefined;
    throw error;
  }
}

/** One dead letter; undefined where there is none with that id. Throws {@link ControlError}. */
export async function readDeadLetter(
  client: ZooKeeperClient,
  layout: PipelineLayout,
  id: string,
): Promise<StoredLetter | undefined> {
  const current = await requireGeneration(client, layout);
  const place = placeOf(current, id);
  return place && readLetter(client, place);
}

function placeOf({ generation, scope }: CurrentGeneration, id: string): LetterPlace | undefined {
  const [encodedStage = "", shardText = "", name = "", ...more] = id.split("/");
  const stage = Object.keys(generation.shards).find((each) => encodeName(each) === encodedStage);
  const shard = /^\d{1,4}$/.test(shardText) ? Number(shardText) : Number.NaN;
  if (stage === undefined || !(shard < generation.shards[stage]!)) return undefined;
  if (!LETTER_NAME.test(name) || more.length > 0) return undefined;
  return { stage, shard, name, path: `${scope.shard(stage, shard).deadLetters}/${name}` };
}

/**
 * What became of a dead letter. `gone`: there is none with that id (any more); someone else may have replayed or
 * discarded it at the same moment.
 */
export type LetterOutcome = "done" | "gone";

/**
 * Puts a dead letter back into its shard's inbox, behind what waits there.
 *
 * One multi: check(generation), delete of the letter, create of its segment, and a write to `replays`,
 * which tells the relay. So it is neither lost nor doubled: of two replays at once one finds the letter gone. A lost
 * reply is asked for again; a letter that is gone then was replayed by the first copy.
 * Throws {@link ControlError} where the pipeline does not run, for a pause is a consistent cut.
 */
export function replayDeadLetter(
  client: ZooKeeperClient,
  layout: PipelineLayout,
  id: string,
): Promise<LetterOutcome> {
  return takeOut(client, layout, id, ({ scope }, { stage, shard, letter }) => {
    const path = segmentPrefix(scope.shard(stage, shard).inbox, letter.minTimestampMs);
    return [
      { type: "create", path, data: letter.segment, mode: "persistent-sequential" },
      { type: "setData", path: scope.replays, data: Buffer.from(id, "utf8") },
    ];
  });
}

/**
 * Gives a dead letter up for good. One multi: check(generation), delete. Its blob, where it has one, is nobody's then,
 * and the shard collects it. Throws {@link ControlError}.
 */
export function discardDeadLetter(
  client: ZooKeeperClient,
  layout: PipelineLayout,
  id: string,
): Promise<LetterOutcome> {
  return takeOut(client, layout, id, () => []);
}

async function takeOut(
  client: ZooKeeperClient,
  layout: PipelineLayout,
  id: string,
  effects: (current: CurrentGeneration, stored: StoredLetter) => Op[],
): Promise<LetterOutcome> {
  for (let isAgain = false; ; ) {
    const current = await requireRunning(client, layout);
    const place = placeOf(current, id);
    const stored = place && (await readLetter(client, place));
    if (!stored) return isAgain ? "done" : "gone";
    try {
      await client.multi([
        { type: "check", path: layout.generation, version: current.version },
        { type: "delete", path: stored.path },
        ...effects(current, stored),
      ]);
      return "done";
    } catch (error) {
      if (isLoss(error)) {
        isAgain = true;
        await client.connected();
      } else if (!isMovedOn(error)) throw error;
    }
  }
}

/** The generation or the letter changed: both are read again, and tell what to do. */
function isMovedOn(error: unknown): boolean {
  return (
    error instanceof MultiError &&
    (error.cause instanceof BadVersionError || error.cause instanceof NoNodeError) &&
    error.index <= 1
  );
}

function isLoss(error: unknown): boolean {
  return error instanceof ConnectionLossError || error instanceof SessionExpiredError;
}

async function requireRunning(client: ZooKeeperClient, layout: PipelineLayout): Promise<CurrentGeneration> {
  const current = await requireGeneration(client, layout);
  if (admitsCommits(current.generation)) return current;
  const { state } = current.generation;
  const remedy =
    state === "paused"
      ? "Resume it first, then replay or discard."
      : "It has ended; list and show still work.";
  throw new ControlError(`${layout.path} is ${state}, and nothing below it changes any more. ${remedy}`);
}
