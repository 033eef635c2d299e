import type {
  CallOptions,
  ConnectionState,
  Watch,
  WatchIterator,
  WatchKind,
  WatchListener,
  ZooKeeperClient,
} from "./api";
import { LONGEST_TIMER_MS, limitCall } from "./call-limits";
import { type Call, Operations } from "./operations";
import { type Authentication, type Clock, resolveOptions, type ZooKeeperOptions } from "./options";
import { checkPath, withChroot } from "./paths";
import { OpCode, WATCH_MODES } from "./records";
import { Request } from "./request";
import { SessionDriver } from "./session-driver";
import type { SessionTicket } from "./session-ticket";
import { BufferedWatch, DEFAULT_MAX_BUFFERED } from "./watch-iterator";
import type { OneShotKind, WatchMode } from "./watches";

/** Opens a session. Rejects with `NotConnectedError` after `connectTimeoutMs`, and then leaves nothing behind. */
export function connect(options: ZooKeeperOptions): Promise<ZooKeeper> {
  return ZooKeeper.connect(options);
}

export interface WatchOptions extends CallOptions {
  /** Notifications kept for a consumer that is behind; more become one `gap` (default: 10,000). */
  readonly maxBuffered?: number;
}

/** A session with an ensemble, see {@link ZooKeeperClient}. It goes on over reconnects and session expiry until `close`. */
export class ZooKeeper extends Operations implements ZooKeeperClient {
  readonly #driver: SessionDriver;
  readonly #chroot: string;
  readonly #connectTimeoutMs: number;
  readonly #clock: Clock;
  readonly #stateListeners = new Set<(state: ConnectionState) => void>();

  private constructor(options: ZooKeeperOptions) {
    super();
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

  /** host:port of the server in use, as the connect string names it; undefined while not connected. */
  get server(): string | undefined {
    return this.#driver.server;
  }

  /**
   * The server in use has lost its quorum: reads show the past, writes reject with `NotReadOnlyError`. Only with
   * `canBeReadOnly`. The client looks for a server that takes writes, and goes there with its session.
   */
  get isReadOnly(): boolean {
    return this.#driver.isReadOnly;
  }

  /** The session in use is the one that was handed over, and not a new one because that had expired. */
  get isResumed(): boolean {
    return this.#driver.isResumed;
  }

  /**
   * The version of every server of the connect string, by the four-letter word `srvr`; undefined where a server does not
   * answer it within `timeoutMs`. Never rejects.
   */
  serverVersions(timeoutMs = 2_000): Promise<{ server: string; version: string | undefined }[]> {
    return this.#driver.serverVersions(timeoutMs);
  }

  /**
   * How many connections each server takes from one address (maxClientCnxns, 0 for any number), by the four-letter word
   * `conf`; undefined where a server does not tell, as servers do unless it is in their whitelist.
   */
  connectionLimits(timeoutMs = 2_000): Promise<{ server: string; perAddress: number | undefined }[]> {
    return this.#driver.connectionLimits(timeoutMs);
  }

  addWatch(path: string, mode: WatchMode, listener: WatchListener, options?: CallOptions): Promise<Watch> {
    return new Promise((resolve, reject) => {
      checkPath(path);
      const serverPath = withChroot(this.#chroot, path);
      // Registered while the reply is read, so the event in the very next frame finds its listener.
      const onArmed = () => resolve({ remove: this.#driver.watches.add(serverPath, mode, listener) });
      const args = { path: serverPath, number: WATCH_MODES[mode] };
      this.#submit(new Request(OpCode.addWatch, this.#chroot, args, onArmed, reject), options);
    });
  }

  /** addWatch, to be iterated over. The watch is armed when this resolves: read after it, and nothing is missed. */
  async watch(path: string, mode: WatchMode, options: WatchOptions = {}): Promise<WatchIterator> {
    const buffered = new BufferedWatch(options.maxBuffered ?? DEFAULT_MAX_BUFFERED);
    return buffered.attach(await this.addWatch(path, mode, buffered.listener, options));
  }

  /**
   * auth (opcode 100): adds an identity to this connection and all later ones. Rejects with `AuthFailedError` where
   * the server refuses it; the server then hangs up, and the client goes on without it.
   */
  addAuth(authentication: Authentication, options?: CallOptions): Promise<void> {
    const { scheme, auth } = authentication;
    return new Promise((resolve, reject) => {
      const onDone = () => {
        this.#driver.keepAuthentication(authentication);
        resolve();
      };
      const args = { scheme, data: Buffer.from(auth as string) };
      this.#submit(new Request(OpCode.auth, this.#chroot, args, onDone, reject), options);
    });
  }

  connected(timeoutMs: number = this.#connectTimeoutMs): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.state === "connected") return resolve();
      if (this.state === "closed") return reject(this.#driver.closedError());
      const timer = this.#clock.setTimeout(
        () => finish(() => reject(this.#driver.notConnectedError(timeoutMs))),
        Math.min(timeoutMs, LONGEST_TIMER_MS),
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

  /**
   * Closes the client and leaves its session, ephemerals included, to another process: `connect({ session })` there,
   * within the session's timeout. Watches do not move with it. Rejects with `NotConnectedError` where there is no session.
   */
  handOver(): Promise<SessionTicket> {
    return this.#driver.handOver();
  }

  /** Explicit resource management: `await using client = await connect(...)`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  protected call<T>({ opcode, path, args, options, isAbsolute, onReply }: Call): Promise<T> {
    return new Promise((resolve, reject) => {
      const chroot = isAbsolute ? "" : this.#chroot;
      // The object is this call's own: another one for each call would be felt.
      if (path !== undefined) (args as { path?: string }).path = withChroot(chroot, path);
      const onResult =
        onReply === undefined
          ? resolve
          : (value: never) => {
              onReply(value);
              resolve(value);
            };
      this.#submit(new Request(opcode, chroot, args, onResult, reject), options);
    });
  }

  protected watchOnce(
    kind: OneShotKind,
    path: string,
    listener: WatchListener,
    signal: AbortSignal | undefined,
  ): void {
    this.#driver.watches.addOnce(withChroot(this.#chroot, path), kind, listener, signal);
  }

  protected nowMs(): number {
    return this.#clock.now();
  }

  protected forgetWatches(path: string, kind: WatchKind): void {
    this.#driver.watches.remove(withChroot(this.#chroot, path), kind);
  }

  #submit(request: Request, options: CallOptions | undefined): void {
    if (options?.signal !== undefined || options?.timeoutMs !== undefined) {
      limitCall(request, options, this.#clock);
      if (request.isOver) return;
    }
    this.#driver.submit(request);
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
