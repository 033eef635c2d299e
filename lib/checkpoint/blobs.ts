import { createHash } from "node:crypto";
// Node loads these with their first use, and a deployed function, whose files lie in S3, has none.
import { promises as disk } from "node:fs";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import { NoNodeError, type Op, type ZooKeeperClient } from "../zookeeper";
import { reading } from "./commit";
import { countItems, decodeJson, EncodingError, encodeJson, isRecord } from "./encoding";
import { decodeSegment } from "./segment";

/** Where blobs are read. */
export interface BlobReader {
  /** Undefined where there is no such blob. */
  get(name: string): Promise<Buffer | undefined>;
}

/**
 * Where records go that are too large for a znode. It never decides whether something happened: a blob counts when a
 * commit carries a reference to it. Names have no slash.
 */
export interface BlobStore extends BlobReader {
  /** Durable when it resolves. No name is ever written with two contents. */
  put(name: string, data: Uint8Array): Promise<void>;
  /** Absent is fine. */
  delete(name: string): Promise<void>;
  list(prefix: string): Promise<string[]>;
}

/** A folder as blob store. */
export class DirectoryBlobs implements BlobStore {
  constructor(readonly folder: string) {}

  async put(name: string, data: Uint8Array): Promise<void> {
    await disk.mkdir(this.folder, { recursive: true });
    const file = await disk.open(join(this.folder, name), "w");
    try {
      await file.writeFile(data);
      await file.sync();
    } finally {
      await file.close();
    }
  }

  async get(name: string): Promise<Buffer | undefined> {
    return absentAs(undefined, disk.readFile(join(this.folder, name)));
  }

  async delete(name: string): Promise<void> {
    await disk.rm(join(this.folder, name), { force: true });
  }

  async list(prefix: string): Promise<string[]> {
    const names = await absentAs([] as string[], disk.readdir(this.folder));
    return names.filter((name) => name.startsWith(prefix));
  }
}

async function absentAs<T>(absent: T, work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    if ((error as NodeJS.ErrnoException | null)?.code === "ENOENT") return absent;
    throw error;
  }
}

/** What a znode holds instead of a record that lies in the blob store. */
interface Reference {
  readonly name: string;
  /** How many elements or cells the record has. */
  readonly items: number;
  readonly bytes: number;
  readonly crc32: number;
}

/** A record as it was read; `blob` names where it lay, unless in the znode itself. */
export interface StoredRecord {
  readonly frame: Buffer;
  readonly blob: string | undefined;
}

/** The record that a znode's data is, or refers to. Undefined where the blob is gone, as after its collection. */
export async function openRecord(
  blobs: BlobReader,
  data: Buffer,
  path: string,
): Promise<StoredRecord | undefined> {
  if (!isRecord("blob", data)) return { frame: data, blob: undefined };
  const { name, bytes, crc32: checksum } = decodeJson("blob", data, path) as Reference;
  const frame = await blobs.get(name);
  if (frame === undefined) return undefined;
  if (frame.length === bytes && crc32(frame) === checksum) return { frame, blob: name };
  throw new EncodingError(
    path,
    `its blob ${name} has ${frame.length} bytes, the reference says ${bytes}, or its checksum does not match`,
    "Nothing was consumed. Restore the blob from a backup.",
  );
}

/** The name of the blob that a record refers to, and its size; undefined where the record is itself there. */
export function referredBlob(data: Buffer, path: string): { name: string; bytes: number } | undefined {
  return isRecord("blob", data) ? (decodeJson("blob", data, path) as Reference) : undefined;
}

/** How many elements the segment has that a znode holds or refers to. Throws {@link EncodingError}. */
export function segmentLength(data: Buffer, path: string): number {
  if (isRecord("blob", data)) return (decodeJson("blob", data, path) as Reference).items;
  return decodeSegment(data, path).length;
}

/** A blob that a znode refers to, and that no commit has taken away. Terminal. */
export function missingBlob(path: string): EncodingError {
  return new EncodingError(
    path,
    "the blob that it refers to is not in the blob store",
    "Nothing was consumed. Restore the blob from a backup, or set BEAMKEEPER_BLOB_STORE to where it was written.",
  );
}

/**
 * What the names of one fence's blobs begin with. The fence is the head of a shard or the cursor of a source; its hash
 * has one length, so no prefix is the beginning of another.
 */
