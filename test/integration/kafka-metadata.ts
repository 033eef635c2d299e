/**
 * `npm run soak -- kafka`: what two real Kafka brokers keep in ZooKeeper comes through a pipeline: brokers, topics,
 * partition states, the controller, and what changes when a broker goes. Prints what it saw; true if all of it came.
 */
import { decoders, definePipeline, readZnodeChanges, writeToZnodes } from "beamkeeper";
import { connect, type ZooKeeper } from "../../lib/zookeeper";
import { Deployment, temporaryFolder } from "../support/deployment";
import { KafkaBroker } from "../support/kafka/kafka-broker";
import { startZooKeeper } from "../support/zookeeper-server";

type Seen = { readonly kind: string; readonly path: string; readonly value: Record<string, unknown> | null };

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

async function seenBy(client: ZooKeeper): Promise<Seen[]> {
  if (!(await client.exists("/seen"))) return [];
  const { children } = await client.getChildren("/seen");
  const read = children.sort().map((name) => client.getData(`/seen/${name}`));
  return (await Promise.all(read)).map(({ data }) => JSON.parse(data.toString("utf8")) as Seen);
}

const DEADLINE_MS = 60_000;

export async function kafkaMetadata(say: (line: string) => void): Promise<boolean> {
  const folder = temporaryFolder();
  const server = await startZooKeeper();
  const client = await connect({ connectString: server.connectString });
  const brokers: KafkaBroker[] = [];
  let deployment: Deployment | undefined;
  const until = async (what: string, isSo: (seen: Seen[]) => boolean): Promise<void> => {
    const deadline = Date.now() + DEADLINE_MS;
    while (!isSo(await seenBy(client))) {
      if (Date.now() > deadline)
        throw new Error(`${what}: not seen; ${brokers.map(({ log }) => log).join("\n")}`);
      await new Promise((done) => setTimeout(done, 100));
    }
    say(`seen: ${what}`);
  };
  try {
    await client.create("/kafka");
    await client.create("/seen");
    const { connectString } = server;
    deployment = new Deployment({ connectString, definition, root: "/beamkeeper", output: folder.path });
    for (const id of [1, 2]) brokers.push(KafkaBroker.start(id, `${connectString}/kafka`));
    const ofType = (seen: Seen[], type: string): Seen[] => seen.filter(({ value }) => value?.type === type);
    await until("both brokers, and a controller", (seen) => {
      const ids = new Set(ofType(seen, "broker").map(({ value }) => value?.brokerId));
      return ids.has(1) && ids.has(2) && ofType(seen, "controller").length > 0;
    });
    // As the command for topics did it in ZooKeeper mode: the controller watches this znode.
    const topic = (partitions: object): Buffer => Buffer.from(JSON.stringify({ version: 1, partitions }));
    await client.create("/kafka/brokers/topics/orders", topic({ 0: [1, 2] }));
    const states = (seen: Seen[], partition: number): Record<string, unknown>[] =>
      ofType(seen, "partitionState").flatMap(({ value }) => (value?.partition === partition ? [value] : []));
    await until("the topic, with a leader for its partition", (seen) =>
      states(seen, 0).some(({ leader, topic: name }) => leader === 1 && name === "orders"),
    );
    // The controller has given the topic its id meanwhile.
    const now = JSON.parse((await client.getData("/kafka/brokers/topics/orders")).data.toString("utf8"));
    const more = { ...now, partitions: { 0: [1, 2], 1: [2, 1] } };
    await client.setData("/kafka/brokers/topics/orders", Buffer.from(JSON.stringify(more)));
    await until("a partition that was added", (seen) => states(seen, 1).some(({ leader }) => leader === 2));
    await brokers[0]!.stop();
    await until("a broker that goes, and the partition's new leader", (seen) => {
      const isGone = seen.some(({ kind, path }) => kind === "deleted" && path === "/kafka/brokers/ids/1");
      return isGone && states(seen, 0).at(-1)?.leader === 2;
    });
    await deployment.settled(client);
    const last = new Map((await seenBy(client)).map((each) => [each.path, each]));
    const state = await client.getData("/kafka/brokers/topics/orders/partitions/0/state");
    const isrNow = JSON.parse(state.data.toString("utf8")).isr;
    const isrSeen = last.get("/kafka/brokers/topics/orders/partitions/0/state")?.value?.isr;
    say(`the last state of partition 0: isr ${JSON.stringify(isrNow)}, seen ${JSON.stringify(isrSeen)}`);
    return JSON.stringify(isrNow) === JSON.stringify(isrSeen);
  } finally {
    await deployment?.end();
    for (const broker of brokers) await broker.stop("SIGKILL");
    await client.close();
    await server.stop();
    folder.remove();
  }
}
