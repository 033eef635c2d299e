import { reading } from "../checkpoint/commit";
import type { SourceLayout } from "../checkpoint/layout";
import { NoNodeError, type Op, type ZooKeeperClient } from "../zookeeper";
import { decodeUpdates, encodeUpdates, Manifest, type ManifestUpdate } from "./manifest";

interface Delta {
  readonly path: string;
  readonly bytes: number;
}

/** What a commit does to the stored manifest, and what is to be remembered once it has taken effect. */
export interface ManifestChange {
  readonly ops: readonly Op[];
  readonly updates: readonly ManifestUpdate[];
  readonly deltas: readonly Delta[];
  readonly snapshotBytes: number;
}

// Deltas are folded into the snapshot when there are this many, or when they outweigh it, so that a start reads little.
const MAX_DELTAS = 64;
const MIN_COMPACTION_BYTES = 64 * 1024;

/** The manifest as it is in memory and in ZooKeeper: a snapshot, and a delta for each commit since. */
export class StoredManifest {
  readonly known = new Manifest();
  private deltas: readonly Delta[] = [];
  private snapshotBytes = 0;

  private constructor(private readonly layout: SourceLayout) {}

  /** Reads snapshot and deltas. The caller makes sure that the cursor did not move meanwhile. Rejects with EncodingError. */
  static async load(client: ZooKeeperClient, layout: SourceLayout): Promise<StoredManifest> {
    const stored = new StoredManifest(layout);
    const { children } = await reading(client, () => client.getChildren(layout.manifest));
    const snapshot = await reading(client, () => client.getData(layout.manifest));
    stored.snapshotBytes = snapshot.data.length;
    stored.known.apply(decodeUpdates(snapshot.data, layout.manifest));
    for (const name of children.sort()) await stored.loadDelta(client, `${layout.manifest}/${name}`);
    return stored;
  }

  /** Whether the deltas should be folded into the snapshot, in a commit of its own. */
  get isCompactionDue(): boolean {
    const bytes = this.deltas.reduce((sum, delta) => sum + delta.bytes, 0);
    return this.deltas.length >= MAX_DELTAS || bytes > Math.max(this.snapshotBytes, MIN_COMPACTION_BYTES);
  }

  /** A delta with the updates of the commit of this number; nothing where there are none. */
  delta(updates: readonly ManifestUpdate[], commitNumber: number): ManifestChange {
    const { deltas, snapshotBytes } = this;
    if (updates.length === 0) return { ops: [], updates, deltas, snapshotBytes };
    const data = encodeUpdates(updates);
    const path = this.layout.manifestDelta(commitNumber);
    const op: Op = { type: "create", path, data };
    return { ops: [op], updates, deltas: [...deltas, { path, bytes: data.length }], snapshotBytes };
  }

  /** The whole manifest as a snapshot, in place of all deltas. */
  compaction(): ManifestChange {
    const snapshot = this.known.encodeSnapshot();
    const ops: Op[] = [
      { type: "setData", path: this.layout.manifest, data: snapshot },
      ...this.deltas.map(({ path }): Op => ({ type: "delete", path })),
    ];
    return { ops, updates: [], deltas: [], snapshotBytes: snapshot.length };
  }

  /** The change has taken effect. */
  committed({ updates, deltas, snapshotBytes }: ManifestChange): void {
    this.known.apply(updates);
    this.deltas = deltas;
    this.snapshotBytes = snapshotBytes;
  }

  private async loadDelta(client: ZooKeeperClient, path: string): Promise<void> {
    const delta = await reading(client, () => client.getData(path)).catch((error: unknown) => {
      if (error instanceof NoNodeError) return undefined;
      throw error;
    });
    if (!delta) return;
    this.known.apply(decodeUpdates(delta.data, path));
    this.deltas = [...this.deltas, { path, bytes: delta.data.length }];
  }
}
