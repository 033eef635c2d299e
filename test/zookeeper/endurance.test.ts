import { inspect } from "node:util";
import {
  type ConnectionState,
  connect,
  type ProtectedCreateOptions,
  SessionTicket,
  type ZooKeeper,
} from "../../lib/zookeeper";
import type { TcpProxy } from "../support/tcp-proxy";
import { WatchRecorder } from "../support/watch-recorder";
import { bytes, rejection, useZooKeeper } from "../support/zookeeper-fixture";
import type { LocalZooKeeper } from "../support/zookeeper-server";

const PROTECTED = /\/_c_[0-9a-f-]{36}-/;

/** No test waits for an end of a session, and none is to end because the machine is busy. */
const SESSION_TIMEOUT_MS = 30_000;
const fixture = useZooKeeper({ client: { sessionTimeoutMs: SESSION_TIMEOUT_MS } });
let server: LocalZooKeeper;
let proxy: TcpProxy;
/** Through the proxy. */
let client: ZooKeeper;
/** Straight to the server. */
let writer: ZooKeeper;
let root: string;

beforeEach(() => {
  ({ server, proxy, client, writer, root } = fixture);
});

async function untilTrue(isSo: () => Promise<boolean> | boolean): Promise<void> {
  while (!(await isSo())) await new Promise((done) => setTimeout(done, 5));
}

describe("a protected create", () => {
  test.each(["persistent", "ephemeral", "persistent-sequential", "ephemeral-sequential"] as const)(
    "of a %s znode whose reply is lost is found again, and made once",
    async (mode) => {
      proxy.dropReplies();
      const create = client.create(`${root}/a-`, bytes("x"), { mode, withProtection: true });
      await untilTrue(async () => (await writer.getChildren(root)).children.length > 0);
      proxy.cut();
      const { path, stat } = await create;
      expect(path).toMatch(PROTECTED);
      expect(stat).toMatchObject({ dataLength: 1, version: 0 });
      expect((await writer.getChildren(root)).children).toEqual([path.slice(root.length + 1)]);
    },
  );

  test("that never reached the server is made after all", async () => {
    proxy.stall("toServer");
    const create = client.create(`${root}/q-`, bytes(""), {
      mode: "ephemeral-sequential",
      withProtection: true,
    });
    await new Promise((done) => setImmediate(done));
    proxy.cut();
    proxy.resume();
    expect((await create).path).toMatch(/-q-0000000000$/);
    expect((await writer.getChildren(root)).children).toHaveLength(1);
  });

  test("survives a connection that is cut again and again", async () => {
    let isOver = false;
    const cutting = (async () => {
      for (let round = 0; !isOver; round += 1) {
        // On a slow machine, too, each connection begins before it is cut, and later ones live long enough for a request.
        await client.connected().catch(() => undefined);
        await new Promise((done) => setTimeout(done, 10 + (round % 7) + round / 10));
        proxy.cut();
      }
    })();
    const options = { mode: "persistent-sequential", withProtection: true } as const;
    const paths: string[] = [];
    try {
      for (let index = 0; index < 30; index += 1) {
        paths.push((await client.create(`${root}/q-`, bytes(""), options)).path);
      }
    } finally {
      isOver = true;
      await cutting;
    }
    const { children } = await writer.getChildren(root);
    expect(children.map((name) => `${root}/${name}`).sort()).toEqual([...paths].sort());
  });

  const lostCreate = async (options: ProtectedCreateOptions) => {
    proxy.dropReplies();
    const create = rejection(client.create(`${root}/a`, bytes(""), { ...options, withProtection: true }));
    await untilTrue(async () => (await writer.getChildren(root)).children.length > 0);
    proxy.refuse(true);
    proxy.cut();
    await untilTrue(() => client.state === "suspended");
    return create;
  };

  test("ends with its time limit, which is for all of its tries, and is ambiguous then", async () => {
    const error = await lostCreate({ timeoutMs: 400 });
    expect(error).toMatchObject({ name: "OperationTimeoutError", outcome: "ambiguous" });
  });

  test("ends with its signal while it looks for its znode, and is ambiguous then", async () => {
    const controller = new AbortController();
    const error = lostCreate({ signal: controller.signal });
    await untilTrue(() => client.state === "suspended");
    controller.abort();
    expect(await error).toMatchObject({ name: "AbortError", outcome: "ambiguous" });
  });

  test("that ends with the client after its reply was lost is ambiguous", async () => {
    const error = lostCreate({});
    await untilTrue(() => client.state === "suspended");
    await new Promise((done) => setImmediate(done));
    proxy.refuse(false);
    await untilTrue(() => client.state === "connected");
    expect(await error).toBeUndefined();
    proxy.dropReplies();
    const second = rejection(client.create(`${root}/b`, bytes(""), { withProtection: true }));
    await untilTrue(async () => (await writer.getChildren(root)).children.length > 1);
    await client.close();
    expect(await second).toMatchObject({ name: "ClosedError", outcome: "ambiguous" });
  });

  test("whose parent is absent says so", async () => {
    const create = client.create(`${root}/no/a`, bytes(""), { withProtection: true });
    expect(await rejection(create)).toMatchObject({ name: "NoNodeError" });
    const atRoot = await client.create("/top-", bytes(""), { mode: "ephemeral", withProtection: true });
    expect(atRoot.path).toMatch(/^\/_c_[0-9a-f-]{36}-top-$/);
  });
});

