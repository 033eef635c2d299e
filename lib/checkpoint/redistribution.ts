import type { ZooKeeperClient } from "../zookeeper";
import { type BlobStore, CommitBlobs } from "./blobs";
import { reading } from "./commit";
import { ControlError } from "./control";
import { decodeDeadLetter, letterElement, placeLetter } from "./dead-letter";
import {
  KEY_GROUPS,
  numberedSegment,
  type ScopeLayout,
  type ShardLayout,
  segmentNames,
  shardOf,
  stateRunPath,
} from "./layout";
import { encodeHead, type Head, NEW_HEAD } from "./records";
import { cutSegments, decodeSegment, encodeSegment, type SegmentElement } from "./segment";
import { bytesOf, encodeCells, type StateCell } from "./state-record";
import { readRecord } from "./stored-record";
import { loadState, type ReadHead, readHead } from "./stored-state";
import { sumOfMetrics } from "./user-metrics";

/** What only Beam and the relay know of the bytes that are kept: passed in, since this knows neither. */
export interface KeyKnowledge {
  /** The hash that the element was sent to its shard by. */
  keyHashOf(stage: string, element: Uint8Array): number;
  /** What the engine keeps for all cells of a shard together, for one that takes cells of all of these. */
  mergeShared(shared: readonly (Uint8Array | undefined)[]): Uint8Array | undefined;
}

/** A znode of the new epoch. Its name is known before it is created, so that a lost reply can be made up for. */
export interface NewZnode {
  readonly path: string;
  readonly data: Uint8Array;
  /** It was created before, and gets its data now. */
  readonly isThere?: boolean;
}

export interface StageMove {
  /** What waits and what is kept in a shard has no key: it stays together. */
  readonly isKeyless?: boolean;
  readonly from: ScopedStage;
  readonly to: ScopedStage;
}

/** A stage in one epoch. */
export interface ScopedStage {
  readonly scope: ScopeLayout;
  readonly stage: string;
  readonly shards: number;
}

export interface MoveLimits {
  readonly segmentSizeBytes: number;
  /** Bytes of one run of state. */
  readonly runSizeBytes: number;
}

interface OldShard {
  readonly shard: number;
  readonly layout: ShardLayout;
  readonly current: ReadHead;
  /** In the order of appending, what is consumed of the first left out. */
  readonly segments: readonly WaitingSegment[];
}

interface WaitingSegment {
  readonly name: string;
  readonly minTimestampMs: number;
  readonly elements: readonly Buffer[];
}

/** Segments of a shard that are to be processed with one watermark. */
interface Waiting {
  readonly watermarkMs: number;
  readonly segments: readonly WaitingSegment[];
}

/** The shard of the new number that what has no key goes to. */
export function heirOf(oldShard: number, shards: number): number {
  return oldShard % shards;
}

/** Which shards of the old number hold keys of a shard of the new one: theirs and its key groups overlap. */
export function sourcesOf(shard: number, shards: number, oldShards: number): number[] {
  const sources = new Set<number>();
  for (let group = 0; group < KEY_GROUPS; group++)
    if (shardOf(group, shards) === shard) sources.add(shardOf(group, oldShards));
  return [...sources].sort((a, b) => a - b);
}

/**
 * The znodes of a stage in the new epoch: for each of its shards a head, an inbox with what waits, in order for each
 * key, and the state; dead letters go where their keys are. The old epoch is frozen meanwhile. Holds and timers are
 * the earliest of the shards that a new one takes from: they may be too early, and the next bundle puts them right.
 */
export async function* moveStage(
  client: ZooKeeperClient,
  blobs: BlobStore,
  move: StageMove,
  keys: KeyKnowledge,
  limits: MoveLimits,
): AsyncGenerator<NewZnode> {
  const { from, to, isKeyless } = move;
  const shards = Array.from({ length: from.shards }, (_, shard) => shard);
  const old = await Promise.all(shards.map((shard) => readShard(client, blobs, from, shard)));
  yield { path: to.scope.stage(to.stage), data: Buffer.alloc(0) };
  for (let shard = 0; shard < to.shards; shard++) {
    const layout = to.scope.shard(to.stage, shard);
    const sources = isKeyless
      ? old.filter((each) => heirOf(each.shard, to.shards) === shard)
      : sourcesOf(shard, to.shards, from.shards).map((each) => old[each]!);
    const isSame = isKeyless || from.shards === to.shards;
    const isMine = (hash: number): boolean => isSame || shardOf(hash, to.shards) === shard;
    const isMyElement = (element: Uint8Array): boolean =>
      isSame || isMine(keys.keyHashOf(from.stage, element));
    const { runs, znodes, bytes, number } = await moveState(client, blobs, sources, layout, isMine, limits);
    yield { path: layout.head, data: encodeHead(NEW_HEAD) };
    for (const path of [layout.inbox, layout.state, layout.deadLetters])
      yield { path, data: Buffer.alloc(0) };
    yield* runs;
    const written = movedBlobs(blobs, layout, "inbox");
    const progress = yield* moveSegments(sources, layout, isMyElement, written, limits);
    const head = newHead(sources, progress, keys, { znodes, bytes }, number, shard === 0 ? old : []);
    // Last, since state that is younger than its head would not belong to it.
    yield { path: layout.head, data: encodeHead(head), isThere: true };
  }
  yield* moveLetters(client, blobs, move, keys, limits);
}

