/** The znode layout: names and paths, and nothing else. Pure. */

/** A znode name for text of a user's: percent-encoded, so that it holds no slash, no dot-only name, no control character. */
export function encodeName(text: string): string {
  const encoded = encodeURIComponent(text);
  return encoded === "." || encoded === ".." ? encoded.replaceAll(".", "%2E") : encoded;
}

/** The number of groups that keys are divided into, for ever: state is stored by group, and a group belongs to one shard. */
export const KEY_GROUPS = 128;

/** The shard of a key, from the 32-bit hash of the key. */
export function shardOf(keyHash: number, shards: number): number {
  const group = keyGroupOf(keyHash);
  return Math.floor((group * shards) / KEY_GROUPS);
}

/** The paths of one pipeline. */
export class PipelineLayout {
  readonly path: string;
  constructor(
    readonly root: string,
    readonly pipeline: string,
  ) {
    this.path = `${root}/${encodeName(pipeline)}`;
  }
  get generation(): string {
    return `${this.path}/generation`;
  }
  /** The relays that are at work, as ephemeral znodes. */
  get relays(): string {
    return `${this.path}/relays`;
  }
  /** Where the pipeline's relays stand for election. */
  get election(): string {
    return `${this.path}/election`;
  }
  /** Who calls the shards of a pipeline that no relay reads for (ephemeral). */
  get driver(): string {
    return `${this.path}/driver`;
  }
  /** What was asked of the sources while they are running. */
  get snapshots(): string {
    return `${this.path}/snapshots`;
  }
  snapshot(source: string): string {
    return `${this.snapshots}/${encodeName(source)}`;
  }
  get epochs(): string {
    return `${this.path}/epochs`;
  }
  epoch(epoch: number): ScopeLayout {
    return new ScopeLayout(`${this.epochs}/${epoch}`);
  }
  get runs(): string {
    return `${this.path}/runs`;
  }
  run(run: string): RunLayout {
    return new RunLayout(`${this.runs}/${encodeName(run)}`);
  }
  get schedules(): string {
    return `${this.path}/schedules`;
  }
  /** A pipeline has one schedule; runs that people start are in its lists as well. */
  get schedule(): string {
    return `${this.schedules}/default`;
  }
}

/** The paths of one scope: an epoch of an unbounded pipeline, or a run of a bounded one. */
export class ScopeLayout {
  constructor(readonly path: string) {}
  get outputs(): string {
    return `${this.path}/outputs`;
  }
  /** Written with each replay of dead letters, so that the relay hears of it. */
  get replays(): string {
    return `${this.path}/replays`;
  }
  get sources(): string {
    return `${this.path}/sources`;
  }
  get stages(): string {
    return `${this.path}/stages`;
  }
  source(source: string): SourceLayout {
    return new SourceLayout(`${this.sources}/${encodeName(source)}`);
  }
  stage(stage: string): string {
    return `${this.stages}/${encodeName(stage)}`;
  }
  shard(stage: string, shard: number): ShardLayout {
    return new ShardLayout(`${this.stage(stage)}/${shard}`);
  }
}

/** The paths of a run of a bounded pipeline: a scope whose own znode is the run's record. */
export class RunLayout extends ScopeLayout {
  /** Its version stops every commit of the run. */
  get control(): string {
    return `${this.path}/control`;
  }
  /** The ephemeral znode of who drives the run. */
  get driver(): string {
    return `${this.path}/driver`;
  }
}

/** The cursor is the source's own znode. */
export class SourceLayout {
  constructor(readonly cursor: string) {}
  get manifest(): string {
    return `${this.cursor}/manifest`;
  }
  /** A part of the manifest's snapshot. */
  manifestChunk(generation: number, index: number): string {
    return `${this.manifest}/g${generation}-${index}`;
  }
  /** Of a source of events: what it has taken. */
  get ids(): string {
    return `${this.cursor}/ids`;
  }
  idBucket(bucket: number): string {
    return `${this.ids}/${bucket}`;
  }
  idRun(bucket: number, run: number): string {
    return `${this.idBucket(bucket)}/${run}`;
  }
  /** A delta carries the number of the cursor commit that wrote it; the zeros make names sort. */
  manifestDelta(commitNumber: number): string {
    return `${this.manifest}/${String(commitNumber).padStart(16, "0")}`;
  }
}

/** The head is the shard's own znode. */
export class ShardLayout {
  constructor(readonly head: string) {}
  get inbox(): string {
    return `${this.head}/inbox`;
  }
  get state(): string {
    return `${this.head}/state`;
  }
  get deadLetters(): string {
    return `${this.head}/dead-letter`;
  }
}