test("names are resolved anew for every connection", async () => {
  const [, port] = server.connectString.split(":");
  const answers = ["127.0.0.2", "127.0.0.1", "127.0.0.2", "127.0.0.1"];
  const asked: string[] = [];
  const named = await connect({
    connectString: `moving.test:${port}`,
    lookup: (host, _options, callback) => {
      const address = answers[asked.push(host) - 1] ?? "127.0.0.1";
      process.nextTick(() => callback(null, [{ address, family: 4 }]));
    },
  });
  try {
    expect(asked).toEqual(["moving.test", "moving.test"]);
    expect(named.server).toBe(`moving.test:${port}`);
    await server.servers[0]!.restart();
    await named.connected();
    expect(await named.exists("/").catch(() => named.exists("/"))).not.toBeNull();
    expect(asked.length).toBeGreaterThan(2);
  } finally {
    await named.close();
  }
});

test("a lookup that throws is a reason like any other, and the client goes on", async () => {
  let calls = 0;
  const [, port] = server.connectString.split(":");
  const named = await connect({
    connectString: `throwing.test:${port}`,
    lookup: (_host, _options, callback) => {
      calls += 1;
      if (calls < 3) throw new Error("no resolver");
      callback(null, [{ address: "127.0.0.1", family: 4 }]);
    },
  });
  expect(calls).toBe(3);
  expect(await named.exists("/")).not.toBeNull();
  await named.close();
});

