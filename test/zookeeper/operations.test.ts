import {
  BadVersionError,
  connect,
  MultiError,
  NoNodeError,
  type Op,
  type ZooKeeper,
} from "../../lib/zookeeper";
import { bytes, rejection, useZooKeeper } from "../support/zookeeper-fixture";
import type { LocalZooKeeper } from "../support/zookeeper-server";

const fixture = useZooKeeper();
let server: LocalZooKeeper;
let client: ZooKeeper;
let root: string;

beforeEach(() => {
  ({ server, client, root } = fixture);
});

describe("single operations", () => {
  test("create, read, change and delete a znode", async () => {
    const created = await client.create(`${root}/a`, bytes("one"));
    expect(created).toMatchObject({ path: `${root}/a`, stat: { version: 0, dataLength: 3 } });
    const read = await client.getData(`${root}/a`);
    expect(read.data.toString()).toBe("one");
    expect(read.stat).toEqual(created.stat);
    expect(read.zxid).toBeGreaterThanOrEqual(read.stat.mzxid);
    const changed = await client.setData(`${root}/a`, bytes("three"));
    expect(changed).toMatchObject({ version: 1, dataLength: 5, czxid: created.stat.czxid });
    expect(changed.mzxid).toBeGreaterThan(created.stat.mzxid);
    expect(await client.exists(`${root}/a`)).toEqual(changed);
    expect(await client.delete(`${root}/a`)).toBeUndefined();
    expect(await client.exists(`${root}/a`)).toBeNull();
    expect(await client.sync(root)).toBeUndefined();
  });

  test("children with their parent's stat, many of them", async () => {
    const names = Array.from({ length: 2_000 }, (_, index) => `child-${index}`);
    await Promise.all(names.map((name) => client.create(`${root}/${name}`)));
    const { children, stat } = await client.getChildren(root);
    expect(children.sort()).toEqual(names.sort());
    expect(stat).toMatchObject({ numChildren: 2_000, cversion: 2_000 });
  });

  test("data of any size up to the limit, and none", async () => {
    await client.create(`${root}/none`);
    expect((await client.getData(`${root}/none`)).data).toHaveLength(0);
    const large = Buffer.alloc(1_000_000, "x");
    await client.create(`${root}/large`, large);
    expect((await client.getData(`${root}/large`)).data.equals(large)).toBe(true);
    await expect(client.setData(`${root}/none`, Buffer.alloc(1_048_576))).rejects.toMatchObject({
      name: "InvalidArgumentError",
      message: expect.stringContaining("jute.maxbuffer"),
    });
    expect(await client.exists(`${root}/none`)).toMatchObject({ version: 0 });
  });

  test("sequential and ephemeral creates", async () => {
    const first = await client.create(`${root}/q-`, bytes(""), { mode: "persistent-sequential" });
    const second = await client.create(`${root}/q-`, bytes(""), { mode: "ephemeral-sequential" });
    expect([first.path, second.path]).toEqual([`${root}/q-0000000000`, `${root}/q-0000000001`]);
    expect(first.stat.ephemeralOwner).toBe(0n);
    expect(second.stat.ephemeralOwner).not.toBe(0n);
    expect((await client.create(`${root}/`, bytes(""), { mode: "persistent-sequential" })).path).toBe(
      `${root}/0000000002`,
    );
  });

  test("version 0 means version 0", async () => {
    await client.create(`${root}/a`);
    await client.setData(`${root}/a`, bytes("1"), 0);
    await client.setData(`${root}/a`, bytes("2"), 1);
    await expect(client.setData(`${root}/a`, bytes("3"), 0)).rejects.toThrow(BadVersionError);
    await expect(client.delete(`${root}/a`, 0)).rejects.toThrow(BadVersionError);
    await client.delete(`${root}/a`, 2);
  });

  test("each error of the server has its type, code, path and zxid", async () => {
    await client.create(`${root}/e`, bytes(""), { mode: "ephemeral" });
    await client.create(`${root}/p`);
    await client.create(`${root}/p/c`);
    await client.create(`${root}/secret`, bytes(""), { acl: [{ perms: 31, scheme: "digest", id: "a:b" }] });
    const cases: [Promise<unknown>, string, number, string][] = [
      [client.getData(`${root}/no`), "NoNodeError", -101, `${root}/no`],
      [client.create(`${root}/no/child`), "NoNodeError", -101, `${root}/no/child`],
      [client.setData(`${root}/p`, bytes(""), 7), "BadVersionError", -103, `${root}/p`],
      [client.create(`${root}/p`), "NodeExistsError", -110, `${root}/p`],
      [client.delete(`${root}/p`), "NotEmptyError", -111, `${root}/p`],
      [client.create(`${root}/e/c`), "NoChildrenForEphemeralsError", -108, `${root}/e/c`],
      [client.getData(`${root}/secret`), "NoAuthError", -102, `${root}/secret`],
      [client.create(`${root}/x`, bytes(""), { acl: [] }), "ZooKeeperError", -114, `${root}/x`],
    ];
    for (const [promise, name, code, path] of cases) {
      const error = await rejection(promise);
      expect(error).toMatchObject({ name, code, path, outcome: "terminal" });
      expect(error.zxid).toBeGreaterThan(0n);
    }
  });

  test("an invalid path is refused before anything is sent", async () => {
    const calls = [
      client.create("a"),
      client.delete("/a/"),
      client.exists(""),
      client.getData("/a//b"),
      client.setData("/..", bytes("")),
      client.getChildren("/\u0001"),
      client.sync("x"),
      client.addWatch("/a/", "persistent", () => undefined),
      client.multi([
        { type: "check", path: "/", version: 0 },
        { type: "delete", path: "no" },
      ]),
    ];
    for (const call of calls)
      await expect(call).rejects.toMatchObject({ name: "InvalidArgumentError", code: undefined });
  });

  test("operations are answered in the order of the calls", async () => {
    const order: number[] = [];
    const calls = Array.from({ length: 3_000 }, (_, index) =>
      (index % 3 === 0 ? client.create(`${root}/${index}`) : client.exists(root)).then(() =>
        order.push(index),
      ),
    );
    await Promise.all(calls);
    expect(order).toEqual(Array.from(calls.keys()));
    expect(client.lastZxid).toBeGreaterThan(0n);
  });
});

