import { reading } from "../checkpoint/commit";
import { passesFilter, type ValueFilter } from "../checkpoint/value-filter";
import type { ZnodeChange } from "../checkpoint/znode-change";
import { SourcePaths, type WantedKinds, wantedKinds, type ZnodeSource } from "../checkpoint/znode-source";
import type { Log } from "../log";
import { NoAuthError, NoNodeError, type WatchedEvent, type ZooKeeperClient } from "../zookeeper";
import {
  compareZnode,
  type Difference,
  existing,
  type HeardEvents,
  type Observed,
  type SourceStart,
  UNCHANGED,
} from "./comparison";
import type { DirtyPaths } from "./dirty-paths";
import type { KnownZnode } from "./manifest";
import type { SourceMetrics } from "./metrics";
import { PreviousValues } from "./previous-values";

/** A znode as a read found it at `zxid`; `order` is what {@link ChangeReader.read} was given. */
export interface ReadZnode {
  readonly path: string;
  readonly observed: Observed | "unreadable";
  readonly zxid: bigint;
  readonly order: number;
}

export interface ChangeReaderOptions {
  readonly client: ZooKeeperClient;
  readonly sourceId: string;
  readonly source: ZnodeSource;
  /** Beamkeeper's root: what is at or below it is never delivered. */
  readonly root: string;
  readonly log: Log;
  /** Counts the events that concern the source. */
  readonly metrics?: SourceMetrics | undefined;
}

// For sources that deliver previous values; at 1 KB a value some 13,000 znodes.
const PREVIOUS_VALUES_BYTES = 16 * 1024 * 1024;

/** What of the watched tree belongs to a source, and how it is read. */
export class ChangeReader {
  readonly paths: SourcePaths;
  readonly wanted: WantedKinds;
  private readonly filter: ValueFilter | undefined;
  private readonly previous: PreviousValues | undefined;

  constructor(private readonly options: ChangeReaderOptions) {
    const { source } = options;
    this.paths = new SourcePaths(source);
    this.wanted = wantedKinds(source);
    this.filter = source.filter as ValueFilter | undefined;
    this.previous = source.previous ? new PreviousValues(PREVIOUS_VALUES_BYTES) : undefined;
  }

  readonly isExcluded = (path: string): boolean => {
    const { root } = this.options;
    return path === root || path.startsWith(`${root}/`);
  };

  /** Marks what an event concerns; false where it concerns nothing that the source delivers. */
  heard(event: WatchedEvent, dirty: DirtyPaths): boolean {
    const { type, path } = event;
    if (type === "childrenChanged" || this.isExcluded(path)) return false;
    const marks = this.paths.matches(path) && (type !== "dataChanged" || this.wanted.changed);
    if (marks) dirty.heard(event);
    const marksParent = this.wanted.children && type !== "dataChanged" && this.heardOfChild(event, dirty);
    if (marks || marksParent) this.options.metrics?.heard(event.zxid);
    return marks || marksParent;
  }

  /** A recursive watch tells of the child only; its parent's list is another one. */
  private heardOfChild({ path, zxid }: WatchedEvent, dirty: DirtyPaths): boolean {
    const parent = path.slice(0, path.lastIndexOf("/")) || "/";
    if (path === "/" || !this.paths.matches(parent)) return false;
    dirty.heard({ type: "childrenChanged", path: parent, zxid });
    return true;
  }

  /** What is to be delivered of a znode, and what is known of it then. */
  compare(
    { path, observed }: ReadZnode,
    known: KnownZnode | undefined,
    heard: HeardEvents,
    start: SourceStart,
  ): Difference {
    if (observed === "unreadable") return UNCHANGED;
    const difference = compareZnode(path, known, observed, heard, start, this.wanted);
    const { filter, previous } = this;
    if (difference.changes.length === 0 || (!filter && !previous)) return difference;
    const changes = difference.changes
      .filter(({ data }) => data === null || !filter || passesFilter(filter, data))
      .map((change) => this.withPrevious(change, known !== undefined));
    return { ...difference, changes };
  }

  /** The present value as an element, where there is one that the source delivers. */
  present({ path, observed }: ReadZnode): ZnodeChange | undefined {
    if (observed === null || observed === "unreadable" || !this.wanted.existing) return undefined;
    return this.filter && !passesFilter(this.filter, observed.data) ? undefined : existing(path, observed);
  }

  private withPrevious(change: ZnodeChange, isKnown: boolean): ZnodeChange {
    if (!this.previous || change.kind === "children" || change.kind === "acl") return change;
    if (change.kind === "existing" || change.kind === "created") return { ...change, previous: null };
    const previous = isKnown ? this.previous.get(change.path) : undefined;
    return previous ? { ...change, previous } : change;
  }

  /** The znode as it was read is delivered. */
  delivered({ path, observed }: ReadZnode): void {
    if (observed !== "unreadable") this.previous?.delivered(path, observed?.data ?? null);
  }

  /** Reads the znode; `order` is the latest mark by now. Rejects with the client's error. */
  async read(path: string, order: number): Promise<ReadZnode> {
    const { client, log, sourceId } = this.options;
    try {
      const { data, stat, zxid } = await reading(client, () => client.getData(path));
      if (!this.wanted.children) return { path, observed: { data, stat }, zxid, order };
      const list = await reading(client, () => client.getChildren(path));
      const children = { names: list.children, stat: list.stat };
      return { path, observed: { data, stat, children }, zxid, order };
    } catch (error) {
      if (error instanceof NoNodeError)
        return { path, observed: null, zxid: error.zxid ?? client.lastZxid, order };
      if (!(error instanceof NoAuthError)) throw error;
      log("warn", "no right to read a znode that changed; its value is unknown", { source: sourceId, path });
      return { path, observed: "unreadable", zxid: error.zxid ?? client.lastZxid, order };
    }
  }
}
