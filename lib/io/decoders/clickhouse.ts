import type { Decoder } from "../decode";

/**
 * What a replicated table of ClickHouse's keeps, by the path of its znode. Source of the forms: ClickHouse's
 * ReplicatedMergeTreeAddress and ReplicatedMergeTreeLogEntry.
 */
export type ClickHouseMetadata =
  | {
      /** `…/replicas/<replica>/host` */
      readonly type: "replicaHost";
      readonly replica: string;
      readonly host: string;
      readonly port: number;
      readonly tcpPort: number;
      readonly database: string;
      readonly table: string;
    }
  /** `…/replicas/<replica>/is_active`: an ephemeral znode, so its deletion means that the replica went. */
  | { readonly type: "replicaActive"; readonly replica: string }
  | { readonly type: "logPointer"; readonly replica: string; readonly pointer: number }
  | ClickHouseLogEntry
  | { readonly type: "other" };

/** An entry of the table's log, `…/log/log-<number>`, or of a replica's queue. */
export interface ClickHouseLogEntry {
  readonly type: "logEntry";
  readonly sourceReplica: string;
  /** As the server writes it: local time without a zone. */
  readonly createTime: string;
  /** `get`, `merge`, `mutate`, `drop`, `detach`, `attach`, ... */
  readonly action: string;
  /** The part that results, where the entry has the usual form. */
  readonly part: string | undefined;
  /** The parts that are merged or mutated. */
  readonly sourceParts: readonly string[];
}

export function clickhouse(): Decoder<ClickHouseMetadata> {
  return {
    format: "ClickHouse's replication metadata",
    decode(data, path) {
      const [, replica, what] = /\/replicas\/([^/]+)\/(host|is_active|log_pointer)$/.exec(path) ?? [];
      const text = data.toString("utf8");
      if (replica !== undefined && what === "is_active") return { type: "replicaActive", replica };
      if (replica !== undefined && what === "log_pointer")
        return { type: "logPointer", replica, pointer: whole(text === "" ? "0" : text.trim(), what) };
      if (replica !== undefined) return replicaHost(replica, linesOf(text));
      return /\/(log\/log|queue\/queue)-\d+$/.test(path) ? logEntry(text) : { type: "other" };
    },
  };
}

function replicaHost(replica: string, fields: ReadonlyMap<string, string>): ClickHouseMetadata {
  return {
    type: "replicaHost",
    replica,
    host: needed(fields, "host"),
    port: whole(needed(fields, "port"), "port"),
    tcpPort: whole(needed(fields, "tcp_port"), "tcp_port"),
    database: needed(fields, "database"),
    table: needed(fields, "table"),
  };
}

const KEY_LINE = /^(\w[\w ]*): (.*)$/;

function logEntry(text: string): ClickHouseLogEntry {
  const fields = linesOf(text);
  if (!fields.has("format version")) throw new TypeError('there is no line "format version"');
  const body = text.split("\n").filter((line) => line !== "" && !KEY_LINE.test(line));
  const [action = "", ...names] = body;
  // merge: the parts, "into", the part; mutate: the part, "to", the part; others: the part.
  const result = names.findIndex((name) => name === "into" || name === "to");
  return {
    type: "logEntry",
    sourceReplica: needed(fields, "source replica"),
    createTime: needed(fields, "create_time"),
    action,
    part: result < 0 ? names[0] : names[result + 1],
    sourceParts: result < 0 ? [] : names.slice(0, result),
  };
}

function linesOf(text: string): Map<string, string> {
  const fields = new Map<string, string>();
  for (const line of text.split("\n")) {
    const [, name, value] = KEY_LINE.exec(line) ?? [];
    if (name !== undefined && !fields.has(name)) fields.set(name, value!);
  }
  return fields;
}

function needed(fields: ReadonlyMap<string, string>, name: string): string {
  const value = fields.get(name);
  if (value === undefined) throw new TypeError(`there is no line "${name}"`);
  return value;
}

function whole(text: string, name: string): number {
  if (!/^\d+$/.test(text)) throw new TypeError(`${name} is not a whole number: ${text}`);
  return Number(text);
}
