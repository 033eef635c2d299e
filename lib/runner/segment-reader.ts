import { openRecord } from "../checkpoint/blobs";
import { reading } from "../checkpoint/commit";
import type { SegmentName } from "../checkpoint/layout";
import { readSegment, type Segment } from "../checkpoint/segment";
import { readRecord } from "../checkpoint/stored-record";
import { NoNodeError } from "../zookeeper";
import type { ShardContext } from "./shard-context";

// At most 2 MB of inline segments.
const READ_AHEAD = 16;
// As many are asked for together: a packet for each segment would cost as much as the commit's own.
const READ_TOGETHER = 8;

/** What one segment holds. */
export interface SegmentContent {
  readonly elements: Segment;
  /** The blob that it lies in. */
  readonly blob: string | undefined;
}

/**
 * Reads the segments of an inbox, and some ahead of the one that is asked for. A segment never changes, so what was
 * read before a commit is good after it. Blobs are read when they are asked for, one at a time.
 */
export class SegmentReader {
  private readonly ahead = new Map<string, Promise<Buffer>>();

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
      this.ahead.clear();
      if (error instanceof NoNodeError) return undefined;
      throw error;
    }
  }

  /**
   * Begins to read what comes from `index` on, where not enough of it is under way, and forgets what came before. The
   * server answers a session in order: what is asked for before a commit is sent has come when that is answered.
   */
  readAhead(segments: readonly SegmentName[], index: number): void {
    const wanted = segments.slice(index, index + READ_AHEAD).map(({ name }) => name);
    const still = new Set(wanted);
    for (const name of this.ahead.keys()) if (!still.has(name)) this.ahead.delete(name);
    if (wanted.slice(0, READ_AHEAD - READ_TOGETHER).every((name) => this.ahead.has(name))) return;
    for (const name of wanted) if (!this.ahead.has(name)) this.ahead.set(name, this.begin(name));
  }

  private begin(name: string): Promise<Buffer> {
    const { client, layout } = this.context;
    const begun = reading(client, () => client.getData(`${layout.inbox}/${name}`)).then(({ data }) => data);
    // Whoever asks for it hears of its failure; perhaps nobody does.
    begun.catch(() => undefined);
    return begun;
  }
}
