/**
 * The ceiling: requests written to a socket and replies counted in their order, without sessions to keep, promises,
 * errors to name, nor results but the names of children. No client in Node can do less.
 */
import { connect } from "node:net";
import { type Contestant, type Done, serve } from "./driver";

const [EXISTS, GET_DATA, SET_DATA, GET_CHILDREN, MULTI, CREATE2] = [3, 4, 5, 12, 14, 15];
const HEADER_BYTES = 16;
const [PING, PING_XID] = [11, -2];
/** The session lasts 30 s; slower contestants may take longer over a row. */
const PING_INTERVAL_MS = 5_000;
const ACL = Buffer.from("000000010000001f00000005776f726c6400000006616e796f6e65", "hex");
const END_OF_MULTI = Buffer.from("ffffffff01ffffffff", "hex");

class Bare {
  readonly #socket;
  #out = Buffer.alloc(4 * 1024 * 1024);
  #at = 0;
  #rest: Buffer = Buffer.alloc(0);
  readonly #waiting: ((reply: Buffer) => void)[] = [];
  #first = 0;
  #isScheduled = false;
  onEvent: () => void = () => undefined;

  constructor(host: string, port: number, ready: () => void) {
    this.#socket = connect({ host, port, noDelay: true }, () => {
      this.#socket.write(
        Buffer.from(`0000002d${"0".repeat(24)}00007530${"0".repeat(16)}00000010${"0".repeat(34)}`, "hex"),
      );
    });
    this.#socket.once("data", () => {
      this.#socket.on("data", (chunk) => this.#read(chunk));
      this.#socket.on("close", () => process.exit(1));
      setInterval(() => this.#ping(), PING_INTERVAL_MS);
      ready();
    });
  }

  #read(chunk: Buffer): void {
    const bytes = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    let at = 0;
    while (bytes.length - at >= 4) {
      const end = at + 4 + bytes.readInt32BE(at);
      if (end > bytes.length) break;
      this.#reply(bytes, at + 4, end);
      at = end;
    }
    this.#rest = bytes.subarray(at);
  }

  #ping(): void {
    const frame = Buffer.alloc(12);
    for (const [index, value] of [8, PING_XID!, PING!].entries()) frame.writeInt32BE(value, index * 4);
    this.#socket.write(frame);
  }

  #reply(bytes: Buffer, at: number, end: number): void {
    const xid = bytes.readInt32BE(at);
    if (xid === PING_XID) return;
    if (xid === -1) {
      this.onEvent();
      return;
    }
    if (bytes.readInt32BE(at + 12) !== 0) throw new Error(`error ${bytes.readInt32BE(at + 12)}`);
    const done = this.#waiting[this.#first++]!;
    if (this.#first === 4_096) {
      this.#waiting.splice(0, this.#first);
      this.#first = 0;
    }
    done(bytes.subarray(at + HEADER_BYTES, end));
  }

  request(opcode: number, write: () => void, done: (reply: Buffer) => void): void {
    const begin = this.#at;
    this.#at += 4;
    this.int(1);
    this.int(opcode);
    write();
    this.#out.writeInt32BE(this.#at - begin - 4, begin);
    this.#waiting.push(done);
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    process.nextTick(() => {
      this.#isScheduled = false;
      this.#socket.write(this.#out.subarray(0, this.#at));
      if (this.#socket.writableLength > 0) this.#out = Buffer.alloc(this.#out.length);
      this.#at = 0;
    });
  }

  int(value: number): void {
    this.#at = this.#out.writeInt32BE(value, this.#at);
  }

  byte(value: number): void {
    this.#out[this.#at++] = value;
  }

  bytes(value: Buffer): void {
    this.#at += value.copy(this.#out, this.#at);
  }

  path(path: string): void {
    this.int(path.length);
    this.#at += this.#out.write(path, this.#at, "latin1");
  }

  setData(path: string, data: Buffer): void {
    this.path(path);
    this.int(data.length);
    this.bytes(data);
    this.int(-1);
  }

  create(path: string, data: Buffer): void {
    this.path(path);
    this.int(data.length);
    this.bytes(data);
    this.bytes(ACL);
    this.int(0);
  }

  read(opcode: number, path: string, watch: number, done: (reply: Buffer) => void): void {
    const write = () => {
      this.path(path);
      this.byte(watch);
    };
    this.request(opcode, write, done);
  }

  multi(opcode: number, paths: readonly string[], write: (path: string) => void, done: () => void): void {
    const writeAll = () => {
      for (const path of paths) {
        this.int(opcode);
        this.byte(0);
        this.int(-1);
        write(path);
      }
      this.bytes(END_OF_MULTI);
    };
    this.request(MULTI!, writeAll, done);
  }
}

function names(reply: Buffer): string[] {
  let at = 4;
  return Array.from({ length: reply.readInt32BE(0) }, () => {
    const end = at + 4 + reply.readInt32BE(at);
    const name = reply.toString("latin1", at + 4, end);
    at = end;
    return name;
  });
}

function contestant(bare: Bare): Contestant {
  const plain = (done: Done) => () => done();
  return {
    getData: (path, done) => bare.read(GET_DATA!, path, 0, plain(done)),
    exists: (path, done) => bare.read(EXISTS!, path, 0, plain(done)),
    setData: (path, data, done) => bare.request(SET_DATA!, () => bare.setData(path, data), plain(done)),
    create: (path, data, done) => bare.request(CREATE2!, () => bare.create(path, data), plain(done)),
    setAll: (paths, data, done) =>
      bare.multi(SET_DATA!, paths, (path) => bare.setData(path, data), plain(done)),
    createAll: (paths, data, done) =>
      bare.multi(CREATE2!, paths, (path) => bare.create(path, data), plain(done)),
    children: (path, done) => bare.read(GET_CHILDREN!, path, 0, (reply) => done(undefined, names(reply))),
    watch: (path, fired, armed) => {
      bare.onEvent = fired;
      bare.read(GET_DATA!, path, 1, plain(armed));
    },
  };
}

void serve((connectString) => {
  const [host, port] = connectString.split(",")[0]!.split(":");
  return new Promise((done) => {
    const bare: Bare = new Bare(host!, Number(port), () => done(contestant(bare)));
  });
});
