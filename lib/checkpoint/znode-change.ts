import { COPIED_ONE_BY_ONE, type SegmentElement } from "./segment";

/** In the order of their codes in the encoding. */
export const CHANGE_KINDS = ["existing", "created", "changed", "deleted", "children", "acl"] as const;

/**
 * `existing` was there when the source first started; `created`, `changed` and `deleted` happened since.
 * `children`: the list of the znode's children is another one. `acl`: its access-control list was set; there is
 * no event for that, so it is found at walks and with other changes.
 */
export type ChangeKind = (typeof CHANGE_KINDS)[number];

/**
 * What the relay delivers for a znode: one element for each value that could be seen.
 *
 * Values that were overwritten before they could be read are counted in `missed`: exactly while the znode
 * lived on (one czxid), and as a lower bound (`missedAtLeast`) where a whole life may have gone by unseen.
 */
export interface ZnodeChange {
  readonly path: string;
  readonly kind: ChangeKind;
  /** The value; null for a deletion, and for `children` and `acl`. */
  readonly data: Buffer | null;
  /** The value as UTF-8 text; null where `data` is. */
  readonly text: string | null;
  /** The version of the value; for a deletion that of the last value delivered, -1 if there was none. */
  readonly version: number;
  readonly czxid: bigint;
  /** Of the write that gave this value; for a deletion its own, or the smallest that it can be where no event told it. */
  readonly mzxid: bigint;
  /** Of the transaction: mzxid, for `children` the pzxid; 0 for `acl`, which leaves none. */
  readonly zxid: bigint;
  /** Milliseconds since 1970 on the ensemble's clock: when the znode was created and last written. */
  readonly ctimeMs: number;
  readonly mtimeMs: number;
  /** Changes of the children and of the ACL in this life, and the number of children; 0 for a deletion. */
  readonly cversion: number;
  readonly aversion: number;
  readonly numChildren: number;
  /** Whether the znode ends with the session that created it; false for a deletion. The session's id is a secret. */
  readonly isEphemeral: boolean;
  /** Values of this path that were written since the last delivered one and never seen; for `children`, lists. */
  readonly missed: number;
  readonly missedAtLeast: boolean;
  /** For `children`: their names, sorted. */
  readonly children?: readonly string[];
  /** The value delivered before this one, where asked for and still known; null where there was none before. */
  readonly previous?: Buffer | null;
}

/**
 * element = event time (double), kind, flags, path length (uint32), version, cversion, aversion, children (int32),
 * czxid, mzxid, zxid (int64), ctime, mtime (double), missed (uint32), previous length (uint32), path, previous, value;
 * big-endian. The value of `children` is the list as JSON.
 */
const HEADER_BYTES = 8 + 1 + 1 + 4 + 4 * 4 + 8 * 3 + 8 * 2 + 4 + 4;
const AT_LEAST = 1;
const EPHEMERAL = 2;
const HAS_DATA = 4;
const KNOWS_PREVIOUS = 8;
const HAD_PREVIOUS = 16;
const MAX_UINT32 = 2 ** 32 - 1;

export function encodeZnodeChange(change: ZnodeChange, timestampMs: number): SegmentElement {
  const { path, previous } = change;
  const data = change.children ? Buffer.from(JSON.stringify(change.children), "utf8") : change.data;
  const pathBytes = Buffer.byteLength(path);
  const previousBytes = previous?.length ?? 0;
  const bytes = Buffer.allocUnsafe(HEADER_BYTES + pathBytes + previousBytes + (data?.length ?? 0));
  let at = bytes.writeDoubleBE(timestampMs, 0);
  at = bytes.writeUInt8(CHANGE_KINDS.indexOf(change.kind), at);
  at = bytes.writeUInt8(flagsOf(change, data), at);
  at = bytes.writeUInt32BE(pathBytes, at);
  at = bytes.writeInt32BE(change.version, at);
  at = bytes.writeInt32BE(change.cversion, at);
  at = bytes.writeInt32BE(change.aversion, at);
  at = bytes.writeInt32BE(change.numChildren, at);
  at = bytes.writeBigInt64BE(change.czxid, at);
  at = bytes.writeBigInt64BE(change.mzxid, at);
  at = bytes.writeBigInt64BE(change.zxid, at);
  at = bytes.writeDoubleBE(change.ctimeMs, at);
  at = bytes.writeDoubleBE(change.mtimeMs, at);
  at = bytes.writeUInt32BE(Math.min(change.missed, MAX_UINT32), at);
  at = bytes.writeUInt32BE(previousBytes, at);
  at += bytes.write(path, at, "utf8");
  if (previous) at += previous.copy(bytes, at);
  data?.copy(bytes, at);
  return { bytes, timestampMs };
}

