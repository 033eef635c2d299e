import type { BlobReader } from "../checkpoint/blobs";
import { reading } from "../checkpoint/commit";
import type { SourceLayout } from "../checkpoint/layout";
import { type Cursor, decodeCursor } from "../checkpoint/records";
import type { ZooKeeperClient } from "../zookeeper";
import type { ManifestUpdate } from "./manifest";
import { recordMissing, StoredManifest } from "./stored-manifest";

/** The cursor and the manifest of a source as one consistent cut, while another relay may be committing. */
export class StoredSource {
  cursor!: Cursor;
  /** Of the cursor's znode. */
  version = 0;
  /** The ensemble's time of the last commit, in ms. */
  mtimeMs = 0;
  manifest!: StoredManifest;

  /** @param maxChunkBytes of a chunk of the manifest's snapshot. */
  constructor(
    private readonly client: ZooKeeperClient,
    private readonly blobs: BlobReader,
    private readonly layout: SourceLayout,
    private readonly maxChunkBytes: number,
  ) {}

  /**
   * Reads all, from a server that has seen what the last relay did. A large manifest takes seconds, in which commits are
   * followed. Rejects with EncodingError where a record is missing that nobody took away meanwhile.
   */
  async load(): Promise<void> {
    const { client, blobs, layout, maxChunkBytes } = this;
    await this.sync();
    for (;;) {
      await this.readCursor();
      const manifest = await StoredManifest.load(client, blobs, layout, this.cursor.number, maxChunkBytes);
      if (manifest) this.manifest = manifest;
      else if (!(await this.readCursor())) throw recordMissing(layout);
      if (manifest && (await this.catchUp(() => undefined))) return;
    }
  }

  /**
   * What another relay has delivered since, given to `take` commit by commit; false where some of that can't be read any more,
   * so that all has to be loaded again.
   */
  async follow(take: (updates: readonly ManifestUpdate[]) => unknown): Promise<boolean> {
    await this.sync();
    return this.catchUp(take);
  }

  private async catchUp(take: (updates: readonly ManifestUpdate[]) => unknown): Promise<boolean> {
    while (await this.readCursor()) {
      const updates = await this.manifest.follow(this.client, this.cursor.number);
      if (!updates) return false;
      await take(updates);
    }
    return true;
  }

  private async sync(): Promise<void> {
    await reading(this.client, () => this.client.sync(this.layout.cursor));
  }

  /** Whether it has moved since. */
  private async readCursor(): Promise<boolean> {
    const { cursor: path } = this.layout;
    const { data, stat } = await reading(this.client, () => this.client.getData(path));
    const hasMoved = stat.version !== this.version;
    this.cursor = decodeCursor(data, path);
    this.version = stat.version;
    this.mtimeMs = stat.mtime;
    return hasMoved;
  }
}
