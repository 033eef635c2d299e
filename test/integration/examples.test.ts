import { connect, type ZooKeeper } from "../../lib/zookeeper";
import { configurationAudit } from "../../pipelines/configuration-audit";
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

async function deploy(definition: Deployment["options"]["definition"]): Promise<Deployment> {
  const { connectString } = ensemble;
  deployment = new Deployment({ connectString, definition, root: "/beamkeeper", output: folder.path });
  await deployment.settled(client);
  return deployment;
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
