import { movesData, type Part } from "../../lib/simulation/steps";
import type { MultiResult, Op, ZooKeeperClient } from "../../lib/zookeeper";

/** Which multis a fault is about: a bundle's commit writes a head, a relay's a cursor, that of events their ids. */
export type CommitKind = Part | "intake";

export interface Fault {
  readonly kind: CommitKind;
  /** The how-manieth commit of the kind, from 1: of those sent for `before`, of those that took effect for `after`. */
  readonly nth: number;
  /** Runs before the multi is sent. */
  readonly before?: () => Promise<void> | void;
  /** Runs when the multi has taken effect, before the caller hears of it. */
  readonly after?: (result: MultiResult) => Promise<void> | void;
}

function isOfKind(ops: readonly Op[], kind: CommitKind): boolean {
  return kind === "intake" ? ops.some(isIntake) : movesData(ops, kind);
}

function isIntake({ type, path }: Op): boolean {
  return type === "setData" && /\/ids\/\d+$/.test(path);
}

/** The client with one fault in it; everything else goes through. */
export function withFault(client: ZooKeeperClient, fault: Fault): ZooKeeperClient {
  let sent = 0;
  let effective = 0;
  const multi = async (ops: readonly Op[]): Promise<MultiResult> => {
    const counts = isOfKind(ops, fault.kind);
    if (counts && ++sent === fault.nth) await fault.before?.();
    const result = await client.multi(ops);
    if (counts && ++effective === fault.nth) await fault.after?.(result);
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
