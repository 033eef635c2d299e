import type { WatchedEvent, WatchedEventType } from "../zookeeper";
import type { HeardEvents } from "./comparison";

interface HeardEvent {
  readonly type: WatchedEventType;
  readonly zxid: bigint;
  readonly order: number;
  readonly atMs: number;
}

/** A read whose result is about to be appended: what the server had seen, and the latest mark when it was sent. */
export interface DoneRead {
  readonly zxid: bigint;
  readonly order: number;
}

interface DirtyPath {
  /** When the path became dirty, in the order of all marks. */
  order: number;
  events: HeardEvent[];
  /** Whether `events` is all that happened since the znode was last delivered. */
  complete: boolean;
  /** The last mark that no counted event stands for; a read that was sent before it may not have seen its cause. */
  suspectedAt: number;
  /** The znode's latest write as the walk that made this mark saw it; undefined where something else made it. */
  suspectedZxid: bigint | undefined;
  /** When the present value was asked for; a read that was sent before that is not the answer. */
  requestedAt: number;
}

// A path that is written faster than it is read keeps this many events; beyond, its counts are lower bounds.
const MAX_EVENTS_OF_A_PATH = 10_000;

/**
 * The paths whose znodes have to be read, in the order in which they became dirty, with the events heard for
 * each. An event is done with when a read has seen its zxid: events that come between a read and its reply
 * would otherwise be counted twice or not at all.
 */
export class DirtyPaths {
  private readonly paths = new Map<string, DirtyPath>();
  /** Those that nobody has taken, with the time since when they wait. */
  private waiting = new Map<string, number>();
  private readonly unreadable = new Set<string>();
  private lastOrder = 0;
  private continuous = false;

  /** @param now the local clock, in ms. */
  constructor(private readonly now: () => number) {}

  get size(): number {
    return this.paths.size;
  }

  /** What is dirty now. */
  get all(): readonly string[] {
    return [...this.paths.keys()];
  }

  /** How many have not been taken. */
  get untaken(): number {
    return this.waiting.size;
  }

  /** Since when the first of them waits, in ms; -Infinity where it was given back, Infinity where there is none. */
  get untakenSinceMs(): number {
    for (const sinceMs of this.waiting.values()) return sinceMs;
    return Number.POSITIVE_INFINITY;
  }

  /** The order number of the latest mark: whatever was marked up to now has this number or a smaller one. */
  get latest(): number {
    return this.lastOrder;
  }

  /** Events may have been missed: until {@link resume}, counts are lower bounds. */
  interrupt(): void {
    this.continuous = false;
    for (const dirty of this.paths.values()) dirty.complete = false;
  }

  /** A walk has marked everything that differs; from here on the events tell all. */
  resume(): void {
    this.continuous = true;
  }

  /** Marks by a watch event. Servers before 3.9 send no zxid; then the events can't be counted. */
  heard(event: WatchedEvent): void {
    const order = ++this.lastOrder;
    const atMs = this.now();
    const dirty = this.at(event.path, order, atMs);
    if (event.zxid < 0n || dirty.events.length >= MAX_EVENTS_OF_A_PATH) this.suspect(dirty, order);
    else dirty.events.push({ type: event.type, zxid: event.zxid, order, atMs });
  }

  /** Marks by a walk: something happened that no event told of, up to the write at `zxid` where that is known. */
  suspected(path: string, zxid?: bigint): void {
    const order = ++this.lastOrder;
    const dirty = this.at(path, order);
    this.suspect(dirty, order);
    dirty.suspectedZxid = zxid;
  }

  /** Marks because the present value is wanted, whatever has happened. */
  requested(path: string): void {
    const order = ++this.lastOrder;
    this.at(path, order).requestedAt = order;
  }

  /**
   * Another relay has delivered the path up to `zxid`, as its manifest says, and a server that has seen that was
   * read since: every event up to it has been heard, and what a walk found before it is settled.
   */
  deliveredElsewhere(path: string, zxid: bigint): void {
    const dirty = this.paths.get(path);
    if (!dirty) return;
    dirty.events = dirty.events.filter((event) => event.zxid > zxid);
    const isOpen = dirty.suspectedAt > 0 && (dirty.suspectedZxid === undefined || dirty.suspectedZxid > zxid);
    if (isOpen) return;
    dirty.suspectedAt = 0;
    if (dirty.events.length === 0) this.remove(path);
  }

