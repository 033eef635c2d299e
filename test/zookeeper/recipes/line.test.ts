import { connect, type ZooKeeper } from "../../../lib/zookeeper";
import { acquireLock, campaign, currentLeader, type Turn, withLock } from "../../../lib/zookeeper/recipes";
import { inOrder } from "../../../lib/zookeeper/recipes/line";
import { closeSession, overhear } from "../../support/session-thief";
import type { TcpProxy } from "../../support/tcp-proxy";
import { bytes, rejection, useZooKeeper } from "../../support/zookeeper-fixture";
import type { LocalZooKeeper } from "../../support/zookeeper-server";

const fixture = useZooKeeper({ server: { config: { tickTime: "200" } }, client: false });
let server: LocalZooKeeper;
let clients: ZooKeeper[] = [];
let proxy: TcpProxy;
let root: string;

beforeEach(() => {
  ({ server, proxy } = fixture);
  root = `/recipes${fixture.root}`;
});

afterEach(async () => {
  await Promise.all(clients.map((client) => client.close()));
  clients = [];
});

async function open(connectString = server.connectString): Promise<ZooKeeper> {
  const client = await connect({ connectString, sessionTimeoutMs: 2_000 });
  clients.push(client);
  return client;
}

function untilAborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((done) => signal.addEventListener("abort", () => done(), { once: true }));
}

test("places are in the order of their numbers, whatever their prefix", () => {
  const names = [
    "_c_f-turn-0000000003",
    "x",
    "_c_0-turn-0000000010",
    "turn-0000000001",
    "_c_a-turn-0000000002",
  ];
  expect(inOrder(names)).toEqual([names[3], names[4], names[0], names[2]]);
});

test("a lock is held by one at a time, in the order of asking, with growing fences", async () => {
  const [one, two] = [await open(), await open()];
  let holders = 0;
  const fences: bigint[] = [];
  const work = async (turn: Turn) => {
    holders += 1;
    expect(holders).toBe(1);
    fences.push(turn.fence);
    await one.sync("/");
    holders -= 1;
  };
  await Promise.all(Array.from({ length: 20 }, (_, index) => withLock(index % 2 ? one : two, root, work)));
  expect(fences).toEqual([...fences].sort((a, b) => (a < b ? -1 : 1)));
  expect(new Set(fences).size).toBe(20);
  expect((await one.getChildren(root)).children).toEqual([]);
});

test("a lock is released when its work fails", async () => {
  const client = await open();
  const failing = withLock(client, root, () => Promise.reject(new Error("work")));
  await expect(failing).rejects.toThrow("work");
  await (await acquireLock(client, root)).leave();
});

test("who waits can give up, and leaves no place behind", async () => {
  const client = await open();
  const held = await acquireLock(client, root);
  const waiting = rejection(acquireLock(client, root, { signal: AbortSignal.timeout(50) }));
  expect((await waiting).name).toMatch(/TimeoutError|AbortError/);
  expect((await client.getChildren(root)).children).toHaveLength(1);
  await held.leave();
  expect(held.lost.aborted).toBe(false);
});

test("who gives up leaves no watch on the one before it", async () => {
  const client = await open();
  const held = await acquireLock(client, root);
  const exists = jest.spyOn(client, "exists");
  const waiting = rejection(acquireLock(client, root, { signal: AbortSignal.timeout(50) }));
  await waiting;
  const watching = exists.mock.calls.filter(([path, options]) => path === held.path && options?.watch);
  expect(watching).toHaveLength(1);
  expect(watching[0]![1]!.watchSignal!.aborted).toBe(true);
  await held.leave();
});

test("of three who stand one leads, and when it goes the next does", async () => {
  const candidates = [await open(), await open(), await open()];
  expect(await currentLeader(candidates[0]!, root)).toBeNull();
  const [first, second, third] = candidates.map((client, index) =>
    campaign(client, root, { data: bytes(`number ${index}`) }),
  ) as [Promise<Turn>, Promise<Turn>, Promise<Turn>];
  const turn = await Promise.race([first, second, third]);
  const leader = await currentLeader(candidates[2]!, root);
  expect(leader).toMatchObject({ path: turn.path, fence: turn.fence });
  const index = Number(leader!.data.toString().at(-1));
  await candidates[index]!.close();
  expect(turn.lost.aborted).toBe(true);
  const rest = [first, second, third].filter((_, each) => each !== index);
  const next = await Promise.race(rest);
  expect(next.fence).toBeGreaterThan(turn.fence);
  await next.leave();
  await Promise.all(rest);
});

test("a turn is over when the connection is suspended, before another has it", async () => {
  const [holder, other] = [await open(proxy.address), await open()];
  const held = await acquireLock(holder, root);
  const next = acquireLock(other, root);
  let wasLost = false;
  held.lost.addEventListener("abort", () => {
    wasLost = true;
  });
  proxy.stall("toServer");
  const turn = await next;
  expect(wasLost).toBe(true);
  expect(held.lost.reason.message).toContain("the connection is suspended");
  proxy.resume();
  await turn.leave();
});

test("a turn that is kept over a suspension lasts as long as the session", async () => {
  const overheard = overhear(proxy);
  const holder = await open(proxy.address);
  const held = await acquireLock(holder, root, { whenSuspended: "keep" });
  proxy.cut();
  await rejection(holder.sync("/"));
  await holder.connected();
  expect(held.lost.aborted).toBe(false);
  await closeSession(server.connectString, await overheard);
  await untilAborted(held.lost);
  expect(held.lost.reason).toMatchObject({ name: "SessionExpiredError" });
});

test("who waits while the session expires hears of that, whatever it was reading", async () => {
  const overheard = overhear(proxy);
  const waiting = await open(proxy.address);
  const session = await overheard;
  const read = waiting.getChildren.bind(waiting);
  const reading = new Promise<void>((done) => {
    jest.spyOn(waiting, "getChildren").mockImplementationOnce((path, options) => {
      proxy.dropReplies();
      done();
      return read(path, options);
    });
  });
  const ended = rejection(acquireLock(waiting, root));
  await reading;
  await closeSession(server.connectString, session);
  proxy.cut();
  expect(await ended).toMatchObject({ name: "SessionExpiredError" });
});

test("a turn whose znode is deleted by someone is over", async () => {
  const [holder, other] = [await open(), await open()];
  const held = await acquireLock(holder, root);
  await other.setData(held.path, bytes("x"));
  await holder.sync("/");
  await other.delete(held.path);
  await untilAborted(held.lost);
  expect(held.lost.reason.message).toContain("its znode was deleted");
});

test("a lost reply to the joining makes no place that nobody leaves", async () => {
  const [holder, other] = [await open(proxy.address), await open()];
  await (await acquireLock(holder, root)).leave();
  proxy.dropReplies();
  const taking = acquireLock(holder, root);
  while ((await other.getChildren(root)).children.length === 0) await other.sync("/");
  proxy.cut();
  await (await taking).leave();
  expect((await other.getChildren(root)).children).toEqual([]);
});
