import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { ensureNode, NODE_VERSIONS } from "../../infra/node/versions";
import { PipelineLayout } from "../../lib/checkpoint/layout";
import { readStatus } from "../../lib/checkpoint/status";
import { connect, type ZooKeeperClient } from "../../lib/zookeeper";
import znodeSummary from "../../pipelines/znode-summary";
import { BundledFunction, bundleFunctions } from "../support/bundled-function";
import { Deployment, readTree, temporaryFolder } from "../support/deployment";
import { type InvokeEndpoint, startInvokeEndpoint } from "../support/invoke-endpoint";
import { type LocalZooKeeper, startZooKeeper } from "../support/zookeeper-server";

/** The functions as they are deployed: bundled and minified, in processes that refuse to make code of text. */
const ZNODES = 40;

let ensemble: LocalZooKeeper;
let folder: ReturnType<typeof temporaryFolder>;
const toEnd: (() => Promise<void> | void)[] = [];

beforeAll(async () => {
  folder = temporaryFolder();
  [ensemble] = await Promise.all([startZooKeeper(), bundleFunctions(folder.path)]);
});

afterEach(async () => {
  for (const end of toEnd.splice(0).reverse()) await end();
});

afterAll(async () => {
  await ensemble?.stop();
  folder?.remove();
});

function start(
  name: "relay" | "bundle",
  environment: Readonly<Record<string, string>>,
  node?: string,
): BundledFunction {
  const bundled = new BundledFunction(join(folder.path, `${name}.js`), environment, node);
  toEnd.push(() => bundled.end());
  return bundled;
}

/** A connect string of a part of the ensemble that no other test uses, with /app in it, and a client for it. */
async function place(
  name: string,
): Promise<{ connectString: string; client: ZooKeeperClient; output: string }> {
  const whole = await connect({ connectString: ensemble.connectString });
  await whole.create(`/${name}`);
  await whole.close();
  const connectString = `${ensemble.connectString}/${name}`;
  const client = await connect({ connectString });
  toEnd.push(() => client.close());
  await client.create("/app");
  return { connectString, client, output: join(folder.path, name) };
}

type Written = Map<string, string[]>;

async function write(client: ZooKeeperClient, written: Written, round: string): Promise<void> {
  for (let index = 0; index < ZNODES; index++) {
    const path = `/app/znode-${index}`;
    const value = `${round} of ${index}: Grüße`;
    const earlier = written.get(path);
    if (earlier) await client.setData(path, Buffer.from(value));
    else await client.create(path, Buffer.from(value));
    written.set(path, [...(earlier ?? []), value]);
  }
}

interface Summary {
  readonly path: string;
  readonly window: string;
  readonly values: readonly string[];
  readonly missed: number;
  readonly atLeast: boolean;
}

/** What the pipeline wrote below /summaries, by znode, in the order of the windows. */
async function summaries(client: ZooKeeperClient): Promise<Map<string, Summary[]>> {
  const byPath = new Map<string, Summary[]>();
  const texts = [...(await readTree(client, "/summaries")).values()].filter((text) => text !== "");
  const all = texts.map((text) => JSON.parse(text) as Summary);
  for (const summary of all.sort((a, b) => (a.window < b.window ? -1 : 1))) {
    byPath.set(summary.path, [...(byPath.get(summary.path) ?? []), summary]);
  }
  return byPath;
}

/** Every value was seen once, in order, or is counted as missed; the last one was seen. */
function expectAll(written: Written, found: Map<string, Summary[]>): void {
  expect([...found.keys()].sort()).toEqual([...written.keys()].sort());
  for (const [path, values] of written) {
    const seen = found.get(path)!.flatMap((summary) => summary.values);
    const missed = found.get(path)!.reduce((sum, summary) => sum + summary.missed, 0);
    expect(seen).toEqual(values.filter((value) => seen.includes(value)));
    expect(seen.at(-1)).toBe(values.at(-1));
    expect(seen.length + missed).toBe(values.length);
  }
}

test("the classic example gives its results, its bundles run by the bundled function without eval", async () => {
  const { connectString, client, output } = await place("bundles");
  const written: Written = new Map([["/app", [""]]]);
  await write(client, written, "first");
  const bundles = start("bundle", { ZOOKEEPER_CONNECT: connectString, BEAMKEEPER_OUTPUT: output });
  const evaluated = await bundles.evaluate("1 + 1");
  expect(evaluated.error).toEqual({
    errorType: "EvalError",
    errorMessage: "Code generation from strings disallowed for this context",
  });
  const root = "/beamkeeper";
  const deployment = new Deployment({ connectString, root, definition: znodeSummary, output, bundles });
  toEnd.push(() => deployment.end());
  await deployment.settled(client);
  await write(client, written, "second");
  await write(client, written, "third");
  await deployment.settled(client);
  expectAll(written, await summaries(client));
});

