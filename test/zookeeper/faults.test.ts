import { type ConnectionState, connect, SessionExpiredError, type ZooKeeper } from "../../lib/zookeeper";
import { CLOSE_TIMEOUT_MS } from "../../lib/zookeeper/session";
import { closeSession, overhear } from "../support/session-thief";
import type { TcpProxy } from "../support/tcp-proxy";
import { WatchRecorder } from "../support/watch-recorder";
import { bytes, lateness, rejection, useZooKeeper } from "../support/zookeeper-fixture";
import type { LocalZooKeeper } from "../support/zookeeper-server";

/** Short ticks, so that sessions may be short and expiry comes soon. */
const CONFIG = { tickTime: "200" };
const SESSION_TIMEOUT_MS = 1_500;
const READ_TIMEOUT_MS = (SESSION_TIMEOUT_MS * 2) / 3;

const fixture = useZooKeeper({
  server: { config: CONFIG },
  client: { sessionTimeoutMs: SESSION_TIMEOUT_MS },
});
let server: LocalZooKeeper;
let proxy: TcpProxy;
/** Through the proxy. */
let client: ZooKeeper;
/** Straight to the server. */
let writer: ZooKeeper;
let root: string;
let states: ConnectionState[];

beforeEach(() => {
  ({ server, proxy, client, writer, root } = fixture);
  states = [];
  client.onState((state) => states.push(state));
});

function untilState(wanted: ConnectionState, of: ZooKeeper = client): Promise<void> {
  return new Promise((done) => {
    const stop = of.onState((state) => {
      if (state !== wanted) return;
      stop();
      done();
    });
  });
}

/** Asks the server until it says so; each question waits for its answer, so nothing spins. */
async function untilTrue(isSo: () => Promise<boolean>): Promise<void> {
  while (!(await isSo())) await writer.sync("/");
}

describe("a reply that does not come whole", () => {
  /** Length, header, data of ten bytes, stat. */
  const REPLY_BYTES = 4 + 16 + (4 + 10) + 68;

  test("is recovered from, wherever it was cut", async () => {
    await client.create(`${root}/a`, bytes("0123456789"));
    for (let cut = 1; cut < REPLY_BYTES; cut += 5) {
      proxy.cutAfter(cut);
      const lost = await rejection(client.getData(`${root}/a`));
      expect(lost).toMatchObject({ name: "ConnectionLossError", outcome: "retryable", code: -4 });
      await client.connected();
      expect((await client.getData(`${root}/a`)).data.toString()).toBe("0123456789");
    }
    expect(states).not.toContain("lost");
  });

  test("comes byte by byte, and is read", async () => {
    await client.create(`${root}/a`, bytes("0123456789"));
    proxy.splitBytes(true);
    const reads = await Promise.all([1, 2, 3].map(() => client.getData(`${root}/a`)));
    expect(reads.map((read) => read.data.toString())).toEqual(["0123456789", "0123456789", "0123456789"]);
    expect((await client.getChildren(root)).children).toEqual(["a"]);
    proxy.splitBytes(false);
  });

  test("is corrupt: the connection is given up, and the session goes on", async () => {
    await client.create(`${root}/e`, bytes(""), { mode: "ephemeral" });
    for (const corrupt of [corruptLength, corruptXid]) {
      proxy.rewrite((chunk) => {
        proxy.rewrite((whole) => whole);
        return corrupt(Buffer.from(chunk));
      });
      expect(await rejection(client.exists(root))).toMatchObject({ name: "ConnectionLossError" });
      await client.connected();
    }
    expect(await client.exists(`${root}/e`)).not.toBeNull();
    expect(states).toEqual(["suspended", "connected", "suspended", "connected"]);
  });

  test("is not believed in anything: a zxid that nobody has seen would keep it from every server", async () => {
    const before = client.lastZxid;
    proxy.rewrite((chunk) => {
      proxy.rewrite((whole) => whole);
      const corrupt = corruptXid(Buffer.from(chunk));
      corrupt.writeBigInt64BE(2n ** 62n, 8);
      return corrupt;
    });
    expect(await rejection(client.exists(root))).toMatchObject({ name: "ConnectionLossError" });
    expect(client.lastZxid).toBe(before);
    await client.connected();
    expect(await client.exists(root)).not.toBeNull();
  });

  function corruptLength(chunk: Buffer): Buffer {
    chunk.writeInt32BE(2 ** 31 - 1, 0);
    return chunk;
  }

  function corruptXid(chunk: Buffer): Buffer {
    chunk.writeInt32BE(123_456, 4);
    return chunk;
  }
});

