import {
  ConnectionLossError,
  type ConnectionState,
  type CreateMode,
  type MultiResult,
  NoNodeError,
  type Op,
  type Stat,
  type Watch,
  type WatchListener,
  type ZooKeeperClient,
  ZooKeeperError,
} from "../../lib/zookeeper";
import { ModelTree, Preparation, type Transaction } from "./model-tree";
import type { VirtualTime } from "./virtual-time";

interface Server {
  readonly tree: ModelTree;
  /** Transactions of the log that it has applied. */
  applied: number;
  readonly clients: Set<ModelClient>;
  /** What waits until so many transactions are applied. */
  waiting: { readonly index: number; readonly resolve: () => void }[];
}

export interface EnsembleOptions {
  readonly servers: number;
  /** The greatest delay of a message, in ms. */
  readonly latencyMs: number;
  /** How far a server may be behind the leader, in ms. */
  readonly lagMs: number;
}

/** A deterministic ensemble: one log, a leader that decides, servers that follow it with some delay. */
export class ModelEnsemble {
  private readonly log: Transaction[] = [];
  private readonly leader = new ModelTree();
  readonly servers: Server[];
  /** Added to the virtual time: a new leader may have another clock. */
  clockSkewMs = 0;
  /** The latest time that a leader has given. */
  latestMs = 0;

  constructor(
    readonly time: VirtualTime,
    readonly options: EnsembleOptions,
  ) {
    this.servers = Array.from({ length: options.servers }, () => ({
      tree: new ModelTree(),
      applied: 0,
      clients: new Set<ModelClient>(),
      waiting: [],
    }));
  }

  get length(): number {
    return this.log.length;
  }

  /** The leader's clock. */
  now(): number {
    return this.time.now() + this.clockSkewMs;
  }

  connect(): ModelClient {
    return new ModelClient(this);
  }

  /** Decides a write; throws its error. A failed write takes a zxid too, as the real one does. */
  decide(ops: readonly Op[], isMulti: boolean): MultiResult {
    const zxid = this.leader.zxid + 1n;
    this.latestMs = Math.max(this.latestMs, this.now());
    try {
      const { transaction, results } = new Preparation(this.leader, zxid, this.now()).run(ops, isMulti);
      this.append(transaction);
      return { zxid, results };
    } catch (error) {
      this.append({ zxid, changes: [], events: [] });
      throw error;
    }
  }

  private append(transaction: Transaction): void {
    this.leader.apply(transaction);
    this.log.push(transaction);
    for (const server of this.servers)
      this.time.after(this.time.random() * this.options.lagMs, () => this.applyNext(server));
  }

  /** Servers apply in the order of the log, whichever timer comes first. */
  private applyNext(server: Server): void {
    const transaction = this.log[server.applied]!;
    server.applied += 1;
    server.tree.apply(transaction);
    for (const client of server.clients) client.hear(transaction);
    const ready = server.waiting.filter(({ index }) => index <= server.applied);
    server.waiting = server.waiting.filter(({ index }) => index > server.applied);
    for (const { resolve } of ready) resolve();
  }

  caughtUp(server: Server, index: number): Promise<void> {
    if (server.applied >= index) return Promise.resolve();
    return new Promise((resolve) => server.waiting.push({ index, resolve }));
  }
}

/** What a request gives at the server, with the reply header's zxid. */
type Answer<T> = () => T;

interface Registration {
  readonly path: string;
  readonly recursive: boolean;
  readonly listener: WatchListener;
}

/**
 * What may become of a request: lost on its way; processed, and the reply lost with the connection; the client
 * killed before it is sent; processed, and the client killed before it hears of it.
 */
export type Fault = "request lost" | "reply lost" | "killed before" | "killed after";

const NEVER: Promise<never> = new Promise(() => undefined);

