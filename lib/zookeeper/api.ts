/**
 * The public surface of the ZooKeeper client: what the relay, the runner and the checkpoint code are written
 * against, and what the simulator's model implements. Nothing here does I/O.
 */
import type { ZooKeeperError } from "./errors";

/** A znode's stat, as in zookeeper.jute's `Stat`. Times are milliseconds since 1970 on the leader's clock. */
export interface Stat {
  readonly czxid: bigint;
  readonly mzxid: bigint;
  readonly ctime: number;
  readonly mtime: number;
  readonly version: number;
  readonly cversion: number;
  readonly aversion: number;
  readonly ephemeralOwner: bigint;
  readonly dataLength: number;
  readonly numChildren: number;
  readonly pzxid: bigint;
}

/**
 * CreateMode of the server. A container is deleted by the server some time after its last child; a TTL znode
 * when it was not changed for its `ttlMs` and has no children (`extendedTypesEnabled=true` on the servers).
 */
export type CreateMode =
  | "persistent"
  | "ephemeral"
  | "persistent-sequential"
  | "ephemeral-sequential"
  | "container"
  | "persistent-ttl"
  | "persistent-sequential-ttl";

/** An access-control entry: `perms` is the bit set read 1, write 2, create 4, delete 8, admin 16. */
export interface Acl {
  readonly perms: number;
  readonly scheme: string;
  readonly id: string;
}

/** One operation of a multi. `version` -1 (the default) means any version; 0 means version 0. */
export type Op =
  | {
      readonly type: "create";
      readonly path: string;
      readonly data?: Uint8Array;
      readonly mode?: CreateMode;
      readonly acl?: readonly Acl[];
      /** For the TTL modes, in milliseconds. */
      readonly ttlMs?: number;
    }
  | { readonly type: "delete"; readonly path: string; readonly version?: number }
  | { readonly type: "setData"; readonly path: string; readonly data: Uint8Array; readonly version?: number }
  | { readonly type: "check"; readonly path: string; readonly version: number };

/** The result of the operation at the same place in the multi. 3.8 sends no stat for a create inside a multi. */
export type OpResult =
  | { readonly type: "create"; readonly path: string; readonly stat: Stat | undefined }
  | { readonly type: "delete" }
  | { readonly type: "setData"; readonly stat: Stat }
  | { readonly type: "check" };

/** A committed multi: one zxid for all of its operations. */
export interface MultiResult {
  readonly zxid: bigint;
  readonly results: readonly OpResult[];
}

/** One operation of a multiRead. */
export type ReadOp = { readonly type: "getData" | "getChildren"; readonly path: string };

/** The result at the same place; unlike in a multi, one that failed does not concern the others. */
export type ReadResult =
  | { readonly type: "getData"; readonly data: Buffer; readonly stat: Stat }
  | { readonly type: "getChildren"; readonly children: string[] }
  | { readonly type: "error"; readonly error: ZooKeeperError };

/** All reads of one multiRead show the same state, that of `zxid` or later. */
export interface MultiReadResult {
  readonly zxid: bigint;
  readonly results: readonly ReadResult[];
}

/** The members of the ensemble as its servers have agreed on them. */
export interface EnsembleConfig {
  /** Lines such as `server.1=host:2888:3888:participant;2181`, and at last `version=100000000`. */
  readonly text: string;
  /** The zxid of the reconfiguration; 0n where the server runs alone. */
  readonly version: bigint;
  readonly stat: Stat;
}

/** What changes: `joining` and `leaving` (ids), or all of it as `members`. */
export interface Reconfiguration {
  /** `server.4=host:2888:3888;2181`, several with commas. */
  readonly joining?: string;
  /** `1,2` */
  readonly leaving?: string;
  readonly members?: string;
  /** Only while this is the version of the configuration (default: -1n, any). */
  readonly fromVersion?: bigint;
}

/** Bounds one call. What was sent before goes on at the server: for a write the outcome is then ambiguous. */
export interface CallOptions {
  /** Rejects with `AbortError`, whose `cause` is the signal's reason. */
  readonly signal?: AbortSignal;
  /** Rejects with `OperationTimeoutError` after so many milliseconds (default: no bound but the connection's). */
  readonly timeoutMs?: number;
}

export interface CreateOptions extends CallOptions {
  /** Default: persistent. */
  readonly mode?: CreateMode;
  /** Default: everyone may do everything. */
  readonly acl?: readonly Acl[];
  /** How long an unchanged znode of a TTL mode lives, in milliseconds. */
  readonly ttlMs?: number;
}

export interface ReadOptions extends CallOptions {
  /**
   * Leaves a one-shot watch: hears the next change of what was read, or `ended`, and then nothing more. A change
   * during an outage is told after it, so there is no `gap`.
   */
  readonly watch?: WatchListener;
  /** Forgets the watch when it is aborted: who gives up waiting leaves no listener behind (default: never). */
  readonly watchSignal?: AbortSignal;
}

