import {
  AbortError,
  ConnectionLossError,
  type ConnectionState,
  type MultiResult,
  NoNodeError,
  type Op,
  type ProtectedCreateOptions,
  type ReadOptions,
  type Stat,
  type Watch,
  type WatchedEvent,
  type WatchListener,
  type ZooKeeperClient,
  ZooKeeperError,
} from "../zookeeper";
import { protectedCreate } from "../zookeeper/protected-create";
import type { ModelEnsemble, ModelServer } from "./model-ensemble";
import type { ModelTree, Transaction } from "./model-tree";

/**
 * What may become of a request: lost on its way; processed, and the reply lost with the connection; the client
 * killed before it is sent; processed, and the client killed before it hears of it.
 */
export type RequestFault = "request lost" | "reply lost" | "killed before" | "killed after";

/** A request as faults see it. */
export interface ModelRequest {
  readonly kind: "exists" | "getData" | "getChildren" | "sync" | "addWatch" | "write";
  readonly path: string;
  readonly ops: readonly Op[];
}

/** A request on its way; `answer` takes what the client will hear. */
interface SentRequest {
  readonly process: (server: ModelServer, answer: (give: () => never) => void) => void;
  readonly fault: RequestFault | undefined;
  readonly resolve: (value: never) => void;
  readonly reject: (error: unknown) => void;
}

/** Requests, or replies and events, that travel together. */
interface Packet<T> {
  readonly sentAtMs: number;
  readonly content: T[];
}

interface Registration {
  readonly path: string;
  readonly recursive: boolean;
  readonly listener: WatchListener;
  /** Of a one-shot watch: whether what it waits for is a change of a znode that was there, or its creation. */
  readonly once?: "data" | "exist";
  /** The server still has it; a one-shot watch ends there with the event, which may be lost on its way. */
  isArmed: boolean;
  readonly release?: () => void;
}

/** A promise of its own each time: one for all would keep everything that ever waited for it in memory. */
const never = (): Promise<never> => new Promise(() => undefined);
const NO_OPS: readonly Op[] = [];
/** How long a session outlives its process or a process that stands still, in ms. */
export const SESSION_TIMEOUT_MS = 3_000;

/** One client of the model. Its faults are methods: lose the connection, expire, freeze, die. */
export class ModelClient implements ZooKeeperClient {
  state: ConnectionState = "connected";
  lastZxid = 0n;
  dead = false;
  /** Called when the process dies. */
  onDeath: () => void = () => undefined;
  /** Asked before each request is sent: where faults come in. */
  fault: (request: ModelRequest) => RequestFault | undefined = () => undefined;
  private server: ModelServer;
  private session: bigint;
  private connection = 0;
  private frozenUntilMs = 0;
  private sending: Packet<SentRequest> | undefined;
  private receiving: Packet<() => void> | undefined;
  private arriveAtMs = 0;
  private deliverAtMs = 0;
  /** At the server: requests that wait because one before them is not answered yet. */
  private arrived: SentRequest[] = [];
  private isBusy = false;
  private readonly pending = new Set<SentRequest>();
  private readonly watches = new Set<Registration>();
  private reconnected: (() => void)[] = [];
  private readonly stateListeners = new Set<(state: ConnectionState) => void>();

  constructor(private readonly ensemble: ModelEnsemble) {
    this.server = ensemble.anyServer();
    this.session = ensemble.newSession();
    this.server.clients.add(this);
  }

  create(
    path: string,
    data?: Uint8Array,
    options?: ProtectedCreateOptions,
  ): Promise<{ path: string; stat: Stat }> {
    const { time } = this.ensemble;
    if (options?.withProtection) {
      const create = (name: string) => this.create(name, data, { ...options, withProtection: false });
      return protectedCreate(this, path, options, () => time.now(), create, time.uniqueId());
    }
    const op: Op = {
      type: "create",
      path,
      ...(data ? { data } : {}),
      ...(options?.mode ? { mode: options.mode } : {}),
    };
    return this.write([op], false).then(({ results }) => {
      const { path: created, stat } = results[0] as { path: string; stat: Stat };
      return { path: created, stat };
    });
  }

  async delete(path: string, version = -1): Promise<void> {
    await this.write([{ type: "delete", path, version }], false);
  }

  setData(path: string, data: Uint8Array, version = -1): Promise<Stat> {
    return this.write([{ type: "setData", path, data, version }], false).then(
      ({ results }) => (results[0] as { stat: Stat }).stat,
    );
  }