/** The blobs that a shard of the new epoch begins with. No commit has the number 0. */
function movedBlobs(blobs: BlobStore, layout: ShardLayout, what: string): CommitBlobs {
  return new CommitBlobs(blobs, layout.head, 0, what);
}

async function readShard(
  client: ZooKeeperClient,
  blobs: BlobStore,
  { scope, stage }: ScopedStage,
  shard: number,
): Promise<OldShard> {
  const layout = scope.shard(stage, shard);
  const current = await readHead(client, layout);
  const { children } = await reading(client, () => client.getChildren(layout.inbox));
  const { position } = current.head;
  const segments = segmentNames(children).map(async ({ name, minTimestampMs }) => {
    const path = `${layout.inbox}/${name}`;
    const elements = decodeSegment((await readRecord(client, blobs, path)).frame, path);
    if (position?.segment !== name) return { name, minTimestampMs, elements };
    const left = elements.slice(position.elements);
    if (position.residual !== undefined) left[0] = Buffer.from(position.residual, "base64");
    return { name, minTimestampMs, elements: left };
  });
  return { shard, layout, current, segments: await Promise.all(segments) };
}

/** Runs of neighbouring key groups; those of a group that is larger than one run have numbers of their own. */
async function moveState(
  client: ZooKeeperClient,
  blobs: BlobStore,
  sources: readonly OldShard[],
  layout: ShardLayout,
  isMine: (hash: number) => boolean,
  { runSizeBytes }: MoveLimits,
): Promise<{ runs: NewZnode[]; znodes: number; bytes: number; number: number }> {
  const byGroup = new Map<number, StateCell[]>();
  for (const { layout: from, current } of sources) {
    const take = (cell: StateCell): void => {
      if (!isMine(cell.group)) return;
      const cells = byGroup.get(cell.group);
      if (cells) cells.push(cell);
      else byGroup.set(cell.group, [cell]);
    };
    if (!(await loadState(client, blobs, from, current, take)))
      throw new ControlError(
        `${from.head} was committed to while it was divided anew: someone has let the pipeline go on. Repeat the command.`,
      );
  }
  const runs: NewZnode[] = [];
  let bytes = 0;
  let highest = 1;
  const write = (first: number, last: number, number: number, cells: readonly StateCell[]): void => {
    const path = stateRunPath(layout, first, last + 1, number);
    runs.push({ path, data: encodeCells("stateRun", cells) });
    bytes += bytesOf(cells);
    highest = Math.max(highest, number);
  };
  let waiting: StateCell[] = [];
  const flush = (): void => {
    if (waiting.length > 0) write(waiting[0]!.group, waiting.at(-1)!.group, 1, waiting);
    waiting = [];
  };
  for (const [group, cells] of [...byGroup].sort(([a], [b]) => a - b)) {
    if (bytesOf(waiting) + bytesOf(cells) > runSizeBytes) flush();
    if (bytesOf(cells) <= runSizeBytes) waiting.push(...cells);
    else for (const [index, part] of cut(cells, runSizeBytes).entries()) write(group, group, index + 1, part);
  }
  flush();
  return { runs, znodes: runs.length, bytes, number: highest };
}

function cut(cells: readonly StateCell[], sizeBytes: number): StateCell[][] {
  const parts: StateCell[][] = [];
  for (const cell of cells) {
    const part = parts.at(-1);
    if (part && bytesOf(part) + bytesOf([cell]) <= sizeBytes) part.push(cell);
    else parts.push([cell]);
  }
  return parts;
}

/** The head that a shard begins with. Totals go on in the first shard. */
function newHead(
  sources: readonly OldShard[],
  progress: Progress,
  keys: KeyKnowledge,
  state: { znodes: number; bytes: number },
  number: number,
  counted: readonly OldShard[],
): Head {
  const used = sources.filter(({ current, segments }) => current.head.number > 0 || segments.length > 0);
  const heads = used.map(({ current }) => current.head);
  const lowest = (time: (head: Head) => number, none: number): number =>
    heads.length > 0 ? Math.min(...heads.map(time)) : none;
  const shared = keys.mergeShared(
    heads.map(({ state: { shared: text } }) => (text === null ? undefined : Buffer.from(text, "base64"))),
  );
  const totals = counted.map(({ current }) => current.head.counters);
  const sum = (name: keyof Head["counters"]): number =>
    totals.reduce((total, counters) => total + counters[name], 0);
  return {
    ...NEW_HEAD,
    ...progress,
    number,
    holdMs: lowest((head) => head.holdMs, Number.POSITIVE_INFINITY),
    nextTimerMs: lowest((head) => head.nextTimerMs, Number.POSITIVE_INFINITY),
    nextProcessingTimerMs: lowest((head) => head.nextProcessingTimerMs, Number.POSITIVE_INFINITY),
    state: { ...NEW_HEAD.state, ...state, shared: shared ? Buffer.from(shared).toString("base64") : null },
    counters: {
      elementsIn: sum("elementsIn"),
      elementsOut: sum("elementsOut"),
      droppedLate: sum("droppedLate"),
      failures: sum("failures"),
      deadLettered: sum("deadLettered"),
      totalBytes: sum("totalBytes"),
      readBytes: sum("readBytes"),
    },
    metrics: sumOfMetrics(counted.map(({ current }) => current.head.metrics)),
  };
}