const NODES: readonly [string, () => string][] = [
  [`v${process.versions.node}`, () => process.execPath],
  ...([22, 24] as const).map((major): [string, () => string] => [
    `v${NODE_VERSIONS[major]}`,
    () => ensureNode(major),
  ]),
];

test.each(NODES)(
  "the bundled relay invokes the bundle function through Lambda's API: Node %s",
  async (name, node) => {
    const { connectString, client, output } = await place(`relay-${name}`);
    const environment = { ZOOKEEPER_CONNECT: connectString, BEAMKEEPER_OUTPUT: output };
    expect(execFileSync(node(), ["--version"], { encoding: "utf8" }).trim()).toBe(name);
    const endpoint = await startEndpoint("beamkeeper-test-bundle", start("bundle", environment, node()));
    const functions = {
      ...environment,
      BEAMKEEPER_BUNDLE_FUNCTION: "beamkeeper-test-bundle",
      BEAMKEEPER_RELAY_RUN_MS: "4000",
      BEAMKEEPER_IDLE_INTERVAL_MS: "50",
      AWS_ENDPOINT_URL: endpoint.url,
      AWS_REGION: "us-east-1",
      AWS_ACCESS_KEY_ID: "test",
      AWS_SECRET_ACCESS_KEY: "test",
    };
    const relay = start("relay", functions, node());
    const written: Written = new Map([["/app", [""]]]);
    await write(client, written, "first");
    const first = relay.call({});
    await untilWatching(client);
    await write(client, written, "second");
    const ended = { "znode-summary": { reason: "signal", message: "" } };
    expect(await first).toMatchObject({ result: ended });
    // Between two invocations of the relay nobody watches.
    await write(client, written, "third");
    await write(client, written, "fourth");
    expect(await relay.call({})).toMatchObject({ result: ended });
    expectAll(written, await summaries(client));
  },
);

/** Until the relay has read all znodes: the watermark waits for that. */
async function untilWatching(client: ZooKeeperClient): Promise<void> {
  const layout = new PipelineLayout("/beamkeeper", znodeSummary.name);
  const isWatching = async (): Promise<boolean> => {
    const sources = (await readStatus(client, layout))?.sources ?? [];
    return sources.length > 0 && sources.every(({ watermarkMs }) => watermarkMs > Number.NEGATIVE_INFINITY);
  };
  while (!(await isWatching())) await delay(20);
}

async function startEndpoint(name: string, target: BundledFunction): Promise<InvokeEndpoint> {
  const endpoint = await startInvokeEndpoint({ [name]: target });
  toEnd.push(() => endpoint.close());
  return endpoint;
}

describe("what cannot be used is answered with the reason", () => {
  const request = { pipeline: "znode-summary", stage: "some", shard: 0, zxid: "0" };
  const here = { ZOOKEEPER_CONNECT: "127.0.0.1:1" };

  test.each(["relay", "bundle"] as const)("%s without ZOOKEEPER_CONNECT", async (name) => {
    const { error } = await start(name, {}).call(request);
    expect(error).toMatchObject({
      errorType: "SettingsError",
      errorMessage: expect.stringContaining("ZOOKEEPER_CONNECT is missing: set it to host:port"),
    });
  });

  test("all bad settings at once", async () => {
    const bad = { ...here, BEAMKEEPER_ROOT: "relative", BEAMKEEPER_BUNDLE_UNITS: "many" };
    const { error } = await start("bundle", bad).call(request);
    expect(error?.errorMessage).toContain("BEAMKEEPER_ROOT must be an absolute znode path");
    expect(error?.errorMessage).toContain("BEAMKEEPER_BUNDLE_UNITS must be a whole number");
  });

  test("the relay without a function to invoke", async () => {
    const { error } = await start("relay", here).call({});
    expect(error).toMatchObject({
      errorType: "SettingsError",
      errorMessage: expect.stringContaining("BEAMKEEPER_BUNDLE_FUNCTION is missing"),
    });
  });

  test("an event that is not a request for a shard", async () => {
    const { error } = await start("bundle", here).call({ ...request, shard: -1, zxid: "0xyz" });
    expect(error?.errorType).toBe("InvalidEventError");
    expect(error?.errorMessage).toMatch(
      /the event must be \{pipeline, stage, shard, zxid\}: shard: .*; zxid: /,
    );
  });

  test("an event for the relay that names no pipeline of the deployment", async () => {
    const relay = start("relay", { ...here, BEAMKEEPER_BUNDLE_FUNCTION: "bundle" });
    const { error } = await relay.call({ pipeline: "other" });
    expect(error?.errorMessage).toMatch(
      /^there is no pipeline "other" in this deployment; it has .*, znode-summary$/,
    );
  });

  test("an ensemble that does not answer", async () => {
    const nowhere = { ...here, BEAMKEEPER_CONNECT_TIMEOUT_MS: "300" };
    const { error } = await start("bundle", nowhere).call(request);
    expect(error?.errorMessage).toContain("127.0.0.1:1");
  });
});
