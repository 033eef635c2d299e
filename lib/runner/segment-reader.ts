import { openRecord } from "../checkpoint/blobs";
import { reading } from "../checkpoint/commit";
import type { SegmentName } from "../checkpoint/layout";
import { readSegment, type Segment } from "../checkpoint/segment";
import { readRecord } from "../checkpoint/stored-record";
import { NoNodeError } from "../zookeeper";
import type { ShardContext } from "./shard-context";

// Bytes that are read ahead, by the mean of those that came last; as many segments at least and at most.
const AHEAD_BYTES = 512 * 1024;
const LEAST_AHEAD = 16;
const MOST_AHEAD = 128;

/** What one segment holds. */
export interface SegmentContent {
  readonly elements: Segment;
  /** The blob that it lies in. */
  readonly blob: string | undefined;
}

/**
 * Reads the segments of an inbox, and some ahead of the one that is asked for. A segment never changes, so what was
 * read before a commit is good after it, and in the next invocation as well. Blobs are read when they are asked for, one
 * at a time.
 */
export class SegmentReader {
  /** In the order of the inbox. */
  private readonly ahead = new Map<string, Promise<Buffer>>();
  /** Of the segments that came last, and how many have come. */
  private meanBytes = AHEAD_BYTES / LEAST_AHEAD;
  private came = 0;

  constructor(private readonly context: Pick<ShardContext, "client" | "blobs" | "layout">) {}

  /** The segment at `index`; undefined if it was consumed by someone else. Rejects with the client's error. */
  async read(segments: readonly SegmentName[], index: number): Promise<SegmentContent | undefined> {
    const { client, blobs, layout } = this.context;
    const { name } = segments[index]!;
    if (!this.ahead.has(name)) this.readAhead(segments, index);
    const path = `${layout.inbox}/${name}`;
    try {
      const data = await this.ahead.get(name)!;
      const { frame, blob } =
        (await openRecord(blobs, data, path)) ?? (await readRecord(client, blobs, path));
      return { elements: readSegment(frame, path), blob };
    } catch (error) {
      this.forget();
      if (error instanceof NoNodeError) return undefined;
      throw error;
    }
  }

  /**
   * Begins to read what comes from `index` on, where not enough of it is under way, and forgets what came before. The
   * server answers a session in order: what is asked for before a commit is sent has come when that is answered. Half of
   * it is asked for together: a packet for each segment would cost as much as the commit's own.
   */
  readAhead(segments: readonly SegmentName[], index: number): void {
    const { ahead } = this;
    const first = segments[index]?.name;
    for (const name of ahead.keys()) {
      if (name === first) break;
      ahead.delete(name);
    }
    const most = Math.min(Math.max(LEAST_AHEAD, Math.floor(AHEAD_BYTES / this.meanBytes)), MOST_AHEAD);
    const end = Math.min(index + most, segments.length);
    if (ahead.size >= Math.min(most / 2, end - index)) return;
    for (let at = index; at < end; at++) {
      const { name } = segments[at]!;
      if (!ahead.has(name)) this.begin(name);
    }
  }

  /** Forgets what it has read and nobody has asked for. */
  forget(): void {
    this.ahead.clear();
  }

  private begin(name: string): void {
    const { client, layout } = this.context;
    const begun = reading(client, () => client.getData(`${layout.inbox}/${name}`)).then(({ data }) => {
      this.came += 1;
      this.meanBytes += (data.length - this.meanBytes) / Math.min(this.came, LEAST_AHEAD);
      return data;
    });
    this.ahead.set(name, begun);
    // Whoever waits for it hears of its failure; who comes later asks anew.
    begun.catch(() => {
      if (this.ahead.get(name) === begun) this.ahead.delete(name);
    });
  }
}
