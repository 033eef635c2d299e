import { connect, type ZooKeeper } from "../../lib/zookeeper";
import { Xid } from "../../lib/zookeeper/records";
import { TcpProxy } from "../support/tcp-proxy";
import { WatchRecorder } from "../support/watch-recorder";
import { bytes, lateness, rejection, useZooKeeper } from "../support/zookeeper-fixture";
import type { LocalZooKeeper } from "../support/zookeeper-server";

const fixture = useZooKeeper({
  server: {
    config: { extendedTypesEnabled: "true" },
    properties: { "znode.container.checkIntervalMs": "50" },
  },
});
let server: LocalZooKeeper;
let client: ZooKeeper;
let root: string;

beforeEach(() => {
  ({ server, client, root } = fixture);
});

describe("creates of containers and of znodes with a time to live", () => {
  // The stat does not show what kind a znode is; the server shows it by deleting it.
  const children = async () => (await client.getChildren(root)).children.sort();
  const untilChildren = async (wanted: string[]) => {
    while ((await children()).join() !== wanted.join()) await new Promise((done) => setTimeout(done, 20));
  };

  test("TTL znodes go when they were not changed for their time", async () => {
    const options = { mode: "persistent-ttl", ttlMs: 1 } as const;
    const sequential = { mode: "persistent-sequential-ttl", ttlMs: 1 } as const;
    const { path, stat } = await client.create(`${root}/s-`, bytes("x"), { ...sequential, ttlMs: 600_000 });
    expect({ path, stat }).toMatchObject({ path: `${root}/s-0000000000`, stat: { dataLength: 1 } });
    await client.create(`${root}/a`, bytes("x"), options);
    await client.create(`${root}/s-`, bytes("x"), sequential);
    const { results } = await client.multi([
      { type: "create", path: `${root}/b`, ...options },
      { type: "create", path: `${root}/kept` },
      { type: "create", path: `${root}/s-`, ...sequential },
    ]);
    expect(results).toMatchObject([{ path: `${root}/b` }, {}, { path: expect.stringMatching(/s-\d{10}$/) }]);
    await untilChildren(["kept", "s-0000000000"]);
  });

  test("containers go when their last child has gone", async () => {
    await client.create(`${root}/a`, bytes("x"), { mode: "container" });
    await client.multi([
      { type: "create", path: `${root}/b`, mode: "container" },
      { type: "create", path: `${root}/b/child` },
      { type: "create", path: `${root}/a/child` },
    ]);
    await Promise.all(["a", "b"].map((name) => client.delete(`${root}/${name}/child`)));
    await untilChildren([]);
  });

  test.each([
    ["persistent-ttl", undefined],
    ["persistent-ttl", 0],
    ["persistent-sequential-ttl", 1.5],
    ["persistent", 1_000],
    ["container", 1_000],
  ] as const)("a %s with a ttlMs of %s is refused", async (mode, ttlMs) => {
    const single = await rejection(client.create(`${root}/a`, bytes(""), { mode, ttlMs }));
    const inMulti = await rejection(client.multi([{ type: "create", path: `${root}/a`, mode, ttlMs }]));
    for (const error of [single, inMulti]) expect(error).toMatchObject({ name: "InvalidArgumentError" });
  });
});

test("an ACL is read and set, with a version of its own", async () => {
  expect(await client.getAcl(root)).toMatchObject({
    acl: [{ perms: 31, scheme: "world", id: "anyone" }],
    stat: { aversion: 0 },
  });
  const acl = [
    { perms: 1, scheme: "ip", id: "10.0.0.0/8" },
    { perms: 31, scheme: "world", id: "anyone" },
  ];
  expect(await client.setAcl(root, acl, 0)).toMatchObject({ aversion: 1, version: 0 });
  expect((await client.getAcl(root)).acl).toEqual(acl);
  await expect(client.setAcl(root, acl, 0)).rejects.toMatchObject({ name: "BadVersionError" });
});

