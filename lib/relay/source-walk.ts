import type { Clock } from "../clock";
import type { Log } from "../log";
import type { ZooKeeperClient } from "../zookeeper";
import type { DirtyPaths } from "./dirty-paths";
import type { Manifest } from "./manifest";
import type { SourceMetrics } from "./metrics";
import { type WalkedSource, type WalkPortion, walk } from "./walk";

// A walk of a million znodes takes minutes; this often it is told how far it is.
const PROGRESS_ZNODES = 100_000;

export interface SourceWalkOptions {
  readonly client: ZooKeeperClient;
  readonly sourceId: string;
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics?: SourceMetrics | undefined;
}

/** A walk that is under way. Until its end counts are lower bounds and the watermark stands still. */
export class SourceWalk {
  private readonly portions: AsyncGenerator<WalkPortion, void>;
  private readonly beganMs: number;
  private readonly unreadable: string[] = [];
  private znodes = 0;
  private different = 0;

  constructor(
    private readonly options: SourceWalkOptions,
    source: WalkedSource,
    manifest: Manifest,
  ) {
    this.beganMs = options.clock.now();
    this.portions = walk(options.client, source, manifest);
  }

  /** The next portion; undefined at the end. Rejects with the client's error. */
  async next(): Promise<WalkPortion | undefined> {
    return (await this.portions.next()).value ?? undefined;
  }

  /** Marks what a portion found. */
  mark({ different, znodes, unreadable }: WalkPortion, dirty: DirtyPaths): void {
    for (const { path, mzxid } of different) dirty.suspected(path, mzxid);
    const before = this.znodes;
    this.znodes += znodes;
    this.different += different.length;
    this.unreadable.push(...unreadable);
    if (Math.floor(before / PROGRESS_ZNODES) < Math.floor(this.znodes / PROGRESS_ZNODES))
      this.options.log("info", "walking the source", this.figures());
  }

  /** Tells what the walk found. */
  end(): void {
    const { clock, log, sourceId, metrics } = this.options;
    const ms = clock.now() - this.beganMs;
    metrics?.walked(this.znodes, ms);
    log("info", "walked the source", { ...this.figures(), ms });
    if (this.unreadable.length === 0) return;
    log("warn", "no right to read some znodes; what is below them is unknown", {
      source: sourceId,
      paths: this.unreadable.slice(0, 10),
    });
  }

  private figures(): Record<string, unknown> {
    return { source: this.options.sourceId, znodes: this.znodes, different: this.different };
  }
}
