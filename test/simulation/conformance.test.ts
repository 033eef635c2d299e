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
    case 2:
      return { type: "create", path: `${path}-`, data, mode: "persistent-sequential" };
    case 3:
      return { type: "delete", path, version };
    case 4:
      return { type: "setData", path, data, version };
    default:
      return { type: "check", path, version: chance.between(0, 2) };
  }
}

type Call = (client: ZooKeeperClient) => Promise<unknown>;

function randomCall(chance: Chance): { name: string; call: Call } {
  const path = NAMES[chance.between(0, NAMES.length - 1)]!;
  const kind = chance.between(0, 6);
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
async function outcome(client: ZooKeeperClient, call: Call, first: () => bigint): Promise<unknown> {
  try {
    return comparable(await call(client), first);
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
  readonly client: ZooKeeperClient;
  readonly events: WatchedEvent[];
  first: bigint;
}

/** Arms a watch on everything and takes the first zxid from a write, the same on both sides. */
async function prepare(client: ZooKeeperClient): Promise<Side> {
  const events: WatchedEvent[] = [];
  await client.addWatch("/", "persistentRecursive", (notification) => {
    if (notification.type === "event") events.push(notification.event);
  });
  const { stat } = await client.create("/first");
  return { client, events, first: stat.czxid };
}

test.each(SEEDS)("the model answers as the server does, seed %i", async (seed) => {
  const real = await startZooKeeper();
  const realClient = await connect({ connectString: real.connectString });
  const time = new VirtualTime(seed, 1_000);
  const modelClient = new ModelEnsemble(time, { servers: 3, latencyMs: 3, lagMs: 10 }).connect();
  /** Lets virtual time pass until the model has answered. */
  const inModel = async <T>(work: Promise<T>): Promise<T> => {
    let done = false;
    const end = (): void => {
      done = true;
    };
    work.then(end, end);
    await time.run(() => done, 60_000, 100_000);
    return work;
  };
  try {
    const server = await prepare(realClient);
    const model = await inModel(prepare(modelClient));
    const chance = new VirtualTime(seed * 1_000, 0);
    for (let number = 0; number < OPERATIONS; number++) {
      const { name, call } = randomCall(chance);
      const expected = await outcome(realClient, call, () => server.first);
      const found = await inModel(outcome(modelClient, call, () => model.first));
      expect({ number, name, found }).toEqual({ number, name, found: expected });
    }
    await realClient.sync("/");
    await inModel(modelClient.sync());
    expect(comparable(model.events, () => model.first)).toEqual(
      comparable(server.events, () => server.first),
    );
    expect(server.events.length).toBeGreaterThan(OPERATIONS / 15);
  } finally {
    await realClient.close();
    await real.stop();
  }
});
