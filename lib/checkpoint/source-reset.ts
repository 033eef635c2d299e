import { NoNodeError, type Op, type Stat, type ZooKeeperClient } from "../zookeeper";
import { reading } from "./commit";
import { ControlError, NoPipelineError } from "./control";
import type { PipelineLayout, ScopeLayout, SourceLayout } from "./layout";
import { decodeHead, encodeCursor, encodeManifestIndex, NEW_CURSOR, NEW_MANIFEST } from "./records";
import { type CurrentGeneration, readGeneration, scopeChecks } from "./scope";

const MAX_DELETES = 500;
const DELTA = /^\d{16}$/;

/**
 * Lets a source of znodes begin again as at its first start, where its cursor or its manifest can't be read, or its
 * ensemble is not the one any more that they tell of. The next relay delivers what is there as `existing`, where the
 * source starts with a snapshot; its watermark goes on from where the shards are, so nothing of it is late.
 *
 * The pipeline has to be paused. What fails in between leaves a source that can't be read, and the same call again goes
 * on. Throws {@link NoPipelineError}, or {@link ControlError} where it is not paused or has no such source.
 */
export async function resetSource(
  client: ZooKeeperClient,
  layout: PipelineLayout,
  source: string,
): Promise<void> {
  const current = await readGeneration(client, layout);
  if (!current) throw new NoPipelineError(layout, []);
  if (current.generation.state !== "paused")
    throw new ControlError(
      `${layout.pipeline} is ${current.generation.state}; pause it first, so that no relay commits meanwhile`,
    );
  const place = current.scope.source(source);
  const manifest = await statOf(client, place.manifest);
  const cursor = await statOf(client, place.cursor);
  const isOfEvents = !manifest && (await statOf(client, place.ids)) !== null;
  if ((!cursor && !manifest) || isOfEvents)
    throw new ControlError(`${layout.pipeline} watches no znodes as "${source}"`);
  const number = manifest ? await emptyManifest(client, current, place) : 0;
  const watermarkMs = await latestWatermark(client, current.scope, current.generation.shards);
  const data = encodeCursor({ ...NEW_CURSOR, number, watermarkMs });
  await client.multi([
    ...scopeChecks(current),
    writing(place.cursor, data, cursor),
    writing(place.manifest, encodeManifestIndex(NEW_MANIFEST), manifest),
  ]);
}

async function statOf(client: ZooKeeperClient, path: string): Promise<Stat | null> {
  return reading(client, () => client.exists(path));
}

function writing(path: string, data: Buffer, stat: Stat | null): Op {
  return stat ? { type: "setData", path, data, version: stat.version } : { type: "create", path, data };
}

/** Deletes what the manifest holds; returns the highest number of a commit that it tells of, whose names are used. */
async function emptyManifest(
  client: ZooKeeperClient,
  current: CurrentGeneration,
  { manifest }: SourceLayout,
): Promise<number> {
  const { children } = await reading(client, () => client.getChildren(manifest));
  for (let from = 0; from < children.length; from += MAX_DELETES) {
    const paths = children.slice(from, from + MAX_DELETES).map((name) => `${manifest}/${name}`);
    await client.multi([...scopeChecks(current), ...paths.map((path): Op => ({ type: "delete", path }))]);
  }
  return children.reduce((most, name) => (DELTA.test(name) ? Math.max(most, Number(name)) : most), 0);
}

/** The highest watermark of any shard; minus infinity where none has committed. */
async function latestWatermark(
  client: ZooKeeperClient,
  scope: ScopeLayout,
  shards: Readonly<Record<string, number>>,
): Promise<number> {
  const heads = Object.entries(shards).flatMap(([stage, count]) =>
    Array.from({ length: count }, (_, shard) => scope.shard(stage, shard).head),
  );
  const watermarks = await Promise.all(
    heads.map(async (head) => {
      try {
        return decodeHead((await reading(client, () => client.getData(head))).data, head).watermarkMs;
      } catch (error) {
        if (error instanceof NoNodeError) return Number.NEGATIVE_INFINITY;
        throw error;
      }
    }),
  );
  return Math.max(...watermarks, Number.NEGATIVE_INFINITY);
}
