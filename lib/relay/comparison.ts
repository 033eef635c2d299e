import type { ZnodeChange } from "../checkpoint/znode-change";
import type { Stat, WatchedEventType } from "../zookeeper";
import type { KnownZnode } from "./manifest";

/** A znode as a read found it; null where it does not exist. */
export type Observed = { readonly data: Buffer; readonly stat: Stat } | null;

/** What the watch told of a path up to the read that `Observed` comes from. */
export interface HeardEvents {
  readonly events: readonly { readonly type: WatchedEventType; readonly zxid: bigint }[];
  /** Whether that is all that happened since the znode was last delivered. */
  readonly complete: boolean;
  /** Whether lives of a znode that is not known may have gone by before the first of these events. Default: false. */
  readonly earlierLives?: boolean;
}

/** Where the source began, see ZnodeSource.start. */
export interface SourceStart {
  readonly zxid: bigint;
  readonly mode: "snapshot" | "now";
}

/** What the comparison says: elements to deliver, and what is known from now on (undefined: nothing new). */
export interface Difference {
  readonly changes: readonly ZnodeChange[];
  readonly known: KnownZnode | null | undefined;
}

/** Nothing to deliver, and nothing new known. */
export const UNCHANGED: Difference = { changes: [], known: undefined };

/**
 * Compares a znode with what was last delivered of it. Pure.
 *
 * No value is delivered twice, because only another mzxid makes an element. `missed` comes from the versions
 * within one life (one czxid). What a dead life held can only be counted from the events, and only when all of
 * them were heard; otherwise the count is a lower bound.
 */
export function compareZnode(
  path: string,
  known: KnownZnode | undefined,
  observed: Observed,
  heard: HeardEvents,
  start: SourceStart,
): Difference {
  if (observed === null) return compareAbsent(path, known, heard);
  if (known === undefined) return compareUnknown(path, observed, heard, start);
  if (known.czxid !== observed.stat.czxid) return compareRecreated(path, known, observed, heard);
  if (known.mzxid === observed.stat.mzxid) return UNCHANGED;
  const missed = observed.stat.version - known.version - 1;
  return { changes: [seen(path, "changed", observed, missed, false)], known: toKnown(observed.stat) };
}

function compareAbsent(path: string, known: KnownZnode | undefined, heard: HeardEvents): Difference {
  const unseen = writesSince(known, heard);
  // A path that came and went is delivered as a deletion, so that its values are counted somewhere.
  if (!known && (unseen === 0 || !heard.complete)) return UNCHANGED;
  return { changes: [gone(path, known, heard, heard.complete ? unseen : 0)], known: null };
}

function compareUnknown(
  path: string,
  observed: NonNullable<Observed>,
  heard: HeardEvents,
  start: SourceStart,
): Difference {
  const { stat } = observed;
  const known = toKnown(stat);
  if (stat.czxid <= start.zxid) {
    if (start.mode === "snapshot")
      return { changes: [seen(path, "existing", observed, 0, stat.mzxid > start.zxid)], known };
    if (stat.mzxid <= start.zxid) return { changes: [], known };
    return { changes: [seen(path, "changed", observed, 0, true)], known };
  }
  const missed = heard.complete ? Math.max(writesSince(undefined, heard) - 1, stat.version) : stat.version;
  const atLeast = !heard.complete || heard.earlierLives === true;
  return { changes: [seen(path, "created", observed, missed, atLeast)], known };
}

function compareRecreated(
  path: string,
  known: KnownZnode,
  observed: NonNullable<Observed>,
  heard: HeardEvents,
): Difference {
  const inThisLife = observed.stat.version;
  const before = heard.complete ? Math.max(0, writesSince(known, heard) - 1 - inThisLife) : 0;
  const changes = [gone(path, known, heard, before), seen(path, "created", observed, inThisLife, false)];
  return { changes, known: toKnown(observed.stat) };
}

/** Creations and changes after what is known. */
function writesSince(known: KnownZnode | undefined, heard: HeardEvents): number {
  const after = known?.mzxid ?? -1n;
  return heard.events.filter(
    ({ type, zxid }) => (type === "created" || type === "dataChanged") && zxid > after,
  ).length;
}

function toKnown(stat: Stat): KnownZnode {
  return { czxid: stat.czxid, mzxid: stat.mzxid, version: stat.version };
}

function seen(
  path: string,
  kind: "existing" | "created" | "changed",
  { data, stat }: NonNullable<Observed>,
  missed: number,
  missedAtLeast: boolean,
): ZnodeChange {
  return {
    path,
    kind,
    data,
    text: data.toString("utf8"),
    version: stat.version,
    czxid: stat.czxid,
    mzxid: stat.mzxid,
    ctimeMs: stat.ctime,
    mtimeMs: stat.mtime,
    missed,
    missedAtLeast,
  };
}

/** The raw times of a deletion are unknown to a client; the element's event time is the watermark's. */
function gone(path: string, known: KnownZnode | undefined, heard: HeardEvents, missed: number): ZnodeChange {
  const deletion = heard.events.findLast(({ type }) => type === "deleted");
  return {
    path,
    kind: "deleted",
    data: null,
    text: null,
    version: known?.version ?? -1,
    czxid: known?.czxid ?? 0n,
    // A deletion that was not heard came after the last value, so that sorting by zxid keeps it behind that value.
    mzxid: deletion?.zxid ?? (known ? known.mzxid + 1n : 0n),
    ctimeMs: 0,
    mtimeMs: 0,
    missed,
    missedAtLeast: !heard.complete || (!known && heard.earlierLives === true),
  };
}