function flagsOf(change: ZnodeChange, data: Buffer | null): number {
  return (
    (change.missedAtLeast ? AT_LEAST : 0) |
    (change.isEphemeral ? EPHEMERAL : 0) |
    (data === null ? 0 : HAS_DATA) |
    (change.previous === undefined ? 0 : KNOWS_PREVIOUS) |
    (change.previous ? HAD_PREVIOUS : 0)
  );
}

/** Reads changes that lie one behind the other in the same bytes. Throws RangeError where what it is given is none. */
export class ZnodeChangeReader {
  private readonly view: DataView;

  constructor(readonly bytes: Buffer) {
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  /** The event time of the change that begins at `start`. */
  timestampMs(start: number): number {
    return this.view.getFloat64(start);
  }

  /** The change from `start` to before `end`. */
  change(start: number, end: number): ZnodeChange {
    const { bytes, view } = this;
    if (end - start < HEADER_BYTES)
      throw new RangeError(
        `${end - start} bytes are no change of a znode, which has ${HEADER_BYTES} or more`,
      );
    const flags = bytes[start + 9]!;
    const pathStart = start + HEADER_BYTES;
    const pathEnd = pathStart + view.getUint32(start + 10);
    const valueStart = pathEnd + view.getUint32(start + 74);
    if (valueStart > end) throw new RangeError("the change of a znode is longer than its bytes");
    const kind = CHANGE_KINDS[bytes[start + 8]!]!;
    const data = flags & HAS_DATA && kind !== "children" ? copyOf(bytes, valueStart, end) : null;
    const change: Mutable<ZnodeChange> = {
      path: bytes.toString("utf8", pathStart, pathEnd),
      kind,
      data,
      text: data === null ? null : bytes.toString("utf8", valueStart, end),
      version: view.getInt32(start + 14),
      cversion: view.getInt32(start + 18),
      aversion: view.getInt32(start + 22),
      numChildren: view.getInt32(start + 26),
      czxid: view.getBigInt64(start + 30),
      mzxid: view.getBigInt64(start + 38),
      zxid: view.getBigInt64(start + 46),
      ctimeMs: view.getFloat64(start + 54),
      mtimeMs: view.getFloat64(start + 62),
      missed: view.getUint32(start + 70),
      missedAtLeast: (flags & AT_LEAST) !== 0,
      isEphemeral: (flags & EPHEMERAL) !== 0,
    };
    // Few have these, and adding them for all would cost more than the rest.
    if (kind === "children" && flags & HAS_DATA)
      change.children = JSON.parse(bytes.toString("utf8", valueStart, end));
    if (flags & KNOWS_PREVIOUS)
      change.previous = flags & HAD_PREVIOUS ? copyOf(bytes, pathEnd, valueStart) : null;
    return change;
  }
}

type Mutable<T> = { -readonly [Name in keyof T]: T[Name] };

/** A value of its own, so that whoever keeps it does not keep the segment. */
function copyOf(bytes: Buffer, start: number, end: number): Buffer {
  const copy = Buffer.allocUnsafe(end - start);
  if (copy.length > COPIED_ONE_BY_ONE) bytes.copy(copy, 0, start, end);
  else for (let at = 0; at < copy.length; at++) copy[at] = bytes[start + at]!;
  return copy;
}

export function decodeZnodeChange(bytes: Buffer): { change: ZnodeChange; timestampMs: number } {
  const reader = new ZnodeChangeReader(bytes);
  return { change: reader.change(0, bytes.length), timestampMs: reader.timestampMs(0) };
}
