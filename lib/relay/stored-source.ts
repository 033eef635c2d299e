import type { BlobReader } from "../checkpoint/blobs";
import { reading } from "../checkpoint/commit";
import type { SourceLayout } from "../checkpoint/layout";
import { type Cursor, decodeCursor } from "../checkpoint/records";
import type { ZooKeeperClient } from "../zookeeper";
import type { ManifestUpdate } from "./manifest";
import { recordMissing, StoredManifest } from "./stored-manifest";

/** Who is told what another relay has delivered. */
export interface Follower {
  /** Waited for before what was read is taken over. */
  readonly beforehand: () => Promise<void>;
  readonly take: (updates: readonly ManifestUpdate[]) => void;
}

interface StoredCursor {
  readonly cursor: Cursor;
  readonly version: number;
  readonly mtimeMs: number;
}

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
      const read = await this.readCursor();
      const manifest = await StoredManifest.load(client, blobs, layout, read.cursor.number, maxChunkBytes);
      if (manifest) {
        this.manifest = manifest;
        this.isAt(read);
        if (await this.catchUp({ beforehand: () => Promise.resolve(), take: () => undefined })) return;
      } else if ((await this.readCursor()).version === read.version) throw recordMissing(layout);
    }
  }

  /**
   * What another relay has delivered since, given to the follower; false where some of that can't be read any more, so that all
   * has to be loaded again. Where this rejects, the next call gives what this one did not.
   */
  async follow(follower: Follower): Promise<boolean> {
    await this.sync();
    return this.catchUp(follower);
  }

  private async catchUp({ beforehand, take }: Follower): Promise<boolean> {
    for (;;) {
      const read = await this.readCursor();
      if (read.version === this.version) return true;
      const news = await this.manifest.follow(this.client, read.cursor.number);
      if (!news) return false;
      await beforehand();
      // At once, so that nobody compares with a manifest that knows more than the follower was told.
      news.apply();
      this.isAt(read);
      take(news.updates);
    }
  }

  private async sync(): Promise<void> {
    await reading(this.client, () => this.client.sync(this.layout.cursor));
  }

  private async readCursor(): Promise<StoredCursor> {
    const { cursor: path } = this.layout;
    const { data, stat } = await reading(this.client, () => this.client.getData(path));
    return { cursor: decodeCursor(data, path), version: stat.version, mtimeMs: stat.mtime };
  }

  /** The manifest holds what was delivered up to this cursor. */
  private isAt({ cursor, version, mtimeMs }: StoredCursor): void {
    this.cursor = cursor;
    this.version = version;
    this.mtimeMs = mtimeMs;
  }
}
