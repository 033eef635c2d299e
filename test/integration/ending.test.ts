import { spawn } from "node:child_process";
import { join } from "node:path";
import * as beam from "apache-beam";
import {
  definePipeline,
  type PipelineDefinition,
  readZnodeChanges,
  trigger,
  windowingStrategy,
  writeToText,
  writeToZnodes,
} from "beamkeeper";
import { PipelineLayout } from "../../lib/checkpoint/layout";
import { readStatus } from "../../lib/checkpoint/status";
import { audit } from "../../lib/verify/auditor";
import { connect, type ZooKeeperClient } from "../../lib/zookeeper";
import { readTransactionLogs } from "../../lib/zookeeper/transaction-log";
import { beamkeeper, beamkeeperProcess, type CommandResult } from "../support/command";
import {
  Deployment,
  PATIENCE_MS,
  readFolder,
  readTree,
  temporaryFolder,
  testSettings,
} from "../support/deployment";
import { MortalFunction } from "../support/mortal-function";
import grown, { before } from "../support/pipelines/grown";
import { type Summary, summaryPipeline } from "../support/sample-pipelines";
import { type LocalZooKeeper, startZooKeeper } from "../support/zookeeper-server";

const ROOT = "/beamkeeper";
const PATIENTLY = ["--timeout", `${PATIENCE_MS / 1000}`];

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

const command = (...args: string[]): Promise<CommandResult> =>
  beamkeeper({ ZOOKEEPER_CONNECT: ensemble.connectString }, ...args);
const json = async (...args: string[]) => JSON.parse((await command(...args, "--json")).output);

/** Counts in windows that none of these tests waits for: of an hour, and global ones that fire after an hour. */
function slowPipeline(name: string): PipelineDefinition {
  const delayed = trigger.repeatedly(trigger.afterProcessingTime({ delaySeconds: 3_600 }));
  const windows: Record<string, Parameters<typeof beam.windowInto>> = {
    hour: [beam.fixedWindows(3_600)],
    global: [beam.globalWindows(), windowingStrategy({ trigger: delayed })],
  };
  return definePipeline({
    name,
    shards: 2,
    build: (root) => {
      const changes = root
        .apply(readZnodeChanges(`/${name}/*`, { recursive: false }))
        .map(({ path }) => ({ path, changes: 1 }));
      for (const [kind, windowing] of Object.entries(windows)) {
        const counts = changes
          .apply(beam.windowInto(...windowing))
          .apply(beam.groupBy("path").combining("changes", (a, b) => a + b, "changes"));
        counts.apply(
          writeToZnodes(
            ({ path, changes: count }) => ({ path: `/counts-${name}/${kind}${path}`, data: `${count}` }),
            {
              mode: "create",
            },
          ),
        );
        counts.apply(writeToText(`${name}-${kind}/part`));
      }
    },
  });
}

function deploy(definition: PipelineDefinition): Deployment {
  return new Deployment({
    connectString: ensemble.connectString,
    root: ROOT,
    definition,
    output: folder.path,
  });
}