describe("without a stat", () => {
  test("a znode is created, and the names of children are read", async () => {
    const recorder = new WatchRecorder();
    expect(await client.getChildNames(root, { watch: recorder.listener })).toEqual([]);
    expect(await client.createPath(`${root}/a`, bytes("x"))).toBe(`${root}/a`);
    const mode = "ephemeral-sequential";
    const acl = [{ perms: 31, scheme: "ip", id: "127.0.0.1" }];
    expect(await client.createPath(`${root}/q-`, undefined, { mode, acl })).toBe(`${root}/q-0000000001`);
    expect((await client.getChildNames(root)).sort()).toEqual(["a", "q-0000000001"]);
    expect(await client.getEphemerals(root)).toEqual([`${root}/q-0000000001`]);
    expect((await client.getAcl(`${root}/q-0000000001`)).acl).toEqual(acl);
    expect((await client.getData(`${root}/a`)).data.toString()).toBe("x");
    expect(recorder.summary).toEqual([`childrenChanged ${root}`]);
  });

  test("paths are the user's below a chroot, and errors those of the other create", async () => {
    const inside = await connect({ connectString: `${server.connectString}${root}` });
    try {
      expect(await inside.createPath("/a")).toBe("/a");
      const exists = await rejection(inside.createPath("/a"));
      expect(exists).toMatchObject({ name: "NodeExistsError", path: "/a", outcome: "terminal" });
      const mode = "container" as "persistent";
      const refused = await rejection(inside.createPath("/b", undefined, { mode }));
      expect(refused).toMatchObject({ name: "InvalidArgumentError" });
      expect(await inside.getChildNames("/")).toEqual(["a"]);
    } finally {
      await inside.close();
    }
  });
});

test("check is a multi of one", async () => {
  await client.check(root, 0);
  await expect(client.check(root, 1)).rejects.toMatchObject({ code: -103, path: root });
});

test("a multiRead gives each read its result or its error", async () => {
  await client.create(`${root}/a`, bytes("one"));
  const { zxid, results } = await client.multiRead([
    { type: "getData", path: `${root}/a` },
    { type: "getChildren", path: root },
    { type: "getData", path: `${root}/no` },
    { type: "getChildren", path: `${root}/a` },
  ]);
  expect(zxid).toBe(client.lastZxid);
  expect(results).toMatchObject([
    { type: "getData", data: bytes("one"), stat: { version: 0 } },
    { type: "getChildren", children: ["a"] },
    { type: "error", error: { name: "NoNodeError", path: `${root}/no`, outcome: "terminal" } },
    { type: "getChildren", children: [] },
  ]);
  expect((await client.multiRead([])).results).toEqual([]);
  await expect(client.multiRead([{ type: "getData", path: "no" }])).rejects.toMatchObject({
    name: "InvalidArgumentError",
  });
});

test("ephemerals of the session, and the number of znodes below a path", async () => {
  const inside = await connect({ connectString: `${server.connectString}${root}` });
  try {
    for (const path of ["/a", "/b"]) await inside.create(path, bytes(""), { mode: "ephemeral" });
    await client.create(`${root}-beside`);
    await client.create(`${root}/kept`);
    expect((await inside.getEphemerals()).sort()).toEqual(["/a", "/b"]);
    expect(await inside.getEphemerals("/b")).toEqual(["/b"]);
    expect(await client.getEphemerals(root)).toEqual([]);
    expect(await inside.getAllChildrenNumber("/")).toBe(3);
    expect(await client.getAllChildrenNumber(`${root}/kept`)).toBe(0);
  } finally {
    await inside.close();
  }
});

test("the configuration can be read from below a chroot, and a lone server refuses to change it", async () => {
  const inside = await connect({ connectString: `${server.connectString}${root}` });
  try {
    expect(await inside.getConfig()).toMatchObject({ version: 0n, stat: { czxid: 0n } });
  } finally {
    await inside.close();
  }
  expect(await rejection(client.reconfig({ leaving: "1" }))).toMatchObject({
    outcome: "terminal",
    message: expect.stringContaining("reconfigEnabled"),
  });
});

describe("identities", () => {
  let proxy: TcpProxy;
  let other: ZooKeeper;
  beforeEach(async () => {
    proxy = await TcpProxy.start(server.connectString);
    other = await connect({ connectString: proxy.address });
  });
  afterEach(async () => {
    await other.close();
    await proxy.stop();
  });

  test("one added while requests are on their way counts for what follows, on later connections as well", async () => {
    const before = Array.from({ length: 500 }, () => other.exists(root));
    await other.addAuth({ scheme: "digest", auth: "user:secret" });
    await Promise.all(before);
    const users = (await other.whoAmI()).map(({ scheme, user }) => `${scheme} ${user}`);
    expect(users.sort()).toEqual(["digest user", "ip 127.0.0.1"]);
    await other.create(`${root}/mine`, bytes("x"), { acl: [{ perms: 31, scheme: "auth", id: "" }] });
    proxy.cut();
    await other.exists(root).catch(() => undefined);
    expect((await other.getData(`${root}/mine`)).data.toString()).toBe("x");
  });

  test("one that is added again is sent once on a later connection", async () => {
    for (let time = 0; time < 3; time += 1) await other.addAuth({ scheme: "digest", auth: "user:secret" });
    let received = Buffer.alloc(0);
    proxy.rewrite((chunk) => {
      received = Buffer.concat([received, chunk]);
      return chunk;
    });
    proxy.cut();
    await rejection(other.sync("/"));
    await other.connected();
    let replies = 0;
    for (let at = 0; at + 8 <= received.length; at += 4 + received.readInt32BE(at))
      if (received.readInt32BE(at + 4) === Xid.auth) replies += 1;
    expect(replies).toBe(1);
  });

  test("one that the server refuses is not kept, and the client goes on", async () => {
    const error = await rejection(other.addAuth({ scheme: "nonsense", auth: "user:secret" }));
    expect(error).toMatchObject({ name: "AuthFailedError", outcome: "terminal" });
    expect(JSON.stringify([error.message, error.stack])).not.toContain("secret");
    await other.sync("/").catch(() => undefined);
    await other.connected();
    expect((await other.whoAmI()).map(({ scheme }) => scheme)).toEqual(["ip"]);
  });
});

