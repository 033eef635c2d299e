import fc from "fast-check";
import { Deframer } from "../../lib/zookeeper/codec/framing";
import { JuteReader, JuteWriter, MalformedFrameError } from "../../lib/zookeeper/codec/jute";
import { Fifo } from "../../lib/zookeeper/fifo";
import { readMulti } from "../../lib/zookeeper/multi";
import {
  OPEN_ACL,
  OpCode,
  readConnectResponse,
  readGetChildren2Response,
  readStat,
  readWatcherEvent,
  writeConnectRequest,
  writeCreateRequest,
  writeRequestHeader,
  writeSetWatches,
  writeSetWatches2,
} from "../../lib/zookeeper/records";

function bytesOf(write: (writer: JuteWriter) => void): string {
  const writer = new JuteWriter();
  write(writer);
  return writer.take().toString("hex");
}

function readerOf(hex: string): JuteReader {
  const bytes = Buffer.from(hex.replace(/\s/g, ""), "hex");
  return new JuteReader().reset(bytes, 0, bytes.length);
}

function framed(payloads: readonly Uint8Array[]): Buffer {
  const writer = new JuteWriter();
  for (const payload of payloads) writer.buffer(payload);
  return Buffer.from(writer.take());
}

function deframed(stream: Buffer, cuts: readonly number[]): Buffer[] {
  const frames: Buffer[] = [];
  const deframer = new Deframer((buffer, offset, end) =>
    frames.push(Buffer.from(buffer.subarray(offset, end))),
  );
  const edges = [0, ...[...cuts].sort((a, b) => a - b), stream.length];
  // A chunk is overwritten after each push, as a socket's read buffer is.
  for (let index = 1; index < edges.length; index += 1) {
    const chunk = Buffer.from(stream.subarray(edges[index - 1], edges[index]));
    deframer.push(chunk);
    chunk.fill(0xee);
  }
  return frames;
}

describe("wire vectors", () => {
  test("ConnectRequest", () => {
    const request = {
      lastZxidSeen: 5n,
      sessionTimeoutMs: 30_000,
      sessionId: 0n,
      password: new Uint8Array(16),
    };
    expect(bytesOf((writer) => writeConnectRequest(writer, request))).toBe(
      `00000000${"0000000000000005"}00007530${"00".repeat(8)}00000010${"00".repeat(16)}00`,
    );
  });

  test("create2 with open ACL", () => {
    const hex = bytesOf((writer) => {
      writeRequestHeader(writer, 1, OpCode.create2);
      writeCreateRequest(writer, "/a", Buffer.from("x"), OPEN_ACL, 2);
    });
    expect(hex).toBe(
      "000000010000000f" + // xid, opcode
        "000000022f61" + // path
        "0000000178" + // data
        "00000001" + // one ACL
        "0000001f00000005776f726c6400000006616e796f6e65" +
        "00000002", // flags
    );
  });

  test("SetWatches has three lists, and SetWatches2 two more", () => {
    const watches = {
      relativeZxid: 9n,
      data: ["/d"],
      exist: [],
      child: ["/c"],
      persistent: ["/p"],
      persistentRecursive: ["/r"],
    };
    const three = "0000000000000009 00000001000000022f64 00000000 00000001000000022f63".replaceAll(" ", "");
    expect(bytesOf((writer) => writeSetWatches(writer, watches))).toBe(three);
    expect(bytesOf((writer) => writeSetWatches2(writer, watches))).toBe(
      `${three}00000001000000022f7000000001000000022f72`,
    );
  });

  test("Stat", () => {
    const stat = readStat(
      readerOf(
        "0000000100000002 0000000100000003 0000019b00000001 0000019b00000002 00000004 00000005 00000006" +
          "ffffffffffffffff 00000007 00000008 0000000100000009",
      ),
    );
    expect(stat).toEqual({
      czxid: 0x1_0000_0002n,
      mzxid: 0x1_0000_0003n,
      ctime: 0x19b_0000_0001,
      mtime: 0x19b_0000_0002,
      version: 4,
      cversion: 5,
      aversion: 6,
      ephemeralOwner: -1n,
      dataLength: 7,
      numChildren: 8,
      pzxid: 0x1_0000_0009n,
    });
  });

  test("ConnectResponse, with and without the read-only flag of newer servers", () => {
    for (const end of ["", "00", "01"]) {
      expect(readConnectResponse(readerOf(`00000000 00001770 0000000000000007 00000001 aa ${end}`))).toEqual({
        sessionTimeoutMs: 6_000,
        sessionId: 7n,
        password: Buffer.from([0xaa]),
        isReadOnly: end === "01",
      });
    }
  });

  test("WatcherEvent of a znode, and of the connection", () => {
    expect(readWatcherEvent(readerOf("00000003 00000003 000000022f61"))).toEqual({
      type: "dataChanged",
      path: "/a",
    });
    expect(readWatcherEvent(readerOf("ffffffff 00000000 00000000"))).toBeUndefined();
  });
});

test("a multi that failed without an error of any operation's own is still a failure", () => {
  const failed = "ffffffff 00 00000000 fffffffe".repeat(2);
  const ops = [1, 2].map((version) => ({ type: "check", path: "/a", version }) as const);
  expect(readMulti(readerOf(`${failed} ffffffff 01 ffffffff`), "", ops, 1n)).toMatchObject({
    name: "MultiError",
    index: 0,
    code: -2,
  });
});

