import { NoNodeError, type ZooKeeperClient } from "../zookeeper";
import { reading } from "./commit";
import { decodeJson, encodeJson } from "./encoding";
import type { PipelineLayout } from "./layout";

/**
 * What a relay at work tells of itself, in an ephemeral znode. It is there for people: nothing depends on it, so it
 * is outside the epoch and no part of any commit.
 */
export interface RelayReport {
  /** When the relay began, on its own clock, in ms. */
  readonly startedMs: number;
  readonly epoch: number;
  /** How often a sweep found work that nothing would have woken. Anything but 0 is a defect of Beamkeeper. */
  readonly lostWork: number;
  /** Shards whose last invocation failed: what they were to process waits. */
  readonly failing: readonly {
    readonly stage: string;
    readonly shard: number;
    /** Failures in a row. */
    readonly failures: number;
    readonly error: string;
  }[];
}

export function encodeRelayReport(report: RelayReport): Buffer {
  return encodeJson("relay", report);
}

/** The reports of the relays that are at work on a pipeline, oldest first. */
export async function readRelayReports(
  client: ZooKeeperClient,
  layout: PipelineLayout,
): Promise<RelayReport[]> {
  const names = await orNothing(
    reading(client, async () => (await client.getChildren(layout.relays)).children),
  );
  const reports = (names ?? []).sort().map((name) => {
    const path = `${layout.relays}/${name}`;
    return orNothing(
      reading(
        client,
        async () => decodeJson("relay", (await client.getData(path)).data, path) as RelayReport,
      ),
    );
  });
  return (await Promise.all(reports)).filter((report) => report !== undefined);
}

/** Undefined where the znode is not there: a relay may end while it is looked at. */
async function orNothing<T>(read: Promise<T>): Promise<T | undefined> {
  return read.catch((error: unknown) => {
    if (error instanceof NoNodeError) return undefined;
    throw error;
  });
}
