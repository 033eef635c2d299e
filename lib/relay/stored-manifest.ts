import { type BlobReader, openRecord } from "../checkpoint/blobs";
import { reading } from "../checkpoint/commit";
import { EncodingError } from "../checkpoint/encoding";
import type { SourceLayout } from "../checkpoint/layout";
import { decodeManifestIndex, encodeManifestIndex, type ManifestIndex } from "../checkpoint/records";
import { NoNodeError, type Op, type ZooKeeperClient } from "../zookeeper";
import { Manifest, type ManifestUpdate, pathHash } from "./manifest";
import { decodeUpdates, encodeUpdates } from "./manifest-rows";

interface Delta {
  readonly path: string;
  /** Of the commit that wrote it. */
  readonly number: number;
  /** 0 where it was not read. */
  bytes: number;
}

/** What a commit does to the stored manifest, and what is to be remembered once it has taken effect. */
export interface ManifestChange {
  readonly ops: readonly Op[];
  readonly updates: readonly ManifestUpdate[];
  /**
   * @param written the blobs that records of `ops` went to, by their paths.
   * @returns blobs that nothing refers to any more.
   */
  readonly committed: (written: ReadonlyMap<string, string>) => readonly string[];
}

/** What others have committed since, as it was read; nothing of it is known before `apply`. */
export interface ManifestNews {
  readonly updates: readonly ManifestUpdate[];
  apply(): void;
}

/** What lies below the manifest's znode. */
interface Listing {
  /** In their order: those since the snapshot, and those that it holds. */
  readonly deltas: readonly Delta[];
  readonly foldedDeltas: readonly Delta[];
  /** What the snapshot has made needless. */
  readonly retired: readonly string[];
  readonly latestGeneration: number;
}

/** A snapshot that is being written, a chunk in each commit. */
interface Rewriting {
  readonly generation: number;
  readonly parts: number;
  readonly chunks: number[];
  bytes: number;
}

// Deltas are folded into a new snapshot when there are this many or the root of its bytes, or when they weigh half of it: so
// a start reads little, and what is rewritten is in proportion to what was delivered. With d deltas for each snapshot of s
// bytes, a start reads d, and a commit rewrites s / d; the root balances the two. Of a million znodes that is 6,000.
const MIN_DELTAS = 64;
const MIN_COMPACTION_BYTES = 16 * 1024;
// What waits for a commit of the compaction waits for a millisecond or two, and not for all of it: a snapshot is written in
// this many chunks, where they don't become smaller than that, and what is stale goes a few at a time.
const CHUNKS = 8;
const MIN_CHUNK_BYTES = 8 * 1024;
const MAX_DELETES = 64;
const READS_IN_FLIGHT = 64;
// Chunks of the snapshot are large.
const CHUNKS_IN_FLIGHT = 8;
// A row without the characters of its path, and what a part may differ from the average by.
const ROW_BYTES = 28;
const PART_SHARE = 0.5;
const CHUNK = /^g(\d+)-(\d+)$/;

/**
 * The manifest as it is in memory and in ZooKeeper: a snapshot in chunks, each with the paths of one range of
 * hashes, and a delta for each commit since. The index names the snapshot's chunks with the number of the commit
 * that wrote each; of a delta, the rows of a chunk count that was written before it. A new snapshot is written
 * chunk by chunk beside the old one, and takes its place with its last chunk. What it has made needless goes when the next
 * one has taken its place, the oldest first: until then others can still read it, who load a large snapshot or follow.
 */
export class StoredManifest {
  readonly known = new Manifest();
  private index: ManifestIndex = { generation: 0, chunks: [] };
  private latestGeneration = 0;
  private deltas: Delta[] = [];
  private deltaBytes = 0;
  private snapshotBytes = 0;
  /** Every delta up to this number is in {@link known}, as far as a follower is concerned. */
  private appliedUpTo = 0;
  /** The chunks that {@link known} was loaded from, by the numbers of their commits. */
  private loaded: readonly number[] = [];
  private rewriting: Rewriting | undefined;
  /** Chunks and deltas that the newest snapshot has made needless, and those to be deleted. */
  private retired: readonly string[] = [];
  private stale: readonly string[] = [];
  /** Where records lie that are too large for a znode, by path. */
  private readonly blobs = new Map<string, string>();