describe("a write whose reply is lost", () => {
  test("is ambiguous, and was applied; a read is retryable", async () => {
    proxy.dropReplies();
    const write = rejection(client.create(`${root}/a`));
    const multi = rejection(client.multi([{ type: "create", path: `${root}/b` }]));
    const read = rejection(client.exists(root));
    await untilTrue(async () => (await writer.exists(`${root}/b`)) !== null);
    proxy.cut();
    expect(await write).toMatchObject({
      name: "ConnectionLossError",
      outcome: "ambiguous",
      code: -4,
      path: `${root}/a`,
    });
    expect(await multi).toMatchObject({ name: "ConnectionLossError", outcome: "ambiguous" });
    expect(await read).toMatchObject({ name: "ConnectionLossError", outcome: "retryable" });
    expect(await writer.exists(`${root}/a`)).not.toBeNull();
  });

  test("is not sent again: a sequential create makes one znode", async () => {
    proxy.dropReplies();
    const create = rejection(client.create(`${root}/q-`, bytes(""), { mode: "persistent-sequential" }));
    await untilTrue(async () => (await writer.getChildren(root)).children.length > 0);
    proxy.cut();
    expect(await create).toMatchObject({ outcome: "ambiguous" });
    await client.connected();
    await client.sync("/");
    expect((await client.getChildren(root)).children).toEqual(["q-0000000000"]);
  });
});

describe("a network that stalls", () => {
  test.each(["toClient", "toServer"] as const)("%s is noticed within the read timeout", async (direction) => {
    await client.exists(root);
    proxy.stall(direction);
    expect(await lateness(untilState("suspended"), READ_TIMEOUT_MS)).toBeLessThan(300);
    proxy.resume();
    await client.connected();
    expect(await client.exists(root)).not.toBeNull();
  });

  test("only delays: nothing is lost, nor out of order", async () => {
    proxy.delay(60);
    const order: number[] = [];
    const calls = Array.from({ length: 50 }, async (_, index) => {
      await client.create(`${root}/${index}`);
      order.push(index);
    });
    await Promise.all(calls);
    expect(order).toEqual(Array.from(calls.keys()));
    expect(states).toEqual([]);
    proxy.delay(0);
  });

  test("does not hold up a close", async () => {
    await client.exists(root);
    proxy.stall("toServer");
    const pending = rejection(client.create(`${root}/a`));
    expect(await lateness(client.close(), CLOSE_TIMEOUT_MS)).toBeLessThan(500);
    expect(await pending).toMatchObject({ name: "ClosedError", outcome: "ambiguous" });
  });

  test("a process that was busy for longer than the read timeout keeps its connection", async () => {
    const other = await connect({ connectString: proxy.address, sessionTimeoutMs: 4_000 });
    const seen: ConnectionState[] = [];
    other.onState((state) => seen.push(state));
    try {
      await other.exists(root);
      const until = performance.now() + 2_900;
      while (performance.now() < until);
      await other.exists(root);
      await other.sync("/");
      expect(seen).toEqual([]);
    } finally {
      await other.close();
    }
  });
});