test("a name that does not resolve is a reason like any other", async () => {
  const error = await rejection(connect({ connectString: "no-such-host.invalid:1", connectTimeoutMs: 400 }));
  expect(error).toMatchObject({ name: "NotConnectedError" });
  expect(error.message).toMatch(/no-such-host\.invalid:1 \((ENOTFOUND|EAI_AGAIN|did not accept)/);
});

describe("a chroot", () => {
  test("is in no path, reply, event or error that the user sees", async () => {
    const inside = await connect({ connectString: `${proxy.address}${root}` });
    const recorder = new WatchRecorder();
    const seen: unknown[] = [];
    try {
      await inside.addWatch("/", "persistentRecursive", recorder.listener);
      await inside.exists("/a", { watch: recorder.listener });
      seen.push(await inside.create("/a", bytes("x"), { mode: "ephemeral" }));
      seen.push(
        await inside.create("/q-", bytes(""), { mode: "persistent-sequential", withProtection: true }),
      );
      seen.push(
        await inside.multi([
          { type: "create", path: "/b" },
          { type: "create", path: "/b/c" },
        ]),
      );
      seen.push(await inside.getEphemerals("/"), await inside.getChildren("/b"));
      const results = await Promise.all([
        rejection(inside.getData("/no")),
        rejection(inside.multi([{ type: "delete", path: "/no" }])),
        rejection(
          inside.multiRead([{ type: "getData", path: "/no" }]).then(({ results }) => seen.push(results)),
        ),
        rejection(inside.getAcl("/no")),
        rejection(inside.setData("/b", bytes(""), 7)),
        rejection(inside.removeWatches("/b", "data")),
        rejection(inside.create("/b", bytes(""), { timeoutMs: 5_000 })),
      ]);
      seen.push(...results.map((error) => error && [error.message, error.path]));
      proxy.cut();
      await recorder.untilType("gap");
      await inside.delete("/b/c");
      seen.push(recorder.summary);
    } finally {
      await inside.close();
    }
    expect(inspect(seen, { depth: 9 })).not.toContain(root);
    // By the watch of the one event, and by the recursive one; the ephemeral goes with its session.
    const ofA = recorder.summary.filter((line) => line.endsWith(" /a"));
    expect(ofA).toEqual(["created /a", "created /a", "deleted /a"]);
    expect(recorder.summary).toContain("deleted /b/c");
  });

  test("that does not exist is not made silently", async () => {
    const inside = await connect({ connectString: `${proxy.address}${root}/no` });
    expect(await inside.exists("/")).toBeNull();
    expect(await rejection(inside.create("/a"))).toMatchObject({ name: "NoNodeError", path: "/a" });
    await inside.close();
  });
});

describe("a session that is handed over", () => {
  test("lives on in another client with its ephemerals, and ends with that one", async () => {
    await client.create(`${root}/e`, bytes("x"), { mode: "ephemeral" });
    const pending = Array.from({ length: 50 }, (_, index) => client.create(`${root}/${index}`));
    const ticket = await client.handOver();
    await Promise.all(pending);
    expect(client.state).toBe("closed");
    expect(await rejection(client.exists("/"))).toMatchObject({ name: "ClosedError" });
    const session = SessionTicket.fromBytes(ticket.toBytes());
    const heir = await connect({ connectString: server.connectString, session });
    expect(heir.isResumed).toBe(true);
    expect(heir.lastZxid).toBeGreaterThanOrEqual((await writer.exists(`${root}/49`))!.czxid);
    expect(await heir.getEphemerals(root)).toEqual([`${root}/e`]);
    await heir.delete(`${root}/e`);
    await heir.create(`${root}/e`, bytes("y"), { mode: "ephemeral" });
    await heir.close();
    expect(await writer.exists(`${root}/e`)).toBeNull();
  });

  test("that has expired meanwhile is replaced, and the client says so", async () => {
    const ticket = await client.handOver();
    const first = await connect({ connectString: server.connectString, session: ticket });
    await first.close();
    const states: ConnectionState[] = [];
    const second = await connect({ connectString: server.connectString, session: ticket });
    second.onState((state) => states.push(state));
    expect(second.isResumed).toBe(false);
    expect((await second.create(`${root}/a`)).path).toBe(`${root}/a`);
    await second.close();
  });

  test("shows itself nowhere, and strange bytes are refused", async () => {
    const { stat } = await client.create(`${root}/e`, bytes(""), { mode: "ephemeral" });
    const ticket = await client.handOver();
    const text = inspect(ticket, { showHidden: true, depth: 9 }) + JSON.stringify(ticket) + String(ticket);
    for (const secret of [String(stat.ephemeralOwner), stat.ephemeralOwner.toString(16)]) {
      expect(text).not.toContain(secret);
    }
    expect(ticket.timeoutMs).toBe(SESSION_TIMEOUT_MS);
    for (const wrong of [new Uint8Array(0), Buffer.alloc(40, 9), ticket.toBytes().subarray(0, 20)]) {
      expect(() => SessionTicket.fromBytes(wrong)).toThrow("no session ticket");
    }
  });

  test("of a client that is closed is an error", async () => {
    await client.close();
    expect(await rejection(client.handOver())).toMatchObject({ name: "ClosedError" });
  });

  test("while the connection is away", async () => {
    await client.create(`${root}/e`, bytes(""), { mode: "ephemeral" });
    proxy.refuse(true);
    proxy.cut();
    await rejection(client.sync("/"));
    const ticket = await client.handOver();
    const heir = await connect({ connectString: server.connectString, session: ticket });
    expect(await heir.getEphemerals(root)).toEqual([`${root}/e`]);
    await heir.close();
  });
});
