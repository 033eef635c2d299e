import { ConnectionLossError, type ZooKeeper, ZooKeeperError } from "../../../lib/zookeeper";
import { TreeCache, type TreeChange } from "../../../lib/zookeeper/recipes";
import type { TcpProxy } from "../../support/tcp-proxy";
import { bytes, useZooKeeper } from "../../support/zookeeper-fixture";

const fixture = useZooKeeper();
let proxy: TcpProxy;
/** Through the proxy. */
let client: ZooKeeper;
/** Straight to the server. */
let writer: ZooKeeper;
let root: string;
let changes: TreeChange[];

beforeEach(() => {
  ({ proxy, client, writer, root } = fixture);
  changes = [];
});

const open = () => TreeCache.open(client, root, { onChange: (change) => changes.push(change) });

/** In short: `added /a`, `updated /a`. */
function summary(): string[] {
  return changes.map((change) => {
    if (change.type === "gap" || change.type === "ended") return change.type;
    const { path } = change.type === "removed" ? change.previous : change.znode;
    return `${change.type} ${path.slice(root.length)}`;
  });
}

/** The client may not have noticed a cut yet: then the first sync is what tells it. */
async function synced(): Promise<void> {
  await client.sync("/").catch(async (error: unknown) => {
    if (!(error instanceof ConnectionLossError)) throw error;
    await client.connected();
    await client.sync("/");
  });
}

async function caughtUp(cache: TreeCache): Promise<void> {
  await synced();
  await cache.settled();
}

async function whileAway(act: () => Promise<unknown>): Promise<void> {
  proxy.refuse(true);
  proxy.cut();
  await act();
  proxy.refuse(false);
  await client.connected();
}

/** The cache shows what the server has. */
async function expectCurrent(cache: TreeCache, path = root): Promise<void> {
  const { data, stat } = await writer.getData(path);
  expect(cache.get(path)).toEqual({
    path,
    data,
    stat: {
      ...stat,
      numChildren: expect.any(Number),
      cversion: expect.any(Number),
      pzxid: expect.any(BigInt),
    },
  });
  const { children } = await writer.getChildren(path);
  for (const name of children) await expectCurrent(cache, `${path}/${name}`);
}

test("reads all, and follows each change", async () => {
  for (const name of ["a", "a/b", "a/b/c", "d"]) await writer.create(`${root}/${name}`, bytes(name));
  await client.sync("/");
  const cache = await open();
  expect(cache.size).toBe(5);
  expect(summary().sort()).toEqual(["added ", "added /a", "added /a/b", "added /a/b/c", "added /d"]);
  changes = [];
  await writer.create(`${root}/e`);
  await writer.setData(`${root}/a/b`, bytes("new"));
  await writer.delete(`${root}/a/b/c`);
  await caughtUp(cache);
  expect(summary().sort()).toEqual(["added /e", "removed /a/b/c", "updated /a/b"]);
  expect(cache.get(`${root}/a/b`)!.data.toString()).toBe("new");
  await expectCurrent(cache);
});

test("reports what a gap has hidden: values exactly, lives by their names", async () => {
  for (const name of ["a", "b", "c"]) await writer.create(`${root}/${name}`);
  await client.sync("/");
  const cache = await open();
  changes = [];
  await whileAway(async () => {
    for (let version = 0; version < 5; version += 1) await writer.setData(`${root}/a`, bytes(`${version}`));
    await writer.delete(`${root}/b`);
    await writer.create(`${root}/b`);
    await writer.setData(`${root}/b`, bytes("x"));
    await writer.delete(`${root}/c`);
    await writer.create(`${root}/new`);
    await writer.create(`${root}/new/below`);
  });
  await caughtUp(cache);
  expect(summary().slice(0, -1).sort()).toEqual([
    "added /new",
    "added /new/below",
    "removed /c",
    "updated /a",
    "updated /b",
  ]);
  expect(changes.at(-1)).toEqual({
    type: "gap",
    report: { added: 2, removed: 1, updated: 2, missedValues: 5, replaced: [`${root}/b`] },
  });
  await expectCurrent(cache);
});

