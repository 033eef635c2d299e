import { reading } from "../checkpoint/commit";
import type { ZooKeeperClient } from "../zookeeper";

/**
 * The ensemble that a source is on: the one that holds the cursor, or another one. Zxids of the two are never compared
 * with each other: what is heard, read and remembered of znodes has the source's zxids, what is committed the root's.
 *
 * One session hears of everything that happened before a reply that reflects it. Where cursor and source are on one
 * ensemble, the reply of a commit is such a reply. Where they are not, a `sync` on the source's session that is sent
 * after it is one: its answer comes behind the events of all that the source's leader had committed by then.
 */
export class SourceEnsemble {
  readonly client: ZooKeeperClient;
  readonly isElsewhere: boolean;

  constructor(root: ZooKeeperClient, elsewhere: ZooKeeperClient | undefined) {
    this.client = elsewhere ?? root;
    this.isElsewhere = elsewhere !== undefined;
  }

  /** The latest transaction of the source's ensemble that this session has seen. */
  get lastZxid(): bigint {
    return this.client.lastZxid;
  }

  /** Resolves when all has been heard that happened on the source's ensemble before a reply of the root's that came before this. */
  async heardAll(): Promise<void> {
    if (this.isElsewhere) await reading(this.client, () => this.client.sync("/"));
  }
}