/** Resolves when the first stages, or others, have taken as many elements as there are znodes. */
async function delivered(deployment: Deployment, elements: number, stages = "read"): Promise<void> {
  for (const deadline = Date.now() + PATIENCE_MS; Date.now() < deadline; ) {
    const status = await readStatus(client, deployment.layout);
    const done = status?.shards
      .filter(({ stage }) => stage.startsWith(stages))
      .reduce((sum, { elementsIn }) => sum + elementsIn, 0);
    if (done === elements) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error("the relay did not deliver");
}

test("a drained pipeline has closed its windows, written its results and named its files, and ends", async () => {
  await client.create("/slow");
  for (let n = 0; n < 20; n++) await client.create(`/slow/${n}`);
  const deployment = deploy(slowPipeline("slow"));
  await delivered(deployment, 20);
  expect(await readTree(client, "/counts-slow")).toEqual(new Map());
  await client.create("/slow/last");
  const { code, output } = await command("drain", "slow", "--wait", ...PATIENTLY);
  expect(output).toMatch(/slow is drained \(epoch 1\)/);
  expect(output).toMatch(/source readZnodeChanges: watermark end/);
  expect(code).toBe(0);
  await expect(deployment.relay).resolves.toEqual({
    slow: { reason: "drained", message: "the pipeline is drained", failing: [] },
  });
  await deployment.end();
  const counts = [...(await readTree(client, "/counts-slow"))].filter(([, data]) => data !== "");
  expect(counts).toHaveLength(42);
  expect(counts.every(([, data]) => data === "1")).toBe(true);
  const lines = [...readFolder(folder.path)].flatMap(([file, all]) =>
    file.startsWith("slow-") ? all.map((line) => [file.split("/")[0], line]) : [],
  );
  expect(lines.filter(([kind]) => kind === "slow-hour")).toHaveLength(21);
  expect(lines.filter(([kind]) => kind === "slow-global")).toHaveLength(21);
});

test("a drained pipeline stays as it is, and says what does not go", async () => {
  const before = await json("status", "slow");
  await client.create("/slow/too-late");
  const again = deploy(slowPipeline("slow"));
  await expect(again.relay).resolves.toMatchObject({ slow: { reason: "drained" } });
  await again.end();
  expect((await command("drain", "slow")).code).toBe(0);
  for (const verb of ["pause", "resume", "cancel"]) {
    const { code, errors } = await command(verb, "slow");
    expect(errors).toMatch(/\/beamkeeper\/slow is drained and can't be \w+: it was finished/);
    expect(code).toBe(1);
  }
  expect(await json("status", "slow")).toEqual(before);
});

test("a drain survives that functions are killed after their commits, and goes on under the next relay", async () => {
  const pipeline = { name: "mortal", source: "/mortal", results: "/results-mortal", shards: 2 };
  await client.create("/mortal");
  for (let n = 0; n < 5; n++) await client.create(`/mortal/${n}`, Buffer.from(`value-${n}`));
  const output = folder.path;
  const settings = testSettings({ connectString: ensemble.connectString, root: ROOT, output });
  const bundles = new MortalFunction({
    environment: {
      ZOOKEEPER_CONNECT: ensemble.connectString,
      BEAMKEEPER_ROOT: ROOT,
      BEAMKEEPER_OUTPUT: settings.output,
    },
    pipeline,
    deaths: [
      { kind: "bundle", nth: 1, point: "after" },
      { kind: "bundle", nth: 2, point: "after" },
      { kind: "bundle", nth: 1, point: "before" },
    ],
  });
  const options = { connectString: ensemble.connectString, root: ROOT, output, bundles };
  const definition = summaryPipeline(pipeline);
  try {
    const first = new Deployment({ ...options, definition });
    for (let started = false; !started; await new Promise((resolve) => setTimeout(resolve, 20)))
      started = (await readStatus(client, first.layout)) !== undefined;
    expect((await command("drain", "mortal")).output).toMatch(/mortal is drain/);
    await first.end();
    const second = new Deployment({ ...options, definition });
    expect((await command("drain", "mortal", "--wait", ...PATIENTLY)).code).toBe(0);
    await expect(second.relay).resolves.toMatchObject({ mortal: { reason: "drained" } });
    await second.end();
  } finally {
    bundles.end();
  }
  const summaries = [...(await readTree(client, "/results-mortal")).values()].filter(Boolean);
  const seen = summaries.flatMap((text) => (JSON.parse(text) as Summary).seen.map(({ value }) => value));
  expect(seen.sort()).toEqual(["", "value-0", "value-1", "value-2", "value-3", "value-4"]);
  expect([...readFolder(join(folder.path, "results-mortal")).values()].flat()).toHaveLength(6);
  expect(bundles.deaths).toBeGreaterThan(0);
});

test("a cancelled pipeline commits nothing more, and keeps what it had not finished", async () => {
  await client.create("/halt");
  await client.create("/halt/a");
  const deployment = deploy(slowPipeline("halt"));
  await delivered(deployment, 1);
  const { output, code } = await command("cancel", "halt");
  expect(output).toMatch(/halt is cancelled/);
  expect(code).toBe(0);
  const before = await json("status", "halt");
  await client.create("/halt/b");
  await expect(deployment.relay).resolves.toMatchObject({ halt: { reason: "cancelled" } });
  await deployment.end();
  expect(await json("status", "halt")).toEqual(before);
  expect(await readTree(client, "/counts-halt")).toEqual(new Map());
  type Left = { backlog: number; nextTimerMs: number | string };
  const isUnfinished = (shard: Left): boolean => shard.backlog > 0 || shard.nextTimerMs !== "Infinity";
  expect(before.shards.some(isUnfinished)).toBe(true);
  const { errors, code: refused } = await command("drain", "halt");
  expect(errors).toMatch(/is cancelled and can't be draining: it was stopped for good/);
  expect(refused).toBe(1);
});

test("waiting for a drain ends in time where nobody relays, and says what is left", async () => {
  await client.create("/alone");
  const deployment = deploy(slowPipeline("alone"));
  await deployment.settled(client).catch(() => undefined);
  await deployment.end();
  const { errors, code } = await command("drain", "alone", "--timeout", "0.1");
  expect(errors).toMatch(/not drained after 0.1 s: 1 source still reads.* a relay has to run/s);
  expect(code).toBe(1);
  const cancelled = await command("cancel", "alone", "--json");
  expect(JSON.parse(cancelled.output).generation.state).toBe("cancelled");
});

test("a pipeline is rescaled while it runs, by a command that is killed on the way, and counts on", async () => {
  await client.create("/grow");
  const paths = Array.from({ length: 24 }, (_, n) => `/grow/${n}`);
  for (const path of paths) await client.create(path, Buffer.from("first"));
  const first = deploy(slowPipeline("grow"));
  await delivered(first, 24);
  const names = Object.keys((await json("status", "grow")).generation.shards);
  const numbers = names.map((name, index) => `${name}=${[3, 5, 1][index] ?? 2}`);
  const killed = spawn(
    process.execPath,
    ["--import", "tsx", "lib/cli/main.ts", "rescale", "grow", ...numbers],
    {
      cwd: join(__dirname, "../.."),
      env: { ...process.env, ZOOKEEPER_CONNECT: ensemble.connectString },
      stdio: "ignore",
    },
  );
  const ended = new Promise((resolve) => killed.once("close", resolve));
  while (killed.exitCode === null && (await json("status", "grow")).generation.state === "running");
  killed.kill("SIGKILL");
  await ended;
  const { code, output } = await command("rescale", "grow", ...numbers);
  expect(output).toMatch(/grow is running \(epoch [2-9]\)/);
  expect(code).toBe(0);
  const after = await json("status", "grow");
  expect(names.map((name) => `${name}=${after.generation.shards[name]}`)).toEqual(numbers);
  expect((await client.getChildren(`${ROOT}/grow/epochs`)).children).toHaveLength(1);
  await expect(first.relay).resolves.toMatchObject({ grow: { reason: "paused" } });
  await first.end();

  for (const path of paths) await client.setData(path, Buffer.from("second"));
  const second = deploy(slowPipeline("grow"));
  await delivered(second, 48);
  const drained = await command("drain", "grow", "--wait", ...PATIENTLY);
  expect(drained.code).toBe(0);
  await second.end();
  const counts = [...(await readTree(client, "/counts-grow"))].filter(([, data]) => data !== "");
  expect(counts).toHaveLength(48);
  expect(counts.filter(([, data]) => data !== "2")).toEqual([]);
});

test("changed code goes on with what is there, renamed and new stages included; without that, it is told what differs", async () => {
  const file = "test/support/pipelines/grown.ts";
  const settings = { ZOOKEEPER_CONNECT: ensemble.connectString, BEAMKEEPER_BLOB_STORE: folder.path };
  const update = (...args: string[]) => beamkeeperProcess(settings, "update", file, ...args);
  await client.create("/grown");
  const paths = Array.from({ length: 12 }, (_, n) => `/grown/${n}`);
  for (const path of paths) await client.create(path, Buffer.from("first"));
  const first = deploy(before);
  for (const stage of ["groupBy", "spread"]) await delivered(first, 12, stage);

  const early = deploy(grown);
  await expect(early.relay).rejects.toThrow(
    /stage "perPath" is added.*stage "groupBy" is removed.*--rename groupBy=perPath.*"beamkeeper update grown"/s,
  );
  await early.end();
  const { code, errors } = await update();
  expect(errors).toMatch(/stage "groupBy", which is gone, has \d+ cells of state/);
  expect(errors).not.toMatch(/"spread"/);
  expect(code).toBe(1);
  expect((await json("status", "grown")).generation).toMatchObject({ state: "running", epoch: 1 });

  const updated = await update("--rename", "groupBy=perPath", "--json");
  expect([updated.code, updated.errors]).toEqual([0, ""]);
  expect(JSON.parse(updated.output).generation).toMatchObject({
    state: "running",
    shards: { readZnodeChanges: 2, perPath: 2, perDay: 2 },
  });
  expect((await client.getChildren(`${ROOT}/grown/epochs`)).children).toHaveLength(1);
  await first.end();

  const second = deploy(grown);
  for (const path of paths) await client.setData(path, Buffer.from("second"));
  await delivered(second, 24);
  expect((await command("drain", "grown", "--wait", "--timeout", "40")).code).toBe(0);
  await second.end();
  const written = async (below: string) =>
    [...(await readTree(client, below))].filter(([, data]) => data !== "");
  expect((await written("/hours")).sort()).toEqual(paths.map((path) => [`/updated${path}`, "2"]).sort());
  expect((await written("/days")).sort()).toEqual(paths.map((path) => [path, "1"]).sort());
  const log = readTransactionLogs(ensemble.servers[0]!.directory);
  expect(audit(log, new PipelineLayout(ROOT, "grown")).problems).toEqual([]);
});

test.each([
  ["no numbers", [], /name stages and numbers, as groupBy=4/, 2],
  ["what is no number", ["groupBy=many"], /"groupBy=many" is not of the form STAGE=N/, 2],
  ["a pipeline that has ended", ["groupBy=3"], /is drained; only a running or paused pipeline/, 1],
] as const)("rescaling refuses %s", async (_name, args, message, expected) => {
  const { code, errors } = await command("rescale", "grow", ...args);
  expect(errors).toMatch(message);
  expect(code).toBe(expected);
});