  /** Another relay may have delivered some of what was heard of the path: counts are lower bounds. */
  unsure(path: string): void {
    const dirty = this.paths.get(path);
    if (dirty) dirty.complete = false;
  }

  /** Takes the first paths, oldest mark first, to be read; nobody else gets them until they are delivered or given back. */
  take(limit: number): string[] {
    const paths: string[] = [];
    for (const path of this.waiting.keys()) {
      if (paths.length >= limit) break;
      paths.push(path);
      this.waiting.delete(path);
    }
    return paths;
  }

  /** What was taken was not delivered; it comes first again, and has waited long enough. */
  giveBack(paths: readonly string[]): void {
    if (paths.length === 0) return;
    const again = paths.map((path): [string, number] => [path, Number.NEGATIVE_INFINITY]);
    this.waiting = new Map([...again, ...this.waiting]);
  }

  /** The events of a path that a read at `zxid` has seen. */
  heardUpTo(path: string, zxid: bigint): HeardEvents {
    const dirty = this.paths.get(path);
    if (!dirty) return { events: [], complete: false };
    return { events: dirty.events.filter((event) => event.zxid <= zxid), complete: dirty.complete };
  }

  /** The path was delivered as a read at `zxid` saw it, sent when `latest` was `order`. What was heard after it stays. */
  delivered(path: string, zxid: bigint, order: number): void {
    const dirty = this.paths.get(path);
    if (!dirty) return;
    const later = dirty.events.filter((event) => event.zxid > zxid);
    this.remove(path);
    this.unreadable.delete(path);
    const suspected = dirty.suspectedAt > order;
    const requested = dirty.requestedAt > order;
    if (later.length === 0 && !suspected && !requested) return;
    // To the end of the queue, so that a busy path starves no other.
    const since = Math.min(
      later[0]?.order ?? Number.POSITIVE_INFINITY,
      suspected ? dirty.suspectedAt : Number.POSITIVE_INFINITY,
      requested ? dirty.requestedAt : Number.POSITIVE_INFINITY,
    );
    const complete = !suspected && this.continuous;
    this.paths.set(path, { ...dirty, order: since, events: later, complete });
    this.waiting.set(path, later[0]?.atMs ?? this.now());
  }

  /** The read was refused: the events that it would have accounted for are forgotten, so the next count is a lower bound. */
  unread(path: string): void {
    this.unreadable.add(path);
    this.unsure(path);
  }

  /**
   * Whether a mark at or before `order` is still waiting, those apart that the reads in `done` have seen: of a path
   * that was read before some of its marks, what came after the read waits.
   */
  waitsSince(order: number, done: ReadonlyMap<string, DoneRead>): boolean {
    for (const [path, dirty] of this.paths) {
      if (dirty.order > order) continue;
      const read = done.get(path);
      if (read === undefined) return true;
      if (read.order >= order) continue;
      const isLater = (event: HeardEvent): boolean => event.zxid > read.zxid && event.order <= order;
      if (dirty.events.some(isLater)) return true;
      if (dirty.suspectedAt > read.order && dirty.suspectedAt <= order) return true;
    }
    return false;
  }

  private at(path: string, order: number, atMs = this.now()): DirtyPath {
    const known = this.paths.get(path);
    if (known) return known;
    const complete = this.continuous && !this.unreadable.has(path);
    const dirty = { order, events: [], complete, suspectedAt: 0, suspectedZxid: undefined, requestedAt: 0 };
    this.paths.set(path, dirty);
    this.waiting.set(path, atMs);
    return dirty;
  }

  private remove(path: string): void {
    this.paths.delete(path);
    this.waiting.delete(path);
  }

  private suspect(dirty: DirtyPath, order: number): void {
    dirty.complete = false;
    dirty.suspectedAt = order;
    dirty.suspectedZxid = undefined;
  }
}
