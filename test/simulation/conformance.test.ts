import { ModelEnsemble } from "../../lib/simulation/model-ensemble";
import { VirtualTime } from "../../lib/simulation/virtual-time";
import {
  connect,
  MultiError,
  type Op,
  type Stat,
  type WatchedEvent,
  type ZooKeeperClient,
  ZooKeeperError,
} from "../../lib/zookeeper";
import { TcpProxy } from "../support/tcp-proxy";
import { startZooKeeper } from "../support/zookeeper-server";

/**
 * The model is worth what it shares with the real server: the same random operations are sent to both, and their
 * replies, stats, errors and watch events are compared. zxids are compared by their distance to the first one;
 * times and session ids are not compared.
 */
const SEEDS = [1, 2, 3, 4, 5, 6, 7, 8];
const OPERATIONS = 300;
const NAMES = ["/a", "/b", "/a/x", "/a/y", "/b/x", "/a/x/deep"];

type Chance = Pick<VirtualTime, "between" | "chance">;

function randomOp(chance: Chance): Op {
  const path = NAMES[chance.between(0, NAMES.length - 1)]!;
  const data = Buffer.from(`${chance.between(0, 999)}`);
  const version = chance.chance(0.7) ? -1 : chance.between(0, 3);
  switch (chance.between(0, 5)) {
    case 0:
      return { type: "create", path, data };
    case 1:
      return chance.chance(0.3)
        ? { type: "create", path, data, mode: "ephemeral" }
        : { type: "create", path, data };
    case 2: {
      const mode = chance.chance(0.5) ? "persistent-sequential" : "ephemeral-sequential";
      return { type: "create", path: `${path}-`, data, mode };
    }
    case 3:
      return { type: "delete", path, version };
    case 4:
      return { type: "setData", path, data, version };
    default:
      return { type: "check", path, version: chance.between(0, 2) };
  }
}

type Call = (client: ZooKeeperClient, heard: WatchedEvent[]) => Promise<unknown>;

/** Leaves a one-shot watch, unless the call fails. */
function existsWatching(client: ZooKeeperClient, path: string, heard: WatchedEvent[]): Promise<Stat | null> {
  return client.exists(path, { watch: (told) => told.type === "event" && heard.push(told.event) });
}

function randomCall(chance: Chance): { name: string; call: Call } {
  const path = NAMES[chance.between(0, NAMES.length - 1)]!;
  const kind = chance.between(0, 7);
  if (kind === 7)
    return { name: `watch ${path}`, call: (client, heard) => existsWatching(client, path, heard) };
  if (kind === 0) return { name: `exists ${path}`, call: (client) => client.exists(path) };
  if (kind === 1) return { name: `getData ${path}`, call: (client) => client.getData(path) };
  if (kind === 2) {
    const sorted: Call = async (client) => {
      const { children, stat } = await client.getChildren(path);
      return { children: children.sort(), stat };
    };
    return { name: `getChildren ${path}`, call: sorted };
  }
  if (kind === 3) {
    const ops = Array.from({ length: chance.between(1, 5) }, () => randomOp(chance));
    return { name: `multi ${JSON.stringify(ops)}`, call: (client) => client.multi(ops) };
  }
  const op = randomOp(chance);
  return { name: JSON.stringify(op), call: (client) => single(client, op) };
}

async function single(client: ZooKeeperClient, op: Op): Promise<unknown> {
  if (op.type === "create") return client.create(op.path, op.data, op.mode ? { mode: op.mode } : {});
  if (op.type === "delete") return client.delete(op.path, op.version);
  if (op.type === "setData") return client.setData(op.path, op.data, op.version);
  return client.multi([op]);
}

/** What a call gave, in a form in which both sides can be compared. */
async function outcome({ clients, heard, first }: Side, call: Call, by: number): Promise<unknown> {
  try {
    return comparable(await call(clients[by]!, heard), () => first);
  } catch (error) {
    if (!(error instanceof ZooKeeperError)) throw error;
    const { name, code, outcome: kind } = error;
    if (error instanceof MultiError) return { name, code, kind, index: error.index, cause: error.cause.name };
    return { name, code, kind };
  }
}

function comparable(value: unknown, first: () => bigint): unknown {
  if (typeof value === "bigint") return value === 0n ? 0 : Number(value - first());
  if (Buffer.isBuffer(value)) return value.toString("utf8");
  if (Array.isArray(value)) return value.map((each) => comparable(each, first));
  if (typeof value !== "object" || value === null) return value;
  const { ctime: _ctime, mtime: _mtime, ephemeralOwner: _owner, ...rest } = value as Partial<Stat>;
  return Object.fromEntries(Object.entries(rest).map(([name, each]) => [name, comparable(each, first)]));
}

interface Side {
  /** The first one hears everything; the second one's session ends at last. */
  readonly clients: readonly ZooKeeperClient[];
  readonly events: WatchedEvent[];
  /** What one-shot watches told. */
  readonly heard: WatchedEvent[];
  readonly first: bigint;
}

/** Arms a watch on everything and takes the first zxid from a write, the same on both sides. */
async function prepare(...clients: readonly ZooKeeperClient[]): Promise<Side> {
  const events: WatchedEvent[] = [];
  await clients[0]!.addWatch("/", "persistentRecursive", (notification) => {
    if (notification.type === "event") events.push(notification.event);
  });
  const { stat } = await clients[0]!.create("/first");
  return { clients, events, heard: [], first: stat.czxid };
}

