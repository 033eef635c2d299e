import type { MultiResult, Op, ZooKeeperClient } from "../../lib/zookeeper";

/** Which multis a fault is about: a bundle's commit writes a head, a relay's commit a cursor. */
export type CommitKind = "bundle" | "relay";

export interface Fault {
  readonly kind: CommitKind;
  /** The how-manieth commit of the kind, from 1. */
  readonly nth: number;
  /** Runs before the multi is sent. */
  readonly before?: () => Promise<void> | void;
  /** Runs when the multi has taken effect, before the caller hears of it. */
  readonly after?: (result: MultiResult) => Promise<void> | void;
}

const FENCES: Record<CommitKind, RegExp> = {
  bundle: /\/epochs\/\d+\/stages\/[^/]+\/\d+$/,
  relay: /\/epochs\/\d+\/sources\/[^/]+$/,
};

/** Whether the multi is a commit of that kind which moves data: a relay's heartbeat does not count. */
export function isCommit(ops: readonly Op[], kind: CommitKind): boolean {
  const fenced = ops.some((op) => op.type === "setData" && FENCES[kind].test(op.path));
  return (
    fenced && (kind === "bundle" || ops.some((op) => op.type === "create" && op.path.includes("/inbox/")))
  );
}

/** The client with one fault in it; everything else goes through. */
export function withFault(client: ZooKeeperClient, fault: Fault): ZooKeeperClient {
  let count = 0;
  const multi = async (ops: readonly Op[]): Promise<MultiResult> => {
    const hit = isCommit(ops, fault.kind) && ++count === fault.nth;
    if (hit) await fault.before?.();
    const result = await client.multi(ops);
    if (hit) await fault.after?.(result);
    return result;
  };
  return new Proxy(client, {
    get(target, name) {
      if (name === "multi") return multi;
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}
