import type { SegmentElement } from "../checkpoint/segment";
import { encodeZnodeChange, type ZnodeChange } from "../checkpoint/znode-change";
import type { KeyedElement } from "./appends";
import type { ChangeReader, ReadZnode } from "./change-reader";
import type { Difference, HeardEvents, SourceStart } from "./comparison";
import type { DirtyPaths } from "./dirty-paths";
import type { Gaps } from "./gaps";
import type { Manifest, ManifestUpdate } from "./manifest";
import type { ReadAhead } from "./read-ahead";
import { MAX_BLOB_BYTES, type SourceBlobs } from "./source-blobs";
import type { SourceSnapshot } from "./source-snapshot";

/** What one commit of the relay is to append, and what it delivers by that. */
export interface Batch {
  readonly elements: KeyedElement[];
  readonly updates: ManifestUpdate[];
  /** What was read of each path. */
  readonly delivered: Map<string, ReadZnode>;
  /** The gaps that had happened when it was put together. */
  readonly gaps: number;
  missed: number;
  /** Elements that tell the present value because a snapshot was asked for. */
  existing: number;
  coalesced: number;
  /** Of the commit's multi. */
  bytes: number;
  /** Of the elements that go to blobs. */
  blobBytes: number;
}

export function emptyBatch(gaps: number): Batch {
  return {
    ...{ elements: [], updates: [], delivered: new Map(), gaps },
    ...{ missed: 0, existing: 0, coalesced: 0, bytes: 0, blobBytes: 0 },
  };
}

/** What a batch is made from. */
export interface BatchParts {
  readonly reads: ReadAhead;
  readonly reader: ChangeReader;
  readonly dirty: DirtyPaths;
  readonly snapshot: SourceSnapshot;
  readonly gaps: Gaps;
  readonly blobs: SourceBlobs;
  /** How many stages each element goes to. */
  readonly consumers: number;
  /** Of one multi. */
  readonly maxBytes: number;
}

/** What was delivered before a batch, and the times of its elements. */
export interface BatchState {
  readonly known: Manifest;
  readonly start: SourceStart;
  readonly watermarkMs: number;
  /** The ensemble's latest known time. */
  readonly latestMs: number;
}

/** Compares the znodes that were read with what is known of them; takes as many as fit in one commit. */
export function collect(parts: BatchParts, state: BatchState): Batch {
  const batch = emptyBatch(parts.gaps.count);
  while (parts.reads.next((read) => add(batch, parts, state, compared(parts, state, read))));
  return batch;
}

/** What the next batch tells of what was read first; nothing where that has not come yet. */
export function firstToTell(parts: BatchParts, state: BatchState): readonly ZnodeChange[] {
  const read = parts.reads.answered;
  return read ? changesOf(parts, compared(parts, state, read)) : [];
}

function compared({ dirty, gaps, reader }: BatchParts, state: BatchState, read: ReadZnode): Compared {
  const { path, zxid } = read;
  const heard = { ...dirty.heardUpTo(path, zxid), earlierLives: gaps.mayHideLives(path) };
  return { read, heard, difference: reader.compare(read, state.known.get(path), heard, state.start) };
}

interface Compared {
  readonly read: ReadZnode;
  readonly heard: HeardEvents;
  readonly difference: Difference;
}

/** Adds what is to be delivered of one znode; false where it is too much for the batch. */
function add(batch: Batch, parts: BatchParts, state: BatchState, compared: Compared): boolean {
  const { blobs, consumers, maxBytes } = parts;
  const { read, heard, difference } = compared;
  const { path, zxid } = read;
  const changes = changesOf(parts, compared);
  const elements = changes.map((change, index) => encode(change, changes[index + 1], state));
  const inline = elements.reduce((sum, element) => sum + blobs.inlineBytes(element) * consumers, 0);
  const bytes = inline + path.length + 96;
  const blobBytes = elements.reduce((sum, element) => sum + blobs.blobBytes(element), 0);
  const isFull = batch.bytes + bytes > maxBytes || batch.blobBytes + blobBytes > MAX_BLOB_BYTES;
  if (isFull && batch.delivered.size > 0) return false;
  batch.bytes += bytes;
  batch.blobBytes += blobBytes;
  for (const element of elements) batch.elements.push({ key: path, element });
  batch.existing += changes.length - difference.changes.length;
  batch.coalesced += Math.max(0, heard.events.length - 1);
  batch.missed += difference.changes.reduce((sum, { missed }) => sum + missed, 0);
  const { known } = difference;
  if (known !== undefined) batch.updates.push(known ? [path, known] : [path, null, zxid]);
  batch.delivered.set(path, read);
  return true;
}

/** What has changed, and what a snapshot tells of the znode unless a change tells its value already. */
function changesOf(
  { snapshot, reader }: BatchParts,
  { read, difference: { changes } }: Compared,
): readonly ZnodeChange[] {
  if (!snapshot.isOpen(read.path) || changes.some(({ data }) => data !== null)) return changes;
  const present = reader.present(read);
  return present ? [...changes, present] : changes;
}

/**
 * Event time: never before the published watermark, so that nothing is late. A deletion takes the ensemble's latest
 * known time, but none after the creation that followed it.
 */
function encode(change: ZnodeChange, next: ZnodeChange | undefined, state: BatchState): SegmentElement {
  const latestMs = Math.min(state.latestMs, next?.ctimeMs ?? Number.POSITIVE_INFINITY);
  // The stat has no time of these either.
  const isUntimed = change.kind === "deleted" || change.kind === "children" || change.kind === "acl";
  const timeMs = isUntimed ? latestMs : change.mtimeMs;
  return encodeZnodeChange(change, Math.max(timeMs, state.watermarkMs));
}
