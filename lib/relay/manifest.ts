/** What is known of a znode: enough to tell from a later stat what happened in between. */
export interface KnownZnode {
  readonly czxid: bigint;
  readonly mzxid: bigint;
  readonly version: number;
  /** Of the children and of the ACL: compared where a source delivers their changes. */
  readonly cversion: number;
  readonly aversion: number;
}

/** A change of the manifest: the znode as it is now; or null for one that is gone, with the zxid of the read that missed it. */
export type ManifestUpdate =
  | readonly [path: string, known: KnownZnode]
  | readonly [path: string, known: null, zxid: bigint];

const FIRST_CAPACITY = 256;
const ROOT = 0;
const NONE = -1;
const KNOWN = 1;
const SEEN = 2;
const FNV_OFFSET = 0x811c9dc5;
const FNV_PRIME = 0x01000193;
// Names of znodes that are gone stay until they outnumber the others by this much; then the table is built anew.
const MIN_GARBAGE = 10_000;

/** The 32-bit hash of a path that says which chunk of a stored manifest it is in: equal in every process. */
export function pathHash(path: string): number {
  let hash = FNV_OFFSET;
  for (let at = 0; at < path.length; at++) hash = Math.imul(hash ^ path.charCodeAt(at), FNV_PRIME);
  hash = Math.imul(hash ^ (hash >>> 15), 0x85ebca6b);
  return (hash ^ (hash >>> 13)) >>> 0;
}

/**
 * The znodes that a source has delivered, by path: some 70 bytes each for a million of them, outside of the
 * garbage-collected heap. A znode is an entry in columns; its name is stored once, its parent's path is the
 * parent's entry. An open hash over whole paths finds it.
 */
export class Manifest {
  private count = 1;
  private knownCount = 0;
  private knownPathBytes = 0;
  private readonly names = new Names();
  private buckets = new Int32Array(FIRST_CAPACITY).fill(NONE);
  private next = new Int32Array(FIRST_CAPACITY);
  private hashes = new Uint32Array(FIRST_CAPACITY);
  private parents = new Int32Array(FIRST_CAPACITY);
  private nameStarts = new Uint32Array(FIRST_CAPACITY);
  private flags = new Uint8Array(FIRST_CAPACITY);
  private czxids = new BigInt64Array(FIRST_CAPACITY);
  private mzxids = new BigInt64Array(FIRST_CAPACITY);
  private versions = new Int32Array(FIRST_CAPACITY * 3);

  /** How many znodes are known. */
  get size(): number {
    return this.knownCount;
  }

  /** Characters of all known paths. */
  get pathBytes(): number {
    return this.knownPathBytes;
  }

  /** What the columns and names take, in bytes. */
  get memoryBytes(): number {
    const columns = [this.buckets, this.next, this.hashes, this.parents, this.nameStarts, this.flags];
    const wide = [this.czxids, this.mzxids, this.versions];
    return [...columns, ...wide].reduce((sum, { byteLength }) => sum + byteLength, this.names.capacity);
  }

  get(path: string): KnownZnode | undefined {
    const entry = this.find(path);
    return entry !== NONE && this.flags[entry]! & KNOWN ? this.at(entry) : undefined;
  }

  *paths(): IterableIterator<string> {
    for (let entry = 0; entry < this.count; entry++) if (this.flags[entry]! & KNOWN) yield this.pathOf(entry);
  }

  /** What is known of the paths of one part of `parts`, divided by {@link pathHash}. */
  *part(index: number, parts: number): IterableIterator<ManifestUpdate> {
    for (let entry = 0; entry < this.count; entry++)
      if (this.flags[entry]! & KNOWN && this.hashOf(entry) % parts === index)
        yield [this.pathOf(entry), this.at(entry)];
  }

  apply(updates: Iterable<ManifestUpdate>): void {
    for (const [path, known] of updates) {
      if (known) this.set(path, known);
      else this.forget(path);
    }
    if (this.count > 2 * this.knownCount + MIN_GARBAGE) this.rebuild();
  }

  /** A walk begins: nothing has been seen by it. What is applied from now on counts as seen. */
  beginWalk(): void {
    for (let entry = 0; entry < this.count; entry++) this.flags[entry]! &= ~SEEN;
  }

  /** The walk found the znode; returns what is known of it. */
  seen(path: string): KnownZnode | undefined {
    const entry = this.find(path);
    if (entry === NONE) return undefined;
    this.flags[entry]! |= SEEN;
    return this.flags[entry]! & KNOWN ? this.at(entry) : undefined;
  }

  /** The known paths that the walk has not found. */
  *unseen(): IterableIterator<string> {
    for (let entry = 0; entry < this.count; entry++)
      if ((this.flags[entry]! & (KNOWN | SEEN)) === KNOWN) yield this.pathOf(entry);
  }

  private set(path: string, known: KnownZnode): void {
    const entry = this.intern(path);
    if (!(this.flags[entry]! & KNOWN)) {
      this.knownCount += 1;
      this.knownPathBytes += path.length;
    }
    this.flags[entry]! |= KNOWN | SEEN;
    this.czxids[entry] = known.czxid;
    this.mzxids[entry] = known.mzxid;
    this.versions[entry * 3] = known.version;
    this.versions[entry * 3 + 1] = known.cversion;
    this.versions[entry * 3 + 2] = known.aversion;
  }

