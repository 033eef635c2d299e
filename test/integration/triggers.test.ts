import * as beam from "apache-beam";
import {
  definePipeline,
  type PipelineDefinition,
  readZnodeChanges,
  sessions,
  trigger,
  windowingStrategy,
  writeToZnodes,
} from "beamkeeper";
import { connect, type ZooKeeperClient } from "../../lib/zookeeper";
import { Deployment, PATIENCE_MS, readTree, temporaryFolder } from "../support/deployment";
import { type LocalZooKeeper, startZooKeeper } from "../support/zookeeper-server";

let ensemble: LocalZooKeeper;
let client: ZooKeeperClient;
let folder: ReturnType<typeof temporaryFolder>;

beforeAll(async () => {
  folder = temporaryFolder();
  ensemble = await startZooKeeper();
  client = await connect({ connectString: ensemble.connectString });
});

afterAll(async () => {
  await client?.close();
  await ensemble?.stop();
  folder?.remove();
});

/** Counts changes per znode; each pane is a znode of its own. */
function counting(name: string, windows: Parameters<typeof beam.windowInto>): PipelineDefinition {
  return definePipeline({
    name,
    build: (root) => {
      root
        .apply(readZnodeChanges(`/${name}/*`, { recursive: false }))
        .map(({ path }) => ({ path, changes: 1 }))
        .apply(beam.windowInto(...windows))
        .apply(beam.groupBy("path").combining("changes", (a, b) => a + b, "changes"))
        .apply(
          writeToZnodes(
            ({ path, changes }, { pane }) => ({
              path: `/results-${name}${path}/${pane.index}`,
              data: `${changes} ${pane.timing}`,
            }),
            { mode: "create" },
          ),
        );
    },
  });
}

async function run(
  definition: PipelineDefinition,
  write: () => Promise<void>,
  isDone: (results: string[]) => boolean,
): Promise<string[]> {
  const { name } = definition;
  await client.create(`/${name}`);
  const deployment = new Deployment({
    connectString: ensemble.connectString,
    definition,
    root: `/beamkeeper-${name}`,
    output: folder.path,
  });
  try {
    await deployment.settled(client);
    await write();
    for (const deadline = Date.now() + PATIENCE_MS; Date.now() < deadline; ) {
      const results = [...(await readTree(client, `/results-${name}`)).values()].filter(Boolean);
      if (isDone(results)) return results;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    throw new Error(`${name} gave ${JSON.stringify([...(await readTree(client, `/results-${name}`))])}`);
  } finally {
    await deployment.end();
  }
}

test("a trigger after processing time fires without the watermark", async () => {
  const delayed = trigger.repeatedly(trigger.afterProcessingTime({ delaySeconds: 1 }));
  const definition = counting("delayed", [beam.globalWindows(), windowingStrategy({ trigger: delayed })]);
  const write = async (): Promise<void> => {
    await client.create("/delayed/a");
    await client.setData("/delayed/a", Buffer.from("2"));
  };
  const total = (results: string[]): number =>
    results.reduce((sum, result) => sum + Number.parseInt(result, 10), 0);
  const results = await run(definition, write, (found) => total(found) >= 1);
  // Both changes in one pane, or the first overwritten before it was read; none of them on time, for there is no end.
  expect(total(results)).toBeLessThanOrEqual(2);
  expect(results.every((result) => result.endsWith("EARLY"))).toBe(true);
});

test("sessions merge across bundles and commits", async () => {
  const definition = counting("sessions", [sessions(1)]);
  const write = async (): Promise<void> => {
    await client.create("/sessions/a");
    for (let change = 0; change < 4; change++) {
      await new Promise((resolve) => setTimeout(resolve, 300));
      await client.setData("/sessions/a", Buffer.from(`${change}`));
    }
  };
  expect(await run(definition, write, (results) => results.length > 0)).toEqual(["5 ON_TIME"]);
});
