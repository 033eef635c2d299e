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
    const commitId = commitIdOf(ops);
    try {
      const result = await client.multi(ops);
      if (commitId !== undefined) tell({ kind: "committed" });
      return result;
    } catch (error) {
      if (commitId !== undefined)
        tell(error instanceof MultiError ? { kind: "rejected" } : { kind: "ambiguous", commitId });
      throw error;
    }
  };
  return new Proxy(client, {
    get(target, name) {
      if (name === "multi") return multi;
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

/** The id of the commit that the multi is; undefined where it is none. */
function commitIdOf(ops: readonly Op[]): string | undefined {
  for (const op of ops) {
    if (op.type !== "setData") continue;
    if (HEAD.test(op.path)) return decodeHead(Buffer.from(op.data), op.path).ids[0];
    if (CURSOR.test(op.path)) return decodeCursor(Buffer.from(op.data), op.path).ids[0];
  }
  return undefined;
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
