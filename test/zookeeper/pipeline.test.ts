import type { Op } from "../../lib/zookeeper";
import { JuteReader } from "../../lib/zookeeper/codec/jute";
import { errorFromCode } from "../../lib/zookeeper/error-codes";
import { ConnectionLossError, type ZooKeeperError } from "../../lib/zookeeper/errors";
import { Pipeline, type PipelineOptions } from "../../lib/zookeeper/pipeline";
import { OpCode } from "../../lib/zookeeper/records";
import { Request, type RequestArguments } from "../../lib/zookeeper/request";

const EMPTY = new JuteReader().reset(Buffer.alloc(0), 0, 0);
const MAX_XID = 2 ** 31 - 1;

/** A pipeline whose sent frames are kept. */
class Harness {
  readonly frames: { xid: number; opcode: number }[] = [];
  readonly outcomes: string[] = [];
  writes = 0;
  readonly pipeline: Pipeline;

  constructor(options: Partial<PipelineOptions> = {}) {
    this.pipeline = new Pipeline({
      maxInFlight: options.maxInFlight ?? 10,
      maxInFlightBytes: options.maxInFlightBytes ?? 10_000,
      maxQueuedBytes: options.maxQueuedBytes ?? 10_000,
      maxRequestBytes: options.maxRequestBytes ?? 1_000,
      firstXid: options.firstXid,
      send: (bytes) => this.#send(bytes),
    });
  }

  #send(bytes: Buffer): boolean {
    this.writes += 1;
    for (let offset = 0; offset < bytes.length; offset += 4 + bytes.readInt32BE(offset)) {
      this.frames.push({ xid: bytes.readInt32BE(offset + 4), opcode: bytes.readInt32BE(offset + 8) });
    }
    return true;
  }

  submit(name: string, opcode: number = OpCode.sync, data = new Uint8Array(0)): void {
    const resolve = () => this.outcomes.push(`${name} ok`);
    const reject = (error: ZooKeeperError) => this.outcomes.push(`${name} ${error.name}`);
    const args = { path: `/${name}`, data, scheme: "digest" };
    this.pipeline.submit(new Request(opcode, "", args, resolve, reject));
  }

  reply(xid: number, code = 0): void {
    this.pipeline.settle(xid, 1n, code, EMPTY);
  }
}

const nextTurn = () => new Promise((done) => setImmediate(done));

test("xids run from 1, and start again at 1 after the greatest int32", async () => {
  const harness = new Harness({ firstXid: MAX_XID - 1 });
  harness.pipeline.open();
  for (const name of ["a", "b", "c"]) harness.submit(name);
  await nextTurn();
  expect(harness.frames.map((frame) => frame.xid)).toEqual([MAX_XID - 1, MAX_XID, 1]);
  for (const frame of harness.frames) harness.reply(frame.xid);
  expect(harness.outcomes).toEqual(["a ok", "b ok", "c ok"]);
  const fresh = new Harness();
  fresh.pipeline.open();
  fresh.submit("a");
  await nextTurn();
  expect(fresh.frames[0]!.xid).toBe(1);
});

test("all requests of a tick leave in one write", async () => {
  const harness = new Harness();
  harness.pipeline.open();
  for (const name of ["a", "b", "c"]) harness.submit(name);
  expect(harness.writes).toBe(0);
  await nextTurn();
  expect(harness.writes).toBe(1);
});

test("a reply out of order is an error of the connection, and its request hears of it", async () => {
  const harness = new Harness();
  harness.pipeline.open();
  harness.submit("a");
  harness.submit("b");
  await nextTurn();
  expect(() => harness.reply(2)).toThrow("out of order: xid 2 came, xid 1 was due");
  expect(harness.outcomes).toEqual(["a ConnectionLossError"]);
  harness.reply(2);
  expect(() => harness.reply(3)).toThrow("no reply was due");
});

test("a reply that can't be read rejects its request", async () => {
  const harness = new Harness();
  harness.pipeline.open();
  harness.submit("a", OpCode.exists);
  await nextTurn();
  expect(() => harness.reply(1)).toThrow("announces 8 bytes");
  expect(harness.outcomes).toEqual(["a ConnectionLossError"]);
});

test("no more than maxInFlight are unanswered; the others keep their order", async () => {
  const harness = new Harness({ maxInFlight: 2 });
  harness.pipeline.open();
  for (const name of ["a", "b", "c", "d"]) harness.submit(name);
  await nextTurn();
  expect(harness.frames).toHaveLength(2);
  harness.reply(1);
  await nextTurn();
  expect(harness.frames).toHaveLength(3);
  expect(harness.pipeline.inFlightCount).toBe(2);
});

test("no more than maxInFlightBytes are unanswered, and one request always goes", async () => {
  const harness = new Harness({ maxInFlightBytes: 100 });
  harness.pipeline.open();
  for (const name of ["a", "b", "c"]) harness.submit(name, OpCode.setData, new Uint8Array(90));
  await nextTurn();
  expect(harness.frames).toHaveLength(1);
  harness.reply(1, -101);
  await nextTurn();
  expect(harness.frames).toHaveLength(2);
});

