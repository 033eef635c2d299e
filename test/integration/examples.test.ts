import { systemClock } from "../../lib/clock";
import { connect, type ZooKeeper } from "../../lib/zookeeper";
import { configurationAudit } from "../../pipelines/configuration-audit";
import { deduplication } from "../../pipelines/deduplication";
import orderedSteps from "../../pipelines/ordered-steps";
import { registryFlaps } from "../../pipelines/registry-flaps";
import taskQueue from "../../pipelines/task-queue";
import { Deployment, readFolder, readTree, temporaryFolder } from "../support/deployment";
import { type LocalZooKeeper, startZooKeeper } from "../support/zookeeper-server";

let ensemble: LocalZooKeeper;
let client: ZooKeeper;
let folder: ReturnType<typeof temporaryFolder>;
let deployment: Deployment | undefined;

beforeAll(async () => {
  folder = temporaryFolder();
  ensemble = await startZooKeeper();
  client = await connect({ connectString: ensemble.connectString });
});

afterEach(() => deployment?.end());

afterAll(async () => {
  await client?.close();
  await ensemble?.stop();
  folder?.remove();
});

function start(definition: Deployment["options"]["definition"]): Deployment {
  const { connectString } = ensemble;
  deployment = new Deployment({ connectString, definition, root: "/beamkeeper", output: folder.path });
  return deployment;
}

async function deploy(definition: Deployment["options"]["definition"]): Promise<Deployment> {
  const started = start(definition);
  await started.settled(client);
  return started;
}

/** What keeps state in the global window never settles: it waits for the end of time. */
async function until(isSo: () => Promise<boolean>): Promise<void> {
  for (const deadline = Date.now() + 40_000; !(await isSo()); ) {
    if (Date.now() > deadline) throw new Error("it has not come to pass");
    await systemClock.sleep(20);
  }
}

const write = async (path: string, data = ""): Promise<void> => {
  const bytes = Buffer.from(data);
  if (await client.exists(path)) await client.setData(path, bytes);
  else await client.create(path, bytes);
};

test("service-registry flaps", async () => {
  for (const path of ["/services", "/services/pay", "/services/pay/old", "/services/mail"]) await write(path);
  const running = await deploy(registryFlaps(1));
  for (const path of ["/services/pay/i-1", "/services/pay/i-2", "/services/mail/i-3"]) await write(path);
  await running.settled(client);
  await write("/services/pay/i-1", "a heartbeat is no flap");
  await client.delete("/services/pay/i-1");
  await client.delete("/services/pay/old");
  await running.settled(client);
  const flaps = [...(await readTree(client, "/flaps"))].filter(([, data]) => data !== "");
  const total = (service: string, what: "joined" | "left"): number =>
    flaps
      .filter(([path]) => path.startsWith(`/${service}/`))
      .reduce((sum, [, data]) => sum + (JSON.parse(data) as Record<"joined" | "left", number>)[what], 0);
  expect([total("pay", "joined"), total("pay", "left")]).toEqual([2, 2]);
  expect([total("mail", "joined"), total("mail", "left")]).toEqual([1, 0]);
});

test("a configuration audit, with derived configuration written back", async () => {
  for (const path of ["/config", "/config/pay"]) await write(path);
  await write("/config/pay/limits", `{"requestsPerSecond":100}`);
  const running = await deploy(configurationAudit(1));
  expect((await readTree(client, "/derived")).get("/pay/limits")).toBe(`{"requestsPerSecond":10}`);
  await write("/config/pay/limits", `{"requestsPerSecond":500}`);
  await running.settled(client);
  await write("/config/pay/limits", `{"comment":"no limit"}`);
  await running.settled(client);
  await client.delete("/config/pay/limits");
  await running.settled(client);
  const lines = [...readFolder(folder.path)]
    .filter(([name]) => name.startsWith("configuration-audit/"))
    .flatMap(([, each]) => each.map((line) => JSON.parse(line)));
  lines.sort((a, b) => a.version - b.version || a.kind.localeCompare(b.kind));
  expect(lines.map(({ kind, value, before }) => [kind, value, before])).toEqual([
    ["existing", { requestsPerSecond: 100 }, null],
    ["changed", { requestsPerSecond: 500 }, { requestsPerSecond: 100 }],
    ["changed", { comment: "no limit" }, { requestsPerSecond: 500 }],
    ["deleted", null, { comment: "no limit" }],
  ]);
  const derived = await client.getData("/derived/pay/limits");
  expect(derived.data.toString()).toBe(`{"requestsPerSecond":50}`);
  expect(derived.stat.version).toBe(1);
});

test("a task queue: each task is done once and taken off, those from before the start too", async () => {
  for (const path of ["/tasks", "/tasks/new", "/tasks/done"]) await write(path);
  await write("/tasks/new/first", "one two");
  const running = await deploy(taskQueue);
  const ids = Array.from({ length: 50 }, (_, index) => `task-${index}`);
  await Promise.all(ids.map((id) => client.create(`/tasks/new/${id}`, Buffer.from(`a b ${id}`))));
  await running.settled(client);
  expect((await client.getChildren("/tasks/new")).children).toEqual([]);
  const done = await readTree(client, "/tasks/done");
  expect(done.size).toBe(51);
  expect(done.get("/first")).toBe("2 words");
  expect(done.get("/task-7")).toBe("3 words");
});

test("deduplication with state: each id once, whoever wrote it how often", async () => {
  for (const path of ["/notices", "/notices/new", "/notices/unique"]) await write(path);
  await write("/notices/new/before", `{"id":"n-0","text":"from before the start"}`);
  start(deduplication(3_600));
  const unique = async () =>
    [...(await readTree(client, "/notices/unique"))].filter(([, text]) => text !== "");
  await until(async () => (await unique()).length === 1);
  const notices = Array.from({ length: 60 }, (_, index) => ({ id: `n-${index % 20}`, text: `try ${index}` }));
  await Promise.all(
    notices.map((notice, index) =>
      client.create(`/notices/new/${index}`, Buffer.from(JSON.stringify(notice))),
    ),
  );
  // The last one is read after all others, whatever of them had come to pass by then.
  await until(async () => (await unique()).length === 20);
  await write("/notices/new/last", `{"id":"last","text":"the last one"}`);
  await until(async () => (await unique()).length === 21);
  expect(new Map(await unique()).get("/n-0")).toBe("from before the start");
  for (const [path] of await unique())
    expect((await client.getData(`/notices/unique${path}`)).stat.version).toBe(0);
});

test("ordered output for each key, whatever the sequence of what comes in", async () => {
  for (const path of ["/orders", "/orders/steps", "/orders/log"]) await write(path);
  start(orderedSteps);
  const log = async (order: string) => (await readTree(client, "/orders/log")).get(`/${order}`);
  const step = (order: string, number: number): Promise<unknown> => {
    const data = Buffer.from(JSON.stringify({ order, number, text: `step ${number}` }));
    return client.create(`/orders/steps/${order}-${number}`, data);
  };
  for (const number of [3, 2, 5]) await step("a", number);
  await step("b", 1);
  await until(async () => (await log("b")) === "step 1");
  expect(await log("a")).toBeUndefined();
  for (const number of [1, 6, 4]) await step("a", number);
  const whole = [1, 2, 3, 4, 5, 6].map((number) => `step ${number}`).join("\n");
  await until(async () => (await log("a")) === whole);
});
