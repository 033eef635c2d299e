/** The example with an ONNX model, as `npm start` runs it: a real runtime in a process of its own, and a real ensemble. */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect, type ZooKeeper } from "../../lib/zookeeper";
import { bareEnvironment } from "../support/serverless-project";
import { type LocalZooKeeper, startZooKeeper } from "../support/zookeeper-server";

const PROJECT = join(__dirname, "../..");
const EXAMPLE = "pipelines/latency-model";

let folder: string;
let ensemble: LocalZooKeeper;
let client: ZooKeeper;
let running: ChildProcess | undefined;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "beamkeeper-model-"));
  ensemble = await startZooKeeper();
  client = await connect({ connectString: ensemble.connectString });
});

afterAll(async () => {
  running?.kill("SIGKILL");
  await client?.close();
  await ensemble?.stop();
  rmSync(folder, { recursive: true, force: true });
});

function model(mean: number, spread: number): Buffer {
  const file = join(folder, `${mean}-${spread}.onnx`);
  execFileSync(process.execPath, [join(PROJECT, EXAMPLE, "make-model.mjs"), `${mean}`, `${spread}`, file]);
  return readFileSync(file);
}

async function anomalies(service: string, count: number): Promise<{ latencyMs: number; score: number }[]> {
  for (;;) {
    const path = `/anomalies/${service}`;
    const names = (await client.exists(path)) ? (await client.getChildren(path)).children.sort() : [];
    if (names.length >= count) {
      const found = await Promise.all(names.map((name) => client.getData(`${path}/${name}`)));
      return found.map(({ data }) => JSON.parse(data.toString("utf8")));
    }
    if (running?.exitCode !== null) throw new Error("the pipeline ended too early");
    await new Promise((done) => setTimeout(done, 50));
  }
}

test("latencies are judged by the model of the znode, and by another one once that is written", async () => {
  for (const path of ["/latency", "/models"]) await client.create(path);
  await client.create("/models/latency", model(20, 5));
  const report = (service: string, latencyMs: number) => Buffer.from(JSON.stringify({ service, latencyMs }));
  await client.create("/latency/orders", report("orders", 21));
  await client.create("/latency/stock", report("stock", 60));
  running = spawn(process.execPath, ["--import", "tsx", "lib/cli/main.ts", "dev", `${EXAMPLE}/pipeline.ts`], {
    cwd: PROJECT,
    env: { ...bareEnvironment(), ZOOKEEPER_CONNECT: ensemble.connectString, BEAMKEEPER_OUTPUT: folder },
    stdio: ["ignore", "ignore", "inherit"],
  });
  expect(await anomalies("stock", 1)).toEqual([{ latencyMs: 60, score: 0.993 }]);
  // 21 is nothing unusual to the first model, and to the second one it is.
  await client.setData("/models/latency", model(10, 1));
  await client.setData("/latency/orders", report("orders", 21));
  expect(await anomalies("orders", 1)).toEqual([{ latencyMs: 21, score: 1 }]);
  const ended = new Promise((done) => running!.once("exit", done));
  running.kill("SIGINT");
  expect(await ended).toBe(0);
});
