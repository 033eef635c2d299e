import {
  ConnectionLossError,
  NoAuthError,
  NoNodeError,
  NotConnectedError,
  type Stat,
  type Watch,
  type WatchNotification,
  type ZooKeeper,
  ZooKeeperError,
} from "../index";

export interface CachedZnode {
  readonly path: string;
  readonly data: Buffer;
  readonly stat: Stat;
}

/**
 * What a gap has hidden. `missedValues` is exact for znodes that lived through it: versions that were never read.
 * A znode in `replaced` was deleted and created again, so of those lives nothing is known but the last.
 */
export interface GapReport {
  readonly added: number;
  readonly removed: number;
  readonly updated: number;
  readonly missedValues: number;
  readonly replaced: readonly string[];
}

export type TreeChange =
  | { readonly type: "added"; readonly znode: CachedZnode }
  /** `missedValues`: versions between the two that were never read. */
  | {
      readonly type: "updated";
      readonly znode: CachedZnode;
      readonly previous: CachedZnode;
      readonly missedValues: number;
    }
  | { readonly type: "removed"; readonly previous: CachedZnode }
  /** Events were missed; the changes before this one are what was found instead. */
  | { readonly type: "gap"; readonly report: GapReport }
  | { readonly type: "ended"; readonly reason: "expired" | "closed" | "removed" };

export interface TreeCacheOptions {
  readonly onChange?: (change: TreeChange) => void;
  /** Something that reading on does not heal (default: thrown on the next tick). */
  readonly onError?: (error: unknown) => void;
}

/**
 * All znodes at and below a path, kept current by one persistent recursive watch. It shows every final state;
 * values between two reads coalesce and are counted. After `ended` it stays as it was: open another.
 */
export class TreeCache {
  readonly #znodes = new Map<string, CachedZnode>();
  readonly #dirty = new Set<string>();
  readonly #options: TreeCacheOptions;
  #watch: Watch | undefined;
  #mustWalk = false;
  #isBusy = false;
  #isOver = false;
  #settled: { readonly done: () => void; readonly fail: (error: unknown) => void }[] = [];

  private constructor(
    private readonly client: ZooKeeper,
    readonly path: string,
    options: TreeCacheOptions,
  ) {
    this.#options = options;
  }

  /** Resolves when every znode has been read once; `added` is told of each of them. */
  static async open(client: ZooKeeper, path: string, options: TreeCacheOptions = {}): Promise<TreeCache> {
    const cache = new TreeCache(client, path, options);
    const hear = (notification: WatchNotification) => cache.#hear(notification);
    cache.#watch = await client.addWatch(path, "persistentRecursive", hear);
    try {
      await cache.#readTree(path, new Set());
      await cache.settled();
      return cache;
    } catch (error) {
      cache.close();
      throw error;
    }
  }

  get size(): number {
    return this.#znodes.size;
  }

  get(path: string): CachedZnode | undefined {
    return this.#znodes.get(path);
  }

  /** All paths, in no particular order. */
  paths(): IterableIterator<string> {
    return this.#znodes.keys();
  }