/** What removeWatches and checkWatches are about: `data` is of getData and exists, `any` all kinds. */
export type WatchKind = "data" | "children" | "persistent" | "persistentRecursive" | "any";

export type WatchedEventType = "created" | "deleted" | "dataChanged" | "childrenChanged";

/** A notification of a persistent watch. `zxid` is -1n where the server does not send it (before 3.9). */
export interface WatchedEvent {
  readonly type: WatchedEventType;
  readonly path: string;
  readonly zxid: bigint;
}

/**
 * What a watch hears. `gap`: events may have been missed (the connection was replaced); the watch is armed
 * again before this is delivered, so that events after it are complete. `ended`: the session expired, the
 * client was closed, or removeWatches was called; nothing follows.
 */
export type WatchNotification =
  | { readonly type: "event"; readonly event: WatchedEvent }
  | { readonly type: "gap" }
  | { readonly type: "ended"; readonly reason: "expired" | "closed" | "removed" };

export type WatchListener = (notification: WatchNotification) => void;

/** A registered persistent watch. */
export interface Watch {
  /** Takes the listener away at once; the server-side watch stays until the session ends. */
  remove(): void;
}

/**
 * A persistent watch to iterate over: `for await (const notification of watch)`. The last notification is
 * `ended`, unless the loop is left or `remove` called. Where the consumer falls behind by more than the bound,
 * what it has not taken is dropped, and it finds a `gap` instead.
 */
export interface WatchIterator extends AsyncIterableIterator<WatchNotification>, Watch {
  [Symbol.asyncDispose](): Promise<void>;
}

/**
 * What a user of the client sees of the connection. `suspended`: no server at the moment, the session may
 * still live. `lost`: the session expired; its ephemerals and watches are gone, and the client goes on to open
 * a new session by itself (`connected` again). `closed` is final.
 */
export type ConnectionState = "connecting" | "connected" | "suspended" | "lost" | "closed";

/**
 * A ZooKeeper client. Operations are sent in the order of the calls and answered in that order.
 *
 * Every method rejects with a {@link ZooKeeperError} of lib/zookeeper/errors. `ConnectionLossError` (sent, and
 * the reply did not come) is ambiguous: the operation may or may not have taken effect.
 * An operation called while the client is not connected waits for a connection, at most
 * `connectTimeoutMs`, and then rejects with `NotConnectedError` (never sent, so retryable).
 */
export interface ZooKeeperClient {
  readonly state: ConnectionState;
  /** The highest zxid that this client has seen; a server that is behind it is never used. */
  readonly lastZxid: bigint;

  /** create2 (opcode 15); parents must exist. Returns the actual path, which a sequential mode extends by ten digits. */
  create(path: string, data?: Uint8Array, options?: CreateOptions): Promise<{ path: string; stat: Stat }>;
  /** delete (opcode 2). */
  delete(path: string, version?: number, options?: CallOptions): Promise<void>;
  /** exists (opcode 3): null where there is no such znode. */
  exists(path: string, options?: ReadOptions): Promise<Stat | null>;
  /**
   * getData (opcode 4). `zxid` is the reply header's: the last transaction that the server had applied, so that
   * every event up to it has been heard before and none after it is reflected. An absent znode rejects with
   * NoNodeError, whose `zxid` says the same.
   */
  getData(path: string, options?: ReadOptions): Promise<{ data: Buffer; stat: Stat; zxid: bigint }>;
  /** setData (opcode 5). */
  setData(path: string, data: Uint8Array, version?: number, options?: CallOptions): Promise<Stat>;
  /** getChildren2 (opcode 12): names, not paths, in no particular order; `zxid` as of {@link getData}. */
  getChildren(path: string, options?: ReadOptions): Promise<{ children: string[]; stat: Stat; zxid: bigint }>;
  /** sync (opcode 9): the server in use catches up with the leader before it answers what is sent after. */
  sync(path: string, options?: CallOptions): Promise<void>;
  /** multi (opcode 14): all or nothing. Rejects with `MultiError`, which names the operation that failed. */
  multi(ops: readonly Op[], options?: CallOptions): Promise<MultiResult>;
  /** addWatch (opcode 106, servers from 3.6). Armed again on every reconnect, see {@link WatchNotification}. */
  addWatch(
    path: string,
    mode: "persistent" | "persistentRecursive",
    listener: WatchListener,
    options?: CallOptions,
  ): Promise<Watch>;
  /** Resolves when the client is connected; rejects with `NotConnectedError` after `timeoutMs` (default connectTimeoutMs), or ClosedError. */
  connected(timeoutMs?: number): Promise<void>;
  /** Calls the listener at each change of state; returns the function that takes it away. */
  onState(listener: (state: ConnectionState) => void): () => void;
  /** Ends the session at the server (its ephemerals go at once) and closes the socket. Never rejects; may be called twice. */
  close(): Promise<void>;
}
