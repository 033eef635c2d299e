import {
  BadVersionError,
  MultiError,
  NoChildrenForEphemeralsError,
  NodeExistsError,
  NoNodeError,
  NotEmptyError,
  type Op,
  type OpResult,
  type Stat,
  type WatchedEventType,
  type ZooKeeperError,
} from "../zookeeper";

/** A znode of the model; replaced, never changed, so that servers and readers can share it. */
export interface Znode {
  readonly data: Buffer;
  readonly stat: Stat;
}

export interface Change {
  readonly path: string;
  readonly znode: Znode | undefined;
}

export interface Transaction {
  readonly zxid: bigint;
  readonly changes: readonly Change[];
  readonly events: readonly { readonly type: WatchedEventType; readonly path: string }[];
}

/** The data of one server: a ZooKeeper tree as far as Beamkeeper uses it. */
export class ModelTree {
  private readonly znodes = new Map<string, Znode>();
  private readonly children = new Map<string, Set<string>>();
  private readonly ephemerals = new Map<string, bigint>();
  zxid = 0n;

  constructor() {
    this.znodes.set("/", { data: Buffer.alloc(0), stat: newStat(0n, 0, 0, 0n) });
  }

  get(path: string): Znode | undefined {
    return this.znodes.get(path);
  }

  childrenOf(path: string): string[] {
    return [...(this.children.get(path) ?? [])];
  }

  ephemeralsOf(session: bigint): string[] {
    return [...this.ephemerals].filter(([, owner]) => owner === session).map(([path]) => path);
  }

  childCount(path: string): number {
    return this.children.get(path)?.size ?? 0;
  }

  apply({ zxid, changes }: Transaction): void {
    this.zxid = zxid;
    for (const { path, znode } of changes) {
      if (znode) {
        if (!this.znodes.has(path)) this.siblingsOf(path).add(nameOf(path));
        this.znodes.set(path, znode);
        if (znode.stat.ephemeralOwner !== 0n) this.ephemerals.set(path, znode.stat.ephemeralOwner);
      } else if (this.znodes.delete(path)) {
        this.siblingsOf(path).delete(nameOf(path));
        this.ephemerals.delete(path);
      }
    }
  }

  private siblingsOf(path: string): Set<string> {
    const parent = parentOf(path);
    let siblings = this.children.get(parent);
    if (!siblings) {
      siblings = new Set();
      this.children.set(parent, siblings);
    }
    return siblings;
  }
}

/** What the leader answers to a write, and the transaction that it makes of it. */
export interface Outcome {
  readonly transaction: Transaction;
  readonly results: readonly OpResult[];
}

/** The leader's part: checks the operations one after the other, each on what the earlier ones leave. */
export class Preparation {
  private readonly changed = new Map<string, Znode | undefined>();
  private readonly childCounts = new Map<string, number>();
  private readonly events: { type: WatchedEventType; path: string }[] = [];

  constructor(
    private readonly tree: ModelTree,
    private readonly zxid: bigint,
    private readonly timeMs: number,
    private readonly sessionId: bigint,
  ) {}

  /** Throws the error of the first operation that fails; then nothing has happened. */
  run(ops: readonly Op[], isMulti: boolean): Outcome {
    const results = ops.map((op, index) => {
      try {
        return this.one(op);
      } catch (error) {
        if (!isMulti) throw error;
        const cause = error as ZooKeeperError;
        throw new MultiError(`operation ${index} of the multi: ${cause.message}`, index, cause);
      }
    });
    const changes = [...this.changed].map(([path, znode]) => ({ path, znode }));
    return { transaction: { zxid: this.zxid, changes, events: this.events }, results };
  }

  private one(op: Op): OpResult {
    if (op.type === "create") return this.create(op);
    const znode = this.at(op.path);
    if (!znode) throw new NoNodeError(`${op.path} does not exist`, "terminal", -101, op.path);
    const { version = -1 } = op;
    if (version !== -1 && version !== znode.stat.version) {
      const message = `${op.path} has version ${znode.stat.version}, not ${version}`;
      throw new BadVersionError(message, "terminal", -103, op.path);
    }
    if (op.type === "check") return { type: "check" };
    return op.type === "delete" ? this.delete(op.path) : this.setData(op.path, op.data, znode);
  }

  private create(op: Extract<Op, { type: "create" }>): OpResult {
    const parentPath = parentOf(op.path);
    const parent = this.at(parentPath);
    if (!parent) throw new NoNodeError(`the parent of ${op.path} does not exist`, "terminal", -101, op.path);
    if (parent.stat.ephemeralOwner !== 0n)
      throw new NoChildrenForEphemeralsError(`${parentPath} is ephemeral`, "terminal", -108, op.path);
    // A sequence counts the creations below the parent; cversion counts the deletions, too.
    const creations = (parent.stat.cversion + this.childCount(parentPath)) / 2;
    const path = op.mode?.endsWith("sequential")
      ? `${op.path}${String(creations).padStart(10, "0")}`
      : op.path;
    if (this.at(path)) throw new NodeExistsError(`${path} exists`, "terminal", -110, path);
    const data = bytesOf(op.data);
    const stat = newStat(
      this.zxid,
      this.timeMs,
      data.length,
      op.mode?.startsWith("ephemeral") ? this.sessionId : 0n,
    );
    this.changed.set(path, { data, stat });
    this.touchParent(parentPath, 1);
    this.events.push({ type: "created", path });
    return { type: "create", path, stat };
  }

  private delete(path: string): OpResult {
    if (this.childCount(path) > 0) throw new NotEmptyError(`${path} has children`, "terminal", -111, path);
    this.changed.set(path, undefined);
    this.touchParent(parentOf(path), -1);
    this.events.push({ type: "deleted", path });
    return { type: "delete" };
  }

  private setData(path: string, bytes: Uint8Array, { stat: old }: Znode): OpResult {
    const data = bytesOf(bytes);
    const stat = {
      ...old,
      mzxid: this.zxid,
      mtime: this.timeMs,
      version: old.version + 1,
      dataLength: data.length,
    };
    this.changed.set(path, { data, stat });
    this.events.push({ type: "dataChanged", path });
    return { type: "setData", stat };
  }

  private at(path: string): Znode | undefined {
    return this.changed.has(path) ? this.changed.get(path) : this.tree.get(path);
  }

  private childCount(path: string): number {
    return this.childCounts.get(path) ?? this.tree.childCount(path);
  }

  private touchParent(path: string, difference: 1 | -1): void {
    const parent = this.at(path)!;
    const numChildren = this.childCount(path) + difference;
    this.childCounts.set(path, numChildren);
    const stat = { ...parent.stat, cversion: parent.stat.cversion + 1, numChildren, pzxid: this.zxid };
    this.changed.set(path, { data: parent.data, stat });
  }
}

const NO_BYTES = Buffer.alloc(0);

/** The bytes as they are: nobody changes a buffer after it was written or read. */
function bytesOf(data: Uint8Array = NO_BYTES): Buffer {
  return Buffer.isBuffer(data) ? data : Buffer.from(data);
}

function newStat(zxid: bigint, timeMs: number, dataLength: number, ephemeralOwner: bigint): Stat {
  return {
    czxid: zxid,
    mzxid: zxid,
    pzxid: zxid,
    ctime: timeMs,
    mtime: timeMs,
    version: 0,
    cversion: 0,
    aversion: 0,
    ephemeralOwner,
    dataLength,
    numChildren: 0,
  };
}

export function parentOf(path: string): string {
  const slash = path.lastIndexOf("/");
  return slash <= 0 ? "/" : path.slice(0, slash);
}

function nameOf(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1);
}