/** The second client's ephemerals go, in one transaction, in whatever order. Returns what was told of that. */
async function endSession({ clients: [client, other], events }: Side): Promise<WatchedEvent[]> {
  const before = events.length;
  await other!.close();
  await client!.sync("/");
  return events.slice(before).sort((one, two) => (one.path < two.path ? -1 : 1));
}

/** Two sessions hear of one transaction in whatever order. */
function byPlace(events: readonly WatchedEvent[]): WatchedEvent[] {
  const place = ({ zxid, path }: WatchedEvent): string => `${zxid.toString().padStart(20, "0")} ${path}`;
  return [...events].sort((one, two) => (place(one) < place(two) ? -1 : 1));
}

/** Lets virtual time pass until the model has answered. */
async function answered<T>(time: VirtualTime, work: Promise<T>): Promise<T> {
  let done = false;
  const end = (): void => {
    done = true;
  };
  work.then(end, end);
  await time.run(() => done, 60_000, 100_000);
  return work;
}

/** What may happen to a znode while a client is cut off from it. */
const OUTAGES = ["", "create", "setData", "delete", "setData,delete", "delete,create", "create,delete"];

/** Which events one-shot watches tell: of changes in an outage, and of one after it. */
async function heardAfterOutages(
  client: ZooKeeperClient,
  watching: ZooKeeperClient,
  outage: (work: () => Promise<void>) => Promise<void>,
): Promise<unknown> {
  const heard: Record<string, string[]> = {};
  await client.create("/outage");
  const cases = OUTAGES.map((changes, index) => ({ changes: changes.split(","), path: `/outage/${index}` }));
  const isThere = ({ changes: [change] }: { changes: string[] }): boolean =>
    change === "setData" || change === "delete";
  for (const each of cases) {
    if (isThere(each)) await client.create(each.path);
    const events: string[] = [];
    heard[each.path] = events;
    await watching.sync("/");
    await watching.exists(each.path, {
      watch: (told) =>
        events.push(told.type === "event" ? `${told.event.type} ${told.event.zxid}` : told.type),
    });
  }
  const apply = (path: string, change: string): Promise<unknown> => {
    if (change === "delete") return client.delete(path);
    return change === "create" ? client.create(path) : client.setData(path, Buffer.from("1"));
  };
  await outage(async () => {
    for (const { changes, path } of cases)
      for (const change of changes.filter(Boolean)) await apply(path, change);
  });
  await watching.sync("/");
  const after = JSON.stringify(heard);
  for (const { path } of cases) await apply(path, (await client.exists(path)) ? "setData" : "create");
  await watching.sync("/");
  const counts = Object.values(heard).map((events) => events.map((event) => event.split(" ")[0]));
  return { after, counts };
}

test("one-shot watches tell after an outage what those of the server tell", async () => {
  const real = await startZooKeeper();
  const proxy = await TcpProxy.start(real.connectString);
  const client = await connect({ connectString: real.connectString });
  const watching = await connect({ connectString: proxy.address });
  const time = new VirtualTime(1, 1_000);
  // Nothing takes time but the outage.
  const ensemble = new ModelEnsemble(time, { servers: 1, latencyMs: 0, lagMs: 0 });
  const model = ensemble.connect();
  try {
    const expected = await heardAfterOutages(client, watching, async (work) => {
      proxy.refuse(true);
      proxy.cut();
      await work();
      proxy.refuse(false);
      await watching.connected();
    });
    const found = heardAfterOutages(ensemble.connect(), model, async (work) => {
      model.lose();
      await work();
      await model.connected();
    });
    expect(await answered(time, found)).toEqual(expected);
  } finally {
    await client.close();
    await watching.close();
    await proxy.stop();
    await real.stop();
  }
});

test.each(SEEDS)("the model answers as the server does, seed %i", async (seed) => {
  const real = await startZooKeeper();
  const connected = () => connect({ connectString: real.connectString });
  const [realClient, other] = [await connected(), await connected()];
  const time = new VirtualTime(seed, 1_000);
  const inModel = <T>(work: Promise<T>): Promise<T> => answered(time, work);
  const ensemble = new ModelEnsemble(time, { servers: 3, latencyMs: 3, lagMs: 10 });
  try {
    const server = await prepare(realClient, other);
    const model = await inModel(prepare(ensemble.connect(), ensemble.connect()));
    const chance = new VirtualTime(seed * 1_000, 0);
    for (let number = 0; number < OPERATIONS; number++) {
      const { name, call } = randomCall(chance);
      const by = chance.between(0, 1);
      // Another session may be at a server that is behind.
      await inModel(model.clients[by]!.sync("/"));
      const expected = await outcome(server, call, by);
      const found = await inModel(outcome(model, call, by));
      expect({ number, name, found }).toEqual({ number, name, found: expected });
    }
    const [expected, found] = [await endSession(server), await inModel(endSession(model))];
    const comparedTo = ({ first }: Side, events: unknown): unknown => comparable(events, () => first);
    expect(comparedTo(model, found)).toEqual(comparedTo(server, expected));
    const told = ({ events }: Side): WatchedEvent[] => events.slice(0, events.length - expected.length);
    expect(comparedTo(model, told(model))).toEqual(comparedTo(server, told(server)));
    expect(comparedTo(model, byPlace(model.heard))).toEqual(comparedTo(server, byPlace(server.heard)));
    expect(server.events.length).toBeGreaterThan(OPERATIONS / 15);
    expect(server.heard.length).toBeGreaterThan(0);
  } finally {
    await realClient.close();
    await other.close();
    await real.stop();
  }
});