describe("a session that expires", () => {
  test("is said to everyone, and followed by a new one", async () => {
    const recorder = new WatchRecorder();
    await client.addWatch(root, "persistentRecursive", recorder.listener);
    const iterated = (async () => {
      const seen = [];
      for await (const notification of await client.watch(root, "persistent")) seen.push(notification);
      return seen;
    })();
    await client.create(`${root}/e`, bytes(""), { mode: "ephemeral" });
    const suspended = untilState("suspended");
    proxy.refuse(true);
    proxy.cut();
    await suspended;
    const queued = rejection(client.create(`${root}/queued`));
    await untilTrue(async () => (await writer.exists(`${root}/e`)) === null);
    const lost = untilState("lost");
    proxy.refuse(false);
    await lost;
    const error = await queued;
    expect(error).toBeInstanceOf(SessionExpiredError);
    expect(error).toMatchObject({ outcome: "retryable", code: -112, path: `${root}/queued` });
    expect(recorder.summary).toEqual([`created ${root}/e`, "ended expired"]);
    expect((await iterated).at(-1)).toEqual({ type: "ended", reason: "expired" });
    await client.connected();
    expect(states).toEqual(["suspended", "lost", "connected"]);
    const { stat } = await client.create(`${root}/again`, bytes(""), { mode: "ephemeral" });
    expect(stat.ephemeralOwner).not.toBe(0n);
    expect(await client.exists(`${root}/queued`)).toBeNull();
    expect(recorder.heard).toHaveLength(2);
  });
});

describe("a session that is closed from elsewhere", () => {
  /** Behind length, xid and zxid. */
  const ERROR_OFFSET = 4 + 4 + 8;

  test("is said by a reply: writes that were sent are ambiguous", async () => {
    const lost = untilState("lost");
    proxy.rewrite((chunk) => {
      proxy.rewrite((whole) => whole);
      chunk.writeInt32BE(-112, ERROR_OFFSET);
      return chunk;
    });
    const errors = await Promise.all([client.create(`${root}/a`), client.exists(root)].map(rejection));
    await lost;
    expect(errors).toMatchObject([
      { name: "SessionExpiredError", outcome: "ambiguous", code: -112 },
      { name: "SessionExpiredError", outcome: "retryable", code: -112 },
    ]);
    await client.connected();
    expect(states).toEqual(["lost", "connected"]);
  });

  test("is lost; a write that is retryable was not applied", async () => {
    const overheard = overhear(proxy);
    const other = await connect({ connectString: proxy.address, sessionTimeoutMs: SESSION_TIMEOUT_MS });
    try {
      const recorder = new WatchRecorder();
      await other.addWatch(root, "persistent", recorder.listener);
      const lost = untilState("lost", other);
      await closeSession(server.connectString, await overheard);
      // Sent before the server hung up, or after.
      const error = await rejection(other.create(`${root}/a`));
      expect(["SessionExpiredError", "ConnectionLossError"]).toContain(error.name);
      if (error.outcome === "retryable") expect(await writer.exists(`${root}/a`)).toBeNull();
      await lost;
      expect(recorder.summary).toEqual(["ended expired"]);
      await other.connected();
      expect((await other.create(`${root}/b`)).path).toBe(`${root}/b`);
    } finally {
      await other.close();
    }
  });
});

