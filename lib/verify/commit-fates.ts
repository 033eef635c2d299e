import { decodeCursor, decodeHead } from "../checkpoint/records";
import { MultiError, type MultiResult, type Op, type ZooKeeperClient } from "../zookeeper";

/** What the sender of a commit heard of it. An ambiguous one is known by its id, to be looked for in the log. */
export type CommitFate =
  | { readonly kind: "committed" }
  | { readonly kind: "rejected" }
  | { readonly kind: "ambiguous"; readonly commitId: string };

const HEAD = /\/epochs\/\d+\/stages\/[^/]+\/\d+$/;
const CURSOR = /\/epochs\/\d+\/sources\/[^/]+$/;

/** The client, with a report of what became of each commit that goes through it. */
export function tellingCommits<T extends ZooKeeperClient>(client: T, tell: (fate: CommitFate) => void): T {
  const multi = async (ops: readonly Op[]): Promise<MultiResult> => {
    const fence = fenceOf(ops);
    if (fence === undefined) return client.multi(ops);
    try {
      const result = await client.multi(ops);
      tell({ kind: "committed" });
      return result;
    } catch (error) {
      const commitId = idIn(fence);
      if (error instanceof MultiError) tell({ kind: "rejected" });
      else if (commitId !== undefined) tell({ kind: "ambiguous", commitId });
      throw error;
    }
  };
  const bound = new Map<string | symbol, unknown>([["multi", multi]]);
  return new Proxy(client, {
    get(target, name) {
      if (bound.has(name)) return bound.get(name);
      const value: unknown = Reflect.get(target, name, target);
      if (typeof value !== "function") return value;
      const method: unknown = value.bind(target);
      bound.set(name, method);
      return method;
    },
  });
}

type Fence = Extract<Op, { type: "setData" }>;

/** The write that makes the multi a commit; undefined where it is none. */
function fenceOf(ops: readonly Op[]): Fence | undefined {
  for (const op of ops) if (op.type === "setData" && (HEAD.test(op.path) || CURSOR.test(op.path))) return op;
  return undefined;
}

/** Undefined where a failure is noted of a shard that has committed nothing yet. */
function idIn({ path, data }: Fence): string | undefined {
  const decode = HEAD.test(path) ? decodeHead : decodeCursor;
  return decode(Buffer.from(data), path).ids[0];
}

/** Commits counted by what their senders heard, and how the ambiguous ones ended. */
export interface FateCounts {
  readonly committed: number;
  readonly rejected: number;
  readonly ambiguous: number;
  /** Ambiguous commits, each id once, that the log holds, and those that it does not. */
  readonly ambiguousTookEffect: number;
  readonly ambiguousDidNot: number;
}

export function countFates(fates: readonly CommitFate[], inLog: ReadonlySet<string>): FateCounts {
  const count = (kind: CommitFate["kind"]): number => fates.filter((fate) => fate.kind === kind).length;
  const ids = new Set(fates.flatMap((fate) => (fate.kind === "ambiguous" ? [fate.commitId] : [])));
  const took = [...ids].filter((id) => inLog.has(id)).length;
  return {
    committed: count("committed"),
    rejected: count("rejected"),
    ambiguous: count("ambiguous"),
    ambiguousTookEffect: took,
    ambiguousDidNot: ids.size - took,
  };
}
