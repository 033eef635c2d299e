import { lookup } from "node:dns/promises";
import {
  definePipeline,
  mapAsync,
  type PipelineDefinition,
  readZnodeChanges,
  text,
  writeToZnodes,
} from "beamkeeper";

/** Rejects with an error whose code is ENOTFOUND where there is no such host. */
export type LookUp = (host: string, signal: AbortSignal) => Promise<string>;

/**
 * Enrichment with asynchronous calls: instances register below /hosts with the name of their host, and what it resolves
 * to is written below /addresses. Up to 50 names are looked up at a time; one that takes longer than two seconds, or a
 * name server that fails, is tried again with its bundle, and goes to dead-letter at last.
 */
export function hostAddresses(lookUp: LookUp): PipelineDefinition {
  return definePipeline({
    name: "host-addresses",
    build: (root) => {
      root
        .apply(
          readZnodeChanges("/hosts/*", {
            ...{ recursive: false, kinds: ["existing", "created", "changed"], decode: text() },
          }),
        )
        .flatMap(({ path, value }) =>
          value === null ? [] : [{ instance: path.slice("/hosts/".length), host: value }],
        )
        .apply(
          mapAsync(
            async ({ instance, host }, { signal }) => ({
              instance,
              host,
              address: await lookUp(host, signal).catch(unknownHost),
            }),
            { concurrency: 50, timeoutMs: 2_000 },
          ),
        )
        .apply(
          writeToZnodes(({ instance, host, address }) => ({
            path: `/addresses/${instance}`,
            data: JSON.stringify({ host, address }),
          })),
        );
    },
  });
}

function unknownHost(error: unknown): null {
  if ((error as { code?: unknown }).code === "ENOTFOUND") return null;
  throw error;
}

export default hostAddresses(async (host) => (await lookup(host)).address);