  private constructor(
    private readonly store: BlobReader,
    private readonly layout: SourceLayout,
    private readonly maxBytes: number,
  ) {}

  /**
   * Reads snapshot and deltas, up to the cursor's commit of this number at least; {@link follow} brings what others commit
   * meanwhile. `undefined` says that a record was gone, which it never is as long as the cursor has not moved. Rejects
   * with EncodingError, or with the store's error.
   *
   * @param store where records are that are too large for a znode.
   * @param cursorNumber read before this begins.
   * @param maxBytes of a chunk of the snapshot.
   */
  static async load(
    client: ZooKeeperClient,
    store: BlobReader,
    layout: SourceLayout,
    cursorNumber: number,
    maxBytes: number,
  ): Promise<StoredManifest | undefined> {
    const stored = new StoredManifest(store, layout, maxBytes);
    const { children } = await reading(client, () => client.getChildren(layout.manifest));
    const { data } = await reading(client, () => client.getData(layout.manifest));
    stored.index = decodeManifestIndex(data, layout.manifest);
    const listing = stored.sorted(children, stored.index);
    stored.loaded = stored.index.chunks;
    const chunks = stored.index.chunks.map((_, index) =>
      layout.manifestChunk(stored.index.generation, index),
    );
    const hasChunks = await stored.readAll(client, chunks, CHUNKS_IN_FLIGHT, (path, chunk) => {
      stored.snapshotBytes += chunk.length;
      stored.known.apply(decodeUpdates(chunk, path));
    });
    const updates = await stored.readDeltas(client, listing.deltas);
    if (!hasChunks || !updates) return undefined;
    stored.take(updates, listing, cursorNumber);
    return stored;
  }

  /** The blobs that its records are known to lie in. */
  get blobNames(): Iterable<string> {
    return this.blobs.values();
  }

  /**
   * Reads what another relay has committed since, up to the cursor's commit of this number at least; undefined where deltas
   * are gone that were not read, so that all has to be loaded again.
   */
  async follow(client: ZooKeeperClient, cursorNumber: number): Promise<ManifestNews | undefined> {
    const { children } = await reading(client, () => client.getChildren(this.layout.manifest));
    const { data } = await reading(client, () => client.getData(this.layout.manifest));
    const index = decodeManifestIndex(data, this.layout.manifest);
    const listing = this.sorted(children, index);
    const all = [...listing.foldedDeltas, ...listing.deltas];
    // Deltas are deleted in their order, and only those that are in a snapshot.
    const isGapless =
      index.chunks.length === 0 ||
      this.appliedUpTo >= Math.min(...index.chunks) ||
      (all[0] !== undefined && all[0].number <= this.appliedUpTo);
    if (!isGapless) return undefined;
    const news = all.filter(({ number }) => number > this.appliedUpTo);
    const updates = await this.readDeltas(client, news);
    if (!updates) return undefined;
    const apply = (): void => {
      if (index.generation !== this.index.generation)
        this.snapshotBytes = this.known.size * ROW_BYTES + this.known.pathBytes;
      this.index = index;
      this.take(updates, listing, cursorNumber);
    };
    return { updates, apply };
  }

  /** Takes over updates that were read, and what lies where: all up to the cursor's commit, and up to the newest delta. */
  private take(updates: readonly ManifestUpdate[], listing: Listing, cursorNumber: number): void {
    const { deltas, foldedDeltas, retired, latestGeneration } = listing;
    const newest = (deltas.at(-1) ?? foldedDeltas.at(-1))?.number ?? 0;
    this.known.apply(updates);
    this.setDeltas(deltas);
    this.retired = retired;
    this.latestGeneration = latestGeneration;
    this.appliedUpTo = Math.max(this.appliedUpTo, cursorNumber, newest);
  }

  /** Whether a commit of {@link compaction} should follow. */
  get isCompactionDue(): boolean {
    if (this.rewriting || this.stale.length > 0) return true;
    if (this.deltas.length >= Math.max(MIN_DELTAS, Math.sqrt(this.snapshotBytes))) return true;
    return this.deltaBytes > Math.max(this.snapshotBytes / 2, MIN_COMPACTION_BYTES);
  }

