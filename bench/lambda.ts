/** From the write of a znode to the committed result: through relay and bundle function at the emulator, and in one process. */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { InvokeCommand, LambdaClient } from "@aws-sdk/client-lambda";
import { type Emulator, isEmulatorInstalled, startEmulator } from "../infra/emulator/emulator";
import { startZooKeeper } from "../infra/zookeeper/server";
import { definePipeline, readZnodeChanges, writeToZnodes } from "../lib";
import { PipelineLayout } from "../lib/checkpoint/layout";
import { readStatus } from "../lib/checkpoint/status";
import { deployLocally } from "../lib/cli/local-deployment";
import { silent } from "../lib/log";
import { readSettings } from "../lib/settings";
import { connect, type ZooKeeperClient } from "../lib/zookeeper";
import { ServerlessProject } from "../test/support/serverless-project";
import { type Benchmark, type Case, type Metric, quantile, type Sample } from "./frame";

const MEDIAN: Metric = { name: "ms, median", better: "lower" };
const SLOWEST: Metric = { name: "ms, 90%", better: "lower" };
const WARM_WRITES = 20;
const COLD_WRITES = 3;
const RELAY_RUN_MS = 290_000;
const POLL_MS = 50;

const ECHO = `
import { definePipeline, readZnodeChanges, writeToZnodes } from "beamkeeper";
export default definePipeline({
  name: "echo",
  build: (root) =>
    root.apply(readZnodeChanges("/emulator/in")).apply(writeToZnodes(({ path }) => ({ path: path.replace("/in", "/out"), data: "" }))),
});
`;

const local = definePipeline({
  name: "echo",
  build: (root) => {
    root
      .apply(readZnodeChanges("/local/in"))
      .apply(writeToZnodes(({ path }) => ({ path: path.replace("/in", "/out"), data: "" })));
  },
});

/** Milliseconds from the create of a znode to the notification that its result is there, for one after the other. */
async function latencies(
  client: ZooKeeperClient,
  at: string,
  writes: number,
  before: () => void = () => undefined,
): Promise<Sample> {
  const taken: number[] = [];
  for (let n = 0; n < writes; n++) {
    before();
    const name = `${process.hrtime.bigint()}`;
    let there = (): void => undefined;
    const isThere = new Promise<void>((done) => {
      there = done;
    });
    await client.exists(`${at}/out/${name}`, { watch: () => there() });
    const startedAt = performance.now();
    await client.create(`${at}/in/${name}`);
    await isThere;
    taken.push(performance.now() - startedAt);
  }
  return { [MEDIAN.name]: quantile(taken, 0.5), [SLOWEST.name]: quantile(taken, 0.9) };
}

async function untilWatching(client: ZooKeeperClient, root: string): Promise<void> {
  for (;;) {
    const sources = (await readStatus(client, new PipelineLayout(root, "echo")))?.sources ?? [];
    if (sources.some(({ watermarkMs }) => watermarkMs > Number.NEGATIVE_INFINITY)) return;
    await new Promise((done) => setTimeout(done, POLL_MS));
  }
}

/** Ends the emulator's processes of the bundle function, so that the next invocation is a cold start. */
function endBundles(endpoint: string): void {
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    const variables = environmentOf(pid);
    const isOurs = variables.includes(`AWS_ENDPOINT_URL=${endpoint}`);
    if (isOurs && variables.includes("AWS_LAMBDA_FUNCTION_NAME=beamkeeper-local-bundle"))
      process.kill(Number(pid), "SIGKILL");
  }
}

function environmentOf(pid: string): readonly string[] {
  try {
    return readFileSync(join("/proc", pid, "environ"), "utf8").split("\0");
  } catch {
    // Gone, or another user's.
    return [];
  }
}

/** Deploys the pipeline to the emulator and starts its relay. */
async function deployToEmulator(project: ServerlessProject, emulator: Emulator): Promise<LambdaClient> {
  project.removeFolder("pipelines");
  project.write("pipelines/echo.ts", ECHO);
  await project.serverless("deploy", "--stage", "local", `--param=relayRunMs=${RELAY_RUN_MS}`);
  const credentials = { accessKeyId: "test", secretAccessKey: "test" };
  const lambda = new LambdaClient({ endpoint: emulator.endpoint, region: "us-east-1", credentials });
  await lambda.send(new InvokeCommand({ FunctionName: "beamkeeper-local-relay", InvocationType: "Event" }));
  return lambda;
}

async function prepare(): Promise<{ readonly cases: readonly Case[]; end(): Promise<void> }> {
  if (!isEmulatorInstalled()) throw new Error("the AWS emulator is not installed; npm test says why");
  const folder = mkdtempSync(join(tmpdir(), "beamkeeper-bench-"));
  const toEnd: (() => Promise<void> | void)[] = [() => rmSync(folder, { recursive: true, force: true })];
  const end = async (): Promise<void> => {
    for (const each of toEnd.toReversed()) await each();
  };
  try {
    const ensemble = await startZooKeeper();
    toEnd.push(() => ensemble.stop());
    const emulator = await startEmulator();
    toEnd.push(() => emulator.stop());
    const client = await connect({ connectString: ensemble.connectString });
    toEnd.push(() => client.close());
    for (const at of ["/emulator", "/local"])
      for (const path of [at, `${at}/in`, `${at}/out`]) await client.create(path);
    const project = new ServerlessProject({
      ...emulator.environment,
      ZOOKEEPER_CONNECT: ensemble.connectString,
    });
    toEnd.push(() => project.remove());
    const lambda = await deployToEmulator(project, emulator);
    toEnd.push(() => lambda.destroy());
    const settings = readSettings({
      ZOOKEEPER_CONNECT: ensemble.connectString,
      BEAMKEEPER_ROOT: "/in-process",
      BEAMKEEPER_OUTPUT: folder,
    });
    const options = { settings, definition: local, log: silent, maxFailures: 3, onCommit: () => undefined };
    const deployment = deployLocally(options);
    toEnd.push(() => deployment.stop());
    await untilWatching(client, "/beamkeeper");
    await untilWatching(client, "/in-process");
    const inProcess = (): Promise<Sample> => latencies(client, "/local", WARM_WRITES);
    const metrics = [MEDIAN, SLOWEST];
    const cold = (): Promise<Sample> =>
      latencies(client, "/emulator", COLD_WRITES, () => endBundles(emulator.endpoint));
    return {
      cases: [
        {
          name: "warm",
          metrics,
          ours: () => latencies(client, "/emulator", WARM_WRITES),
          peer: inProcess,
        },
        { name: "cold bundle function", metrics, ours: cold, peer: inProcess },
      ],
      end,
    };
  } catch (error) {
    await end();
    throw error;
  }
}

export const lambda: Benchmark = {
  name: "lambda",
  description: "from the write of a znode to the committed result, by deployed functions",
  conditions:
    "At the emulator: relay and bundle function as packaged, in processes of their own. Cold: the bundle function's process is ended before each write. The peer is the same code in one process, warm, on the same ZooKeeper server; so this is what Lambda's calls and processes add, not what AWS takes.",
  rounds: 3,
  warmUpRounds: 1,
  prepare,
};
