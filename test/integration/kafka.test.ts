/** What real Kafka brokers in ZooKeeper mode keep there comes through a pipeline, while it changes. */
import { decoders, definePipeline, readZnodeChanges, writeToZnodes } from "beamkeeper";
import { connect, type ZooKeeper } from "../../lib/zookeeper";
import { Deployment, PATIENCE_MS, temporaryFolder } from "../support/deployment";
import { KafkaBroker } from "../support/kafka/kafka-broker";
import { type LocalZooKeeper, startZooKeeper } from "../support/zookeeper-server";

type Seen = { readonly kind: string; readonly path: string; readonly value: Record<string, unknown> | null };

const TOPIC = "/kafka/brokers/topics/orders";
const POLL_MS = 50;

const definition = definePipeline({
  name: "kafka-metadata",
  build: (root) => {
    root.apply(readZnodeChanges("/kafka", { decode: decoders.kafka("/kafka") })).apply(
      writeToZnodes(
        ({ path, kind, zxid, value }) => ({
          path: `/seen/${zxid.toString(16).padStart(16, "0")}-${encodeURIComponent(path)}`,
          data: JSON.stringify({ kind, path, value }),
        }),
        { mode: "create" },
      ),
    );
  },
});

const folder = temporaryFolder();
const brokers: KafkaBroker[] = [];
let server: LocalZooKeeper;
let client: ZooKeeper;
let deployment: Deployment;

beforeAll(async () => {
  server = await startZooKeeper();
  client = await connect({ connectString: server.connectString });
  for (const path of ["/kafka", "/seen"]) await client.create(path);
  const { connectString } = server;
  deployment = new Deployment({ connectString, definition, root: "/beamkeeper", output: folder.path });
});

afterAll(async () => {
  await deployment?.end();
  for (const broker of brokers) await broker.stop("SIGKILL");
  await client?.close();
  await server?.stop();
  folder.remove();
});

/** In the order in which it happened. */
async function seen(): Promise<Seen[]> {
  const { children } = await client.getChildren("/seen");
  const read = children.sort().map((name) => client.getData(`/seen/${name}`));
  return (await Promise.all(read)).map(({ data }) => JSON.parse(data.toString("utf8")) as Seen);
}

async function ofType(type: string): Promise<Record<string, unknown>[]> {
  return (await seen()).flatMap(({ value }) => (value?.type === type ? [value] : []));
}

async function leaders(partition: number): Promise<unknown[]> {
  const states = await ofType("partitionState");
  return states.flatMap((state) =>
    state.topic === "orders" && state.partition === partition ? [state.leader] : [],
  );
}

async function until(what: string, isSo: () => Promise<boolean>): Promise<void> {
  for (const deadline = Date.now() + PATIENCE_MS; !(await isSo()); ) {
    if (Date.now() > deadline)
      throw new Error(`${what} was not seen; ${brokers.map(({ log }) => log).join("\n")}`);
    await new Promise((done) => setTimeout(done, POLL_MS));
  }
}

test("brokers, the controller, topics, partitions and what becomes of them", async () => {
  for (const id of [1, 2]) brokers.push(KafkaBroker.start(id, `${server.connectString}/kafka`));
  await until("both brokers and a controller", async () => {
    const ids = new Set((await ofType("broker")).map(({ brokerId }) => brokerId));
    return ids.has(1) && ids.has(2) && (await ofType("controller")).length > 0;
  });
  // As the command for topics did it in ZooKeeper mode: the controller watches this znode.
  await client.create(TOPIC, Buffer.from(JSON.stringify({ version: 1, partitions: { 0: [1, 2] } })));
  await until("the leader of the topic's partition", async () => (await leaders(0)).includes(1));
  // The controller has given the topic its id meanwhile.
  const topic = JSON.parse((await client.getData(TOPIC)).data.toString("utf8"));
  const more = { ...topic, partitions: { 0: [1, 2], 1: [2, 1] } };
  await client.setData(TOPIC, Buffer.from(JSON.stringify(more)));
  await until("the leader of a partition that was added", async () => (await leaders(1)).includes(2));
  await brokers[0]!.stop();
  await until("a broker that goes, and the partition's new leader", async () => {
    const isGone = (await seen()).some(
      ({ kind, path }) => kind === "deleted" && path === "/kafka/brokers/ids/1",
    );
    return isGone && (await leaders(0)).at(-1) === 2;
  });
  await deployment.settled(client);
  const path = `${TOPIC}/partitions/0/state`;
  const { isr } = JSON.parse((await client.getData(path)).data.toString("utf8"));
  expect((await seen()).findLast((each) => each.path === path)?.value?.isr).toEqual(isr);
});
