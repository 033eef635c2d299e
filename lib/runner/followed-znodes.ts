import type { ReadZnode, WatchedZnode } from "../beam/followed-znode";
import { reading } from "../checkpoint/commit";
import { NoNodeError, type Watch, type WatchNotification, type ZooKeeperClient } from "../zookeeper";

/**
 * The znodes that transforms follow, for one session. Each is read once and then watched, and read again only after its
 * watch has told of a write: a server answers one session in order, so by the time that it has answered for the head, it
 * has told of every write before.
 */
export class FollowedZnodes {
  private readonly following = new Map<string, Following>();

  constructor(private readonly client: ZooKeeperClient) {}

  /** Rejects with the client's error; a znode that is not there is undefined. */
  readonly read: ReadZnode = (path) => {
    let following = this.following.get(path);
    if (following === undefined) {
      following = new Following(this.client, path);
      this.following.set(path, following);
    }
    return following.read();
  };

  /** To be called when a commit has found another version than what was read. */
  forget(path: string): void {
    this.following.get(path)?.forget();
  }

  close(): void {
    for (const following of this.following.values()) following.close();
    this.following.clear();
  }
}

class Following {
  private znode: WatchedZnode | undefined;
  private isFresh = false;
  private watch: Watch | undefined;
  private loading: Promise<WatchedZnode | undefined> | undefined;
  /** How often it was told that what was read is out of date. */
  private writes = 0;

  constructor(
    private readonly client: ZooKeeperClient,
    private readonly path: string,
  ) {}

  async read(): Promise<WatchedZnode | undefined> {
    if (this.isFresh) return this.znode;
    // A read that is under way was sent after all that this caller has seen, since replies come in order.
    this.loading ??= this.load().finally(() => {
      this.loading = undefined;
    });
    return this.loading;
  }

  forget(): void {
    this.writes += 1;
    this.isFresh = false;
  }

  close(): void {
    this.watch?.remove();
  }

  private async load(): Promise<WatchedZnode | undefined> {
    const { writes } = this;
    const [, znode] = await reading(this.client, () => Promise.all([this.arm(), this.get()]));
    this.znode = znode;
    this.isFresh = this.writes === writes;
    return znode;
  }

  /** Sent before the read, and so there before it. */
  private async arm(): Promise<void> {
    this.watch ??= await this.client.addWatch(this.path, "persistent", this.hear);
  }

  private async get(): Promise<WatchedZnode | undefined> {
    try {
      const { data, stat } = await this.client.getData(this.path);
      return { data, text: data.toString("utf8"), mzxid: stat.mzxid, version: stat.version };
    } catch (error) {
      if (error instanceof NoNodeError) return undefined;
      throw error;
    }
  }

  private readonly hear = (notification: WatchNotification): void => {
    if (notification.type === "event" && notification.event.type === "childrenChanged") return;
    if (notification.type === "ended") this.watch = undefined;
    this.forget();
  };
}
