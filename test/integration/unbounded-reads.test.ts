import { mkdirSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pausePipeline, resumePipeline } from "../../lib/checkpoint/control";
import { readStatus } from "../../lib/checkpoint/status";
import { systemClock } from "../../lib/clock";
import { connect, type ZooKeeperClient } from "../../lib/zookeeper";
import { arrivals } from "../../pipelines/arrivals/pipeline";
import { beamkeeper } from "../support/command";
import { Deployment, PATIENCE_MS, readFolder, temporaryFolder, testSettings } from "../support/deployment";
import type { Death } from "../support/function-process";
import { MortalFunction } from "../support/mortal-function";
import { type LocalZooKeeper, startZooKeeper } from "../support/zookeeper-server";

/**
 * A pipeline without any source that a relay reads: files that appear are found by looking, on a real server and with
 * processes that are killed.
 */
let ensemble: LocalZooKeeper;
let client: ZooKeeperClient;
let folder: ReturnType<typeof temporaryFolder>;
let deployment: Deployment | undefined;
let bundles: MortalFunction | undefined;

beforeAll(async () => {
  folder = temporaryFolder();
  ensemble = await startZooKeeper();
  client = await connect({ connectString: ensemble.connectString });
});

afterEach(async () => {
  await deployment?.end();
  bundles?.end();
});

afterAll(async () => {
  await client?.close();
  await ensemble?.stop();
  folder?.remove();
});

const EVERY_MS = 100;

/** Files get their names when they are whole. */
function arrive(input: string, number: number): void {
  const name = `${String(number).padStart(4, "0")}.jsonl`;
  writeFileSync(join(input, ".tmp"), `{"sku":"a","amount":1}\n{"sku":"b","amount":${number}}\n`);
  renameSync(join(input, ".tmp"), join(input, name));
}

/** Everything that was ordered, over all windows. */
function totals(output: string): Record<string, number> {
  const sums: Record<string, number> = {};
  for (const line of [...readFolder(join(output, "arrivals")).values()].flat()) {
    const { sku, amount } = JSON.parse(line);
    sums[sku] = (sums[sku] ?? 0) + amount;
  }
  return sums;
}

/** Waits until so many files were divided into parts. */
async function found(files: number): Promise<void> {
  for (const deadline = Date.now() + PATIENCE_MS; ; ) {
    const status = await readStatus(client, deployment!.layout);
    const reading = status?.shards.find(({ stage }) => stage === "readAllText/files/split");
    if (reading?.elementsIn === files) return;
    if (Date.now() > deadline) throw new Error(`${files} files were not found: ${JSON.stringify(status)}`);
    await systemClock.sleep(20);
  }
}

function deploy(name: string, deaths: readonly Death[]) {
  const input = join(folder.path, name, "in");
  const output = join(folder.path, name, "out");
  for (const path of [input, output]) mkdirSync(path, { recursive: true });
  const parameters = [`${input}/*.jsonl`, EVERY_MS, 1] as const;
  const place = { connectString: ensemble.connectString, root: `/${name}`, output };
  bundles = new MortalFunction({
    environment: environmentOf(place),
    pipeline: { arrivals: [...parameters] },
    deaths,
  });
  deployment = new Deployment({ ...place, definition: arrivals(...parameters), bundles, maxFailures: 20 });
  return { input, output };
}

function environmentOf(place: Parameters<typeof testSettings>[0]): Record<string, string> {
  const { connectString, blobStore } = testSettings(place);
  return {
    ZOOKEEPER_CONNECT: connectString,
    BEAMKEEPER_ROOT: place.root,
    BEAMKEEPER_OUTPUT: place.output,
    BEAMKEEPER_BLOB_STORE: blobStore,
  };
}

const drain = async (root: string): Promise<string> => {
  const variables = { ZOOKEEPER_CONNECT: ensemble.connectString, BEAMKEEPER_ROOT: root };
  const { output } = await beamkeeper(
    variables,
    "drain",
    "arrivals",
    "--wait",
    "--timeout",
    `${PATIENCE_MS / 1000}`,
  );
  return output;
};

test("files are read once each though processes are killed, and a drain finds what is there and closes the windows", async () => {
  const deaths = ([2, 1, 3] as const).map(
    (nth, index): Death => ({ kind: "bundle", nth, point: index % 2 === 0 ? "before" : "after" }),
  );
  const { input, output } = deploy("killed", deaths);
  for (let number = 1; number <= 4; number++) {
    arrive(input, number);
    await found(number);
  }
  expect(bundles!.deaths).toBe(deaths.length);
  arrive(input, 5);
  expect(await drain("/killed")).toMatch(/arrivals is drained/);
  await expect(deployment!.relay).resolves.toMatchObject({ arrivals: { reason: "drained" } });
  expect(totals(output)).toEqual({ a: 5, b: 15 });
});

test("a pause holds, and the relay that comes after it goes on", async () => {
  const { input, output } = deploy("paused", []);
  arrive(input, 1);
  await found(1);
  await pausePipeline(client, deployment!.layout);
  await expect(deployment!.relay).resolves.toMatchObject({ arrivals: { reason: "paused" } });
  arrive(input, 2);
  const before = JSON.stringify(await readStatus(client, deployment!.layout));
  await systemClock.sleep(3 * EVERY_MS);
  expect(JSON.stringify(await readStatus(client, deployment!.layout))).toBe(before);
  await resumePipeline(client, deployment!.layout);
  deployment = new Deployment(deployment!.options);
  await found(2);
  expect(await drain("/paused")).toMatch(/arrivals is drained/);
  expect(totals(output)).toEqual({ a: 2, b: 3 });
});
