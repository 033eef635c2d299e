/**
 * Bytes that no server would send: mutated frames of every kind of reply, alone and as a stream. A decoder may
 * understand them or say `MalformedFrameError`; it may not crash otherwise, hang, or take memory beyond the limit
 * of a frame. `FUZZ_FRAMES` sets the number (default: 100,000), `FUZZ_SEED` where it begins.
 */
import { Deframer } from "../../lib/zookeeper/codec/framing";
import { JuteReader, JuteWriter, MalformedFrameError } from "../../lib/zookeeper/codec/jute";
import { OpCode, readConnectResponse, readWatcherEvent } from "../../lib/zookeeper/records";
import { Request, type RequestArguments } from "../../lib/zookeeper/request";

const FRAMES = Number(process.env.FUZZ_FRAMES ?? 100_000);
const SEED = Number(process.env.FUZZ_SEED ?? 1);
const FRAME_LIMIT_BYTES = 1024 * 1024;
const TIMEOUT_MS = 300_000 + FRAMES / 5;
const MEMORY_LIMIT_BYTES = 64 * 1024 * 1024;

type Random = () => number;

/** mulberry32: the same seed gives the same frames. */
function randomFrom(seed: number): Random {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

function written(write: (writer: JuteWriter) => void): Buffer {
  const writer = new JuteWriter();
  write(writer);
  return Buffer.from(writer.take());
}

function stat(writer: JuteWriter): void {
  for (let index = 0; index < 4; index += 1) writer.long(0x1_0000_0000n + BigInt(index));
  for (let index = 0; index < 3; index += 1) writer.int(index);
  writer.long(0n);
  writer.int(3);
  writer.int(2);
  writer.long(9n);
}

function strings(writer: JuteWriter, ...values: string[]): void {
  writer.int(values.length);
  for (const value of values) writer.ustring(value);
}

function header(writer: JuteWriter, type: number, isDone: boolean): void {
  writer.int(type);
  writer.boolean(isDone);
  writer.int(isDone ? -1 : 0);
}

interface Sample {
  readonly name: string;
  readonly body: Buffer;
  readonly read: (reader: JuteReader) => void;
}

function reply(opcode: number, args: RequestArguments, write: (writer: JuteWriter) => void): Sample {
  const read = (reader: JuteReader) => {
    const request = new Request(
      opcode,
      "/app",
      { path: "/app/a", ...args },
      () => undefined,
      () => undefined,
    );
    request.settle(0, 1n, reader);
  };
  return { name: `reply to ${opcode}`, body: written(write), read };
}

const MULTI = [
  { type: "create", path: "/a" },
  { type: "setData", path: "/a", data: new Uint8Array(1) },
  { type: "delete", path: "/b" },
  { type: "check", path: "/a", version: 1 },
] as const;

const SAMPLES: readonly Sample[] = [
  reply(OpCode.exists, {}, stat),
  reply(OpCode.getData, {}, (writer) => {
    writer.buffer(Buffer.from("data"));
    stat(writer);
  }),
  reply(OpCode.getChildren2, {}, (writer) => {
    strings(writer, "a", "child-two", "日本");
    stat(writer);
  }),
  reply(OpCode.getChildren, {}, (writer) => strings(writer, "a", "child-two")),
  reply(OpCode.create, {}, (writer) => writer.ustring("/app/a")),
  reply(OpCode.create2, {}, (writer) => {
    writer.ustring("/app/a");
    stat(writer);
  }),
  reply(OpCode.getAcl, {}, (writer) => {
    writer.int(1);
    writer.int(31);
    writer.ustring("world");
    writer.ustring("anyone");
    stat(writer);
  }),
  reply(OpCode.getEphemerals, {}, (writer) => strings(writer, "/app/a", "/app/b")),
  reply(OpCode.getAllChildrenNumber, {}, (writer) => writer.int(7)),
  reply(OpCode.whoAmI, {}, (writer) => {
    writer.int(1);
    writer.ustring("digest");
    writer.ustring("user");
  }),
  reply(OpCode.multi, { ops: MULTI }, (writer) => {
    header(writer, OpCode.create2, false);
    writer.ustring("/app/a");
    stat(writer);
    header(writer, OpCode.setData, false);
    stat(writer);
    header(writer, OpCode.delete, false);
    header(writer, OpCode.check, false);
    header(writer, OpCode.error, true);
  }),
  reply(OpCode.multi, { ops: MULTI }, (writer) => {
    for (const code of [0, -101, -2, -2]) {
      header(writer, OpCode.error, false);
      writer.int(code);
    }
    header(writer, OpCode.error, true);
  }),
  reply(OpCode.multiRead, { reads: [{ type: "getChildren", path: "/a" }] }, (writer) => {
    header(writer, OpCode.getChildren, false);
    strings(writer, "a", "b");
    header(writer, OpCode.error, true);
  }),
  reply(OpCode.sasl, {}, (writer) => writer.buffer(Buffer.from("challenge"))),
  {
    name: "handshake",
    body: written((writer) => {
      writer.int(0);
      writer.int(30_000);
      writer.long(7n);
      writer.buffer(Buffer.alloc(16, 1));
      writer.boolean(false);
    }),
    read: readConnectResponse,
  },
  {
    name: "event",
    body: written((writer) => {
      writer.int(3);
      writer.int(3);
      writer.ustring("/app/a");
    }),
    read: readWatcherEvent,
  },
];

const EXTREMES = [-2, -1, 0, 1, 127, 65_536, 2 ** 31 - 1, -(2 ** 31)];

/** One to four changes: bits flipped, an int set to an extreme, cut, grown, or a part of another frame put in. */
function mutated(body: Buffer, random: Random): Buffer {
  const pick = (limit: number) => Math.floor(random() * limit);
  let bytes = Buffer.from(body);
  for (let change = pick(4); change >= 0; change -= 1) {
    const at = pick(bytes.length + 1);
    const kind = pick(5);
    if (kind === 0 && at < bytes.length) bytes[at]! ^= 1 << pick(8);
    else if (kind === 1 && at + 4 <= bytes.length) bytes.writeInt32BE(EXTREMES[pick(EXTREMES.length)]!, at);
    else if (kind === 2) bytes = bytes.subarray(0, at);
    else if (kind === 3) bytes = Buffer.concat([bytes, Buffer.alloc(pick(40), pick(256))]);
    else
      bytes = Buffer.concat([bytes.subarray(0, at), SAMPLES[pick(SAMPLES.length)]!.body, bytes.subarray(at)]);
  }
  return bytes;
}

/** Runs it; gives what it threw that is no `MalformedFrameError`. */
function defectOf(run: () => void): unknown {
  try {
    run();
    return undefined;
  } catch (error) {
    return error instanceof MalformedFrameError ? undefined : error;
  }
}

function memoryBytes(): number {
  const { heapUsed, arrayBuffers, external } = process.memoryUsage();
  return heapUsed + Math.max(arrayBuffers, external);
}

test("the samples themselves are understood", () => {
  for (const { body, read } of SAMPLES) {
    const reader = new JuteReader().reset(body, 0, body.length);
    read(reader);
    expect(reader.remaining).toBe(0);
  }
});

/** The read-only flag at the end of a handshake is one that old servers leave away. */
const MAY_END_EARLY = "handshake";

test.each(SAMPLES.map((sample) => [sample.name, sample] as const))(
  "%s that ends early is refused, wherever",
  (name, { body, read }) => {
    for (let end = 0; end < body.length; end += 1) {
      const isWhole = name === MAY_END_EARLY && end === body.length - 1;
      const attempt = () => read(new JuteReader().reset(body, 0, end));
      if (isWhole) attempt();
      else expect(attempt).toThrow(MalformedFrameError);
    }
  },
);

test.each(SAMPLES.map((sample) => [sample.name, sample] as const))(
  "%s that comes in two pieces is read, wherever it is cut",
  (_name, { body, read }) => {
    const frame = written((writer) => writer.buffer(body));
    for (let cut = 1; cut < frame.length; cut += 1) {
      const reader = new JuteReader();
      let reads = 0;
      const deframer = new Deframer((buffer, offset, end) => {
        read(reader.reset(buffer, offset, end));
        reads += reader.remaining === 0 ? 1 : 0;
      });
      for (const piece of [frame.subarray(0, cut), frame.subarray(cut)]) {
        // As a socket's read buffer, which is overwritten.
        const chunk = Buffer.from(piece);
        deframer.push(chunk);
        chunk.fill(0xee);
      }
      expect(reads).toBe(1);
    }
  },
);

test(
  `${FRAMES} mutated frames are understood or refused`,
  () => {
    const random = randomFrom(SEED);
    const reader = new JuteReader();
    const before = memoryBytes();
    let highest = before;
    for (let count = 0; count < FRAMES; count += 1) {
      const sample = SAMPLES[Math.floor(random() * SAMPLES.length)]!;
      const bytes = mutated(sample.body, random);
      const defect = defectOf(() => sample.read(reader.reset(bytes, 0, bytes.length)));
      if (defect) throw new Error(`${sample.name}, ${bytes.toString("hex")}`, { cause: defect });
      if (count % 1_000 === 0) highest = Math.max(highest, memoryBytes());
    }
    expect(highest - before).toBeLessThan(MEMORY_LIMIT_BYTES);
  },
  TIMEOUT_MS,
);

test(
  "mutated streams in random chunks end, and keep no more than a frame's limit",
  () => {
    const random = randomFrom(SEED + 1);
    const streams = Math.ceil(FRAMES / 100);
    for (let count = 0; count < streams; count += 1) {
      const bodies = Array.from({ length: 10 }, () => SAMPLES[Math.floor(random() * SAMPLES.length)]!.body);
      const stream = mutated(
        written((writer) => {
          for (const body of bodies) writer.buffer(body);
        }),
        random,
      );
      let delivered = 0;
      const deframer = new Deframer((_buffer, offset, end) => {
        delivered += end - offset;
      }, FRAME_LIMIT_BYTES);
      const defect = defectOf(() => {
        for (let at = 0; at < stream.length; ) {
          const end = at + 1 + Math.floor(random() * 200);
          deframer.push(stream.subarray(at, end));
          at = end;
        }
      });
      expect(defect).toBeUndefined();
      expect(delivered).toBeLessThanOrEqual(stream.length);
    }
  },
  TIMEOUT_MS,
);
