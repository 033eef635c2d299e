/**
 * The public surface of the ZooKeeper client: what the relay, the runner and the checkpoint code are written
 * against, and what the simulator's model implements. Nothing here does I/O.
 */

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

/** CreateMode of the server; containers and TTL znodes need a server that has them switched on. */
export type CreateMode = "persistent" | "ephemeral" | "persistent-sequential" | "ephemeral-sequential";

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

export type WatchedEventType = "created" | "deleted" | "dataChanged" | "childrenChanged";

/** A notification of a persistent watch. `zxid` is -1n where the server does not send it (before 3.9). */
export interface WatchedEvent {
  readonly type: WatchedEventType;
  readonly path: string;
  readonly zxid: bigint;
}

/**
 * What a watch hears. `gap`: events may have been missed (the connection was replaced); the watch is armed
 * again before this is delivered, so that events after it are complete. `ended`: the session expired or the
 * client was closed; nothing follows.
 */
export type WatchNotification =
  | { readonly type: "event"; readonly event: WatchedEvent }
  | { readonly type: "gap" }
  | { readonly type: "ended"; readonly reason: "expired" | "closed" };

export type WatchListener = (notification: WatchNotification) => void;

/** A registered persistent watch. */
export interface Watch {
  /** Takes the listener away at once; the server-side watch stays until the session ends. */
  remove(): void;
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
  create(
    path: string,
    data?: Uint8Array,
    options?: { mode?: CreateMode; acl?: readonly Acl[] },
  ): Promise<{ path: string; stat: Stat }>;
  /** delete (opcode 2). */
  delete(path: string, version?: number): Promise<void>;
  /** exists (opcode 3): null where there is no such znode. */
  exists(path: string): Promise<Stat | null>;
  /**
   * getData (opcode 4). `zxid` is the reply header's: the last transaction that the server had applied, so that
   * every event up to it has been heard before and none after it is reflected. An absent znode rejects with
   * NoNodeError, whose `zxid` says the same.
   */
  getData(path: string): Promise<{ data: Buffer; stat: Stat; zxid: bigint }>;
  /** setData (opcode 5). */
  setData(path: string, data: Uint8Array, version?: number): Promise<Stat>;
  /** getChildren2 (opcode 12): names, not paths, in no particular order. */
  getChildren(path: string): Promise<{ children: string[]; stat: Stat }>;
  /** sync (opcode 9): the server in use catches up with the leader before it answers what is sent after. */
  sync(path: string): Promise<void>;
  /** multi (opcode 14): all or nothing. Rejects with `MultiError`, which names the operation that failed. */
  multi(ops: readonly Op[]): Promise<MultiResult>;
  /** addWatch (opcode 106, servers from 3.6). Armed again on every reconnect, see {@link WatchNotification}. */
  addWatch(path: string, mode: "persistent" | "persistentRecursive", listener: WatchListener): Promise<Watch>;
  /** Resolves when the client is connected; rejects with `NotConnectedError` after `timeoutMs` (default connectTimeoutMs), or ClosedError. */
  connected(timeoutMs?: number): Promise<void>;
  /** Calls the listener at each change of state; returns the function that takes it away. */
  onState(listener: (state: ConnectionState) => void): () => void;
  /** Ends the session at the server (its ephemerals go at once) and closes the socket. Never rejects; may be called twice. */
  close(): Promise<void>;
}
