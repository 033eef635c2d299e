import type { SnapshotProgress } from "../checkpoint/records";
import type { SnapshotRequest } from "../checkpoint/snapshot";
import type { Log } from "../log";
import type { ZooKeeperClient } from "../zookeeper";
import type { ChangeReader } from "./change-reader";
import type { DirtyPaths } from "./dirty-paths";
import { snapshotPaths } from "./snapshot-paths";

export interface SourceSnapshotOptions {
  readonly client: ZooKeeperClient;
  readonly sourceId: string;
  readonly log: Log;
}

// Paths that are asked for at once: what was delivered of them in another order than theirs stands in the cursor.
const PORTION = 250;

/**
 * A snapshot that someone asked for while the source is running: the present value of each znode at and below a path,
 * as elements of kind `existing` among the changes. A portion of paths at a time is marked dirty, so they are read,
 * compared and committed as changes are, and no znode's elements change their order. A znode that has a change to
 * deliver at that moment is told by the change alone.
 *
 * The commit that appends an element says so in the cursor: all paths up to `position` are done, in the order of
 * {@link snapshotPaths}, and those in `beyond`. So whoever takes over goes on with the next one, and none comes twice.
 */
export class SourceSnapshot {
  private request: SnapshotRequest | undefined;
  private progress: SnapshotProgress | undefined;
  private paths: AsyncGenerator<string, void> | undefined;
  /** What is marked, in order, with those that are done. */
  private portion: readonly string[] = [];
  private readonly open = new Set<string>();
  private isListing = false;
  private isListed = false;
  private failure: Error | undefined;

  constructor(
    private readonly options: SourceSnapshotOptions,
    private readonly reader: ChangeReader,
    private readonly dirty: DirtyPaths,
    private readonly wake: () => void,
  ) {}

  /** What is asked for now. */
  ask(request: SnapshotRequest): void {
    this.request = request;
    this.wake();
  }

  /** What the cursor says, at the start. */
  load(progress: SnapshotProgress | undefined): void {
    this.progress = progress;
  }

  /** Whether the next delivery of the znode is to tell its present value. */
  isOpen(path: string): boolean {
    return this.open.has(path);
  }

  /** Goes on with the next portion where it is time for one. Throws what kept it from that. */
  advance(): void {
    const { failure } = this;
    this.failure = undefined;
    if (failure) throw failure;
    this.begin();
    if (this.request?.state !== "running" || this.hasEnded) return;
    if (this.isListing || this.isListed || this.open.size > 0) return;
    this.isListing = true;
    void this.list()
      .catch((error: Error) => {
        this.failure = error;
      })
      .finally(() => {
        this.isListing = false;
        this.wake();
      });
  }

  /** Whether the cursor has to be told of an end without any element. */
  get isEndDue(): boolean {
    return this.endNow() !== undefined;
  }

  /** What a commit that delivers these paths has to write; undefined where there never was a snapshot. */
  after(delivered: ReadonlyMap<string, unknown>, elements: number): SnapshotProgress | undefined {
    const { progress } = this;
    if (!progress || progress.end) return progress;
    const done = (path: string): boolean => delivered.has(path) || !this.open.has(path);
    const first = this.portion.findIndex((path) => !done(path));
    const inOrder = first < 0 ? this.portion.length : first;
    const position = this.portion[inOrder - 1] ?? progress.position;
    // Those of an earlier relay's portion may come in a later one of this relay.
    const listed = new Set(this.portion);
    const earlier = progress.beyond.filter((path) => !listed.has(path));
    const beyond = [...this.portion.slice(inOrder).filter(done), ...earlier];
    const end = this.endNow();
    return {
      ...{ id: progress.id, position, beyond, elements: progress.elements + elements },
      ...(end ? { end } : {}),
    };
  }

  /** The commit took effect. */
  committed(progress: SnapshotProgress | undefined, delivered: ReadonlyMap<string, unknown>): void {
    if (!progress) return;
    const hasEnded = !this.progress?.end && progress.end !== undefined;
    this.progress = progress;
    for (const path of delivered.keys()) this.open.delete(path);
    const { sourceId, log } = this.options;
    if (!hasEnded) return;
    this.open.clear();
    const { id, elements, end } = progress;
    log("info", "a snapshot has ended", { source: sourceId, id, end, elements });
  }

  private get hasEnded(): boolean {
    return this.progress?.end !== undefined;
  }

  private begin(): void {
    const { request, progress } = this;
    if (!request || request.id === progress?.id) return;
    this.paths = undefined;
    this.isListed = false;
    this.portion = [];
    this.open.clear();
    this.progress = { id: request.id, position: null, beyond: [], elements: 0 };
    const { sourceId, log } = this.options;
    const { id, path } = request;
    log("info", "a snapshot begins", { source: sourceId, id, path });
  }

  private endNow(): SnapshotProgress["end"] {
    const { request, progress } = this;
    if (!progress || progress.end || request?.id !== progress.id) return undefined;
    if (request.state === "cancelled") return "cancelled";
    if (!this.reader.wanted.existing) return "not wanted";
    return this.isListed && this.open.size === 0 ? "done" : undefined;
  }

  private async list(): Promise<void> {
    const { request, progress } = this;
    const { id, path } = request!;
    const { client } = this.options;
    const { position, beyond } = progress!;
    this.paths ??= snapshotPaths(client, this.reader, path, position ?? undefined);
    const portion: string[] = [];
    while (portion.length < PORTION) {
      const { value, done } = await this.paths.next();
      if (done) break;
      portion.push(value);
    }
    if (this.request?.id !== id) return;
    this.isListed = portion.length < PORTION;
    this.portion = portion;
    const known = new Set(beyond);
    for (const each of portion) {
      if (known.has(each)) continue;
      this.open.add(each);
      this.dirty.requested(each);
    }
  }
}