/** The key group of a key, from the 32-bit hash of the key. */
export function keyGroupOf(keyHash: number): number {
  return keyHash % KEY_GROUPS;
}

/** A znode below `state`: see `StoredState`. */
export type StateName =
  | { readonly kind: "delta"; readonly name: string; readonly number: number }
  | {
      readonly kind: "run";
      readonly name: string;
      readonly from: number;
      readonly to: number;
      readonly number: number;
    };

const STATE_NAME = /^(?:delta|run-(\d{3})-(\d{3}))\.(\d{16})$/;

/** A delta of state carries the number of the commit that wrote it. */
export function stateDeltaPath({ state }: ShardLayout, number: number): string {
  return `${state}/delta.${digits(number, 16)}`;
}

/** A run also carries its key groups, from the first up to and without the last. */
export function stateRunPath({ state }: ShardLayout, from: number, to: number, number: number): string {
  return `${state}/run-${digits(from, 3)}-${digits(to, 3)}.${digits(number, 16)}`;
}

/** What a child of `state` is; undefined for what is none of ours. */
export function stateName(name: string): StateName | undefined {
  const match = STATE_NAME.exec(name);
  if (!match) return undefined;
  const number = Number(match[3]);
  if (match[1] === undefined) return { kind: "delta", name, number };
  const [from, to] = [Number(match[1]), Number(match[2])];
  return from < to && to <= KEY_GROUPS ? { kind: "run", name, from, to, number } : undefined;
}

function digits(value: number, length: number): string {
  return String(value).padStart(length, "0");
}

// Beam's smallest and largest times are below 10^16 ms; the bias makes every one a positive number of 17 digits.
const TIME_BIAS = 10n ** 16n;
const TIME_DIGITS = 17;
const SEQUENCE_DIGITS = 10;
const SEGMENT_NAME_LENGTH = TIME_DIGITS + 1 + SEQUENCE_DIGITS;
// A number holds no 17 digits; the bias is a multiple of what the first nine of them count.
const LOW_DIGITS = 8;
const LOW_SCALE = 10 ** LOW_DIGITS;
const HIGH_BIAS = 10 ** 8;
const ZERO = 0x30;
const DASH = 0x2d;

/** What a segment is created as (sequential): the server appends ten digits. */
export function segmentPrefix(inbox: string, minTimestampMs: number): string {
  return `${inbox}/${(BigInt(Math.floor(minTimestampMs)) + TIME_BIAS).toString().padStart(TIME_DIGITS, "0")}-`;
}

/** A segment by its whole name: for inboxes that are built before anyone appends to them, numbered from 0. */
export function numberedSegment({ inbox }: ShardLayout, minTimestampMs: number, sequence: number): string {
  return `${segmentPrefix(inbox, minTimestampMs)}${digits(sequence, 10)}`;
}

/** A segment as its name tells it. */
export interface SegmentName {
  readonly name: string;
  readonly minTimestampMs: number;
  readonly sequence: number;
}

/** The segments among an inbox's children, oldest append first. Other names are ignored. */
export function segmentNames(children: readonly string[]): SegmentName[] {
  const segments: SegmentName[] = [];
  for (const name of children) {
    const segment = segmentName(name);
    if (segment !== undefined) segments.push(segment);
  }
  return segments.sort((a, b) => a.sequence - b.sequence);
}

/** Without a regular expression and big integers: an inbox is listed with each invocation, and may be long. */
function segmentName(name: string): SegmentName | undefined {
  if (name.length !== SEGMENT_NAME_LENGTH || name.charCodeAt(TIME_DIGITS) !== DASH) return undefined;
  const high = wholeNumber(name, 0, TIME_DIGITS - LOW_DIGITS);
  const low = wholeNumber(name, TIME_DIGITS - LOW_DIGITS, TIME_DIGITS);
  const sequence = wholeNumber(name, TIME_DIGITS + 1, SEGMENT_NAME_LENGTH);
  if (Number.isNaN(high + low + sequence)) return undefined;
  return { name, minTimestampMs: (high - HIGH_BIAS) * LOW_SCALE + low, sequence };
}

/** NaN where not all of it are digits. */
function wholeNumber(text: string, from: number, to: number): number {
  let value = 0;
  for (let at = from; at < to; at++) {
    const digit = text.charCodeAt(at) - ZERO;
    if (digit < 0 || digit > 9) return Number.NaN;
    value = value * 10 + digit;
  }
  return value;
}