test("ends up current however the connection breaks while a writer goes on", async () => {
  const cache = await open();
  let isOver = false;
  const cutting = (async () => {
    while (!isOver) {
      await new Promise((done) => setTimeout(done, 25));
      proxy.cut();
    }
  })();
  for (let step = 0; step < 400; step += 1) {
    const path = `${root}/${step % 7}`;
    if (step % 3 === 0) await writer.create(path).catch(() => undefined);
    else if (step % 3 === 1) await writer.setData(path, bytes(`${step}`)).catch(() => undefined);
    else if (step % 2 === 0) await writer.delete(path).catch(() => undefined);
  }
  isOver = true;
  await cutting;
  await client.connected();
  while ((await client.sync("/").catch(() => "again")) === "again");
  await cache.settled();
  await expectCurrent(cache);
  expect([...cache.paths()].sort()).toEqual(
    [root, ...(await writer.getChildren(root)).children.map((name) => `${root}/${name}`)].sort(),
  );
  expect(summary()).toContain("gap");
});

test("what may not be read is unknown, not deleted", async () => {
  await writer.create(`${root}/a`, bytes("x"));
  await client.sync("/");
  const cache = await open();
  changes = [];
  await writer.setAcl(`${root}/a`, [{ perms: 16, scheme: "world", id: "anyone" }]);
  await whileAway(() => writer.create(`${root}/b`));
  await caughtUp(cache);
  expect(summary()).toEqual(["added /b", "gap"]);
  expect(cache.get(`${root}/a`)!.data.toString()).toBe("x");
});

test("ends with the client, and says so", async () => {
  const cache = await open();
  await client.close();
  expect(summary()).toEqual(["added ", "ended"]);
  expect(cache.size).toBe(1);
});

test("a path that is not there yet is an empty cache that fills", async () => {
  const cache = await TreeCache.open(client, `${root}/later`);
  expect(cache.size).toBe(0);
  await writer.create(`${root}/later`);
  await writer.create(`${root}/later/a`);
  await caughtUp(cache);
  expect(cache.size).toBe(2);
  cache.close();
  await writer.create(`${root}/later/b`);
  await client.sync("/");
  expect(cache.size).toBe(2);
});

test("a read that is throttled is repeated; one that no repetition heals is told, and wedges nobody", async () => {
  const errors: unknown[] = [];
  const cache = await TreeCache.open(client, root, { onError: (error) => errors.push(error) });
  const getData = jest.spyOn(client, "getData");
  getData.mockRejectedValueOnce(new ZooKeeperError("throttled", "retryable", -127));
  await writer.setData(root, bytes("1"));
  await caughtUp(cache);
  expect([cache.get(root)!.data.toString(), errors]).toEqual(["1", []]);
  const broken = new ZooKeeperError("broken", "terminal", -8);
  let giveUp = (): void => undefined;
  const reading = new Promise<never>((_, fail) => {
    getData.mockImplementationOnce(() => reading);
    giveUp = () => fail(broken);
  });
  await writer.setData(root, bytes("2"));
  await synced();
  const settled = cache.settled();
  giveUp();
  await expect(settled).rejects.toBe(broken);
  expect(errors).toEqual([broken]);
  await cache.settled();
  expect(cache.get(root)!.data.toString()).toBe("2");
});

test("a listener that throws is reported, and breaks nothing", async () => {
  const errors: unknown[] = [];
  const cache = await TreeCache.open(client, root, {
    onChange: () => {
      throw new Error("listener");
    },
    onError: (error) => errors.push(error),
  });
  await writer.create(`${root}/a`);
  await caughtUp(cache);
  expect(errors).toHaveLength(2);
  expect(cache.size).toBe(2);
});
