import { spawn } from "node:child_process";
import { join } from "node:path";
import { connect, type ZooKeeperClient } from "../../lib/zookeeper";
import { Deployment, readTree, temporaryFolder } from "../support/deployment";
import { type Summary, summaryPipeline } from "../support/sample-pipelines";
import { type LocalZooKeeper, startZooKeeper } from "../support/zookeeper-server";

const PROJECT = join(__dirname, "../..");
const place = { source: "/app", results: "/results", root: "/beamkeeper" };

let ensemble: LocalZooKeeper;
let client: ZooKeeperClient;
let folder: ReturnType<typeof temporaryFolder>;

beforeAll(async () => {
  folder = temporaryFolder();
  ensemble = await startZooKeeper();
  client = await connect({ connectString: ensemble.connectString });
  await client.create("/app");
});

afterAll(async () => {
  await client?.close();
  await ensemble?.stop();
  folder?.remove();
});

function command(...args: string[]): Promise<{ code: number | null; output: string; errors: string }> {
  const child = spawn(process.execPath, ["--import", "tsx", "lib/cli/main.ts", ...args], {
    cwd: PROJECT,
    env: { ...process.env, ZOOKEEPER_CONNECT: ensemble.connectString },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  let errors = "";
  child.stdout.on("data", (chunk) => {
    output += chunk;
  });
  child.stderr.on("data", (chunk) => {
    errors += chunk;
  });
  return new Promise((resolve) => child.once("close", (code) => resolve({ code, output, errors })));
}

function deploy(): Deployment {
  const definition = summaryPipeline(place);
  return new Deployment({ connectString: ensemble.connectString, definition, output: folder.path, ...place });
}

async function delivered(): Promise<(string | null)[]> {
  const summaries = [...(await readTree(client, "/results")).values()].filter(Boolean);
  return summaries.flatMap((text) => (JSON.parse(text) as Summary).seen.map(({ value }) => value)).sort();
}

test("a pipeline is paused, stands still, and goes on where it stood", async () => {
  const first = deploy();
  await first.settled(client);
  const paused = await command("pause", "summary");
  expect(paused.output).toMatch(/summary is paused \(epoch 1\)/);
  expect(paused.code).toBe(0);
  await expect(first.relay).resolves.toMatchObject({ summary: { reason: "paused" } });
  await first.end();

  await client.create("/app/meanwhile", Buffer.from("written while it was paused"));
  const before = JSON.parse((await command("status", "summary", "--json")).output);
  expect(before.generation.state).toBe("paused");
  const refused = deploy();
  await expect(refused.relay).resolves.toMatchObject({ summary: { reason: "paused" } });
  await refused.end();
  expect(JSON.parse((await command("status", "summary", "--json")).output)).toEqual(before);

  const resumed = await command("resume", "summary");
  expect(resumed.output).toMatch(/summary is running/);
  const second = deploy();
  await second.settled(client);
  await second.end();
  expect(await delivered()).toEqual(["", "written while it was paused"]);
});

test("status shows each shard", async () => {
  const { output, code } = await command("status", "summary");
  expect(output).toMatch(/source readZnodeChanges: watermark \d{4}-\d\d-\d\dT[\d:.]+Z, [\d,]+ commits/);
  expect(output).toMatch(/groupBy +0 +0 +\S+ +\d+/);
  expect(code).toBe(0);
});

test.each([
  ["a pipeline that is not there", ["status", "nowhere"], /there is no pipeline at \/beamkeeper\/nowhere/, 1],
  ["pausing what is not there", ["pause", "nowhere"], /there is no pipeline at \/beamkeeper\/nowhere/, 1],
  ["no name", ["status"], /name one pipeline/, 2],
  ["an unknown option", ["pause", "summary", "--now"], /--now/, 2],
  ["an unknown command", ["paws", "summary"], /there is no command "paws"/, 2],
] as const)("%s", async (_name, args, message, expected) => {
  const { errors, code } = await command(...args);
  expect(errors).toMatch(message);
  expect(code).toBe(expected);
});
