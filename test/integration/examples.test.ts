import { systemClock } from "../../lib/clock";
import { connect, type ZooKeeper } from "../../lib/zookeeper";
import { configurationAudit } from "../../pipelines/configuration-audit";
import { deduplication } from "../../pipelines/deduplication";
import { hostAddresses } from "../../pipelines/host-addresses";
import orderLimits from "../../pipelines/order-limits";
import orderedSteps from "../../pipelines/ordered-steps";
import { registryFlaps } from "../../pipelines/registry-flaps";
import { sessionisation } from "../../pipelines/sessionisation";
import taskQueue from "../../pipelines/task-queue";
import { Deployment, PATIENCE_MS, readFolder, readTree, temporaryFolder } from "../support/deployment";
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
  for (const deadline = Date.now() + PATIENCE_MS; !(await isSo()); ) {
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

test("sessionisation: visits with less than the gap between them are one session", async () => {
  await write("/visits");
  const running = await deploy(sessionisation(1));
  let visits = 0;
  const visit = (user: string, page: string): Promise<unknown> =>
    client.create(`/visits/${++visits}`, Buffer.from(JSON.stringify({ user, page })));
  await visit("ann", "/a");
  await visit("bob", "/a");
  await visit("ann", "/b");
  await running.settled(client);
  await visit("ann", "/c");
  await running.settled(client);
  const found = [...(await readTree(client, "/sessions"))].filter(([, data]) => data !== "");
  const of = (user: string): unknown[] =>
    found
      .filter(([path]) => path.startsWith(`/${user}/`))
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([, data]) => JSON.parse(data));
  expect(of("bob")).toEqual([{ visits: 1, pages: ["/a"] }]);
  expect(of("ann")).toEqual([
    { visits: 2, pages: ["/a", "/b"] },
    { visits: 1, pages: ["/c"] },
  ]);
});

test("a slowly changing lookup: purchases wait for the limits, and what is written to them is taken up", async () => {
  for (const path of ["/purchases", "/purchases/new", "/purchases/judged"]) await write(path);
  const buy = (id: string, amount: number, currency = "EUR"): Promise<unknown> =>
    client.create(`/purchases/new/${id}`, Buffer.from(JSON.stringify({ customer: "ann", amount, currency })));
  const setLimits = (maxAmount: number): Promise<void> =>
    write("/config/limits", JSON.stringify({ maxAmount, rates: { EUR: 1, JPY: 0.006 } }));
  const verdicts = async (): Promise<Record<string, unknown>> => {
    const judged = [...(await readTree(client, "/purchases/judged"))].filter(([, data]) => data !== "");
    return Object.fromEntries(judged.map(([path, data]) => [path.slice(1), JSON.parse(data).verdict]));
  };
  await buy("early", 100);
  const running = start(orderLimits);
  if (!(await client.exists("/config"))) await write("/config");
  await setLimits(200);
  await running.settled(client);
  await buy("large", 300);
  await buy("yen", 30_000, "JPY");
  await buy("pound", 1, "GBP");
  await running.settled(client);
  await setLimits(500);
  await buy("large-again", 300);
  await running.settled(client);
  expect(await verdicts()).toEqual({
    early: "accepted",
    large: "refused",
    yen: "accepted",
    pound: "refused",
    "large-again": "accepted",
  });
});

test("enrichment with asynchronous calls, one of which fails at first", async () => {
  for (const path of ["/hosts", "/addresses"]) await write(path);
  let failures = 0;
  const running = await deploy(
    hostAddresses(async (host) => {
      if (host === "nowhere") throw Object.assign(new Error("no such host"), { code: "ENOTFOUND" });
      if (host === "flaky" && failures++ === 0) throw new Error("the name server is busy");
      return `address of ${host}`;
    }),
  );
  for (const host of ["one", "two", "flaky", "nowhere"]) await write(`/hosts/${host}-1`, host);
  await running.settled(client);
  const addresses = [...(await readTree(client, "/addresses"))].filter(([, data]) => data !== "");
  expect(Object.fromEntries(addresses.map(([path, data]) => [path, JSON.parse(data).address]))).toEqual({
    "/one-1": "address of one",
    "/two-1": "address of two",
    "/flaky-1": "address of flaky",
    "/nowhere-1": null,
  });
  expect(failures).toBe(2);
});