test("what would wait beyond maxQueuedBytes is refused, and what waits is not", async () => {
  const harness = new Harness({ maxQueuedBytes: 2 * 256 + 100 });
  for (const name of ["a", "b", "c"]) harness.submit(name, OpCode.setData, new Uint8Array(45));
  expect(harness.outcomes).toEqual(["c QueueFullError"]);
  harness.pipeline.open();
  await nextTurn();
  expect(harness.frames).toHaveLength(2);
  harness.submit("d", OpCode.setData, new Uint8Array(90));
  expect(harness.outcomes).toHaveLength(1);
});

test("requests without data count as well, and a list that its owner changes meanwhile keeps its weight", () => {
  const small = new Harness({ maxQueuedBytes: 1_000 });
  for (let index = 0; index < 5; index += 1) small.submit("a", OpCode.exists);
  expect(small.outcomes).toContain("a QueueFullError");
  const harness = new Harness({ maxQueuedBytes: 1_000 });
  const ops: Op[] = [{ type: "create", path: "/a", data: new Uint8Array(500) }];
  const done = () => undefined;
  for (let round = 0; round < 3; round += 1) {
    harness.pipeline.submit(new Request(OpCode.multi, "", { ops }, done, done));
    ops[0] = { type: "create", path: "/a", data: new Uint8Array(round * 100) };
    harness.pipeline.failQueued((request) => new ConnectionLossError(request.name, "ambiguous"));
    harness.submit("fits", OpCode.setData, new Uint8Array(700));
    harness.pipeline.open();
    harness.pipeline.failInFlight((request) => new ConnectionLossError(request.name, "ambiguous"));
  }
  expect(harness.outcomes).not.toContain("fits QueueFullError");
});

test.each<[string, number, RequestArguments]>([
  ["text as data", OpCode.setData, { data: "text" as unknown as Uint8Array }],
  ["a version that is no number", OpCode.setData, { number: Number.NaN }],
  ["a version beyond an int32", OpCode.delete, { number: 2 ** 31 }],
  ["a path that is none", OpCode.exists, { path: 7 as unknown as string }],
])("%s is refused, and leaves nothing of itself in the stream", async (_what, opcode, args) => {
  const harness = new Harness();
  harness.pipeline.open();
  harness.submit("before");
  const refused = new Promise((done) =>
    harness.pipeline.submit(new Request(opcode, "", { path: "/a", ...args }, done, done)),
  );
  harness.submit("after");
  expect(await refused).toMatchObject({ name: "InvalidArgumentError", outcome: "terminal" });
  await nextTurn();
  expect(harness.frames.map((frame) => frame.opcode)).toEqual([OpCode.sync, OpCode.sync]);
});

test("authentication is answered past the order", async () => {
  const harness = new Harness();
  harness.pipeline.open();
  harness.submit("a");
  harness.submit("auth", OpCode.auth);
  harness.submit("b");
  await nextTurn();
  expect(harness.frames.map((frame) => frame.xid)).toEqual([1, -4, 2]);
  for (const xid of [-4, 1, 2]) harness.reply(xid);
  expect(harness.outcomes).toEqual(["auth ok", "a ok", "b ok"]);
});

test("after a loss nothing leaves until the queue is opened, and unsent bytes are dropped", async () => {
  const harness = new Harness();
  harness.pipeline.open();
  harness.submit("a");
  harness.pipeline.failInFlight((request) => new ConnectionLossError(request.name, "ambiguous"));
  harness.submit("b");
  await nextTurn();
  expect(harness.frames).toEqual([]);
  expect(harness.outcomes).toEqual(["a ConnectionLossError"]);
  harness.pipeline.open();
  await nextTurn();
  expect(harness.frames).toEqual([{ xid: 2, opcode: OpCode.sync }]);
});

test("a request that the server would refuse for its size is not sent, and its neighbours are", async () => {
  const harness = new Harness({ maxRequestBytes: 100 });
  harness.pipeline.open();
  harness.submit("a");
  harness.submit("big", OpCode.setData, new Uint8Array(100));
  harness.submit("b");
  await nextTurn();
  expect(harness.outcomes).toEqual(["big InvalidArgumentError"]);
  expect(harness.frames.map((frame) => frame.opcode)).toEqual([OpCode.sync, OpCode.sync]);
});

test.each([
  [-101, true, "NoNodeError", "terminal"],
  [-4, true, "ConnectionLossError", "ambiguous"],
  [-4, false, "ConnectionLossError", "retryable"],
  [-118, true, "ZooKeeperError", "retryable"],
  [-9_999, true, "ZooKeeperError", "ambiguous"],
  [-9_999, false, "ZooKeeperError", "retryable"],
])("code %d (write: %s) is a %s, %s", (code, isWrite, name, outcome) => {
  const error = errorFromCode(code, "getData", "/a", isWrite);
  expect(error).toMatchObject({ name, outcome, code, path: "/a" });
  expect(error.message).toContain(String(code));
});
