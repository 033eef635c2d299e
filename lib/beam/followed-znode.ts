/** A znode that a transform follows, as it is before a bundle. */
export interface WatchedZnode {
  readonly data: Uint8Array;
  /** The value as UTF-8 text. */
  readonly text: string;
  /** Of the write that gave this value; no two values have the same. */
  readonly mzxid: bigint;
  /** What a commit can check; from 0 on again when the znode is deleted and created. */
  readonly version: number;
}

/** Undefined where there is no such znode. */
export type ReadZnode = (path: string) => Promise<WatchedZnode | undefined>;

/** What is made of a znode. */
export interface ZnodeLoader<T> {
  /** Given undefined where there is no such znode. What it throws makes the invocation fail; no element is to blame. */
  load(znode: WatchedZnode | undefined): Promise<T> | T;
  /** Called when another value has taken its place and no bundle uses it any more. */
  readonly unload?: ((value: T) => unknown) | undefined;
  /** Whether a value that can't be loaded leaves the one before it in its place. Default: false. */
  readonly keepsLast?: boolean;
}

/** A value, and the version that its znode had when it was last read; undefined where there was none. */
export interface HeldValue<T> {
  readonly value: T;
  readonly version: number | undefined;
}

interface Loaded<T> {
  mzxid: bigint | undefined;
  version: number | undefined;
  readonly value: T;
  /** Bundles that use it, and one while it is the current one. */
  uses: number;
}

/** The value of a process as a znode says, and older ones for as long as bundles use them. */
export class FollowedZnode<T> {
  private current: Loaded<T> | undefined;
  private taking: Promise<unknown> = Promise.resolve();

  constructor(
    readonly path: string,
    private readonly loader: ZnodeLoader<T>,
  ) {}

  /**
   * To be called before a bundle with what the znode holds; one after the other, so that nothing is loaded twice.
   * Rejects with what `load` throws, or gives it where the value before stays.
   */
  take(znode: WatchedZnode | undefined): Promise<Error | undefined> {
    const next = this.taking.then(() => this.load(znode));
    this.taking = next.catch(() => undefined);
    return next;
  }

  /** The value as of the last `take`; what is unloaded has to be lent. */
  held(): HeldValue<T> {
    const { value, version } = this.taken();
    return { value, version };
  }

  /** The same for as long as one bundle uses it, until `end`. */
  lend(): { readonly value: T; readonly end: () => void } {
    const current = this.taken();
    current.uses += 1;
    return { value: current.value, end: () => this.release(current) };
  }

  async close(): Promise<void> {
    await this.taking;
    if (this.current) this.release(this.current);
    this.current = undefined;
  }

  private taken(): Loaded<T> {
    if (this.current !== undefined) return this.current;
    throw new Error(`${this.path} was not read: the stage was not refreshed`);
  }

  private async load(znode: WatchedZnode | undefined): Promise<Error | undefined> {
    const before = this.current;
    const seen = { mzxid: znode?.mzxid, version: znode?.version };
    if (before !== undefined && before.mzxid === seen.mzxid) return undefined;
    try {
      this.current = { ...seen, value: await this.loader.load(znode), uses: 1 };
    } catch (error) {
      if (!this.loader.keepsLast || before === undefined || znode === undefined) throw error;
      Object.assign(before, seen);
      return error instanceof Error ? error : new Error(String(error));
    }
    if (before) this.release(before);
    return undefined;
  }

  private release(loaded: Loaded<T>): void {
    loaded.uses -= 1;
    if (loaded.uses === 0) void Promise.resolve(this.loader.unload?.(loaded.value)).catch(() => undefined);
  }
}

/** @throws TypeError */
export function requireZnodePath(what: string, path: unknown): asserts path is string {
  if (typeof path !== "string" || !/^\/.*[^/]$/.test(path))
    throw new TypeError(
      `${what} needs the path of a znode, as in "/config/limits"; it was given ${String(path)}`,
    );
}
