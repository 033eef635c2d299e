/**
 * The whole way under `serverless offline`, which runs the functions as they are bundled and has an endpoint of Lambda's
 * for them: results come to ZooKeeper and to files, an unbounded pipeline's through the relay and a bounded one's through
 * the batch function.
 */
import { InvokeCommand, LambdaClient } from "@aws-sdk/client-lambda";
import { freePort } from "../../infra/emulator/emulator";
import { PipelineLayout } from "../../lib/checkpoint/layout";
import { readStatus } from "../../lib/checkpoint/status";
import { connect, type ZooKeeperClient } from "../../lib/zookeeper";
import { readFolder, readTree } from "../support/deployment";
import { type RunningServerless, ServerlessProject } from "../support/serverless-project";
import { type LocalZooKeeper, startZooKeeper } from "../support/zookeeper-server";

const COUNTS = `
import * as beam from "apache-beam";
import { definePipeline, readZnodeChanges, writeToText, writeToZnodes } from "beamkeeper";

export default definePipeline({
  name: "counts",
  build: (root) => {
    const counts = root
      .apply(readZnodeChanges("/app"))
      .map(({ path }) => ({ path, count: 1 }))
      .apply(beam.windowInto(beam.fixedWindows(1)))
      .apply(beam.groupBy("path").combining("count", (a: number, b: number) => a + b, "count"));
    counts.apply(writeToZnodes(({ path, count }) => ({ path: "/counts" + path, data: String(count) })));
    counts.map(({ path }) => path).apply(writeToText("counts/path"));
  },
});
`;

const RUNS = `
import { definePipeline, readRun, writeToZnodes } from "beamkeeper";

export default definePipeline({
  name: "runs",
  schedule: { rate: "1 minute" },
  build: (root) => root.apply(readRun()).apply(writeToZnodes(({ run, cause }) => ({ path: "/runs/" + run, data: cause }))),
});
`;

const RELAY_RUN_MS = 8_000;

let ensemble: LocalZooKeeper;
let client: ZooKeeperClient;
let project: ServerlessProject;
let offline: RunningServerless;
let lambda: LambdaClient;

beforeAll(async () => {
  ensemble = await startZooKeeper();
  client = await connect({ connectString: ensemble.connectString });
  for (const path of ["/app", "/counts", "/counts/app", "/runs"]) await client.create(path);
  project = new ServerlessProject({ ZOOKEEPER_CONNECT: ensemble.connectString });
  project.removeFolder("pipelines");
  project.write("pipelines/counts.ts", COUNTS);
  project.write("pipelines/runs.ts", RUNS);
  const [httpPort, lambdaPort] = [await freePort(), await freePort()];
  lambda = new LambdaClient({
    endpoint: `http://127.0.0.1:${lambdaPort}`,
    region: "us-east-1",
    credentials: { accessKeyId: "any", secretAccessKey: "any" },
  });
  offline = project.start(
    ...["offline", "--stage", "local", "--httpPort", String(httpPort), "--lambdaPort", String(lambdaPort)],
    `--param=relayRunMs=${RELAY_RUN_MS}`,
  );
  await offline.says(/Offline \[http for lambda\] listening/);
});

afterAll(async () => {
  lambda?.destroy();
  await offline?.stop();
  await client?.close();
  await ensemble?.stop();
  project?.remove();
});

async function invoke(name: string, event: object): Promise<unknown> {
  const Payload = Buffer.from(JSON.stringify(event));
  const answer = await lambda.send(
    new InvokeCommand({
      FunctionName: `beamkeeper-local-${name}`,
      InvocationType: "RequestResponse",
      Payload,
    }),
  );
  expect(answer.FunctionError).toBeUndefined();
  return JSON.parse(Buffer.from(answer.Payload ?? []).toString("utf8"));
}

test("the relay's changes come out as znodes and as text", async () => {
  const layout = new PipelineLayout("/beamkeeper", "counts");
  const relayed = invoke("relay", { pipeline: "counts" });
  for (let isWatching = false; !isWatching; await new Promise((done) => setTimeout(done, 50))) {
    const sources = (await readStatus(client, layout))?.sources ?? [];
    isWatching = sources.some(({ watermarkMs }) => watermarkMs > Number.NEGATIVE_INFINITY);
  }
  for (const name of ["a", "b", "c"]) await client.create(`/app/${name}`);
  expect(await relayed).toMatchObject({ counts: { reason: "signal", failing: [] } });
  expect([...(await readTree(client, "/counts"))].sort()).toEqual(
    ["/app", "/app/a", "/app/b", "/app/c"].map((path) => [path, "1"]),
  );
  const lines = [...readFolder(project.path(".offline/output/counts")).values()].flat();
  expect(lines.sort()).toEqual(["/app", "/app/a", "/app/b", "/app/c"]);
});

test("a tick's run is driven by the batch function, once", async () => {
  // The next one: the function's own look, each minute, may have seen the pipeline first, and makes nothing up for it.
  const tickMs = (Math.floor(Date.now() / 60_000) + 1) * 60_000;
  const event = { pipeline: "runs", tick: new Date(tickMs).toISOString() };
  await Promise.all([invoke("batch", event), invoke("batch", event)]);
  const runs = [...(await readTree(client, "/runs"))];
  // The function's own look may have come with the next minute.
  expect(runs.length).toBeGreaterThanOrEqual(1);
  for (const [, cause] of runs) expect(cause).toBe("schedule");
});
