import type { ChangeReader, ReadZnode } from "./change-reader";
import type { DirtyPaths } from "./dirty-paths";

/** A read under way or done. */
interface Read {
  readonly path: string;
  readonly answer: Promise<void>;
  znode: ReadZnode | undefined;
}

/**
 * The reads of dirty znodes, in the order in which they were sent; the server answers them in this order. They go on
 * while a commit is under way, so that what changed meanwhile can follow it at once. A path is read once at a time:
 * from when its read is sent until it is delivered or given back to the dirty ones.
 */
export class ReadAhead {
  private reads: Read[] = [];

  constructor(
    private readonly reader: ChangeReader,
    private readonly dirty: DirtyPaths,
  ) {}

  get isEmpty(): boolean {
    return this.reads.length === 0;
  }

  /** How many are under way, or done and not taken. */
  get size(): number {
    return this.reads.length;
  }

  /** What was read first; undefined where it has not come yet. */
  get answered(): ReadZnode | undefined {
    return this.reads[0]?.znode;
  }

  /** Reads what is dirty and not being read, up to so many at once. */
  send(limit: number): void {
    for (const path of this.dirty.take(limit - this.reads.length)) {
      const read: Read = {
        path,
        znode: undefined,
        answer: this.answer(path, (znode) => (read.znode = znode)),
      };
      // Who waits for it hears of an error; of a read that was dropped nobody does.
      read.answer.catch(() => undefined);
      this.reads.push(read);
    }
  }

  /** Resolves when the first read is answered, with what came together with it. Rejects with the client's error. */
  async first(): Promise<void> {
    await this.reads[0]?.answer;
  }

  /** Resolves when all that were sent by now are answered. Rejects with the client's error. */
  async all(): Promise<void> {
    await Promise.all(this.reads.map(({ answer }) => answer));
  }

  /** Takes the next znode that was read; undefined where none has come yet. `accept` says whether it is to be taken. */
  next(accept: (znode: ReadZnode) => boolean): ReadZnode | undefined {
    const znode = this.answered;
    if (!znode || !accept(znode)) return undefined;
    this.reads.shift();
    return znode;
  }

  /** What was not taken has to be read again. */
  drop(): void {
    this.dirty.giveBack(this.reads.map(({ path }) => path));
    this.reads = [];
  }

  private async answer(path: string, came: (znode: ReadZnode) => void): Promise<void> {
    came(await this.reader.read(path, this.dirty.latest));
  }
}