  /** A delta with the updates of the commit of this number; nothing where there are none. */
  delta(updates: readonly ManifestUpdate[], commitNumber: number): ManifestChange {
    if (updates.length === 0) return { ops: [], updates, committed: () => [] };
    const data = encodeUpdates(updates);
    const path = this.layout.manifestDelta(commitNumber);
    const committed: ManifestChange["committed"] = (written) => {
      this.known.apply(updates);
      this.addDelta({ path, number: commitNumber, bytes: data.length });
      return this.moved(written, []);
    };
    return { ops: [{ type: "create", path, data }], updates, committed };
  }

  /** The next part of the compaction, for the commit of this number: a chunk, or deletions of what is stale. */
  compaction(commitNumber: number): ManifestChange {
    if (!this.rewriting && this.stale.length > 0) return this.deletion();
    this.rewriting ??= this.newRewriting(1);
    const { rewriting } = this;
    const part = rewriting.chunks.length;
    const data = encodeUpdates(this.known.part(part, rewriting.parts));
    if (data.length > this.maxBytes && rewriting.parts < this.known.size) {
      this.rewriting = this.newRewriting(Math.ceil((data.length / this.maxBytes) * 2));
      return this.compaction(commitNumber);
    }
    const path = this.layout.manifestChunk(rewriting.generation, part);
    const op: Op = { type: "create", path, data };
    const isLast = part + 1 === rewriting.parts;
    if (isLast) return this.switchTo(rewriting, op, commitNumber, data.length);
    const committed: ManifestChange["committed"] = (written) => {
      rewriting.chunks.push(commitNumber);
      rewriting.bytes += data.length;
      return this.moved(written, []);
    };
    return { ops: [op], updates: [], committed };
  }

  private newRewriting(times: number): Rewriting {
    const bytes = this.known.size * ROW_BYTES + this.known.pathBytes;
    const before = this.rewriting?.parts ?? 1;
    const few = Math.min(CHUNKS, Math.ceil(bytes / MIN_CHUNK_BYTES));
    const parts = Math.max(before * times, Math.ceil(bytes / (this.maxBytes * PART_SHARE)), few, 1);
    if (this.rewriting) {
      const { generation, chunks } = this.rewriting;
      this.stale = [...this.stale, ...chunks.map((_, index) => this.layout.manifestChunk(generation, index))];
    }
    this.latestGeneration += 1;
    return { generation: this.latestGeneration, parts, chunks: [], bytes: 0 };
  }

  /** The last chunk of a snapshot: the index is set to it, and what came before is stale. */
  private switchTo(rewriting: Rewriting, op: Op, commitNumber: number, bytes: number): ManifestChange {
    const { generation } = rewriting;
    const index: ManifestIndex = { generation, chunks: [...rewriting.chunks, commitNumber] };
    const oldest = Math.min(...index.chunks);
    const isFolded = ({ number }: Delta): boolean => number <= oldest;
    const before = this.index.chunks.map((_, each) => this.layout.manifestChunk(this.index.generation, each));
    const needless = [...before, ...this.deltas.filter(isFolded).map(({ path }) => path)];
    const committed: ManifestChange["committed"] = (written) => {
      this.index = index;
      this.setDeltas(this.deltas.filter((delta) => !isFolded(delta)));
      this.snapshotBytes = rewriting.bytes + bytes;
      this.stale = [...this.stale, ...this.retired];
      this.retired = needless;
      this.rewriting = undefined;
      return this.moved(written, []);
    };
    const replace: Op = { type: "setData", path: this.layout.manifest, data: encodeManifestIndex(index) };
    return { ops: [op, replace], updates: [], committed };
  }

  private deletion(): ManifestChange {
    const now = this.stale.slice(0, MAX_DELETES);
    const committed: ManifestChange["committed"] = (written) => {
      this.stale = this.stale.slice(MAX_DELETES);
      return this.moved(written, now);
    };
    return { ops: deletes(now), updates: [], committed };
  }

  /** Records went to blobs, and znodes are gone; returns the blobs of those, as far as they are known here. */
  private moved(written: ReadonlyMap<string, string>, gone: readonly string[]): readonly string[] {
    for (const [path, blob] of written) if (path.startsWith(this.layout.manifest)) this.blobs.set(path, blob);
    const names = gone.flatMap((path) => this.blobs.get(path) ?? []);
    for (const path of gone) this.blobs.delete(path);
    return names;
  }

