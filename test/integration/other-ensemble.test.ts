import { definePipeline, readZnodeChanges, writeToZnodes } from "../../lib/index";
import { connect, type ZooKeeper } from "../../lib/zookeeper";
import { Deployment, temporaryFolder } from "../support/deployment";
import { type LocalZooKeeper, startZooKeeper } from "../support/zookeeper-server";

let ensembles: LocalZooKeeper[];
let here: ZooKeeper;
let there: ZooKeeper;
let folder: ReturnType<typeof temporaryFolder>;

beforeAll(async () => {
  folder = temporaryFolder();
  ensembles = await Promise.all([startZooKeeper(), startZooKeeper()]);
  [here, there] = (await Promise.all(ensembles.map(({ connectString }) => connect({ connectString })))) as [
    ZooKeeper,
    ZooKeeper,
  ];
  for (const client of [here, there]) await client.create("/config");
});

afterAll(async () => {
  await Promise.all([here?.close(), there?.close()]);
  await Promise.all(ensembles?.map((ensemble) => ensemble.stop()) ?? []);
  folder?.remove();
});

/** The changes of one ensemble, copied below the same path of the root's. */
const mirror = definePipeline({
  name: "mirror",
  build: (root) =>
    root
      .apply(readZnodeChanges("/config/*", { recursive: false, ensemble: "there" }))
      .apply(writeToZnodes(({ path, text }) => ({ path, data: text ?? "" }))),
});

const deploy = (environment: Record<string, string>): Deployment =>
  new Deployment({
    ...{ connectString: ensembles[0]!.connectString, root: "/beamkeeper", definition: mirror, environment },
    output: folder.path,
  });

test("a pipeline reads from another ensemble and writes to the same path of its own", async () => {
  await there.create("/config/a", Buffer.from("1"));
  const connectString = ensembles[1]!.connectString;
  const deployment = deploy({ BEAMKEEPER_ENSEMBLES: JSON.stringify({ there: { connect: connectString } }) });
  await deployment.settled(here);
  await there.setData("/config/a", Buffer.from("2"));
  await there.create("/config/b", Buffer.from("3"));
  await deployment.settled(here);
  for (const [path, value] of [
    ["/config/a", "2"],
    ["/config/b", "3"],
  ] as const)
    expect((await here.getData(path)).data.toString()).toBe(value);
  expect((await there.getChildren("/")).children.sort()).toEqual(["config", "zookeeper"]);
  await deployment.end();
});

test("an ensemble that the settings do not have is named", async () => {
  const deployment = deploy({ BEAMKEEPER_ENSEMBLES: `{"elsewhere":{"connect":"localhost:1"}}` });
  await expect(deployment.relay).rejects.toThrow(
    /reads from the ensemble "there", and BEAMKEEPER_ENSEMBLES has only elsewhere/,
  );
  await deployment.end();
});