describe("multi", () => {
  test("is applied as a whole with one zxid, and gives each result at its place", async () => {
    await client.create(`${root}/a`, bytes("0"));
    await client.create(`${root}/gone`);
    const { zxid, results } = await client.multi([
      { type: "check", path: `${root}/a`, version: 0 },
      { type: "setData", path: `${root}/a`, data: bytes("1"), version: 0 },
      { type: "create", path: `${root}/b`, data: bytes("b") },
      { type: "create", path: `${root}/q-`, mode: "persistent-sequential" },
      { type: "delete", path: `${root}/gone` },
    ]);
    expect(results).toMatchObject([
      { type: "check" },
      { type: "setData", stat: { version: 1, mzxid: zxid } },
      { type: "create", path: `${root}/b`, stat: { czxid: zxid, dataLength: 1 } },
      { type: "create", path: expect.stringMatching(/\/q-\d{10}$/), stat: { czxid: zxid } },
      { type: "delete" },
    ]);
  });

  test.each<[string, (path: string) => Op]>([
    ["check", (path) => ({ type: "check", path, version: 0 })],
    ["setData", (path) => ({ type: "setData", path, data: bytes("x"), version: 0 })],
    ["delete", (path) => ({ type: "delete", path, version: 0 })],
  ])("version 0 means version 0 in %s", async (_type, op) => {
    await client.create(`${root}/a`);
    await client.setData(`${root}/a`, bytes("1"));
    const error = await rejection(client.multi([{ type: "create", path: `${root}/b` }, op(`${root}/a`)]));
    expect(error).toBeInstanceOf(MultiError);
    expect(error).toMatchObject({ index: 1, code: -103, path: `${root}/a`, outcome: "terminal" });
    expect(error.cause).toBeInstanceOf(BadVersionError);
    expect(await client.exists(`${root}/b`)).toBeNull();
  });

  test.each([0, 1, 2])("names operation %d as the one that failed", async (index) => {
    const ops: Op[] = [0, 1, 2].map((place) => ({
      type: "create",
      path: `${root}/${place === index ? "no/x" : place}`,
    }));
    const error = await rejection(client.multi(ops));
    expect(error).toMatchObject({ name: "MultiError", index, path: `${root}/no/x` });
    expect(error.cause).toBeInstanceOf(NoNodeError);
    expect(error.message).toContain(`Operation ${index} of the multi`);
    expect((await client.getChildren(root)).children).toEqual([]);
  });

  test("is of the operations that it was called with, whatever becomes of the list", async () => {
    const ops: Op[] = ["a", "b"].map((name) => ({ type: "create", path: `${root}/${name}` }));
    const reads = [{ type: "getData", path: root }] as const;
    const batch = [...reads];
    const calls = [client.multi(ops), client.multiRead(batch)] as const;
    ops.length = 0;
    batch.length = 0;
    const [multi, multiRead] = await Promise.all(calls);
    expect([multi.results.length, multiRead.results.length]).toEqual([2, 1]);
  });

  test("of nothing does nothing", async () => {
    expect((await client.multi([])).results).toEqual([]);
  });

  test("of 500 operations", async () => {
    const ops: Op[] = Array.from({ length: 500 }, (_, index) => ({
      type: "create",
      path: `${root}/${index}`,
    }));
    expect((await client.multi(ops)).results).toHaveLength(500);
  });
});