  multi(ops: readonly Op[]): Promise<MultiResult> {
    return this.write(ops, true);
  }

  exists(path: string, options?: ReadOptions): Promise<Stat | null> {
    const { watch, watchSignal, ...others } = options ?? {};
    if (!watch) return this.read("exists", path, options, ({ tree }) => tree.get(path)?.stat ?? null);
    let forget = (): void => undefined;
    const looked = this.read("exists", path, others, ({ tree }) => {
      const stat = tree.get(path)?.stat ?? null;
      forget = this.watchOnce(path, stat ? "data" : "exist", watch, watchSignal);
      return stat;
    });
    // Whose reply is lost leaves no watch.
    looked.catch(() => forget());
    return looked;
  }

  getData(path: string, options?: ReadOptions): Promise<{ data: Buffer; stat: Stat; zxid: bigint }> {
    return this.read("getData", path, options, ({ tree }) => {
      const znode = tree.get(path);
      if (!znode) throw absent(path);
      return { data: znode.data, stat: znode.stat, zxid: tree.zxid };
    });
  }

  getChildren(
    path: string,
    options?: ReadOptions,
  ): Promise<{ children: string[]; stat: Stat; zxid: bigint }> {
    return this.read("getChildren", path, options, ({ tree }) => {
      const znode = tree.get(path);
      if (!znode) throw absent(path);
      return { children: tree.childrenOf(path), stat: znode.stat, zxid: tree.zxid };
    });
  }

  sync(path = "/"): Promise<void> {
    return this.request("sync", path, NO_OPS, (server, answer) =>
      server.whenApplied(this.ensemble.length, () => answer(() => undefined)),
    );
  }

  addWatch(
    path: string,
    mode: "persistent" | "persistentRecursive",
    listener: WatchListener,
  ): Promise<Watch> {
    const registration = { path, recursive: mode === "persistentRecursive", listener, isArmed: true };
    const remove = (): void => void this.watches.delete(registration);
    const armed = this.request<Watch>("addWatch", path, NO_OPS, (_server, answer) => {
      this.watches.add(registration);
      answer(() => ({ remove }));
    });
    armed.catch(remove);
    return armed;
  }

  connected(): Promise<void> {
    if (this.dead) return never();
    if (this.state === "connected") return Promise.resolve();
    return new Promise((resolve) => this.reconnected.push(resolve));
  }

  onState(listener: (state: ConnectionState) => void): () => void {
    this.stateListeners.add(listener);
    return () => void this.stateListeners.delete(listener);
  }

  async close(): Promise<void> {
    if (!this.dead) this.ensemble.closeSession(this.session);
    this.die();
  }

  /** The process is gone: nothing that it waits for ever happens. Its session expires after a while. */
  die(): void {
    if (this.dead) return;
    this.dead = true;
    this.onDeath();
    this.disconnect();
    for (const watch of this.watches) this.take(watch);
    this.stateListeners.clear();
    const { session } = this;
    this.ensemble.time.after(SESSION_TIMEOUT_MS, () => this.ensemble.closeSession(session));
  }

  /** The connection breaks: what is under way is ambiguous; another server is found after a while. */
  lose(): void {
    if (this.dead || this.state !== "connected") return;
    this.state = "suspended";
    const lost = [...this.pending];
    this.disconnect();
    this.whenAwake(() => {
      this.announce("suspended");
      for (const { reject } of lost)
        reject(new ConnectionLossError("the connection was lost", "ambiguous", -4));
      this.ensemble.time.after(this.ensemble.time.between(1, 300), () => this.reconnect());
    });
  }

  /** The session expires: its ephemerals go, its watches end, and a new session opens by itself. */
  expire(): void {
    if (this.dead) return;
    this.ensemble.closeSession(this.session);
    this.session = this.ensemble.newSession();
    const listeners = [...this.watches].map(({ listener }) => listener);
    for (const watch of this.watches) this.take(watch);
    this.lose();
    this.whenAwake(() => {
      this.announce("lost");
      for (const listener of listeners) listener({ type: "ended", reason: "expired" });
    });
  }

  /** The process stands still: it hears nothing for so long, and its session may expire meanwhile. */
  freeze(ms: number): void {
    const { time } = this.ensemble;
    this.frozenUntilMs = Math.max(this.frozenUntilMs, time.now() + ms);
    if (ms > SESSION_TIMEOUT_MS) time.after(SESSION_TIMEOUT_MS, () => this.expire());
  }