describe("malformed frames", () => {
  test("a vector that announces more than there is allocates nothing", () => {
    expect(() => readGetChildren2Response(readerOf("7fffffff 00000001"), 1n)).toThrow(MalformedFrameError);
  });

  test.each(["00000005 61", "fffffffe", "0000"])("a string of %s", (hex) => {
    expect(() => readerOf(hex).ustring()).toThrow(MalformedFrameError);
  });

  test.each([-1, 101, 2 ** 31 - 1])("a frame length of %d is refused before anything is kept", (length) => {
    const bytes = Buffer.alloc(4);
    bytes.writeInt32BE(length);
    expect(() => new Deframer(() => undefined, 100).push(bytes)).toThrow(`a frame of ${length} bytes`);
  });

  test("any bytes decode or throw MalformedFrameError", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        const readList = (reader: JuteReader) => readGetChildren2Response(reader, 1n);
        for (const read of [readList, readStat, readConnectResponse, readWatcherEvent]) {
          try {
            read(new JuteReader().reset(Buffer.from(bytes), 0, bytes.length));
          } catch (error) {
            expect(error).toBeInstanceOf(MalformedFrameError);
          }
        }
      }),
    );
  });
});

describe("framing", () => {
  test("every way to cut a stream once or twice gives the same frames", () => {
    const payloads = [Buffer.from("a"), Buffer.alloc(0), Buffer.from("0123456789"), Buffer.from("xyz")];
    const stream = framed(payloads);
    for (let first = 0; first <= stream.length; first += 1) {
      for (let second = first; second <= stream.length; second += 1) {
        expect(deframed(stream, [first, second])).toEqual(payloads);
      }
    }
  });

  test("byte by byte", () => {
    const payloads = [Buffer.from("hello"), Buffer.from("world")];
    const stream = framed(payloads);
    expect(deframed(stream, Array.from(stream.keys()))).toEqual(payloads);
  });

  test("random frames in random chunks", () => {
    const cases = fc.tuple(
      fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 20 }),
      fc.array(fc.nat({ max: 7_000 }), { maxLength: 50 }),
    );
    fc.assert(
      fc.property(cases, ([payloads, cuts]) => {
        const stream = framed(payloads);
        const inRange = cuts.map((cut) => Math.min(cut, stream.length));
        expect(deframed(stream, inRange)).toEqual(payloads.map((payload) => Buffer.from(payload)));
      }),
    );
  });
});

describe("the writer", () => {
  test("what was taken stays whole while more is written, across growth", () => {
    const writer = new JuteWriter();
    const taken: Buffer[] = [];
    const expected: string[] = [];
    for (let index = 0; index < 200; index += 1) {
      const text = `${index}-`.repeat(200);
      writer.ustring(text);
      taken.push(writer.take());
      expected.push(text);
    }
    expect(taken.map((bytes) => bytes.subarray(4).toString())).toEqual(expected);
  });

  test("a frame that grew the buffer keeps its length field", () => {
    const writer = new JuteWriter();
    writer.ustring("before");
    const frame = writer.beginFrame();
    writer.buffer(Buffer.alloc(100_000, 7));
    expect(writer.endFrame(frame)).toBe(100_004);
    const bytes = writer.take();
    expect(bytes.readInt32BE(10)).toBe(100_004);
    expect(bytes.length).toBe(10 + 4 + 100_004);
  });

  test("a buffer that has grown is kept for later requests, and one that a single great one needed is not", () => {
    const writer = new JuteWriter();
    const memoryOf = (bytes: number) => {
      writer.buffer(Buffer.alloc(bytes));
      const { buffer } = writer.take();
      writer.recycle();
      return buffer;
    };
    const grown = memoryOf(200_000);
    expect(memoryOf(10)).toBe(grown);
    const great = memoryOf(2_000_000);
    expect(memoryOf(10)).not.toBe(great);
    expect(memoryOf(10).byteLength).toBeLessThan(200_000);
  });

  test("a rewound frame leaves no trace", () => {
    const writer = new JuteWriter();
    writer.int(1);
    const frame = writer.beginFrame();
    writer.buffer(Buffer.alloc(100_000));
    writer.rewind(frame);
    expect(writer.take().toString("hex")).toBe("00000001");
  });

  test("UTF-8 of any width comes back", () => {
    fc.assert(
      fc.property(fc.string({ unit: "grapheme" }), (text) => {
        expect(readerOf(bytesOf((writer) => writer.ustring(text))).ustring()).toBe(text);
      }),
    );
  });
});

test("a fifo keeps order over any mix of pushes and shifts", () => {
  fc.assert(
    fc.property(fc.array(fc.boolean(), { maxLength: 500 }), (pushes) => {
      const fifo = new Fifo<number>();
      const model: number[] = [];
      pushes.forEach((isPush, index) => {
        if (isPush) {
          fifo.push(index);
          model.push(index);
        } else {
          expect(fifo.shift()).toBe(model.shift());
        }
        expect(fifo.size).toBe(model.length);
        expect(fifo.peek()).toBe(model[0]);
      });
      expect(fifo.drain()).toEqual(model);
    }),
  );
});
