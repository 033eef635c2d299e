import type { MultiResult, Op, OpResult } from "../zookeeper";
import type { LoggedOp, LoggedTransaction } from "../zookeeper/transaction-log";
import { ModelClient } from "./model-client";
import { ModelTree, Preparation, type Transaction } from "./model-tree";
import type { VirtualTime } from "./virtual-time";

/** One server: it applies the log in order, some time after the leader has decided. */
export class ModelServer {
  readonly tree = new ModelTree();
  /** Transactions of the log that it has applied. */
  applied = 0;
  readonly clients = new Set<ModelClient>();
  /** What waits until so many transactions are applied. */
  private waiting: { readonly index: number; readonly run: () => void }[] = [];

  apply(transaction: Transaction): void {
    this.applied += 1;
    this.tree.apply(transaction);
    if (transaction.events.length > 0) for (const client of this.clients) client.hear(transaction);
    if (this.waiting.length === 0) return;
    const ready = this.waiting.filter(({ index }) => index <= this.applied);
    this.waiting = this.waiting.filter(({ index }) => index > this.applied);
    for (const { run } of ready) run();
  }

  /** Runs the callback as soon as `index` transactions are applied; at once where they are. */
  whenApplied(index: number, run: () => void): void {
    if (this.applied >= index) run();
    else this.waiting.push({ index, run });
  }
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
  /** The transactions that took effect, as a server would write them to its disk. */
  readonly onDisk: LoggedTransaction[] = [];
  private readonly leader = new ModelTree();
  private lastSession = 0n;
  readonly servers: readonly ModelServer[];
  /** Added to the virtual time: a new leader may have another clock. */
  clockSkewMs = 0;
  /** The latest time that a leader has given. */
  latestMs = 0;

  constructor(
    readonly time: VirtualTime,
    readonly options: EnsembleOptions,
  ) {
    this.servers = Array.from({ length: options.servers }, () => new ModelServer());
  }

  get length(): number {
    return this.log.length;
  }

  /** The leader's clock. It gives whole milliseconds, as servers do. */
  now(): number {
    return Math.floor(this.time.now() + this.clockSkewMs);
  }

  connect(): ModelClient {
    return new ModelClient(this);
  }

  newSession(): bigint {
    this.lastSession += 1n;
    return this.lastSession;
  }

  anyServer(): ModelServer {
    return this.servers[this.time.between(0, this.servers.length - 1)]!;
  }

  /** Decides a write; throws its error. A failed write takes a zxid too, as the real one does. */
  decide(ops: readonly Op[], isMulti: boolean, session: bigint): MultiResult {
    const zxid = this.leader.zxid + 1n;
    this.latestMs = Math.max(this.latestMs, this.now());
    try {
      const preparation = new Preparation(this.leader, zxid, this.now(), session);
      const { transaction, results } = preparation.run(ops, isMulti);
      this.append(transaction);
      const logged = ops.map((op, index) => toLogged(op, results[index]!));
      this.onDisk.push({
        ...{ zxid, isMulti, sessionId: session, isSessionEnd: false },
        timeMs: this.now(),
        ops: logged,
      });
      return { zxid, results };
    } catch (error) {
      this.append({ zxid, changes: [], events: [] });
      throw error;
    }
  }

  /** The session's ephemerals go, in one transaction. */
  closeSession(session: bigint): void {
    const zxid = this.leader.zxid + 1n;
    const deletions = this.leader.ephemeralsOf(session).map((path): Op => ({ type: "delete", path }));
    const preparation = new Preparation(this.leader, zxid, this.now(), session);
    this.append(preparation.run(deletions, true).transaction);
  }

  private append(transaction: Transaction): void {
    this.leader.apply(transaction);
    this.log.push(transaction);
    // Servers apply in the order of the log, whichever timer comes first.
    for (const server of this.servers)
      this.time.after(this.time.random() * this.options.lagMs, () => server.apply(this.log[server.applied]!));
  }
}

const NO_BYTES = Buffer.alloc(0);

function toLogged(op: Op, result: OpResult): LoggedOp {
  if (op.type === "create" && result.type === "create") {
    const isEphemeral = op.mode?.startsWith("ephemeral") ?? false;
    return { type: "create", path: result.path, data: Buffer.from(op.data ?? NO_BYTES), isEphemeral };
  }
  if (op.type === "setData" && result.type === "setData")
    return { type: "setData", path: op.path, data: Buffer.from(op.data), version: result.stat.version };
  if (op.type === "delete") return { type: "delete", path: op.path };
  return { type: "check", path: op.path, version: op.type === "check" ? op.version : -1 };
}