  get isAwake(): boolean {
    return !this.dead && this.frozenUntilMs <= this.ensemble.time.now();
  }

  /** Runs the callback at once, or when the process goes on; never when it is dead. */
  whenAwake(run: () => void): void {
    if (this.dead) return;
    const waitMs = this.frozenUntilMs - this.ensemble.time.now();
    if (waitMs > 0) this.ensemble.time.after(waitMs, () => this.whenAwake(run));
    else run();
  }

  private announce(state: ConnectionState): void {
    for (const listener of this.stateListeners) listener(state);
  }

  private disconnect(): void {
    this.connection += 1;
    this.server.clients.delete(this);
    this.pending.clear();
    this.arrived = [];
    this.isBusy = false;
    this.sending = this.receiving = undefined;
  }

  private reconnect(): void {
    if (this.dead) return;
    const server = this.ensemble.anyServer();
    // A server that is behind what this client has seen refuses it.
    if (server.tree.zxid < this.lastZxid) {
      this.ensemble.time.after(this.ensemble.time.between(1, 50), () => this.reconnect());
      return;
    }
    this.server = server;
    this.state = "connected";
    server.clients.add(this);
    this.whenAwake(() => this.announce("connected"));
    this.rearm(server.tree);
    const waiting = this.reconnected;
    this.reconnected = [];
    for (const resolve of waiting) resolve();
  }

  /** What happened to a one-shot watch's znode meanwhile is told now; who has a persistent watch hears of a gap. */
  private rearm(tree: ModelTree): void {
    for (const watch of this.watches) {
      if (!watch.once) {
        this.deliver(() => watch.listener({ type: "gap" }));
        continue;
      }
      const stat = tree.get(watch.path)?.stat;
      const hasChanged = watch.once === "exist" ? stat : !stat || stat.mzxid > this.lastZxid;
      watch.isArmed = !hasChanged;
      const type = watch.once === "exist" ? "created" : stat ? "dataChanged" : "deleted";
      if (hasChanged) this.fire(watch, { type, path: watch.path, zxid: -1n });
    }
  }

  private watchOnce(
    path: string,
    once: "data" | "exist",
    listener: WatchListener,
    signal: AbortSignal | undefined,
  ): () => void {
    const forget = (): void => void this.take(watch);
    const release = (): void => signal?.removeEventListener("abort", forget);
    const watch: Registration = { path, recursive: false, listener, once, isArmed: true, release };
    if (signal?.aborted) return forget;
    this.watches.add(watch);
    signal?.addEventListener("abort", forget, { once: true });
    return forget;
  }

  private take(watch: Registration): boolean {
    watch.release?.();
    return this.watches.delete(watch);
  }

  /** The event of a one-shot watch, on its way to its listener. */
  private fire(watch: Registration, event: WatchedEvent): void {
    watch.isArmed = false;
    this.deliver(() => {
      if (this.take(watch)) watch.listener({ type: "event", event });
    });
  }

  /** Events leave the server when it applies the transaction, before any reply that reflects it. */
  hear({ zxid, events }: Transaction): void {
    if (this.watches.size === 0) return;
    for (const { type, path } of events) {
      for (const watch of this.watches) {
        const below = watch.recursive && (watch.path === "/" || path.startsWith(`${watch.path}/`));
        if (watch.once) {
          if (watch.isArmed && path === watch.path) this.fire(watch, { type, path, zxid });
        } else if (path === watch.path || below)
          this.deliver(() => watch.listener({ type: "event", event: { type, path, zxid } }));
      }
    }
  }

  private write(ops: readonly Op[], isMulti: boolean): Promise<MultiResult> {
    return this.request<MultiResult>("write", ops[0]?.path ?? "/", ops, (server, answer) => {
      const give = outcomeOf(() => this.ensemble.decide(ops, isMulti, this.session));
      server.whenApplied(this.ensemble.length, () => answer(give));
    });
  }

  private read<T>(
    kind: ModelRequest["kind"],
    path: string,
    options: ReadOptions | undefined,
    look: (server: ModelServer) => T,
  ): Promise<T> {
    if (options?.watch) throw new Error("the model has one-shot watches of exists alone");
    // What the server holds when it processes the request is the answer, whatever it holds when the reply arrives.
    const answered = this.request<T>(kind, path, NO_OPS, (server, answer) =>
      answer(outcomeOf(() => look(server))),
    );
    return options?.signal ? untilAborted(answered, path, options.signal) : answered;
  }

