import type { Decoder } from "../decode";
import { namesBelow } from "./fields";

export interface HBaseServer {
  readonly host: string;
  readonly port: number;
  /** Milliseconds since 1970: when the server started; part of its name. */
  readonly startCode: number;
}

/**
 * What HBase keeps, by the path of its znode. Source of the forms: HBase's ZooKeeper.proto and HBase.proto, and
 * ZKMetadata for what is before them.
 */
export type HBaseMetadata =
  | { readonly type: "master"; readonly server: HBaseServer; readonly infoPort: number | undefined }
  | { readonly type: "metaRegionServer"; readonly server: HBaseServer; readonly state: number | undefined }
  | { readonly type: "regionServer"; readonly server: HBaseServer; readonly infoPort: number | undefined }
  | { readonly type: "clusterId"; readonly id: string }
  | { readonly type: "running"; readonly since: string }
  | { readonly type: "other" };

/** @param root `zookeeper.znode.parent` (default: "/hbase"). */
export function hbase(root = "/hbase"): Decoder<HBaseMetadata> {
  return {
    format: "HBase's metadata",
    decode(data, path) {
      const [first, second] = namesBelow(path, root) ?? [];
      const isKnown = first !== undefined && /^(master|meta-region-server|hbaseid|running)$/.test(first);
      const isServer = first === "rs" && second !== undefined;
      if (data.length === 0 || (!isKnown && !isServer)) return { type: "other" };
      const message = fieldsOf(payload(data));
      if (first === "master")
        return { type: "master", server: server(bytes(message, 1)), infoPort: optionalNumber(message, 3) };
      if (first === "meta-region-server")
        return {
          type: "metaRegionServer",
          server: server(bytes(message, 1)),
          state: optionalNumber(message, 3),
        };
      if (first === "rs")
        return { type: "regionServer", server: serverOf(second!), infoPort: optionalNumber(message, 1) };
      const text = bytes(message, 1).toString("utf8");
      return first === "hbaseid" ? { type: "clusterId", id: text } : { type: "running", since: text };
    },
  };
}

const WRITER_MAGIC = 0xff;
const PROTOBUF_MAGIC = "PBUF";

/** Without the writer's id (0xff, its length as int32, the id) and the magic of a protobuf. */
function payload(data: Buffer): Buffer {
  const start = data[0] === WRITER_MAGIC && data.length >= 5 ? 5 + data.readInt32BE(1) : 0;
  const end = start + PROTOBUF_MAGIC.length;
  if (start < 0 || data.toString("latin1", start, end) !== PROTOBUF_MAGIC)
    throw new TypeError(`there is no "${PROTOBUF_MAGIC}" at byte ${start}`);
  return data.subarray(end);
}

type Message = ReadonlyMap<number, number | Buffer>;

/** The varints and length-delimited fields of a protobuf message, the last of each number; fixed ones are skipped. */
function fieldsOf(message: Buffer): Message {
  const fields = new Map<number, number | Buffer>();
  const reader = new ProtobufReader(message);
  while (!reader.isAtEnd) {
    const tag = reader.varint();
    const wireType = tag & 7;
    if (wireType === 0) fields.set(Math.floor(tag / 8), reader.varint());
    else if (wireType === 2) fields.set(Math.floor(tag / 8), reader.take(reader.varint()));
    else if (wireType === 1) reader.take(8);
    else if (wireType === 5) reader.take(4);
    else throw new TypeError(`a protobuf field has wire type ${wireType}`);
  }
  return fields;
}

class ProtobufReader {
  private at = 0;
  constructor(private readonly message: Buffer) {}

  get isAtEnd(): boolean {
    return this.at >= this.message.length;
  }

  /** Exact up to 2^53, which start codes are below. */
  varint(): number {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = this.take(1)[0]!;
      value += (byte & 127) * scale;
      if (byte < 128) return value;
    }
  }

  take(bytes: number): Buffer {
    const end = this.at + bytes;
    if (end > this.message.length) throw new TypeError("the protobuf message is cut off");
    const taken = this.message.subarray(this.at, end);
    this.at = end;
    return taken;
  }
}

function bytes(message: Message, field: number): Buffer {
  const value = message.get(field);
  if (!Buffer.isBuffer(value)) throw new TypeError(`the protobuf message has no field ${field}`);
  return value;
}

function optionalNumber(message: Message, field: number): number | undefined {
  const value = message.get(field);
  return typeof value === "number" ? value : undefined;
}

/** ServerName: host_name = 1, port = 2, start_code = 3. */
function server(encoded: Buffer): HBaseServer {
  const message = fieldsOf(encoded);
  return {
    host: bytes(message, 1).toString("utf8"),
    port: optionalNumber(message, 2) ?? 0,
    startCode: optionalNumber(message, 3) ?? 0,
  };
}

/** A region server's znode is named `host,port,startCode`. */
function serverOf(name: string): HBaseServer {
  const [, host, port, startCode] = /^(.+),(\d+),(\d+)$/.exec(name) ?? [];
  if (host === undefined) throw new TypeError(`the znode's name is not "host,port,startCode": ${name}`);
  return { host, port: Number(port), startCode: Number(startCode) };
}
