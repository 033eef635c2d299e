import type { ChangeKind, ZnodeChange } from "../checkpoint/znode-change";
import { type WantedKinds, wantedKinds } from "../checkpoint/znode-source";
import type { Stat, WatchedEventType } from "../zookeeper";
import type { KnownZnode } from "./manifest";

/** A znode as a read found it; null where it does not exist. `children` where a source delivers them. */
export type Observed = {
  readonly data: Buffer;
  readonly stat: Stat;
  readonly children?: { readonly names: readonly string[]; readonly stat: Stat };
} | null;

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
  wanted: WantedKinds = VALUES_ONLY,
): Difference {
  const values = compareValue(path, known, observed, heard, start);
  const all = observed === null ? values : withStructure(path, known, observed, values, start, wanted);
  return { ...all, changes: all.changes.filter(({ kind }) => wanted[kind]) };
}

/** The znode as it is, for a snapshot that was asked for. */
export function existing(path: string, observed: NonNullable<Observed>): ZnodeChange {
  return seen(path, "existing", observed, 0, false);
}

const VALUES_ONLY = wantedKinds({});

/** Adds what happened to the list of children and to the ACL. */
function withStructure(
  path: string,
  known: KnownZnode | undefined,
  observed: NonNullable<Observed>,
  values: Difference,
  start: SourceStart,
  wanted: WantedKinds,
): Difference {
  const { stat, children } = observed;
  const before = known?.czxid === stat.czxid ? known : undefined;
  // Of a znode that is new, the list is told if there was ever one; the ACL that it was created with is no change.
  const isSilent = before === undefined && stat.czxid <= start.zxid && start.mode === "now";
  const cversion = children && children.stat.czxid === stat.czxid ? children.stat.cversion : stat.cversion;
  const added: ZnodeChange[] = [];
  const listed = wanted.children && children !== undefined && !isSilent;
  if (listed && cversion !== (before?.cversion ?? 0)) {
    const missed = before ? Math.max(0, cversion - before.cversion - 1) : 0;
    const list = { ...observed, stat: children.stat };
    const change = seen(path, "children", list, missed, false);
    added.push({ ...change, children: [...children.names].sort(), zxid: children.stat.pzxid });
  }
  if (wanted.acl && before && before.aversion !== stat.aversion)
    added.push({ ...seen(path, "acl", observed, stat.aversion - before.aversion - 1, false), zxid: 0n });
  const isKnown = before && before.cversion === cversion && before.aversion === stat.aversion;
  const isNews =
    added.length > 0 || values.known !== undefined || (!isKnown && (wanted.children || wanted.acl));
  return {
    changes: [...values.changes, ...added],
    known: isNews ? { ...toKnown(stat), cversion } : undefined,
  };
}

function compareValue(
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
  const { czxid, mzxid, version, cversion, aversion } = stat;
  return { czxid, mzxid, version, cversion, aversion };
}

function seen(
  path: string,
  kind: Exclude<ChangeKind, "deleted">,
  { data, stat }: NonNullable<Observed>,
  missed: number,
  missedAtLeast: boolean,
): ZnodeChange {
  const hasValue = kind !== "children" && kind !== "acl";
  return {
    path,
    kind,
    data: hasValue ? data : null,
    // The function that receives the element makes the text; the relay never needs it.
    text: null,
    version: stat.version,
    czxid: stat.czxid,
    mzxid: stat.mzxid,
    zxid: stat.mzxid,
    ctimeMs: stat.ctime,
    mtimeMs: stat.mtime,
    cversion: stat.cversion,
    aversion: stat.aversion,
    numChildren: stat.numChildren,
    isEphemeral: stat.ephemeralOwner !== 0n,
    missed,
    missedAtLeast,
  };
}

/** The raw times of a deletion are unknown to a client; the element's event time is the watermark's. */
function gone(path: string, known: KnownZnode | undefined, heard: HeardEvents, missed: number): ZnodeChange {
  const deletion = heard.events.findLast(({ type }) => type === "deleted");
  // A deletion that was not heard came after the last value, so that sorting by zxid keeps it behind that value.
  const zxid = deletion?.zxid ?? (known ? known.mzxid + 1n : 0n);
  return {
    path,
    kind: "deleted",
    data: null,
    text: null,
    version: known?.version ?? -1,
    czxid: known?.czxid ?? 0n,
    mzxid: zxid,
    zxid,
    ctimeMs: 0,
    mtimeMs: 0,
    cversion: 0,
    aversion: 0,
    numChildren: 0,
    isEphemeral: false,
    missed,
    missedAtLeast: !heard.complete || (!known && heard.earlierLives === true),
  };
}