  /** Sends; the server processes in the order of sending, and its replies come in the order of processing. */
  private request<T>(
    kind: ModelRequest["kind"],
    path: string,
    ops: readonly Op[],
    process: (server: ModelServer, answer: (give: () => T) => void) => void,
  ): Promise<T> {
    if (this.dead) return never();
    if (this.state !== "connected")
      return this.connected().then(() => this.request(kind, path, ops, process));
    const fault = this.fault({ kind, path, ops });
    if (fault === "killed before") this.die();
    if (this.dead) return never();
    // What a request gives is known to its caller alone; on the way it is anything.
    return new Promise<T>((resolve, reject) =>
      this.send({ fault, resolve, reject, process } as unknown as SentRequest),
    );
  }

  private reply({ resolve, reject }: SentRequest, give: () => never, zxid: bigint): void {
    if (zxid > this.lastZxid) this.lastZxid = zxid;
    try {
      resolve(give());
    } catch (error) {
      if (error instanceof ZooKeeperError) error.zxid = zxid;
      reject(error);
    }
  }

  /** What is sent at one moment travels together. */
  private send(request: SentRequest): void {
    const { time, options } = this.ensemble;
    this.pending.add(request);
    if (this.sending?.sentAtMs === time.now()) {
      this.sending.content.push(request);
      return;
    }
    const { connection } = this;
    const packet = { sentAtMs: time.now(), content: [request] };
    this.sending = packet;
    this.arriveAtMs = Math.max(this.arriveAtMs, time.now() + time.random() * options.latencyMs);
    time.after(this.arriveAtMs - time.now(), () => {
      // What a server gets over a connection that is gone is refused, as by a session that has moved.
      if (connection !== this.connection) return;
      if (this.sending === packet) this.sending = undefined;
      this.arrived.push(...packet.content);
      this.process();
    });
  }

  /** The server's part: one request after the other; a write or sync that waits holds up what is behind it. */
  private process(): void {
    const { connection } = this;
    while (!this.isBusy && connection === this.connection) {
      const request = this.arrived.shift();
      if (!request) return;
      if (request.fault === "request lost") {
        this.lose();
        return;
      }
      this.isBusy = true;
      let isLater = false;
      const { server } = this;
      request.process(server, (give) => {
        if (connection !== this.connection) return;
        this.isBusy = false;
        const { zxid } = server.tree;
        if (request.fault === "reply lost") this.lose();
        else if (request.fault === "killed after") this.die();
        else {
          this.deliver(() => {
            this.pending.delete(request);
            this.reply(request, give, zxid);
          });
        }
        if (isLater) this.process();
      });
      isLater = true;
    }
  }

  /** What leaves the server at one moment arrives together. */
  private deliver(hear: () => void): void {
    const { time, options } = this.ensemble;
    if (this.receiving?.sentAtMs === time.now()) {
      this.receiving.content.push(hear);
      return;
    }
    const { connection } = this;
    const packet = { sentAtMs: time.now(), content: [hear] };
    this.receiving = packet;
    this.deliverAtMs = Math.max(this.deliverAtMs, time.now() + time.random() * options.latencyMs);
    const arrive = (): void => {
      if (this.receiving === packet) this.receiving = undefined;
      for (const each of packet.content) if (connection === this.connection) each();
    };
    time.after(this.deliverAtMs - time.now(), () => this.whenAwake(arrive));
  }
}

/** Does it now, and gives what came of it, or throws it, when it is asked. */
function outcomeOf<T>(work: () => T): () => T {
  try {
    const value = work();
    return () => value;
  } catch (error) {
    return () => {
      throw error;
    };
  }
}

/** The reply, unless the signal is aborted before. */
async function untilAborted<T>(reply: Promise<T>, path: string, signal: AbortSignal): Promise<T> {
  let abort = (): void => undefined;
  const aborted = new Promise<never>((_, reject) => {
    abort = () => reject(new AbortError(`${path}: the call was aborted`, "retryable", undefined, path));
    if (signal.aborted) abort();
    else signal.addEventListener("abort", abort, { once: true });
  });
  try {
    return await Promise.race([reply, aborted]);
  } finally {
    signal.removeEventListener("abort", abort);
  }
}

function absent(path: string): NoNodeError {
  return new NoNodeError(`${path} does not exist`, "terminal", -101, path);
}
