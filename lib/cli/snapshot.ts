import type { PipelineLayout } from "../checkpoint/layout";
import {
  changeSnapshot,
  readSnapshots,
  requestSnapshot,
  type SnapshotRequest,
  type SnapshotStatus,
} from "../checkpoint/snapshot";
import type { Clock } from "../clock";
import type { ZooKeeperClient } from "../zookeeper";
import { columns, grouped } from "./terminal";

/** What `beamkeeper snapshot` is to do: begin one, change the one under way, or only show it. */
export interface SnapshotOrder {
  readonly source: string | undefined;
  readonly path: string;
  readonly change: SnapshotRequest["state"] | "show" | undefined;
}

/** Asks, changes or shows; resolves with how the snapshots stand. Throws ControlError, or the client's error. */
export function orderSnapshot(
  client: ZooKeeperClient,
  layout: PipelineLayout,
  { source, path, change }: SnapshotOrder,
  clock: Clock,
): Promise<SnapshotStatus[]> {
  if (change === "show") return readSnapshots(client, layout, source);
  if (change !== undefined) return changeSnapshot(client, layout, source, change);
  return requestSnapshot(client, layout, { id: clock.uniqueId(), source, path });
}

export function snapshotText(pipeline: string, snapshots: readonly SnapshotStatus[]): string {
  if (snapshots.length === 0) return `${pipeline} was never asked for a snapshot`;
  const rows = snapshots.map(({ source, request, progress }) => [
    ...[source, request.path, stateOf(request, progress), grouped(progress?.elements ?? 0)],
    progress?.end === undefined ? (progress?.position ?? "-") : "-",
  ]);
  return columns([["source", "below", "state", "elements", "up to"], ...rows]).join("\n");
}

function stateOf({ state }: SnapshotRequest, progress: SnapshotStatus["progress"]): string {
  if (progress?.end === "not wanted") return `refused: the source does not deliver "existing"`;
  if (progress?.end !== undefined) return progress.end;
  return progress === undefined && state === "running" ? "waits for a relay" : state;
}
