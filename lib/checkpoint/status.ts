import type { ZooKeeperClient } from "../zookeeper";
import { reading } from "./commit";
import { type PipelineLayout, segmentNames } from "./layout";
import { decodeCursor, decodeHead, type Generation } from "./records";
import { readGeneration } from "./scope";

/** Where a pipeline stands. Each part is as it was when it was read; the parts are read one after the other. */
export interface PipelineStatus {
  readonly generation: Generation;
  readonly sources: readonly { readonly id: string; readonly watermarkMs: number; readonly commits: number }[];
  readonly shards: readonly ShardStatus[];
  /** Committed files that wait for their final names. */
  readonly waitingFiles: number;
}

export interface ShardStatus {
  readonly stage: string;
  readonly shard: number;
  /** Segments in the inbox. */
  readonly backlog: number;
  readonly watermarkMs: number;
  readonly nextTimerMs: number;
  readonly commits: number;
  readonly elementsIn: number;
  readonly elementsOut: number;
  readonly droppedLate: number;
}

/** Reads where a pipeline stands; undefined where it was never started. Rejects with EncodingError or the client's error. */
export async function readStatus(client: ZooKeeperClient, layout: PipelineLayout): Promise<PipelineStatus | undefined> {
  const current = await readGeneration(client, layout);
  if (!current) return undefined;
  const { generation, scope } = current;
  const ids = (await reading(client, () => client.getChildren(scope.sources))).children.sort();
  const sources = await Promise.all(
    ids.map(async (id) => {
      const path = `${scope.sources}/${id}`;
      const cursor = decodeCursor((await reading(client, () => client.getData(path))).data, path);
      return { id: decodeURIComponent(id), watermarkMs: cursor.watermarkMs, commits: cursor.number };
    }),
  );
  const places = Object.entries(generation.shards).flatMap(([stage, shards]) =>
    Array.from({ length: shards }, (_, shard) => ({ stage, shard })),
  );
  const shards = await Promise.all(
    places.map(async ({ stage, shard }): Promise<ShardStatus> => {
      const { inbox, head: path } = scope.shard(stage, shard);
      const backlog = segmentNames((await reading(client, () => client.getChildren(inbox))).children).length;
      const head = decodeHead((await reading(client, () => client.getData(path))).data, path);
      const { watermarkMs, nextTimerMs, number: commits, counters } = head;
      return { stage, shard, backlog, watermarkMs, nextTimerMs, commits, ...counters };
    }),
  );
  const waitingFiles = (await reading(client, () => client.getChildren(scope.outputs))).children.length;
  return { generation, sources, shards, waitingFiles };
}

/** Whether everything up to `timeMs` has been read, processed and written. */
export function isSettled(status: PipelineStatus, timeMs: number): boolean {
  return (
    status.sources.every(({ watermarkMs }) => watermarkMs > timeMs) &&
    status.shards.every(({ backlog, nextTimerMs }) => backlog === 0 && nextTimerMs > timeMs) &&
    status.waitingFiles === 0
  );
}
