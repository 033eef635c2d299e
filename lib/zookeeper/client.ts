import type {
  Acl,
  ConnectionState,
  CreateMode,
  MultiResult,
  Op,
  Stat,
  Watch,
  WatchListener,
  ZooKeeperClient,
} from "./api";
import { checkOps } from "./multi";
import { type Clock, resolveOptions, type ZooKeeperOptions } from "./options";
import { checkPath, withChroot } from "./paths";
import { CREATE_FLAGS, OPEN_ACL, OpCode, WATCH_MODES } from "./records";
import { Request, type RequestArguments } from "./request";
import { SessionDriver } from "./session-driver";
import type { WatchMode } from "./watches";

const ANY_VERSION = -1;
const NO_DATA = new Uint8Array(0);

/** Opens a session. Rejects with `NotConnectedError` after `connectTimeoutMs`, and then leaves nothing behind. */
export function connect(options: ZooKeeperOptions): Promise<ZooKeeper> {
  return ZooKeeper.connect(options);
}

/** A session with an ensemble, see {@link ZooKeeperClient}. It goes on over reconnects and session expiry until `close`. */
export class ZooKeeper implements ZooKeeperClient {
  readonly #driver: SessionDriver;
  readonly #chroot: string;
  readonly #connectTimeoutMs: number;
  readonly #clock: Clock;
  readonly #stateListeners = new Set<(state: ConnectionState) => void>();

  private constructor(options: ZooKeeperOptions) {
    const resolved = resolveOptions(options);
    this.#connectTimeoutMs = resolved.connectTimeoutMs;
    this.#clock = resolved.clock;
    this.#driver = new SessionDriver(resolved, (state) => this.#announce(state));
    this.#chroot = this.#driver.chroot;
  }

  static async connect(options: ZooKeeperOptions): Promise<ZooKeeper> {
    const client = new ZooKeeper(options);
    client.#driver.start();
    try {
      await client.connected();
      return client;
    } catch (error) {
      await client.close();
      throw error;
    }
  }

  get state(): ConnectionState {
    return this.#driver.visibleState;
  }

  get lastZxid(): bigint {
    return this.#driver.lastZxid;
  }

  create(
    path: string,
    data: Uint8Array = NO_DATA,
    options: { mode?: CreateMode; acl?: readonly Acl[] } = {},
  ): Promise<{ path: string; stat: Stat }> {
    const mode = options.mode ?? "persistent";
    const number = CREATE_FLAGS[mode];
    return this.#request(
      OpCode.create2,
      path,
      { data, number, acl: options.acl ?? OPEN_ACL },
      mode.endsWith("sequential"),
    );
  }

  delete(path: string, version: number = ANY_VERSION): Promise<void> {
    return this.#request(OpCode.delete, path, { number: version });
  }

  exists(path: string): Promise<Stat | null> {
    return this.#request(OpCode.exists, path, {});
  }

  getData(path: string): Promise<{ data: Buffer; stat: Stat; zxid: bigint }> {
    return this.#request(OpCode.getData, path, {});
  }

  setData(path: string, data: Uint8Array, version: number = ANY_VERSION): Promise<Stat> {
    return this.#request(OpCode.setData, path, { data, number: version });
  }

  getChildren(path: string): Promise<{ children: string[]; stat: Stat }> {
    return this.#request(OpCode.getChildren2, path, {});
  }

  sync(path: string): Promise<void> {
    return this.#request(OpCode.sync, path, {});
  }

  multi(ops: readonly Op[]): Promise<MultiResult> {
    return new Promise((resolve, reject) => {
      checkOps(ops);
      this.#driver.submit(new Request(OpCode.multi, this.#chroot, { ops }, resolve, reject));
    });
  }

  addWatch(path: string, mode: WatchMode, listener: WatchListener): Promise<Watch> {
    return new Promise((resolve, reject) => {
      checkPath(path);
      const serverPath = withChroot(this.#chroot, path);
      // Registered while the reply is read, so the event in the very next frame finds its listener.
      const onArmed = () => resolve({ remove: this.#driver.watches.add(serverPath, mode, listener) });
      const args = { path: serverPath, number: WATCH_MODES[mode] };
      this.#driver.submit(new Request(OpCode.addWatch, this.#chroot, args, onArmed, reject));
    });
  }

  connected(timeoutMs: number = this.#connectTimeoutMs): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.state === "connected") return resolve();
      if (this.state === "closed") return reject(this.#driver.closedError());
      const timer = this.#clock.setTimeout(
        () => finish(() => reject(this.#driver.notConnectedError(timeoutMs))),
        timeoutMs,
      );
      const stop = this.onState((state) => {
        if (state === "connected") finish(resolve);
        else if (state === "closed") finish(() => reject(this.#driver.closedError()));
      });
      const finish = (settle: () => void) => {
        this.#clock.clearTimeout(timer);
        stop();
        settle();
      };
    });
  }

  onState(listener: (state: ConnectionState) => void): () => void {
    this.#stateListeners.add(listener);
    return () => this.#stateListeners.delete(listener);
  }

  close(): Promise<void> {
    return this.#driver.close();
  }

  /** Explicit resource management: `await using client = await connect(...)`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #request<T>(opcode: number, path: string, args: RequestArguments, isSequential = false): Promise<T> {
    return new Promise((resolve, reject) => {
      checkPath(path, isSequential);
      const all = { ...args, path: withChroot(this.#chroot, path) };
      this.#driver.submit(new Request(opcode, this.#chroot, all, resolve, reject));
    });
  }

  #announce(state: ConnectionState): void {
    for (const listener of [...this.#stateListeners]) {
      try {
        listener(state);
      } catch (error) {
        // As with watches: neither the connection nor the other listeners suffer, and it is not silent.
        process.nextTick(() => {
          throw error;
        });
      }
    }
  }
}
