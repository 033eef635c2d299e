import {
  CommitLostError,
  type FencedMulti,
  MAX_LOSSES,
  MAX_READ_LOSSES,
  operationsBytes,
  reading,
  sendFenced,
} from "../../lib/checkpoint/commit";
import { decodeHead, encodeHead, type Head, NEW_HEAD, nextCommit } from "../../lib/checkpoint/records";
import {
  connect,
  MultiError,
  NoAuthError,
  type Op,
  type ZooKeeper,
  type ZooKeeperClient,
} from "../../lib/zookeeper";
import { TcpProxy } from "../support/tcp-proxy";
import { type LocalZooKeeper, startZooKeeper } from "../support/zookeeper-server";

let server: LocalZooKeeper;
let direct: ZooKeeper;
let proxy: TcpProxy;
let client: ZooKeeper;
let head: string;
let tests = 0;

beforeAll(async () => {
  server = await startZooKeeper();
  direct = await connect({ connectString: server.connectString });
});

afterAll(async () => {
  await direct?.close();
  await server?.stop();
});

beforeEach(async () => {
  head = `/head-${++tests}`;
  await direct.create(head, encodeHead(NEW_HEAD));
  proxy = await TcpProxy.start(server.connectString);
  client = await connect({ connectString: proxy.address });
});

afterEach(async () => {
  await client?.close();
  await proxy?.stop();
});

async function readHead(): Promise<{ head: Head; version: number }> {
  const { data, stat } = await direct.getData(head);
  return { head: decodeHead(data, head), version: stat.version };
}

/** A commit on the head as it is now. */
async function nextMulti(commitId: string, user: readonly Op[] = []): Promise<FencedMulti> {
  const { head: current, version } = await readHead();
  const data = encodeHead({ ...current, ...nextCommit(current, commitId) });
  const own: Op[] = [
    { type: "check", path: "/", version: 0 },
    { type: "setData", path: head, data, version },
    { type: "create", path: `${head}/segment-`, mode: "persistent-sequential" },
  ];
  return { commitId, fence: { path: head, decode: decodeHead }, own, user };
}

