import type { PipelineLayout } from "../checkpoint/layout";
import { encodeRelayReport, type RelayReport } from "../checkpoint/relay-report";
import { createPath } from "../checkpoint/scope";
import type { Clock } from "../clock";
import type { Log } from "../log";
import { NoNodeError, type ZooKeeperClient } from "../zookeeper";

// A report costs a quorum write, so it is written when something changed, and at most this often.
const REPORT_INTERVAL_MS = 1_000;

/**
 * Keeps an ephemeral znode with the relay's report for as long as the relay works, so that `status` and `top` can say
 * whether one is there. It is made again when its session ended. Nothing depends on it: what goes wrong here is
 * logged, and the relay goes on. Resolves when the signal has aborted and the znode is taken away.
 */
export async function keepPresence(
  client: ZooKeeperClient,
  layout: PipelineLayout,
  report: () => RelayReport,
  { clock, log }: { readonly clock: Clock; readonly log: Log },
  signal: AbortSignal,
): Promise<void> {
  let path: string | undefined;
  let written: Buffer | undefined;
  while (!signal.aborted) {
    try {
      const data = encodeRelayReport(report());
      if (path !== undefined && !(await client.exists(path))) path = undefined;
      if (path === undefined) path = await appear(client, layout, data);
      else if (written?.equals(data) === false) await client.setData(path, data);
      written = data;
    } catch (error) {
      log("debug", "the relay's report was not written", { pipeline: layout.pipeline, error });
    }
    await clock.sleep(REPORT_INTERVAL_MS, signal);
  }
  // A session that ends takes it away, too.
  if (path !== undefined) await client.delete(path).catch(() => undefined);
}

async function appear(client: ZooKeeperClient, layout: PipelineLayout, data: Buffer): Promise<string> {
  const create = async (): Promise<string> =>
    (await client.create(`${layout.relays}/relay-`, data, { mode: "ephemeral-sequential" })).path;
  return create().catch(async (error: unknown) => {
    if (!(error instanceof NoNodeError)) throw error;
    await createPath(client, layout.relays);
    return create();
  });
}
