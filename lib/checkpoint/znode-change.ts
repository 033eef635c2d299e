import type { SegmentElement } from "./segment";

/**
 * What the relay delivers for a znode: one element for each value that could be seen.
 *
 * `existing` was there when the source first started; `created`, `changed` and `deleted` happened since.
 * Values that were overwritten before they could be read are counted in `missed`: exactly while the znode
 * lived on (one czxid), and as a lower bound (`missedAtLeast`) where a whole life may have gone by unseen.
 */
export interface ZnodeChange {
  readonly path: string;
  readonly kind: "existing" | "created" | "changed" | "deleted";
  /** The value; null for a deletion. */
  readonly data: Buffer | null;
  /** The value as UTF-8 text; null for a deletion. */
  readonly text: string | null;
  /** The version of the value; for a deletion that of the last value delivered, -1 if there was none. */
  readonly version: number;
  readonly czxid: bigint;
  /** Of the write that gave this value; for a deletion its own, or the smallest that it can be where no event told it. */
  readonly mzxid: bigint;
  /** Milliseconds since 1970 on the ensemble's clock: when the znode was created and last written. */
  readonly ctimeMs: number;
  readonly mtimeMs: number;
  /** Values of this path that were written since the last delivered one and never seen. */
  readonly missed: number;
  readonly missedAtLeast: boolean;
}

/** element = event time (double), length of the JSON part (uint32), JSON without the value, the value; big-endian. */
export function encodeZnodeChange(change: ZnodeChange, timestampMs: number): SegmentElement {
  const { data, text: _, czxid, mzxid, ...rest } = change;
  const json = Buffer.from(JSON.stringify({ ...rest, czxid: `${czxid}`, mzxid: `${mzxid}` }), "utf8");
  const bytes = Buffer.allocUnsafe(12 + json.length + (data?.length ?? 0));
  bytes.writeDoubleBE(timestampMs, 0);
  bytes.writeUInt32BE(json.length, 8);
  json.copy(bytes, 12);
  data?.copy(bytes, 12 + json.length);
  return { bytes, timestampMs };
}

export function decodeZnodeChange(bytes: Buffer): { change: ZnodeChange; timestampMs: number } {
  const end = 12 + bytes.readUInt32BE(8);
  const { czxid, mzxid, ...rest } = JSON.parse(bytes.toString("utf8", 12, end));
  const data = rest.kind === "deleted" ? null : Buffer.from(bytes.subarray(end));
  const change = {
    ...rest,
    czxid: BigInt(czxid),
    mzxid: BigInt(mzxid),
    data,
    text: data?.toString("utf8") ?? null,
  };
  return { change, timestampMs: bytes.readDoubleBE(0) };
}
