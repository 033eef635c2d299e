import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { createBundleHandler } from "../../functions/bundle";
import { createDriverHandler } from "../../functions/driver";
import { createEventsHandler } from "../../functions/events";
import { LocalLambda, shardInvoker, startInvocation } from "../../lib/aws/lambda";
import { DirectoryBlobs } from "../../lib/checkpoint/blobs";
import { drainPipeline } from "../../lib/checkpoint/control";
import { DirectoryFiles } from "../../lib/checkpoint/files";
import { PipelineLayout } from "../../lib/checkpoint/layout";
import { isSettled, readStatus } from "../../lib/checkpoint/status";
import { systemClock } from "../../lib/clock";
import { silent } from "../../lib/log";
import { audit } from "../../lib/verify/auditor";
import { connect, type ZooKeeperClient } from "../../lib/zookeeper";
import { readTransactionLogs } from "../../lib/zookeeper/transaction-log";
import { beamkeeper } from "../support/command";
import { Deployment, ensembleTime, readTree, temporaryFolder, testSettings } from "../support/deployment";
import { type Order, ordersPipeline } from "../support/event-pipeline";
import { MortalFunction } from "../support/mortal-function";
import { useZooKeeper } from "../support/zookeeper-fixture";

const fixture = useZooKeeper({ client: false });
let folder: ReturnType<typeof temporaryFolder>;
let results: string;
const closing: (() => unknown)[] = [];

beforeEach(async () => {
  folder = temporaryFolder();
  results = `${fixture.root}/results`;
  await fixture.writer.create(results);
});

afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
  folder.remove();
  expect(audit(transactions(), layout()).problems).toEqual([]);
});

const transactions = () => readTransactionLogs(fixture.server.servers[0]!.directory);

function place() {
  return {
    connectString: fixture.server.connectString,
    root: `${fixture.root}/bk`,
    output: join(folder.path, "out"),
  };
}

function layout(): PipelineLayout {
  return new PipelineLayout(place().root, "orders");
}

/** The events function and the bundle function, as they are deployed, in this process. */
function deploy(source?: string): LocalLambda {
  const settings = testSettings(place());
  const pipelines = [ordersPipeline({ results, shards: 2, ...(source === undefined ? {} : { source }) })];
  const blobs = new DirectoryBlobs(settings.blobStore);
  const opened: ZooKeeperClient[] = [];
  const open = async (): Promise<ZooKeeperClient> => {
    const client = await connect({ ...settings });
    opened.push(client);
    return client;
  };
  const shared = { settings, pipelines, connect: open, blobs, clock: systemClock, log: silent };
  const lambda = new LocalLambda(systemClock.now);
  const started: Promise<unknown>[] = [];
  lambda.deploy(
    "bundle",
    createBundleHandler({ ...shared, files: new DirectoryFiles(settings.output) }),
    900_000,
  );
  const startDriver = async (pipeline: string): Promise<void> =>
    void started.push(startInvocation(lambda, "driver", { pipeline }));
  lambda.deploy("events", createEventsHandler({ ...shared, startDriver }), 30_000);
  const invokeBundle = shardInvoker(lambda, "bundle");
  lambda.deploy("driver", createDriverHandler({ ...shared, invoke: invokeBundle }), 900_000);
  closing.push(async () => {
    await Promise.all(started);
    await Promise.all(opened.map((client) => client.close()));
  });
  return lambda;
}

async function invoke(
  lambda: Pick<LocalLambda, "invoke">,
  event: object,
  FunctionName = "events",
): Promise<unknown> {
  const answer = await lambda.invoke({ FunctionName, Payload: Buffer.from(JSON.stringify(event)) });
  const payload = JSON.parse(Buffer.from(answer.Payload as unknown as Uint8Array).toString("utf8"));
  if (answer.FunctionError) throw new Error(payload.errorMessage);
  return payload;
}

function orders(from: number, to: number): { id: string; data: Order }[] {
  return Array.from({ length: to - from }, (_, n) => ({
    id: `order-${from + n}`,
    data: { key: `key-${n % 7}`, amount: 1 },
  }));
}

/** The sum of all results by key. */
async function sums(): Promise<Record<string, number>> {
  const all: Record<string, number> = {};
  for (const [path, text] of await readTree(fixture.writer, results)) {
    if (text === "") continue;
    const key = decodeURIComponent(path.split("/").at(-1)!);
    all[key] = (all[key] ?? 0) + Number(text);
  }
  return all;
}

function expected(count: number): Record<string, number> {
  const keys = Array.from({ length: 7 }, (_, n) => [`key-${n}`, Math.ceil((count - n) / 7)]);
  return Object.fromEntries(keys);
}

/** What the schedule does each minute, until every window is closed. */
async function driveUntilSettled(lambda: Pick<LocalLambda, "invoke">): Promise<void> {
  const untilMs = await ensembleTime(fixture.writer);
  for (;;) {
    await invoke(lambda, {}, "driver");
    const status = await readStatus(fixture.writer, layout());
    if (status && isSettled(status, untilMs)) return;
    await systemClock.sleep(50);
  }
}

