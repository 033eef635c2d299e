import { movesData, type Part } from "../../lib/simulation/steps";
import type { MultiResult, Op, ZooKeeperClient } from "../../lib/zookeeper";

export interface Fault {
  /** Which multis it is about: those that move data. */
  readonly kind: Part;
  /** The how-manieth commit of the kind, from 1: of those sent for `before`, of those that took effect for `after`. */
  readonly nth: number;
  /** Runs before the multi is sent. */
  readonly before?: () => Promise<void> | void;
  /** Runs when the multi has taken effect, before the caller hears of it. */
  readonly after?: (result: MultiResult) => Promise<void> | void;
}

/** The client with one fault in it; everything else goes through. */
export function withFault(client: ZooKeeperClient, fault: Fault): ZooKeeperClient {
  let sent = 0;
  let effective = 0;
  const multi = async (ops: readonly Op[]): Promise<MultiResult> => {
    const counts = movesData(ops, fault.kind);
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