  /** Sorts what is below the manifest's znode by what the index says of it. */
  private sorted(children: readonly string[], { generation, chunks }: ManifestIndex): Listing {
    const oldest = Math.min(...chunks, Number.POSITIVE_INFINITY);
    const isFolded = (number: number): boolean => chunks.length > 0 && number <= oldest;
    const sizes = new Map(this.deltas.map(({ number, bytes }) => [number, bytes]));
    const names = [...children].sort();
    const otherChunks: string[] = [];
    const written: Delta[] = [];
    let latestGeneration = generation;
    for (const name of names) {
      const path = `${this.layout.manifest}/${name}`;
      const ofGeneration = CHUNK.exec(name)?.[1];
      if (ofGeneration === undefined)
        written.push({ path, number: Number(name), bytes: sizes.get(Number(name)) ?? 0 });
      else if (Number(ofGeneration) !== generation) otherChunks.push(path);
      latestGeneration = Math.max(latestGeneration, Number(ofGeneration ?? 0));
    }
    const foldedDeltas = written.filter(({ number }) => isFolded(number));
    const retired = [...otherChunks, ...foldedDeltas.map(({ path }) => path)];
    return {
      deltas: written.filter(({ number }) => !isFolded(number)),
      foldedDeltas,
      retired,
      latestGeneration,
    };
  }

  private setDeltas(deltas: readonly Delta[]): void {
    this.deltas = [...deltas];
    this.deltaBytes = deltas.reduce((sum, { bytes }) => sum + bytes, 0);
  }

  private addDelta(delta: Delta): void {
    this.deltas.push(delta);
    this.deltaBytes += delta.bytes;
  }

  /** Reads the deltas, with their sizes, and gives what the snapshot that was loaded does not hold; undefined if one is gone. */
  private async readDeltas(
    client: ZooKeeperClient,
    deltas: readonly Delta[],
  ): Promise<ManifestUpdate[] | undefined> {
    const { loaded } = this;
    const updates: ManifestUpdate[] = [];
    let next = 0;
    const paths = deltas.map(({ path }) => path);
    const isWhole = await this.readAll(client, paths, READS_IN_FLIGHT, (path, data) => {
      const delta = deltas[next++]!;
      delta.bytes = data.length;
      const isNewer = ([znode]: ManifestUpdate): boolean =>
        loaded.length === 0 || loaded[pathHash(znode) % loaded.length]! < delta.number;
      for (const row of decodeUpdates(data, path)) if (isNewer(row)) updates.push(row);
    });
    return isWhole ? updates : undefined;
  }

  /** Reads the records and takes them in this order; false if one is gone. */
  private async readAll(
    client: ZooKeeperClient,
    paths: readonly string[],
    inFlight: number,
    take: (path: string, data: Buffer) => unknown,
  ): Promise<boolean> {
    let isWhole = true;
    for (let from = 0; from < paths.length; from += inFlight) {
      const portion = paths.slice(from, from + inFlight);
      const reads = portion.map((path) => this.read(client, path));
      await Promise.allSettled(reads);
      for (const [index, data] of (await Promise.all(reads)).entries()) {
        if (data) take(portion[index]!, data);
        else isWhole = false;
      }
    }
    return isWhole;
  }

  /** Undefined where the znode is gone, or its blob, which goes after it. */
  private async read(client: ZooKeeperClient, path: string): Promise<Buffer | undefined> {
    const data = await readOrGone(client, path);
    const record = data && (await openRecord(this.store, data, path));
    if (record?.blob !== undefined) this.blobs.set(path, record.blob);
    return record?.frame;
  }
}

/** The error where a record is not there, and nobody wrote meanwhile. */
export function recordMissing(layout: SourceLayout): EncodingError {
  return new EncodingError(
    layout.manifest,
    "a chunk of the manifest that the index names is missing, or a blob that a record of it refers to",
    'Restore the znodes below it from a backup, set BEAMKEEPER_BLOB_STORE to where it was written, or pause the pipeline and begin the source again with "beamkeeper reset".',
  );
}

function deletes(paths: readonly string[]): Op[] {
  return paths.map((path): Op => ({ type: "delete", path }));
}

async function readOrGone(client: ZooKeeperClient, path: string): Promise<Buffer | undefined> {
  try {
    return (await reading(client, () => client.getData(path))).data;
  } catch (error) {
    if (error instanceof NoNodeError) return undefined;
    throw error;
  }
}