/** The client with something that happens around each multi: `at` gets its number and what really sends it. */
function around(at: (nth: number, send: () => Promise<unknown>) => Promise<unknown>): ZooKeeperClient {
  let sent = 0;
  return new Proxy(client as ZooKeeperClient, {
    get(target, name) {
      if (name === "multi") return (ops: readonly Op[]) => at(++sent, () => target.multi(ops));
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

/** Sends with the reply swallowed: returns when the multi has taken effect, and then breaks the connection. */
async function swallowReply(send: () => Promise<unknown>): Promise<unknown> {
  const { version } = await readHead();
  proxy.dropReplies();
  const reply = send();
  reply.catch(() => undefined);
  while ((await readHead()).version === version) await direct.sync(head);
  proxy.cut();
  return reply;
}

/** Sends with the request swallowed: nothing reaches the server, and the connection breaks. */
async function swallowRequest(send: () => Promise<unknown>): Promise<unknown> {
  proxy.stall("toServer");
  const reply = send();
  reply.catch(() => undefined);
  // The request leaves in the next tick; the proxy holds it back and the cut destroys it.
  await new Promise((done) => setImmediate(done));
  proxy.cut();
  proxy.resume();
  return reply;
}

async function commitOther(id: string): Promise<void> {
  expect(await sendFenced(direct, await nextMulti(id))).toMatchObject({ kind: "committed" });
}

const segments = async (): Promise<number> => (await direct.getChildren(head)).children.length;

test("committed: with the version and the time of the fence", async () => {
  const outcome = await sendFenced(client, await nextMulti("a"));
  const { stat } = await direct.getData(head);
  expect(outcome).toEqual({
    kind: "committed",
    zxid: stat.mzxid,
    version: 1,
    mtimeMs: stat.mtime,
    overtaken: false,
  });
});

test.each(["the head moved on", "the generation moved on"])("rejected: %s", async (reason) => {
  const multi = await nextMulti("a");
  const stale: Op[] = [{ type: "check", path: "/", version: 5 }, ...multi.own.slice(1)];
  if (reason === "the head moved on") await commitOther("b");
  const before = await segments();
  const outcome = await sendFenced(client, reason === "the head moved on" ? multi : { ...multi, own: stale });
  expect(outcome).toMatchObject({ kind: "rejected", cause: { name: "MultiError" } });
  expect(await segments()).toBe(before);
});

test("conflict: the user's operation is named by its place among the user's", async () => {
  const user: Op[] = [
    { type: "check", path: "/", version: 0 },
    { type: "delete", path: "/nowhere" },
  ];
  const outcome = await sendFenced(client, await nextMulti("a", user));
  expect(outcome).toMatchObject({ kind: "conflict", index: 1, cause: { cause: { name: "NoNodeError" } } });
  expect(await segments()).toBe(0);
});

test("an error that no commit expects is thrown, not taken for a rejection", async () => {
  const path = `${head}-locked`;
  await direct.create(path, undefined, { acl: [{ perms: 1, scheme: "world", id: "anyone" }] });
  const multi = await nextMulti("a");
  const own: Op[] = [...multi.own, { type: "setData", path, data: Buffer.alloc(0) }];
  const error = await sendFenced(client, { ...multi, own }).catch((each: unknown) => each);
  expect(error).toBeInstanceOf(MultiError);
  expect((error as MultiError).cause).toBeInstanceOf(NoAuthError);
});

describe("ambiguous", () => {
  test("the reply is swallowed and the commit took effect: committed once", async () => {
    const faulty = around((nth, send) => (nth === 1 ? swallowReply(send) : send()));
    const outcome = await sendFenced(faulty, await nextMulti("a"));
    const { stat } = await direct.getData(head);
    expect(outcome).toEqual({
      kind: "committed",
      zxid: stat.mzxid,
      version: 1,
      mtimeMs: stat.mtime,
      overtaken: false,
    });
    expect(await segments()).toBe(1);
  });

  test("the request is swallowed: the second copy commits", async () => {
    const faulty = around((nth, send) => (nth === 1 ? swallowRequest(send) : send()));
    expect(await sendFenced(faulty, await nextMulti("a"))).toMatchObject({ kind: "committed", version: 1 });
    expect(await segments()).toBe(1);
  });

  test.each([1, 7])(
    "it took effect, and %i others committed on top: committed, and overtaken",
    async (others) => {
      const faulty = around(async (nth, send) => {
        if (nth > 1) return send();
        const lost = swallowReply(send);
        lost.catch(() => undefined);
        await lost.catch(() => undefined);
        for (let other = 0; other < others; other += 1) await commitOther(`other-${other}`);
        return lost;
      });
      const outcome = await sendFenced(faulty, await nextMulti("a"));
      expect(outcome).toMatchObject({ kind: "committed", version: 1 + others, overtaken: true });
      expect(await segments()).toBe(1 + others);
    },
  );

  test("it did not take effect, and another committed: rejected", async () => {
    const faulty = around(async (nth, send) => {
      if (nth > 1) return send();
      const lost = await swallowRequest(send).catch((error: unknown) => error);
      await commitOther("b");
      throw lost;
    });
    expect(await sendFenced(faulty, await nextMulti("a"))).toMatchObject({ kind: "rejected" });
    expect(await segments()).toBe(1);
  });

  test("it took effect, and its own effect makes the user's operation fail the second time: committed", async () => {
    const user: Op[] = [{ type: "create", path: `${head}-result` }];
    const faulty = around((nth, send) => (nth === 1 ? swallowReply(send) : send()));
    expect(await sendFenced(faulty, await nextMulti("a", user))).toMatchObject({ kind: "committed" });
  });

  test("a server that drops what it can't take: lost after three, with path and size", async () => {
    const faulty = around((_nth, send) => swallowRequest(send));
    const multi = await nextMulti("a");
    const error = await sendFenced(faulty, multi).catch((each: unknown) => each);
    expect(error).toBeInstanceOf(CommitLostError);
    expect(error).toMatchObject({ fencePath: head, losses: MAX_LOSSES, bytes: operationsBytes(multi.own) });
    expect((error as Error).message).toMatch(/jute\.maxbuffer/);
    expect(await readHead()).toMatchObject({ version: 0 });
  });

  test("the third copy took effect, and its reply is lost as well: committed", async () => {
    const faulty = around((nth, send) => (nth < MAX_LOSSES ? swallowRequest(send) : swallowReply(send)));
    expect(await sendFenced(faulty, await nextMulti("a"))).toMatchObject({ kind: "committed", version: 1 });
    expect(await segments()).toBe(1);
  });
});

test("reads are repeated over lost connections, and other errors are not", async () => {
  let reads = 0;
  const found = await reading(client, async () => {
    reads += 1;
    if (reads < 3) {
      const lost = client.getData(head);
      lost.catch(() => undefined);
      proxy.cut();
      return lost;
    }
    return client.getData(head);
  });
  expect(reads).toBe(3);
  expect(found.stat.version).toBe(0);
  await expect(reading(client, () => client.getData("/nowhere"))).rejects.toMatchObject({
    name: "NoNodeError",
  });
  await expect(reading(client, () => Promise.reject(new RangeError("mine")))).rejects.toThrow("mine");
});

test("a read that breaks its connection every time is given up, with what to look at", async () => {
  let reads = 0;
  const ran = reading(client, () => {
    reads += 1;
    const lost = client.getData(head);
    lost.catch(() => undefined);
    proxy.cut();
    return lost;
  });
  const error = await ran.catch((each: unknown) => each);
  expect(error).toMatchObject({ name: "ReadLostError", outcome: "retryable", losses: MAX_READ_LOSSES });
  expect((error as Error).message).toMatch(/jute\.maxbuffer/);
  expect(reads).toBe(MAX_READ_LOSSES);
});

test("the size of a request is never estimated too low", async () => {
  const ops: Op[] = [
    { type: "create", path: "/ü/é", data: Buffer.alloc(10) },
    { type: "setData", path: "/a", data: Buffer.alloc(100) },
    { type: "check", path: "/b", version: 1 },
    { type: "delete", path: "/c" },
  ];
  // On the wire: a header of 9, path and data with lengths, ACL of 1 entry (world:anyone) and flags.
  const wire = ops.reduce((sum, op) => {
    const data = "data" in op && op.data ? op.data.length : 0;
    return (
      sum + 9 + 4 + Buffer.byteLength(op.path) + 4 + data + (op.type === "create" ? 4 + 4 + 9 + 10 + 4 : 4)
    );
  }, 9);
  expect(operationsBytes(ops)).toBeGreaterThanOrEqual(wire);
});
