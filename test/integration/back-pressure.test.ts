import { readStatus } from "../../lib/checkpoint/status";
import { connect, type MultiResult, type Op, type ZooKeeperClient } from "../../lib/zookeeper";
import { Deployment, readTree, temporaryFolder } from "../support/deployment";
import { type Summary, summaryPipeline } from "../support/sample-pipelines";
import { type LocalZooKeeper, startZooKeeper } from "../support/zookeeper-server";

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

/** The client with something done around each multi; everything else goes through. */
function aroundMulti(
  inner: ZooKeeperClient,
  around: (ops: readonly Op[], send: () => Promise<MultiResult>) => Promise<MultiResult>,
): ZooKeeperClient {
  return new Proxy(inner, {
    get(target, name) {
      if (name === "multi") return (ops: readonly Op[]) => around(ops, () => target.multi(ops));
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

interface Count {
  values: number;
  missed: number;
  last: string | null;
}

async function counted(results: string): Promise<Map<string, Count>> {
  const counts = new Map<string, Count>();
  const summaries = [...(await readTree(client, results))].filter(([, text]) => text !== "").sort();
  for (const [, text] of summaries) {
    const { path, seen, missed } = JSON.parse(text) as Summary;
    const before = counts.get(path) ?? { values: 0, missed: 0, last: null };
    counts.set(path, {
      values: before.values + seen.length,
      missed: before.missed + missed,
      last: seen.at(-1)?.value ?? null,
    });
  }
  return counts;
}

test("a slow stage holds the source back: inboxes stay short, changes coalesce, and each is counted", async () => {
  await client.create("/slow");
  const deployment = new Deployment({
    connectString: ensemble.connectString,
    root: "/beamkeeper",
    definition: summaryPipeline({ name: "slow", source: "/slow", results: "/results-slow" }),
    output: folder.path,
    environment: {
      BEAMKEEPER_MAX_BACKLOG: "2",
      BEAMKEEPER_LINGER_MS: "0",
      BEAMKEEPER_BUNDLE_UNITS: "2",
    },
    wrapBundle: (inner) => aroundMulti(inner, (_ops, send) => sleep(60).then(send)),
  });
  await deployment.settled(client);
  let longest = 0;
  let isWriting = true;
  const watching = (async () => {
    while (isWriting) {
      const status = await readStatus(client, deployment.layout);
      longest = Math.max(longest, ...status!.shards.map(({ backlog }) => backlog));
      await sleep(5);
    }
  })();
  for (let n = 0; n < 4; n++) await client.create(`/slow/${n}`, Buffer.from("0"));
  for (let write = 1; write <= 150; write++) {
    for (let n = 0; n < 4; n++) await client.setData(`/slow/${n}`, Buffer.from(`${write}`));
    await sleep(5);
  }
  isWriting = false;
  await watching;
  await deployment.settled(client);
  await deployment.end();
  const counts = await counted("/results-slow");
  for (let n = 0; n < 4; n++) {
    const { values, missed, last } = counts.get(`/slow/${n}`)!;
    expect([last, values + missed]).toEqual(["150", 151]);
    expect(missed).toBeGreaterThan(50);
  }
  // Whoever is held stops at the next commit: two segments, one more, and those of a bundle that was under way.
  expect(longest).toBeGreaterThan(2);
  expect(longest).toBeLessThanOrEqual(6);
});

test("a pipeline keeps to its budget of writes, the relay and the functions together", async () => {
  await client.create("/poor");
  let writes = 0;
  let largest = 0;
  const count = (inner: ZooKeeperClient): ZooKeeperClient =>
    aroundMulti(inner, (ops, send) => {
      const own = ops.filter(({ type }) => type !== "check").length;
      writes += own;
      largest = Math.max(largest, own);
      return send();
    });
  const begun = Date.now();
  const perSecond = 40;
  const deployment = new Deployment({
    connectString: ensemble.connectString,
    root: "/beamkeeper",
    definition: {
      ...summaryPipeline({ name: "poor", source: "/poor", results: "/results-poor", shards: 2 }),
      writesPerSecond: perSecond,
    },
    output: folder.path,
    wrapBundle: count,
    wrapRelay: count,
  });
  await deployment.settled(client);
  for (let write = 0; write < 300; write++) {
    const path = `/poor/${write % 3}`;
    if (write < 3) await client.create(path, Buffer.from("first"));
    else await client.setData(path, Buffer.from(`${write}`));
    await sleep(5);
  }
  await deployment.settled(client);
  await deployment.end();
  const seconds = (Date.now() - begun) / 1000;
  const counts = await counted("/results-poor");
  for (let n = 0; n < 3; n++) {
    const { values, missed } = counts.get(`/poor/${n}`)!;
    expect(values + missed).toBe(100);
  }
  // What one second brings, and the debt of a commit by the relay and by each of six shards.
  expect(writes).toBeLessThanOrEqual(perSecond * (seconds + 1) + 7 * largest);
  expect(writes).toBeGreaterThan(perSecond);
});