export function blobPrefix(fencePath: string): string {
  return `${pathHash(fencePath)}.`;
}

const MOST_HASHES = 10_000;
const hashes = new Map<string, string>();

/** Stands for a path in names that have no slash, 16 hexadecimal digits. */
export function pathHash(path: string): string {
  const known = hashes.get(path);
  if (known !== undefined) return known;
  if (hashes.size >= MOST_HASHES) hashes.clear();
  const hash = createHash("sha256").update(path).digest("hex").slice(0, 16);
  hashes.set(path, hash);
  return hash;
}

/** The number of the commit that a blob was written for. */
export function commitNumberOf(name: string): number {
  return Number(name.split(".")[1]);
}

/**
 * The blobs of one attempt at a commit: `<prefix><commit number>.<commit id>.<index>`, so that a name never has two
 * writers, and every blob tells which commit it waits for.
 */
export class CommitBlobs {
  private readonly names: string[] = [];
  /** By the path of the znode that refers to it. */
  readonly byPath = new Map<string, string>();

  constructor(
    private readonly store: BlobStore,
    private readonly fencePath: string,
    private readonly number: number,
    private readonly commitId: string,
  ) {}

  /** The operations with references in place of records above `inlineBytes`, whose blobs are written when it resolves. */
  keep(ops: readonly Op[], inlineBytes: number): Promise<Op[]> {
    return Promise.all(
      ops.map(async (op) => {
        const isLarge = op.type === "create" && op.data !== undefined && op.data.length > inlineBytes;
        return isLarge ? { ...op, data: await this.put(op.path, Buffer.from(op.data!)) } : op;
      }),
    );
  }

  /** Writes the record that the znode at `path` is to refer to; returns the reference. */
  async put(path: string, frame: Buffer): Promise<Buffer> {
    const name = `${blobPrefix(this.fencePath)}${this.number}.${this.commitId}.${this.names.length}`;
    this.names.push(name);
    this.byPath.set(path, name);
    await this.store.put(name, frame);
    const reference: Reference = { name, items: countItems(frame), bytes: frame.length, crc32: crc32(frame) };
    return encodeJson("blob", reference);
  }

  /** Removes what was written, once it is sure that the commit did not and will not take effect. */
  async discard(): Promise<void> {
    for (const name of this.names) await this.store.delete(name);
  }
}

/** Znodes that may refer to blobs: the children of `path`. */
export interface BlobReferrers {
  readonly path: string;
  /** What may be a reference in a child's data (default: all of it). */
  readonly recordIn?: (data: Buffer, path: string) => Buffer;
}

/**
 * Deletes what attempts at commits have left behind that lost, or died before they could send: blobs of one fence
 * whose number has passed, and that nothing refers to. `committed` is the number of a commit that was read before this
 * is called, `referenced` the blobs of the fence's own znodes as of that commit, and `referrers` are where else it has
 * put references. They are looked at in their order: what moves a reference takes it from an earlier to a later one.
 * What a commit up to then refers to is still in one of these, or needed by nobody any more.
 */
export async function collectBlobs(
  client: ZooKeeperClient,
  store: BlobStore,
  fencePath: string,
  committed: number,
  referenced: Iterable<string>,
  referrers: readonly BlobReferrers[],
): Promise<void> {
  const own = new Set(referenced);
  const isOver = (name: string): boolean => commitNumberOf(name) <= committed && !own.has(name);
  const candidates = (await store.list(blobPrefix(fencePath))).filter(isOver);
  if (candidates.length === 0) return;
  const inUse = new Set<string>();
  for (const each of referrers) for (const name of await referencesIn(client, each)) inUse.add(name);
  for (const name of candidates) if (!inUse.has(name)) await store.delete(name);
}

/** The blobs that the znodes below a path refer to. */
async function referencesIn(
  client: ZooKeeperClient,
  { path, recordIn = (data) => data }: BlobReferrers,
): Promise<string[]> {
  const { children } = await reading(client, () => client.getChildren(path));
  const names: string[] = [];
  for (const child of children) {
    const znode = `${path}/${child}`;
    try {
      const { data } = await reading(client, () => client.getData(znode));
      const blob = referredBlob(recordIn(data, znode), znode);
      if (blob) names.push(blob.name);
    } catch (error) {
      if (!(error instanceof NoNodeError)) throw error;
    }
  }
  return names;
}