describe("a call with a bound", () => {
  let proxy: TcpProxy;
  let other: ZooKeeper;
  beforeEach(async () => {
    proxy = await TcpProxy.start(server.connectString);
    other = await connect({ connectString: proxy.address });
  });
  afterEach(async () => {
    proxy.resume();
    await other.close();
    await proxy.stop();
  });

  test("ends with its timeout: a read is retryable, a write ambiguous; what follows is answered", async () => {
    proxy.stall("toClient");
    const both = Promise.all([
      rejection(other.exists(root, { timeoutMs: 100 })),
      rejection(other.create(`${root}/a`, bytes(""), { timeoutMs: 100 })),
    ]);
    expect(await lateness(both, 100)).toBeLessThan(900);
    const [read, write] = await both;
    expect(read).toMatchObject({ name: "OperationTimeoutError", outcome: "retryable", path: root });
    expect(write).toMatchObject({ name: "OperationTimeoutError", outcome: "ambiguous" });
    expect(write.message).toBe(`create of ${root}/a: 100 ms have passed, and its reply has not come.`);
    proxy.resume();
    expect(await other.exists(`${root}/a`)).not.toBeNull();
  });

  test("ends with its signal, for its reason, and leaves no listener on it", async () => {
    proxy.stall("toClient");
    const controller = new AbortController();
    const { signal } = controller;
    const calls = [
      other.getData(root, { signal }),
      other.getChildren(root, { signal }),
      other.setData(root, bytes("x"), -1, { signal }),
      other.delete(`${root}/a`, -1, { signal }),
      other.multi([{ type: "check", path: root, version: 0 }], { signal }),
      other.multiRead([{ type: "getData", path: root }], { signal }),
      other.sync(root, { signal }),
      other.addWatch(root, "persistent", () => undefined, { signal }),
      other.whoAmI({ signal }),
    ].map(rejection);
    await new Promise((done) => setImmediate(done));
    controller.abort("enough");
    for (const error of await Promise.all(calls)) {
      expect(error).toMatchObject({ name: "AbortError", cause: "enough" });
    }
    expect(await rejection(other.exists(root, { signal }))).toMatchObject({
      name: "AbortError",
      outcome: "retryable",
      message: expect.stringContaining("it was not sent"),
    });
    proxy.resume();
    expect(await other.exists(root)).toMatchObject({ version: 1 });
  });

  test("that waits for a connection is never sent once it has ended", async () => {
    proxy.refuse(true);
    proxy.cut();
    await rejection(other.sync("/"));
    const controller = new AbortController();
    const aborted = rejection(other.create(`${root}/a`, bytes(""), { signal: controller.signal }));
    const late = rejection(other.create(`${root}/b`, bytes(""), { timeoutMs: 50 }));
    controller.abort();
    for (const error of await Promise.all([aborted, late]))
      expect(error).toMatchObject({ outcome: "retryable" });
    proxy.refuse(false);
    await other.connected();
    await other.sync("/");
    expect((await other.getChildren(root)).children).toEqual([]);
  });

  test("an aborted addWatch leaves no listener", async () => {
    const heard: unknown[] = [];
    const controller = new AbortController();
    const options = { signal: controller.signal };
    const armed = rejection(other.addWatch(root, "persistent", (each) => heard.push(each), options));
    await new Promise((done) => setImmediate(done));
    controller.abort();
    const error = await armed;
    if (error) expect(error).toMatchObject({ name: "AbortError" });
    await other.setData(root, bytes("x"));
    expect(heard).toHaveLength(error ? 0 : 1);
  });

  test("a time limit beyond what timers can count is none", async () => {
    for (const timeoutMs of [Number.POSITIVE_INFINITY, 2 ** 40])
      expect(await other.exists(root, { timeoutMs })).not.toBeNull();
    await other.connected(Number.POSITIVE_INFINITY);
  });

  test("a time limit of nothing is refused", async () => {
    for (const timeoutMs of [0, -1, Number.NaN]) {
      expect(await rejection(other.exists(root, { timeoutMs }))).toMatchObject({
        name: "InvalidArgumentError",
      });
    }
  });
});