  private forget(path: string): void {
    const entry = this.find(path);
    if (entry === NONE || !(this.flags[entry]! & KNOWN)) return;
    this.flags[entry]! &= ~KNOWN;
    this.knownCount -= 1;
    this.knownPathBytes -= path.length;
  }

  private at(entry: number): KnownZnode {
    return {
      czxid: this.czxids[entry]!,
      mzxid: this.mzxids[entry]!,
      version: this.versions[entry * 3]!,
      cversion: this.versions[entry * 3 + 1]!,
      aversion: this.versions[entry * 3 + 2]!,
    };
  }

  private hashOf(entry: number): number {
    return entry === ROOT ? pathHash("/") : this.hashes[entry]!;
  }

  private pathOf(entry: number): string {
    let path = "";
    for (let each = entry; each !== ROOT; each = this.parents[each]!)
      path = `/${this.names.read(this.nameStarts[each]!)}${path}`;
    return path || "/";
  }

  private find(path: string, hash = pathHash(path)): number {
    if (path === "/") return ROOT;
    let entry = this.buckets[hash & (this.buckets.length - 1)]!;
    while (entry !== NONE && !(this.hashes[entry] === hash && this.isPath(entry, path)))
      entry = this.next[entry]!;
    return entry;
  }

  private isPath(entry: number, path: string): boolean {
    let end = path.length;
    for (let each = entry; each !== ROOT; each = this.parents[each]!) {
      const start = path.lastIndexOf("/", end - 1);
      if (start < 0 || !this.names.equals(this.nameStarts[each]!, path, start + 1, end)) return false;
      end = start;
    }
    return end === 0;
  }

  private intern(path: string): number {
    const hash = pathHash(path);
    const found = this.find(path, hash);
    if (found !== NONE) return found;
    const slash = path.lastIndexOf("/");
    const parent = slash === 0 ? ROOT : this.intern(path.slice(0, slash));
    if (this.count === this.next.length) this.grow();
    const entry = this.count++;
    this.parents[entry] = parent;
    this.hashes[entry] = hash;
    this.nameStarts[entry] = this.names.add(path.slice(slash + 1));
    this.flags[entry] = 0;
    this.link(entry);
    return entry;
  }

  private link(entry: number): void {
    const bucket = this.hashes[entry]! & (this.buckets.length - 1);
    this.next[entry] = this.buckets[bucket]!;
    this.buckets[bucket] = entry;
  }

  private grow(): void {
    const capacity = this.next.length * 2;
    this.hashes = grown(this.hashes, new Uint32Array(capacity));
    this.parents = grown(this.parents, new Int32Array(capacity));
    this.nameStarts = grown(this.nameStarts, new Uint32Array(capacity));
    this.flags = grown(this.flags, new Uint8Array(capacity));
    this.czxids = grown(this.czxids, new BigInt64Array(capacity));
    this.mzxids = grown(this.mzxids, new BigInt64Array(capacity));
    this.versions = grown(this.versions, new Int32Array(capacity * 3));
    this.next = new Int32Array(capacity);
    this.buckets = new Int32Array(capacity).fill(NONE);
    for (let entry = 1; entry < this.count; entry++) this.link(entry);
  }

  /** Everything anew without the names of znodes that are gone. What a walk has seen stays seen. */
  private rebuild(): void {
    const fresh = new Manifest();
    for (let entry = 0; entry < this.count; entry++) {
      if (!(this.flags[entry]! & KNOWN)) continue;
      const path = this.pathOf(entry);
      fresh.set(path, this.at(entry));
      if (!(this.flags[entry]! & SEEN)) fresh.flags[fresh.find(path)]! &= ~SEEN;
    }
    Object.assign(this, fresh);
  }
}

function grown<T extends { set(from: T): void }>(from: T, to: T): T {
  to.set(from);
  return to;
}

/** Names one behind the other: length in bytes (uint32), UTF-8. */
class Names {
  private bytes = Buffer.alloc(4_096);
  private end = 0;

  get capacity(): number {
    return this.bytes.length;
  }

  add(name: string): number {
    const length = Buffer.byteLength(name);
    const start = this.end;
    if (start + 4 + length > this.bytes.length) {
      const larger = Buffer.alloc(Math.max(this.bytes.length * 2, start + 4 + length));
      this.bytes.copy(larger);
      this.bytes = larger;
    }
    this.bytes.writeUInt32LE(length, start);
    this.bytes.write(name, start + 4, "utf8");
    this.end = start + 4 + length;
    return start;
  }

  read(start: number): string {
    return this.bytes.toString("utf8", start + 4, start + 4 + this.bytes.readUInt32LE(start));
  }

  /** Whether the name is `text` from `from` to `to`; without making a string of it where all is ASCII. */
  equals(start: number, text: string, from: number, to: number): boolean {
    const length = this.bytes.readUInt32LE(start);
    for (let at = 0; from + at < to; at++) {
      const unit = text.charCodeAt(from + at);
      if (unit > 127) return this.read(start) === text.slice(from, to);
      if (at >= length || this.bytes[start + 4 + at] !== unit) return false;
    }
    return length === to - from;
  }
}