/** One client of the model. Its faults are methods: lose the connection, expire, die. */
export class ModelClient implements ZooKeeperClient {
  state: ConnectionState = "connected";
  lastZxid = 0n;
  private server: Server;
  private connection = 0;
  dead = false;
  /** Called when the process dies. */
  onDeath: () => void = () => undefined;
  private arrivals: Promise<void> = Promise.resolve();
  private deliverAtMs = 0;
  private pending = new Set<(error: Error) => void>();
  private readonly watches = new Set<Registration>();
  private reconnected: (() => void)[] = [];
  /** Asked before each request is sent: where faults come in. */
  fault: (kind: string, ops: readonly Op[]) => Fault | undefined = () => undefined;

  constructor(private readonly ensemble: ModelEnsemble) {
    const { servers, time } = ensemble;
    this.server = servers[time.between(0, servers.length - 1)]!;
    this.server.clients.add(this);
  }

  create(
    path: string,
    data?: Uint8Array,
    options?: { mode?: CreateMode },
  ): Promise<{ path: string; stat: Stat }> {
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

  exists(path: string): Promise<Stat | null> {
    return this.read("exists", () => this.server.tree.get(path)?.stat ?? null);
  }

  getData(path: string): Promise<{ data: Buffer; stat: Stat; zxid: bigint }> {
    return this.read("getData", () => {
      const { tree } = this.server;
      const znode = tree.get(path);
      if (znode) return { data: Buffer.from(znode.data), stat: znode.stat, zxid: tree.zxid };
      throw absent(path, tree.zxid);
    });
  }

  getChildren(path: string): Promise<{ children: string[]; stat: Stat }> {
    return this.read("getChildren", () => {
      const { tree } = this.server;
      const znode = tree.get(path);
      if (!znode) throw absent(path, tree.zxid);
      return { children: tree.childrenOf(path), stat: znode.stat };
    });
  }

  sync(): Promise<void> {
    return this.request("sync", [], async () => {
      await this.ensemble.caughtUp(this.server, this.ensemble.length);
      return () => undefined;
    });
  }

  addWatch(
    path: string,
    mode: "persistent" | "persistentRecursive",
    listener: WatchListener,
  ): Promise<Watch> {
    const registration = { path, recursive: mode === "persistentRecursive", listener };
    const remove = (): void => void this.watches.delete(registration);
    const armed = this.request("addWatch", [], async () => {
      this.watches.add(registration);
      return () => ({ remove });
    });
    armed.catch(remove);
    return armed;
  }

  connected(): Promise<void> {
    if (this.dead) return NEVER;
    if (this.state === "connected") return Promise.resolve();
    return new Promise((resolve) => this.reconnected.push(resolve));
  }

  onState(): () => void {
    return () => undefined;
  }

  async close(): Promise<void> {
    this.die();
  }

  /** The process is gone: nothing that it waits for ever happens. */
  die(): void {
    if (this.dead) return;
    this.dead = true;
    this.onDeath();
    this.connection += 1;
    this.server.clients.delete(this);
    this.watches.clear();
    this.pending.clear();
  }

  /** The connection breaks: what is under way is ambiguous; another server is found after a while. */
  lose(): void {
    if (this.dead || this.state !== "connected") return;
    this.state = "suspended";
    this.connection += 1;
    this.server.clients.delete(this);
    const rejects = [...this.pending];
    this.pending.clear();
    for (const reject of rejects) reject(new ConnectionLossError("the connection was lost", "ambiguous", -4));
    this.ensemble.time.after(this.ensemble.time.between(1, 300), () => this.reconnect());
  }

  /** The session expires: its watches end, and a new session opens by itself. */
  expire(): void {
    if (this.dead) return;
    const listeners = [...this.watches].map(({ listener }) => listener);
    this.watches.clear();
    this.lose();
    for (const listener of listeners) listener({ type: "ended", reason: "expired" });
  }

  private reconnect(): void {
    if (this.dead) return;
    const { servers, time } = this.ensemble;
    const server = servers[time.between(0, servers.length - 1)]!;
    // A server that is behind what this client has seen refuses it.
    if (server.tree.zxid < this.lastZxid) {
      time.after(time.between(1, 50), () => this.reconnect());
      return;
    }
    this.server = server;
    this.state = "connected";
    this.arrivals = Promise.resolve();
    server.clients.add(this);
    for (const { listener } of this.watches) this.deliver(() => listener({ type: "gap" }));
    const waiting = this.reconnected;
    this.reconnected = [];
    for (const resolve of waiting) resolve();
  }

  /** Events leave the server when it applies the transaction, before any reply that reflects it. */
  hear({ zxid, events }: Transaction): void {
    for (const { type, path } of events) {
      for (const watch of this.watches) {
        const below = watch.recursive && (watch.path === "/" || path.startsWith(`${watch.path}/`));
        if (path === watch.path || below)
          this.deliver(() => watch.listener({ type: "event", event: { type, path, zxid } }));
      }
    }
  }

  private write(ops: readonly Op[], isMulti: boolean): Promise<MultiResult> {
    return this.request("write", ops, async () => {
      let answer: Answer<MultiResult>;
      try {
        const result = this.ensemble.decide(ops, isMulti);
        answer = () => result;
      } catch (error) {
        answer = () => {
          throw error;
        };
      }
      await this.ensemble.caughtUp(this.server, this.ensemble.length);
      return answer;
    });
  }

  private read<T>(kind: string, answer: Answer<T>): Promise<T> {
    return this.request(kind, [], async () => {
      // What the server holds now is the answer, whatever it holds when the reply arrives.
      try {
        const value = answer();
        return () => value;
      } catch (error) {
        return () => {
          throw error;
        };
      }
    });
  }

  /** Sends, processes in the order of sending, and delivers in the order of processing. */
  private async request<T>(kind: string, ops: readonly Op[], process: () => Promise<Answer<T>>): Promise<T> {
    if (this.dead) return NEVER;
    await this.connected();
    const fault = this.dead ? undefined : this.fault(kind, ops);
    if (fault === "killed before") this.die();
    if (this.dead) return NEVER;
    const { connection } = this;
    return new Promise<T>((resolve, reject) => {
      this.pending.add(reject);
      const before = this.arrivals;
      this.arrivals = this.arrive(before, connection, async () => {
        if (fault === "request lost") return this.lose();
        const answer = await process();
        if (fault === "reply lost") return this.lose();
        if (fault === "killed after") return this.die();
        const { zxid } = this.server.tree;
        return this.deliver(() => {
          this.pending.delete(reject);
          this.lastZxid = zxid > this.lastZxid ? zxid : this.lastZxid;
          try {
            resolve(answer());
          } catch (error) {
            if (error instanceof ZooKeeperError) error.zxid = zxid;
            reject(error);
          }
        });
      });
    });
  }

  private async arrive(
    before: Promise<void>,
    connection: number,
    process: () => Promise<void>,
  ): Promise<void> {
    const { time, options } = this.ensemble;
    const onTheWay = new Promise<void>((resolve) => time.after(time.random() * options.latencyMs, resolve));
    await before;
    await onTheWay;
    // What a server gets over a connection that is gone is refused, as by a session that has moved.
    if (connection === this.connection) await process();
  }

  private deliver(run: () => void): void {
    const { time, options } = this.ensemble;
    const { connection } = this;
    this.deliverAtMs = Math.max(this.deliverAtMs, time.now() + time.random() * options.latencyMs);
    time.after(this.deliverAtMs - time.now(), () => {
      if (connection === this.connection) run();
    });
  }
}

function absent(path: string, zxid: bigint): NoNodeError {
  const error = new NoNodeError(`${path} does not exist`, "terminal", -101, path);
  error.zxid = zxid;
  return error;
}
