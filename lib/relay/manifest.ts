import { decodeFrame, EncodingError, encodeFrame } from "../checkpoint/encoding";

/** What is known of a znode: enough to tell from a later stat what happened in between. */
export interface KnownZnode {
  readonly czxid: bigint;
  readonly mzxid: bigint;
  readonly version: number;
  /** Of the children and of the ACL: compared where a source delivers their changes. */
  readonly cversion: number;
  readonly aversion: number;
}

/** A change of the manifest: the znode as it is now, or null for one that is gone. */
export type ManifestUpdate = readonly [path: string, known: KnownZnode | null];

type Row =
  | [path: string, czxid: string, mzxid: string, version: number, cversion: number, aversion: number]
  | [path: string];

/** The znodes that a source has delivered, by path. Stored as a snapshot and deltas. */
export class Manifest {
  private readonly znodes = new Map<string, KnownZnode>();

  get size(): number {
    return this.znodes.size;
  }

  get(path: string): KnownZnode | undefined {
    return this.znodes.get(path);
  }

  paths(): IterableIterator<string> {
    return this.znodes.keys();
  }

  apply(updates: Iterable<ManifestUpdate>): void {
    for (const [path, known] of updates) {
      if (known) this.znodes.set(path, known);
      else this.znodes.delete(path);
    }
  }

  /** The whole manifest as one record, with `updates` already applied. */
  encodeSnapshot(updates: readonly ManifestUpdate[] = []): Buffer {
    const all = new Map<string, KnownZnode | null>(this.znodes);
    for (const [path, known] of updates) all.set(path, known);
    return encodeUpdates([...all].filter(([, known]) => known !== null));
  }
}

/** One record: rows of path, czxid, mzxid and three versions; a row of a path alone is a deletion. */
export function encodeUpdates(updates: readonly ManifestUpdate[]): Buffer {
  const rows = updates.map(
    ([path, known]): Row =>
      known
        ? [path, hex(known.czxid), hex(known.mzxid), known.version, known.cversion, known.aversion]
        : [path],
  );
  return encodeFrame("manifest", Buffer.from(JSON.stringify(rows), "utf8"));
}

/** The rows of a snapshot or delta found at `path`; throws EncodingError. */
export function decodeUpdates(frame: Uint8Array, path: string): ManifestUpdate[] {
  const rows = parseRows(decodeFrame("manifest", frame, path), path);
  return rows.map(([znode, czxid, mzxid, version = 0, cversion = 0, aversion = 0]): ManifestUpdate => {
    if (czxid === undefined || mzxid === undefined) return [znode, null];
    const zxids = { czxid: BigInt(`0x${czxid}`), mzxid: BigInt(`0x${mzxid}`) };
    return [znode, { ...zxids, version, cversion, aversion }];
  });
}

function parseRows(payload: Buffer, path: string): Row[] {
  try {
    return JSON.parse(payload.toString("utf8")) as Row[];
  } catch {
    throw new EncodingError(path, "the manifest record is not JSON", "Restore the znode from a backup.");
  }
}

function hex(zxid: bigint): string {
  return zxid.toString(16);
}
