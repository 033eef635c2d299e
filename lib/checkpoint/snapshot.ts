import { BadVersionError, NodeExistsError, NoNodeError, type Stat, type ZooKeeperClient } from "../zookeeper";
import { reading } from "./commit";
import { ControlError, NoPipelineError } from "./control";
import { decodeJson, EncodingError, encodeJson } from "./encoding";
import type { PipelineLayout } from "./layout";
import { decodeCursor, type SnapshotProgress } from "./records";
import { createPath, readGeneration } from "./scope";

/** What a person asks of one source: to deliver the present values at and below `path` once more. */
export interface SnapshotRequest {
  readonly id: string;
  readonly path: string;
  readonly state: "running" | "paused" | "cancelled";
}

/** A snapshot of one source as it stands; `progress` is undefined until a relay has begun it. */
export interface SnapshotStatus {
  readonly source: string;
  readonly request: SnapshotRequest;
  readonly progress: SnapshotProgress | undefined;
}

export function encodeSnapshotRequest(request: SnapshotRequest): Buffer {
  return encodeJson("snapshot-request", request);
}

/** Throws EncodingError. */
export function decodeSnapshotRequest(frame: Uint8Array, path: string): SnapshotRequest {
  const request = decodeJson("snapshot-request", frame, path) as SnapshotRequest;
  if (typeof request.id === "string" && typeof request.path === "string") return request;
  throw new EncodingError(path, "the request names no snapshot", "Delete the znode, and ask again.");
}

interface StoredRequest {
  readonly request: SnapshotRequest;
  readonly stat: Stat;
}

/**
 * Asks the relay for a snapshot of one source, or of each of them. Throws {@link NoPipelineError}, or
 * {@link ControlError} where there is no such source, or where one has a snapshot that has not ended.
 */
export async function requestSnapshot(
  client: ZooKeeperClient,
  layout: PipelineLayout,
  request: { readonly id: string; readonly source: string | undefined; readonly path: string },
): Promise<SnapshotStatus[]> {
  const before = await sourcesOf(client, layout, request.source);
  const unfinished = before.find((status) => status.request && !hasEnded(status));
  if (unfinished)
    throw new ControlError(
      `source "${unfinished.source}" is still at a snapshot of ${unfinished.request!.path}. Wait for its end, or ` +
        `stop it with "beamkeeper snapshot ${layout.pipeline} --cancel"`,
    );
  for (const { source, stored } of before)
    await write(client, layout, source, stored, { id: request.id, path: request.path, state: "running" });
  return readSnapshots(client, layout, request.source);
}

/** Pauses, resumes or cancels what has not ended. Throws {@link ControlError} where nothing is under way. */
export async function changeSnapshot(
  client: ZooKeeperClient,
  layout: PipelineLayout,
  source: string | undefined,
  state: SnapshotRequest["state"],
): Promise<SnapshotStatus[]> {
  const all = await sourcesOf(client, layout, source);
  const changing = all.filter((each) => each.stored && !hasEnded(each));
  if (changing.length === 0)
    throw new ControlError(
      `no snapshot of ${layout.pipeline} is under way; "beamkeeper snapshot" begins one`,
    );
  for (const { source: id, stored } of changing)
    await write(client, layout, id, stored, { ...stored!.request, state });
  return readSnapshots(client, layout, source);
}

/** The latest snapshot of one source, or of each that ever had one. Throws {@link NoPipelineError}, {@link ControlError}. */
export async function readSnapshots(
  client: ZooKeeperClient,
  layout: PipelineLayout,
  source: string | undefined,
): Promise<SnapshotStatus[]> {
  const all = await sourcesOf(client, layout, source);
  return all.flatMap(({ source: id, request, progress }) =>
    request ? [{ source: id, request, progress }] : [],
  );
}

interface KnownSource {
  readonly source: string;
  readonly stored: StoredRequest | undefined;
  readonly request: SnapshotRequest | undefined;
  readonly progress: SnapshotProgress | undefined;
}

function hasEnded({ request, progress }: KnownSource): boolean {
  return request === undefined || (progress !== undefined && progress.end !== undefined);
}

async function sourcesOf(
  client: ZooKeeperClient,
  layout: PipelineLayout,
  wanted: string | undefined,
): Promise<KnownSource[]> {
  const current = await readGeneration(client, layout);
  if (!current) throw new NoPipelineError(layout, []);
  const { scope } = current;
  const { children } = await reading(client, () => client.getChildren(scope.sources));
  // Only what watches znodes has a manifest of what it delivered.
  const watching = await Promise.all(
    children.map(decodeURIComponent).map(async (id) => {
      const { manifest } = scope.source(id);
      return (await reading(client, () => client.exists(manifest))) ? [id] : [];
    }),
  );
  const ids = watching.flat().sort();
  if (ids.length === 0) throw new ControlError(`${layout.pipeline} watches no znodes`);
  if (wanted !== undefined && !ids.includes(wanted))
    throw new ControlError(
      `${layout.pipeline} has no source "${wanted}"; it has ${ids.map((id) => `"${id}"`).join(", ")}`,
    );
  const chosen = wanted === undefined ? ids : [wanted];
  return Promise.all(
    chosen.map(async (source) => {
      const stored = await readRequest(client, layout.snapshot(source));
      const { cursor } = scope.source(source);
      const { data } = await reading(client, () => client.getData(cursor));
      const { snapshot } = decodeCursor(data, cursor);
      const progress = snapshot?.id === stored?.request.id ? snapshot : undefined;
      return { source, stored, request: stored?.request, progress };
    }),
  );
}

/** The request at the path; undefined where there never was one. Rejects with EncodingError or the client's error. */
export async function readRequest(client: ZooKeeperClient, path: string): Promise<StoredRequest | undefined> {
  try {
    const { data, stat } = await reading(client, () => client.getData(path));
    return { request: decodeSnapshotRequest(data, path), stat };
  } catch (error) {
    if (error instanceof NoNodeError) return undefined;
    throw error;
  }
}

/** Fenced by what was read: of two people who ask at once, one is told. */
async function write(
  client: ZooKeeperClient,
  layout: PipelineLayout,
  source: string,
  stored: StoredRequest | undefined,
  request: SnapshotRequest,
): Promise<void> {
  const path = layout.snapshot(source);
  const data = encodeSnapshotRequest(request);
  try {
    if (stored) await client.setData(path, data, stored.stat.version);
    else {
      await createPath(client, layout.snapshots);
      await client.create(path, data);
    }
  } catch (error) {
    if (!(error instanceof BadVersionError || error instanceof NodeExistsError)) throw error;
    throw new ControlError(
      `someone else has just changed the snapshot of source "${source}"; look, and ask again`,
    );
  }
}
