import type {
  Acl,
  CallOptions,
  CreateMode,
  CreateOptions,
  EnsembleConfig,
  MultiReadResult,
  MultiResult,
  Op,
  ReadOp,
  ReadOptions,
  Reconfiguration,
  Stat,
  WatchKind,
  WatchListener,
} from "./api";
import { NoWatcherError } from "./errors";
import { checkOps } from "./multi";
import { checkReads } from "./multi-read";
import { checkPath } from "./paths";
import { protectedCreate } from "./protected-create";
import {
  CREATE_FLAGS,
  checkPlain,
  checkTtl,
  createOpcode,
  isSequential,
  OPEN_ACL,
  OpCode,
  WATCHER_TYPES,
} from "./records";
import type { RequestArguments } from "./request";
import type { OneShotKind } from "./watches";

const ANY_VERSION = -1;
const NO_DATA = new Uint8Array(0);
const CONFIG_PATH = "/zookeeper/config";

/** A call on its way to the wire: `path` as the user knows it, or none. */
export interface Call {
  readonly opcode: number;
  readonly path?: string;
  /** Of this call alone: the path is added to it. */
  readonly args: RequestArguments;
  readonly options: CallOptions | undefined;
  /** The path is the server's already: no chroot. */
  readonly isAbsolute?: boolean;
  /** Runs while the reply is read, before the next frame: what the next event is for must be there. */
  readonly onReply?: (value: never) => void;
}

export interface ProtectedCreateOptions extends CreateOptions {
  /**
   * The name begins with `_c_<random>-`, and a create whose reply is lost looks for its znode before it creates
   * it again, as Curator's withProtection: one call makes one znode, whatever happens to the connection
   * (default: false).
   */
  readonly withProtection?: boolean;
}

export interface PlainCreateOptions extends CallOptions {
  /** Default: persistent. */
  readonly mode?: Exclude<CreateMode, "container" | "persistent-ttl" | "persistent-sequential-ttl">;
  /** Default: everyone may do everything. */
  readonly acl?: readonly Acl[];
}

/** Each operation of the servers as a method. Those that ZooKeeperClient has are described there. */
export abstract class Operations {
  protected abstract call<T>(call: Call): Promise<T>;
  /** Leaves a listener for one event at a path of the user's. */
  protected abstract watchOnce(
    kind: OneShotKind,
    path: string,
    listener: WatchListener,
    signal: AbortSignal | undefined,
  ): void;
  /** Milliseconds that never go back. */
  protected abstract nowMs(): number;
  protected abstract forgetWatches(path: string, kind: WatchKind): void;
  abstract connected(timeoutMs?: number): Promise<void>;

  create(
    path: string,
    data: Uint8Array = NO_DATA,
    options: ProtectedCreateOptions = {},
  ): Promise<{ path: string; stat: Stat }> {
    if (options.withProtection) {
      const nowMs = () => this.nowMs();
      return protectedCreate(this, path, options, nowMs, (name, bounds) =>
        this.create(name, data, { ...options, ...bounds, withProtection: false }),
      );
    }
    const mode = options.mode ?? "persistent";
    return refusable(() => {
      checkPath(path, isSequential(mode));
      checkTtl(mode, options.ttlMs);
      const acl = options.acl ?? OPEN_ACL;
      const args = { data, number: CREATE_FLAGS[mode], acl, ttlMs: options.ttlMs };
      return this.call({ opcode: createOpcode(mode), path, args, options });
    });
  }

  /** create (opcode 1): without the stat, so its reply is shorter. Not for containers and TTL modes. */
  createPath(path: string, data: Uint8Array = NO_DATA, options: PlainCreateOptions = {}): Promise<string> {
    const { mode = "persistent", acl = OPEN_ACL } = options;
    return refusable(() => {
      checkPath(path, isSequential(mode));
      checkPlain(mode);
      const args = { data, number: CREATE_FLAGS[mode], acl };
      return this.call({ opcode: OpCode.create, path, args, options });
    });
  }

  delete(path: string, version: number = ANY_VERSION, options?: CallOptions): Promise<void> {
    return this.#at(OpCode.delete, path, { number: version }, options);
  }

  exists(path: string, options?: ReadOptions): Promise<Stat | null> {
    return this.#read(OpCode.exists, path, options, (stat) => (stat === null ? "exist" : "data"));
  }

  getData(path: string, options?: ReadOptions): Promise<{ data: Buffer; stat: Stat; zxid: bigint }> {
    return this.#read(OpCode.getData, path, options, () => "data");
  }

  getChildren(
    path: string,
    options?: ReadOptions,
  ): Promise<{ children: string[]; stat: Stat; zxid: bigint }> {
    return this.#read(OpCode.getChildren2, path, options, () => "child");
  }

  /** getChildren (opcode 8): names without the parent's stat. */
  getChildNames(path: string, options?: ReadOptions): Promise<string[]> {
    return this.#read(OpCode.getChildren, path, options, () => "child");
  }

  setData(
    path: string,
    data: Uint8Array,
    version: number = ANY_VERSION,
    options?: CallOptions,
  ): Promise<Stat> {
    return this.#at(OpCode.setData, path, { data, number: version }, options);
  }

  /** getACL (opcode 6); needs the permission to read or to administer. */
  getAcl(path: string, options?: CallOptions): Promise<{ acl: Acl[]; stat: Stat }> {
    return this.#at(OpCode.getAcl, path, {}, options);
  }

