import type { StageShard } from "../beam/api";
import { type BlobReferrers, collectBlobs } from "../checkpoint/blobs";
import { decodeDeadLetter } from "../checkpoint/dead-letter";
import type { ShardLayout } from "../checkpoint/layout";
import type { Head } from "../checkpoint/records";
import { STATE_LIMITS, type StoredState } from "../checkpoint/state";
import { type StateCell, valueBytes } from "../checkpoint/state-record";
import { loadState, type ReadHead } from "../checkpoint/stored-state";
import { SegmentReader } from "./segment-reader";
import type { ShardContext } from "./shard-context";
import { FileSpool } from "./spool";

/** The state of a shard as the engine has it, and as it is stored; and what was read of its inbox. */
export interface LoadedShard {
  readonly shard: StageShard;
  readonly stored: StoredState;
  /** Where the engine keeps large groups. */
  readonly spool: FileSpool;
  /** With what it has read ahead. */
  readonly segments: SegmentReader;
}

/** The state of a shard after a commit, valid for as long as the head says that this commit is the last. */
export interface WarmShard extends LoadedShard {
  readonly commitId: string | undefined;
}

// What is read ahead is kept of as many shards: at most 2 MB of each.
const MOST_READ_AHEAD = 16;

/** The shards whose state this process has in memory, by their heads. */
export class WarmShards {
  private readonly shards = new Map<string, WarmShard>();
  /** The last one last. */
  private readonly readers = new Set<SegmentReader>();

  /** Whether the state is here that this head tells of. */
  has({ head: path }: ShardLayout, head: Head): boolean {
    const warm = this.shards.get(path);
    return warm !== undefined && warm.commitId === head.ids[0];
  }

  put({ head: path }: ShardLayout, shard: WarmShard): void {
    this.shards.set(path, shard);
    const { readers } = this;
    readers.delete(shard.segments);
    readers.add(shard.segments);
    const [oldest] = readers;
    if (readers.size <= MOST_READ_AHEAD) return;
    oldest!.forget();
    readers.delete(oldest!);
  }

  forget({ head: path }: ShardLayout): void {
    this.shards.delete(path);
  }

  /**
   * The shard as of this head; undefined where another commit came while it was read. What is kept is lent to one
   * bundle at a time, since that changes it: who commits gives it back.
   */
  async load(context: ShardContext, current: ReadHead): Promise<WarmShard | undefined> {
    const { layout } = context;
    const warm = this.shards.get(layout.head);
    this.shards.delete(layout.head);
    // Before its first commit a shard looks as it did in a scope of the same name that was deleted.
    if (current.head.ids[0] === undefined) warm?.segments.forget();
    if (warm && warm.commitId === current.head.ids[0]) return warm;
    warm?.spool.close();
    return loadCold(context, current);
  }
}

async function loadCold(context: ShardContext, current: ReadHead): Promise<WarmShard | undefined> {
  const { client, blobs, layout, pipeline, stage } = context;
  const { head } = current;
  const spool = new FileSpool();
  const loader = pipeline.loadShard(stage.id, spool);
  const take = (cell: StateCell): void => loader.add(cell.id, valueBytes(cell));
  const limits = { ...STATE_LIMITS, inlineBytes: context.limits.segmentSizeBytes };
  const stored = await loadState(client, blobs, layout, current, take, limits);
  if (stored === undefined) {
    spool.close();
    return undefined;
  }
  await collectBlobs(client, blobs, layout.head, head.number, stored.blobs.values(), referrersOf(context));
  const { shared } = head.state;
  const shard = loader.open(shared === null ? undefined : Buffer.from(shared, "base64"));
  return { commitId: head.ids[0], shard, stored, spool, segments: new SegmentReader(context) };
}

/**
 * Where the shard's commits put references to blobs, beside its state: its dead letters, its own inbox, where a replay
 * and a rescaling put them, and the inboxes that the stage's segments go to.
 */
function referrersOf({ stage, layout, current }: ShardContext): BlobReferrers[] {
  const downstream = stage.downstream.flatMap((id) =>
    Array.from({ length: current.generation.shards[id] ?? 0 }, (_, shard) => current.scope.shard(id, shard)),
  );
  return [
    { path: layout.deadLetters, recordIn: (data, path) => decodeDeadLetter(data, path).segment },
    { path: layout.inbox },
    ...downstream.map(({ inbox }) => ({ path: inbox })),
  ];
}