  /** Resolves when everything heard so far has been read; rejects where reading on does not heal. */
  settled(): Promise<void> {
    if (!this.#isBusy && this.#dirty.size === 0 && !this.#mustWalk) return Promise.resolve();
    const waiting = new Promise<void>((done, fail) => this.#settled.push({ done, fail }));
    this.#pump();
    return waiting;
  }

  close(): void {
    this.#isOver = true;
    this.#watch?.remove();
    this.#settle();
  }

  #hear(notification: WatchNotification): void {
    if (this.#isOver) return;
    if (notification.type === "ended") {
      this.#isOver = true;
      this.#tell({ type: "ended", reason: notification.reason });
      this.#settle();
      return;
    }
    if (notification.type === "gap") this.#mustWalk = true;
    else this.#dirty.add(notification.event.path);
    this.#pump();
  }

  #pump(): void {
    if (this.#isBusy || this.#isOver) return;
    this.#isBusy = true;
    this.#readOn().then(
      () => this.#finishPump(),
      (error) => this.#finishPump(error),
    );
  }

  #finishPump(error?: unknown): void {
    this.#isBusy = false;
    // A lost connection is followed by a gap, and that by a walk.
    if (error instanceof ConnectionLossError || error instanceof NotConnectedError) return;
    const isRetryable = error instanceof ZooKeeperError && error.outcome === "retryable";
    if (error === undefined || this.#isOver) this.#settle();
    // Not at once: what is full or throttled needs a turn of the event loop to become less so.
    else if (isRetryable) setImmediate(() => this.#pump());
    else this.#fail(error);
  }

  #fail(error: unknown): void {
    const waiting = this.#settled;
    this.#settled = [];
    for (const { fail } of waiting) fail(error);
    this.#report(error);
  }

  async #readOn(): Promise<void> {
    while (!this.#isOver && (this.#mustWalk || this.#dirty.size > 0)) {
      if (this.#mustWalk) {
        this.#mustWalk = false;
        this.#dirty.clear();
        try {
          await this.#walkAfterGap();
        } catch (error) {
          // Half a walk is none: what it has not come to is unknown.
          this.#mustWalk = true;
          throw error;
        }
        continue;
      }
      const paths = [...this.#dirty];
      this.#dirty.clear();
      await Promise.all(paths.map((path) => this.#read(path)));
    }
  }

  async #walkAfterGap(): Promise<void> {
    const counts = { added: 0, removed: 0, updated: 0, missedValues: 0 };
    const replaced: string[] = [];
    const count = (change: TreeChange) => {
      if (change.type === "added" || change.type === "removed") counts[change.type] += 1;
      if (change.type !== "updated") return;
      counts.updated += 1;
      counts.missedValues += change.missedValues;
      if (change.znode.stat.czxid !== change.previous.stat.czxid) replaced.push(change.znode.path);
    };
    await this.client.sync(this.path);
    const seen = new Set<string>();
    await this.#readTree(this.path, seen, count);
    for (const path of [...this.#znodes.keys()]) if (!seen.has(path)) this.#remove(path, count);
    this.#tell({ type: "gap", report: { ...counts, replaced } });
  }

  async #readTree(path: string, seen: Set<string>, count?: (change: TreeChange) => void): Promise<void> {
    seen.add(path);
    const isThere = await this.#read(path, count);
    if (!isThere) {
      seen.delete(path);
      return;
    }
    const children = await this.#childrenOf(path, seen);
    const below = path === "/" ? "" : path;
    await Promise.all(children.map((name) => this.#readTree(`${below}/${name}`, seen, count)));
  }

  async #childrenOf(path: string, seen: Set<string>): Promise<string[]> {
    try {
      return (await this.client.getChildren(path)).children;
    } catch (error) {
      if (error instanceof NoAuthError) this.#keepBelow(path, seen);
      if (error instanceof NoNodeError || error instanceof NoAuthError) return [];
      throw error;
    }
  }

  /** What may not be listed is unknown, not deleted. */
  #keepBelow(path: string, seen: Set<string>): void {
    for (const known of this.#znodes.keys()) if (known.startsWith(`${path}/`)) seen.add(known);
  }

  /** False: it is not there. What may not be read stays as it was known. */
  async #read(path: string, count?: (change: TreeChange) => void): Promise<boolean> {
    try {
      const { data, stat } = await this.client.getData(path);
      this.#put({ path, data, stat }, count);
      return true;
    } catch (error) {
      if (error instanceof NoAuthError) return true;
      if (!(error instanceof NoNodeError)) {
        this.#dirty.add(path);
        throw error;
      }
      this.#remove(path, count);
      return false;
    }
  }

  #put(znode: CachedZnode, count?: (change: TreeChange) => void): void {
    const previous = this.#znodes.get(znode.path);
    // Reads may overlap; an older one that ends later changes nothing.
    if (previous && previous.stat.mzxid >= znode.stat.mzxid) return;
    this.#znodes.set(znode.path, znode);
    if (!previous) {
      this.#tell({ type: "added", znode }, count);
      return;
    }
    const sameLife = previous.stat.czxid === znode.stat.czxid;
    const missedValues = sameLife ? znode.stat.version - previous.stat.version - 1 : znode.stat.version;
    this.#tell({ type: "updated", znode, previous, missedValues }, count);
  }

  #remove(path: string, count?: (change: TreeChange) => void): void {
    const previous = this.#znodes.get(path);
    if (previous && this.#znodes.delete(path)) this.#tell({ type: "removed", previous }, count);
  }

  #tell(change: TreeChange, count?: (change: TreeChange) => void): void {
    count?.(change);
    try {
      this.#options.onChange?.(change);
    } catch (error) {
      this.#report(error);
    }
  }

  #report(error: unknown): void {
    if (this.#options.onError) this.#options.onError(error);
    else
      process.nextTick(() => {
        throw error;
      });
  }

  #settle(): void {
    const waiting = this.#settled;
    this.#settled = [];
    for (const { done } of waiting) done();
  }
}