describe("options", () => {
  test("a chroot is before all paths and in none", async () => {
    const inside = await connect({ connectString: `${server.connectString}${root}` });
    const events: string[] = [];
    try {
      await inside.addWatch("/", "persistentRecursive", (notification) => {
        if (notification.type === "event")
          events.push(`${notification.event.type} ${notification.event.path}`);
      });
      expect((await inside.create("/x")).path).toBe("/x");
      const multi = await inside.multi([{ type: "create", path: "/y" }]);
      expect(multi.results[0]).toMatchObject({ path: "/y" });
      expect((await inside.getChildren("/")).children.sort()).toEqual(["x", "y"]);
      expect(await rejection(inside.getData("/none"))).toMatchObject({ path: "/none" });
      expect(events).toEqual(["created /x", "created /y"]);
    } finally {
      await inside.close();
    }
    expect(await client.exists(`${root}/x`)).not.toBeNull();
  });

  test("authentication comes before everything else", async () => {
    const authentication = [{ scheme: "digest", auth: "user:secret" }];
    const owner = await connect({ connectString: server.connectString, authentication });
    try {
      await owner.create(`${root}/mine`, bytes("x"), { acl: [{ perms: 31, scheme: "auth", id: "" }] });
      expect((await owner.getData(`${root}/mine`)).data.toString()).toBe("x");
      await expect(client.getData(`${root}/mine`)).rejects.toMatchObject({ name: "NoAuthError" });
    } finally {
      await owner.close();
    }
  });

  test("credentials that the server refuses end the client with a clear error", async () => {
    const authentication = [{ scheme: "nonsense", auth: "user:secret" }];
    const error = await rejection(connect({ connectString: server.connectString, authentication }));
    expect(error).toMatchObject({ name: "AuthFailedError", outcome: "terminal" });
    expect(error.message).not.toContain("secret");
  });

  test.each([{ sessionTimeoutMs: 0 }, { connectTimeoutMs: 1.5 }, { maxInFlight: -1 }])(
    "refuses %j",
    async (options) => {
      const error = await rejection(connect({ connectString: server.connectString, ...options }));
      expect(error).toMatchObject({
        name: "InvalidArgumentError",
        message: expect.stringContaining(Object.keys(options)[0]!),
      });
    },
  );
});
