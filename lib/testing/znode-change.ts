import type { ZnodeChange } from "../checkpoint/znode-change";

/** What a test says of a change; the rest is made up. */
export interface TestChange extends Partial<Omit<ZnodeChange, "data" | "text">> {
  readonly path: string;
  /** The value; null for a deletion. Default: empty. */
  readonly data?: string | Uint8Array | null;
}

/** A change of a znode as `readZnodeChanges` delivers it: `created` unless it says otherwise. */
export function znodeChange({ path, data = "", ...rest }: TestChange): ZnodeChange {
  const kind = rest.kind ?? "created";
  const value = data === null || kind === "deleted" ? null : Buffer.from(data);
  return {
    ...{ kind, version: 0, czxid: 1n, mzxid: 1n, zxid: rest.mzxid ?? 1n, ctimeMs: 0, mtimeMs: 0 },
    ...{ cversion: 0, aversion: 0, numChildren: 0, isEphemeral: false, missed: 0, missedAtLeast: false },
    ...rest,
    path,
    data: value,
    text: value === null ? null : value.toString("utf8"),
  };
}