  /** setACL (opcode 7). `aversion` is the version of the ACL, not of the data (default: any). */
  setAcl(
    path: string,
    acl: readonly Acl[],
    aversion: number = ANY_VERSION,
    options?: CallOptions,
  ): Promise<Stat> {
    return this.#at(OpCode.setAcl, path, { acl, number: aversion }, options);
  }

  sync(path: string, options?: CallOptions): Promise<void> {
    return this.#at(OpCode.sync, path, {}, options);
  }

  multi(ops: readonly Op[], options?: CallOptions): Promise<MultiResult> {
    return refusable(() => {
      checkOps(ops);
      // A copy: the caller may fill its list anew before the reply, which is read by it, has come.
      return this.call({ opcode: OpCode.multi, args: { ops: [...ops] }, options });
    });
  }

  /**
   * check (opcode 13): resolves if the znode has this version. It is sent as a multi of one, because alone it is unknown
   * to 3.9 (Unimplemented), never answered by a lone 3.8, and makes the followers of a 3.8 leave their leader.
   */
  async check(path: string, version: number, options?: CallOptions): Promise<void> {
    await this.multi([{ type: "check", path, version }], options);
  }

  /** multiRead (opcode 22, servers from 3.6): several reads in one round trip. Each may fail on its own. */
  multiRead(reads: readonly ReadOp[], options?: CallOptions): Promise<MultiReadResult> {
    return refusable(() => {
      checkReads(reads);
      return this.call({ opcode: OpCode.multiRead, args: { reads: [...reads] }, options });
    });
  }

  /** getEphemerals (opcode 103, servers from 3.6): this session's ephemerals whose path begins with the prefix. */
  getEphemerals(prefix = "/", options?: CallOptions): Promise<string[]> {
    return this.#at(OpCode.getEphemerals, prefix, {}, options);
  }

  /** getAllChildrenNumber (opcode 104, servers from 3.6): how many znodes are below the path, at any depth. */
  getAllChildrenNumber(path: string, options?: CallOptions): Promise<number> {
    return this.#at(OpCode.getAllChildrenNumber, path, {}, options);
  }

  /** whoAmI (opcode 107, servers from 3.7): as whom the server knows this connection. */
  whoAmI(options?: CallOptions): Promise<{ scheme: string; user: string }[]> {
    return this.call({ opcode: OpCode.whoAmI, args: {}, options });
  }

  /** The ensemble's members, read from /zookeeper/config whatever the chroot is. */
  async getConfig(options?: CallOptions): Promise<EnsembleConfig> {
    const call = { opcode: OpCode.getData, path: CONFIG_PATH, args: {}, options, isAbsolute: true };
    return ensembleConfig(await this.call(call));
  }

  /**
   * reconfig (opcode 16): changes the ensemble's members. Needs `reconfigEnabled=true` and the write permission on
   * /zookeeper/config, which by default only the super user has.
   */
  async reconfig(change: Reconfiguration, options?: CallOptions): Promise<EnsembleConfig> {
    return ensembleConfig(await this.call({ opcode: OpCode.reconfig, args: { change }, options }));
  }

  /** checkWatches (opcode 17): whether the server holds a watch of this session and kind at the path. */
  async checkWatches(path: string, kind: WatchKind, options?: CallOptions): Promise<boolean> {
    try {
      await this.#at(OpCode.checkWatches, path, { number: WATCHER_TYPES[kind] }, options);
      return true;
    } catch (error) {
      if (error instanceof NoWatcherError) return false;
      throw error;
    }
  }

  /**
   * removeWatches (opcode 18): takes the watches of a kind at the path from the server; their listeners hear
   * `ended`. Rejects with `NoWatcherError` where there is none. Servers before 3.9 may remove too much.
   */
  removeWatches(path: string, kind: WatchKind, options?: CallOptions): Promise<void> {
    return refusable(() => {
      checkPath(path);
      const onReply = () => this.forgetWatches(path, kind);
      const args = { number: WATCHER_TYPES[kind] };
      return this.call({ opcode: OpCode.removeWatches, path, args, options, onReply });
    });
  }

  #at<T>(opcode: number, path: string, args: RequestArguments, options?: CallOptions): Promise<T> {
    try {
      checkPath(path);
      return this.call({ opcode, path, args, options });
    } catch (error) {
      return Promise.reject(error);
    }
  }

  #read<T>(
    opcode: number,
    path: string,
    options: ReadOptions | undefined,
    kindOf: (value: T) => OneShotKind,
  ): Promise<T> {
    const listener = options?.watch;
    if (listener === undefined) return this.#at(opcode, path, {}, options);
    return refusable(() => {
      checkPath(path);
      const onReply = (value: T) => this.watchOnce(kindOf(value), path, listener, options?.watchSignal);
      return this.call({ opcode, path, args: { watch: true }, options, onReply });
    });
  }
}

/** What is refused before it is sent is refused as a rejection, like everything else. */
function refusable<T>(begin: () => Promise<T>): Promise<T> {
  try {
    return begin();
  } catch (error) {
    return Promise.reject(error);
  }
}

function ensembleConfig({ data, stat }: { data: Buffer; stat: Stat }): EnsembleConfig {
  const text = data.toString("utf8");
  const version = /^version=([0-9a-f]+)$/im.exec(text);
  return { text, version: version ? BigInt(`0x${version[1]}`) : 0n, stat };
}