describe("no connection", () => {
  test("an operation waits for one, and is sent when it comes", async () => {
    proxy.refuse(true);
    const suspended = untilState("suspended");
    proxy.cut();
    await suspended;
    const waiting = client.create(`${root}/a`);
    const reads = [client.exists(root), client.getChildren(root)];
    proxy.refuse(false);
    expect((await waiting).path).toBe(`${root}/a`);
    await Promise.all(reads);
    expect(states).toEqual(["suspended", "connected"]);
  });

  test("an operation that waited connectTimeoutMs was never sent, and says whom it tried", async () => {
    const other = await connect({ connectString: proxy.address, connectTimeoutMs: 300 });
    try {
      proxy.refuse(true);
      const suspended = untilState("suspended", other);
      proxy.cut();
      await suspended;
      const begunAt = performance.now();
      const errors = await Promise.all([1, 2].map(() => rejection(other.create(`${root}/a`))));
      expect(performance.now() - begunAt).toBeGreaterThan(290);
      for (const error of errors) {
        expect(error).toMatchObject({ name: "NotConnectedError", outcome: "retryable" });
        expect(error.message).toContain(`${proxy.address} (`);
      }
      proxy.refuse(false);
      await other.connected(10_000);
      expect(await other.exists(`${root}/a`)).toBeNull();
    } finally {
      await other.close();
    }
  });

  test("waits no longer than connectTimeoutMs, however often it is tried meanwhile", async () => {
    const connectTimeoutMs = 700;
    const other = await connect({ connectString: proxy.address, connectTimeoutMs });
    try {
      proxy.refuse(true);
      proxy.cut();
      await rejection(other.sync("/"));
      const attempts = proxy.accepted;
      const error = rejection(other.exists(root));
      // Each failed attempt used to begin the waiting anew, so this took as long as pauses are shorter than it.
      expect(await lateness(error, connectTimeoutMs)).toBeLessThan(400);
      expect(await error).toMatchObject({ name: "NotConnectedError" });
      expect(proxy.accepted - attempts).toBeGreaterThan(1);
    } finally {
      await other.close();
    }
  });

  test("a connect string that leads nowhere is an error with the servers, the reasons and the remedy", async () => {
    proxy.stall("toClient");
    const connectString = `127.0.0.1:1,${proxy.address}`;
    const error = await rejection(connect({ connectString, connectTimeoutMs: 1_000 }));
    expect(error).toMatchObject({ name: "NotConnectedError", outcome: "retryable" });
    expect(error.message).toContain("within 1000 ms");
    expect(error.message).toContain("127.0.0.1:1 (ECONNREFUSED)");
    expect(error.message).toContain(`${proxy.address} (did not answer the handshake within`);
    expect(error.message).toContain("Check that the connect string");
    proxy.resume();
  });

  test("a server that is behind minimumZxid is not used", async () => {
    const minimumZxid = 2n ** 40n;
    const options = { connectString: server.connectString, connectTimeoutMs: 500, minimumZxid };
    const error = await rejection(connect(options));
    expect(error).toMatchObject({ name: "NotConnectedError" });
    expect(error.message).toContain("is behind what this client has seen");
  });

  test("everything after close is refused, and close may be called again", async () => {
    await client.close();
    await client.close();
    expect(client.state).toBe("closed");
    expect(await rejection(client.exists("/"))).toMatchObject({ name: "ClosedError", outcome: "terminal" });
    expect(await rejection(client.connected())).toMatchObject({ name: "ClosedError" });
  });

  test("a close while there is no connection is done at once", async () => {
    proxy.refuse(true);
    const suspended = untilState("suspended");
    proxy.cut();
    await suspended;
    const waiting = rejection(client.create(`${root}/a`));
    await client.close();
    expect(await waiting).toMatchObject({ name: "ClosedError", outcome: "terminal" });
    expect(states).toEqual(["suspended", "closed"]);
  });

  test("a close ends the session at the server, and its ephemerals go", async () => {
    await client.create(`${root}/e`, bytes(""), { mode: "ephemeral" });
    await client.close();
    expect(await writer.exists(`${root}/e`)).toBeNull();
  });

  test("what was sent before a close is still answered", async () => {
    const creates = Array.from({ length: 100 }, (_, index) => client.create(`${root}/${index}`));
    await new Promise((done) => setImmediate(done));
    await client.close();
    await Promise.all(creates);
    expect((await writer.getChildren(root)).children).toHaveLength(100);
  });
});

test("no error tells a session's id or password", async () => {
  const { stat } = await client.create(`${root}/e`, bytes(""), { mode: "ephemeral" });
  const id = stat.ephemeralOwner;
  proxy.dropReplies();
  const write = rejection(client.create(`${root}/a`));
  await untilTrue(async () => (await writer.exists(`${root}/a`)) !== null);
  proxy.cut();
  const error = await write;
  const text = `${error.message} ${error.stack} ${JSON.stringify(error, (_key, value) => (typeof value === "bigint" ? String(value) : value))}`;
  for (const secret of [String(id), id.toString(16)]) expect(text).not.toContain(secret);
});