/** How far a new shard is: the watermark that it begins with, and those that it comes to in its inbox. */
type Progress = Pick<Head, "watermarkMs" | "inherited">;

/**
 * What waits, in the order of the watermarks that the shards had which it comes from: a key was in one shard only, so
 * that keeps its order. Shards of a stage derive their watermark from the same heads. So where nothing waits any more,
 * a shard that lags is as far as the one that is furthest.
 */
async function* moveSegments(
  sources: readonly OldShard[],
  layout: ShardLayout,
  isMine: (element: Uint8Array) => boolean,
  written: CommitBlobs,
  { segmentSizeBytes }: MoveLimits,
): AsyncGenerator<NewZnode, Progress> {
  const waiting = sources.flatMap(turnsOf).sort((a, b) => compareTimes(a.watermarkMs, b.watermarkMs));
  const turns: { through: string; watermarkMs: number }[] = [];
  let sequence = 0;
  for (const { watermarkMs, segments } of waiting) {
    let last: string | undefined;
    for (const { minTimestampMs, elements } of segments) {
      const mine = elements
        .filter(isMine)
        .map((bytes): SegmentElement => ({ bytes, timestampMs: minTimestampMs }));
      // As many children as were created: what the server appends later is numbered above.
      for (const { data, minTimestampMs: time } of cutSegments(mine, segmentSizeBytes)) {
        last = numberedSegment(layout, time, sequence++);
        yield { path: last, data: data.length > segmentSizeBytes ? await written.put(last, data) : data };
      }
    }
    if (last !== undefined) turns.push({ through: last.slice(layout.inbox.length + 1), watermarkMs });
  }
  const furthestMs = Math.max(Number.NEGATIVE_INFINITY, ...waiting.map(({ watermarkMs }) => watermarkMs));
  const nextMs = (index: number): number => turns[index + 1]?.watermarkMs ?? furthestMs;
  return {
    watermarkMs: turns[0]?.watermarkMs ?? furthestMs,
    inherited: turns
      .map(({ through, watermarkMs }, index) => ({ through, ownMs: watermarkMs, watermarkMs: nextMs(index) }))
      .filter(({ ownMs, watermarkMs }) => ownMs < watermarkMs)
      .map(({ through, watermarkMs }) => ({ through, watermarkMs })),
  };
}

/** What waits in a shard, by the watermarks that it is to be processed with; the last one is that of what comes. */
function turnsOf({ current: { head }, segments }: OldShard): Waiting[] {
  const turns: Waiting[] = [];
  let { watermarkMs } = head;
  let rest = segments;
  for (const inherited of head.inherited) {
    const end = rest.findIndex(({ name }) => name === inherited.through) + 1;
    turns.push({ watermarkMs, segments: rest.slice(0, end) });
    rest = rest.slice(end);
    watermarkMs = inherited.watermarkMs;
  }
  return [...turns, { watermarkMs, segments: rest }];
}

function compareTimes(a: number, b: number): number {
  return a === b ? 0 : a - b;
}

async function* moveLetters(
  client: ZooKeeperClient,
  blobs: BlobStore,
  { from, to, isKeyless }: StageMove,
  keys: KeyKnowledge,
  { segmentSizeBytes }: MoveLimits,
): AsyncGenerator<NewZnode> {
  const layouts = Array.from({ length: to.shards }, (_, shard) => to.scope.shard(to.stage, shard));
  const written = layouts.map((layout) => movedBlobs(blobs, layout, "letters"));
  for (let shard = 0, moved = 0; shard < from.shards; shard++) {
    const { deadLetters } = from.scope.shard(from.stage, shard);
    const { children } = await reading(client, () => client.getChildren(deadLetters));
    for (const name of children.sort(byNumbers)) {
      const path = `${deadLetters}/${name}`;
      const letter = decodeDeadLetter((await reading(client, () => client.getData(path))).data, path);
      const element = await letterElement(blobs, letter, path);
      const target = isKeyless
        ? heirOf(shard, to.shards)
        : from.shards === to.shards
          ? shard
          : shardOf(keys.keyHashOf(from.stage, element), to.shards);
      const segment = encodeSegment([{ bytes: element, timestampMs: letter.minTimestampMs }]).data;
      const into = `${layouts[target]!.deadLetters}/0-${moved++}`;
      yield await placeLetter(into, { ...letter, segment }, written[target]!, segmentSizeBytes);
    }
  }
}

function byNumbers(a: string, b: string): number {
  const [commitA, nA] = a.split("-").map(Number);
  const [commitB, nB] = b.split("-").map(Number);
  return commitA! - commitB! || nA! - nB!;
}
