import { campaign } from "../zookeeper/recipes/election";
import type { LineClient } from "../zookeeper/recipes/line";
import { type RelayEnd, type RelayOptions, runRelay } from "./relay";
import type { Elect } from "./standby";

const STAND_BY_AGAIN_MS = 100;

/** A turn outlives a suspended connection: what a relay commits is fenced, and it may be back before its session ends. */
export const standingForElection =
  (client: LineClient): Elect =>
  (path, signal) =>
    campaign(client, path, { signal, whenSuspended: "keep" });

/** As {@link runRelay}; but a relay whose turn another one has taken stands by again. */
export async function relayInTurns(options: RelayOptions, signal: AbortSignal): Promise<RelayEnd> {
  for (;;) {
    const end = await runRelay(options, signal);
    if (end.reason !== "superseded" || signal.aborted) return end;
    await options.clock.sleep(STAND_BY_AGAIN_MS, signal);
  }
}