test("events that come again, and at once, count once; windows close though none comes any more, without a relay", async () => {
  const lambda = deploy();
  const all = orders(0, 140);
  const send = (events: object[]): Promise<unknown> => invoke(lambda, { source: "orders", events });
  const answers = await Promise.all([send(all), send(all), send(all.slice(70))]);
  const accepted = answers.map((answer) => (answer as { accepted: number }).accepted);
  expect(accepted.reduce((sum, each) => sum + each)).toBe(140);
  expect(await send([...all.slice(3, 5), { data: {} }, ...orders(140, 142)])).toEqual({
    ...{ accepted: 2, duplicates: 2 },
    rejected: [{ index: 2, reason: expect.stringContaining("with an id of 1 to 1024 characters") }],
  });
  await driveUntilSettled(lambda);
  expect(await sums()).toEqual({ ...expected(140), "key-0": 21, "key-1": 21 });
  // The auditor would notice an append that is not tied to the watermark.
  const isCursorCheck = (op: { type: string; path?: string }): boolean =>
    op.type === "check" && /\/sources\/[^/]+$/.test(op.path ?? "");
  const loosened = transactions().map((each) => ({
    ...each,
    ops: each.ops.filter((op) => !isCursorCheck(op)),
  }));
  expect(audit(loosened, layout()).problems[0]).toMatch(/records were taken without a check of/);
});

test("a pipeline that watches znodes as well is served by its relay, which hears of events", async () => {
  const watched = `${fixture.root}/watched`;
  await fixture.writer.create(watched);
  const lambda = deploy(watched);
  const deployment = new Deployment({
    ...place(),
    definition: ordersPipeline({ results, shards: 2, source: watched }),
  });
  closing.push(() => deployment.end());
  await invoke(lambda, { pipeline: "orders", source: "orders", events: orders(0, 70) });
  await fixture.writer.create(`${watched}/a`, Buffer.from("12345"));
  await deployment.settled(fixture.writer);
  expect(await sums()).toEqual({ ...expected(70), [watched]: 0, [`${watched}/a`]: 5 });
});

test("a command gives events to a source, from a file, each once", async () => {
  const lambda = deploy();
  await invoke(lambda, { source: "orders", events: orders(0, 7) });
  const file = join(folder.path, "events.jsonl");
  writeFileSync(file, [...orders(0, 14), { id: "no data" }].map((event) => JSON.stringify(event)).join("\n"));
  const { connectString, root, output } = place();
  const environment = { ZOOKEEPER_CONNECT: connectString, BEAMKEEPER_ROOT: root, BEAMKEEPER_OUTPUT: output };
  const args = ["send", "test/support/pipelines/orders.ts", "--source", "orders", "--file", file];
  expect(await beamkeeper(environment, ...args)).toEqual({
    code: 1,
    output: "7 taken, 7 had been taken before\n",
    errors: "event 15 was not taken: an event has either data or base64\n",
  });
  writeFileSync(file, JSON.stringify(orders(7, 21)));
  const again = await beamkeeper(environment, ...args, "--json");
  expect(JSON.parse(again.output)).toEqual({ accepted: 7, duplicates: 7, rejected: [] });
  expect(again.code).toBe(0);
  const wrong = await beamkeeper(environment, ...args.slice(0, 2));
  expect([wrong.code, wrong.errors]).toEqual([2, expect.stringContaining("name the source with --source")]);
  await driveUntilSettled(lambda);
  expect(await sums()).toEqual(expected(21));
});

test("draining ends the source: what was taken is finished, and nothing more is taken", async () => {
  const lambda = deploy();
  await invoke(lambda, { source: "orders", events: orders(0, 35) });
  await drainPipeline(fixture.writer, layout());
  await expect(invoke(lambda, { source: "orders", events: orders(35, 36) })).rejects.toThrow(
    "takes no more records",
  );
  while ((await readStatus(fixture.writer, layout()))?.generation.state !== "drained")
    await invoke(lambda, {}, "driver");
  expect(await sums()).toEqual(expected(35));
});

test("an invocation that is killed after its commit, before it could answer, and is sent again, counts once", async () => {
  const { connectString, root, output } = place();
  const environment = { ZOOKEEPER_CONNECT: connectString, BEAMKEEPER_ROOT: root, BEAMKEEPER_OUTPUT: output };
  const deaths = [{ kind: "intake", nth: 2, point: "after" }] as const;
  const mortal = new MortalFunction({ environment, pipeline: { orders: true, results }, deaths });
  closing.push(() => mortal.end());
  const send = (from: number, to: number): Promise<unknown> =>
    invoke(mortal, { source: "orders", events: orders(from, to) });
  expect(await send(0, 70)).toMatchObject({ accepted: 70 });
  await expect(send(70, 140)).rejects.toThrow("the process was killed");
  expect(await send(70, 147)).toMatchObject({ accepted: 7, duplicates: 70 });
  expect(mortal.deaths).toBe(1);
  await driveUntilSettled(deploy());
  expect(await sums()).toEqual(expected(147));
});
