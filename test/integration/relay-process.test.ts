import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { createBundleHandler } from "../../functions/bundle";
import { createRelayHandler } from "../../functions/relay";
import { LocalLambda } from "../../lib/aws/lambda";
import { DirectoryBlobs } from "../../lib/checkpoint/blobs";
import { DirectoryFiles } from "../../lib/checkpoint/files";
import { PipelineLayout } from "../../lib/checkpoint/layout";
import { isSettled, readStatus } from "../../lib/checkpoint/status";
import { systemClock } from "../../lib/clock";
import { jsonLines, silent } from "../../lib/log";
import { RelayMetrics } from "../../lib/relay/metrics";
import { standingForElection } from "../../lib/relay/turns";
import { MemoryBlobs } from "../../lib/simulation/memory-files";
import { connect, type ZooKeeper } from "../../lib/zookeeper";
import { beamkeeper } from "../support/command";
import { ensembleTime, readTree, temporaryFolder, testSettings } from "../support/deployment";
import { startInvokeEndpoint } from "../support/invoke-endpoint";
import summary from "../support/pipelines/summary";
import type { Summary } from "../support/sample-pipelines";
import { TcpProxy } from "../support/tcp-proxy";
import { type LocalZooKeeper, startZooKeeper } from "../support/zookeeper-server";

const PROJECT = join(__dirname, "../..");
const PIPELINE = "test/support/pipelines/summary.ts";
const COPY = "test/support/pipelines/copy.ts";
// Processes that compile TypeScript first take their time on a busy machine.
let server: LocalZooKeeper;
let client: ZooKeeper;
let folder: ReturnType<typeof temporaryFolder>;
let relays: RelayCommand[] = [];
let proxies: TcpProxy[] = [];
let tests = 0;

beforeAll(async () => {
  folder = temporaryFolder();
  server = await startZooKeeper();
});

afterAll(async () => {
  await server?.stop();
  folder?.remove();
});

beforeEach(async () => {
  tests += 1;
  const outer = await connect({ connectString: server.connectString });
  await outer.create(`/test-${tests}`);
  await outer.close();
  client = await connect({ connectString: `${server.connectString}/test-${tests}` });
  await client.create("/app", Buffer.from("root"));
});

afterEach(async () => {
  for (const relay of relays) relay.kill("SIGKILL");
  relays = [];
  await client.close();
  for (const proxy of proxies) await proxy.stop();
  proxies = [];
});

interface Answer {
  readonly status: number;
  readonly body: string;
}

/** `beamkeeper relay` as a process, with its health endpoint on a free port. */
class RelayCommand {
  readonly child: ChildProcess;
  private readonly records: Record<string, unknown>[] = [];
  private unread = "";
  private errors = "";

  constructor(
    address = server.connectString,
    pipelines: readonly string[] = [PIPELINE],
    environment: Readonly<Record<string, string>> = {},
  ) {
    const args = ["--import", "tsx", "lib/cli/main.ts", "relay", ...pipelines, "--health", "0"];
    this.child = spawn(process.execPath, args, {
      cwd: PROJECT,
      env: {
        ...process.env,
        ZOOKEEPER_CONNECT: `${address}/test-${tests}`,
        BEAMKEEPER_OUTPUT: join(folder.path, `${tests}`),
        BEAMKEEPER_IDLE_INTERVAL_MS: "50",
        BEAMKEEPER_CONNECT_TIMEOUT_MS: "500",
        ...environment,
      },
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.child.stdout!.on("data", (chunk) => this.read(String(chunk)));
    this.child.stderr!.on("data", (chunk) => {
      this.errors += chunk;
    });
    relays.push(this);
  }

  /** Every line of the output is a record of JSON. */
  private read(chunk: string): void {
    const lines = (this.unread + chunk).split("\n");
    this.unread = lines.pop()!;
    for (const line of lines) this.records.push(JSON.parse(line));
  }

  get url(): string | undefined {
    return this.records.find(({ url }) => url !== undefined)?.url as string | undefined;
  }

  get messages(): string[] {
    return this.records.map(({ message }) => String(message));
  }

  async get(path: string): Promise<Answer> {
    const response = await fetch(`${this.url}${path}`);
    return { status: response.status, body: await response.text() };
  }

  /** The first answer of `path` that `isIt`; rejects when the process has ended. */
  async until(path: string, isIt: (answer: Answer) => boolean): Promise<Answer> {
    for (let answer: Answer | undefined; ; await systemClock.sleep(20)) {
      if (this.child.exitCode !== null || this.child.signalCode !== null)
        throw new Error(`the relay ended: ${this.errors} ${JSON.stringify(this.records)} ${answer?.body}`);
      if (this.url === undefined) continue;
      answer = await this.get(path);
      if (isIt(answer)) return answer;
    }
  }

  async ready(): Promise<void> {
    await this.until("/ready", ({ status }) => status === 200);
  }

  /** A metric's samples, added up. */
  async metric(name: string): Promise<number> {
    const { body } = await this.get("/metrics");
    return sample(body, name);
  }

  kill(signal: NodeJS.Signals): void {
    this.child.kill(signal);
  }

  async ended(): Promise<number | null> {
    if (this.child.exitCode === null && this.child.signalCode === null) await once(this.child, "exit");
    return this.child.exitCode;
  }
}

function sample(text: string, name: string): number {
  const samples = text.split("\n").filter((line) => line.startsWith(`beamkeeper_relay_${name}{`));
  expect([name, samples.length]).toEqual([name, 1]);
  return Number(samples[0]!.slice(samples[0]!.lastIndexOf(" ") + 1));
}

/** Writes values that are never the same to a few znodes, in turn; deletes none. */
class Writer {
  readonly written = new Map<string, string[]>();
  count = 0;

  async write(writes: number): Promise<void> {
    for (let index = 0; index < writes; index++) {
      const path = `/app/znode-${this.count % 7}`;
      const value = `value-${++this.count}`;
      if (this.written.has(path)) await client.setData(path, Buffer.from(value));
      else await client.create(path, Buffer.from(value));
      this.written.set(path, [...(this.written.get(path) ?? []), value]);
    }
  }
}

async function settled(): Promise<void> {
  const untilMs = Math.ceil((await ensembleTime(client)) / 1_000 + 0.001) * 1_000;
  const layout = new PipelineLayout("/beamkeeper", "summary");
  for (;;) {
    const status = await readStatus(client, layout);
    if (status && isSettled(status, untilMs)) return;
    await systemClock.sleep(20);
  }
}

/** What arrived below /app, by path: the values in order, and how many were missed. */
async function arrived(): Promise<Map<string, { values: (string | null)[]; missed: number }>> {
  const found = new Map<string, Summary[]>();
  for (const text of (await readTree(client, "/results")).values()) {
    if (text === "") continue;
    const summary = JSON.parse(text) as Summary;
    found.set(summary.path, [...(found.get(summary.path) ?? []), summary]);
  }
  return new Map(
    [...found].map(([path, parts]) => {
      const seen = parts.flatMap((part) => part.seen).sort((a, b) => (a.order < b.order ? -1 : 1));
      const missed = parts.reduce((sum, part) => sum + part.missed, 0);
      return [path, { values: seen.map(({ value }) => value), missed }];
    }),
  );
}

test("of two relay processes one stands by and takes over when the other is told to end; nothing is lost or doubled", async () => {
  const first = new RelayCommand();
  await first.until("/metrics", ({ body }) => body.includes("active") && sample(body, "active") === 1);
  await first.ready();
  await first.until("/metrics", ({ body }) => body.includes("commits_total"));
  const writer = new Writer();
  await settled();
  const eventsBefore = await first.metric("events_total");
  await writer.write(60);
  await settled();

  // What the metrics count is what was written and what arrived.
  const soFar = [...(await arrived()).values()];
  expect((await first.metric("events_total")) - eventsBefore).toBe(60);
  expect(await first.metric("elements_total")).toBe(
    soFar.reduce((sum, { values }) => sum + values.length, 0),
  );
  expect(await first.metric("missed_total")).toBe(soFar.reduce((sum, { missed }) => sum + missed, 0));
  expect((await first.metric("elements_total")) + (await first.metric("missed_total"))).toBe(61);
  expect(await first.metric("coalesced_total")).toBe(await first.metric("missed_total"));
  expect(await first.metric("walks_total")).toBe(1);
  expect(await first.metric("lag_zxids")).toBe(0);
  expect(await first.metric("lag_seconds")).toBeLessThan(60);
  expect(await first.metric("invocations_total")).toBeGreaterThan(0);
  expect(await first.metric("failures_total")).toBe(0);

  const second = new RelayCommand();
  await second.ready();
  expect(await second.metric("active")).toBe(0);
  expect((await second.get("/metrics")).body).not.toContain("lag_seconds");

  const writing = writer.write(300);
  first.kill("SIGTERM");
  expect(await first.ended()).toBe(0);
  await second.until("/metrics", ({ body }) => sample(body, "active") === 1);
  await second.ready();
  await writing;
  await writer.write(20);
  await settled();
  expect(first.messages).toContain("the relay has ended");
  second.kill("SIGINT");
  expect(await second.ended()).toBe(0);

  const all = await arrived();
  expect([...all.keys()].sort()).toEqual(["/app", ...writer.written.keys()].sort());
  for (const [path, values] of writer.written) {
    const got = all.get(path)!;
    expect({ path, final: got.values.at(-1) }).toEqual({ path, final: values.at(-1) });
    expect({ path, doubled: got.values.length - new Set(got.values).size }).toEqual({ path, doubled: 0 });
    expect({ path, counted: got.values.length + got.missed }).toEqual({ path, counted: values.length });
  }
});

test("a relay waits for an ensemble that is away, and says so", async () => {
  const proxy = await TcpProxy.start(server.connectString);
  proxies.push(proxy);
  proxy.refuse(true);
  const relay = new RelayCommand(proxy.address);
  const away = await relay.until("/ready", ({ body }) => !body.includes("starting"));
  expect(away.status).toBe(503);
  expect(away.body).toContain("summary: ");
  expect(await relay.get("/live")).toEqual({ status: 200, body: "live\n" });
  expect(await relay.metric("active")).toBe(0);

  proxy.refuse(false);
  await relay.ready();
  await new Writer().write(10);
  await settled();

  proxy.refuse(true);
  proxy.cut();
  const lost = await relay.until("/ready", ({ status }) => status === 503);
  expect(lost.body).toMatch(/^summary: .+\n$/);
  expect((await relay.get("/live")).status).toBe(200);
  proxy.refuse(false);
  await relay.ready();

  proxy.refuse(true);
  proxy.cut();
  await relay.until("/ready", ({ status }) => status === 503);
  relay.kill("SIGTERM");
  expect(await relay.ended()).toBe(0);
});

test("a second signal ends a relay that can't hand over", async () => {
  const proxy = await TcpProxy.start(server.connectString);
  proxies.push(proxy);
  const relay = new RelayCommand(proxy.address);
  await relay.until("/metrics", ({ body }) => body.includes("commits_total"));
  await relay.ready();
  proxy.stall("toClient");
  relay.kill("SIGTERM");
  const leaving = await relay.until("/ready", ({ status }) => status === 503);
  expect(leaving.body).toBe("it is handing over\n");
  relay.kill("SIGTERM");
  expect(await relay.ended()).toBe(130);
});

test("a pipeline that can't be relayed holds up no other; one that is paused is gone on with; drained ones need no relay", async () => {
  const root = { ZOOKEEPER_CONNECT: `${server.connectString}/test-${tests}` };
  await client.create("/beamkeeper");
  await client.create("/beamkeeper/copy");
  await client.create("/beamkeeper/copy/generation", Buffer.from("no record"));
  const relay = new RelayCommand(server.connectString, [PIPELINE, COPY]);
  const failing = await relay.until("/ready", ({ body }) =>
    body.startsWith("copy: /beamkeeper/copy/generation"),
  );
  expect(failing.status).toBe(503);
  await relay.until("/metrics", ({ body }) => body.includes('active{pipeline="summary"} 1'));
  await client.delete("/beamkeeper/copy/generation");
  await relay.ready();

  expect((await beamkeeper(root, "pause", "summary")).code).toBe(0);
  const paused = await relay.until("/ready", ({ body }) => body === "summary: the pipeline is paused\n");
  expect(paused.status).toBe(503);
  expect((await beamkeeper(root, "resume", "summary")).code).toBe(0);
  await relay.ready();

  expect((await beamkeeper(root, "drain", "summary")).code).toBe(0);
  expect((await beamkeeper(root, "drain", "copy")).code).toBe(0);
  expect(await relay.ended()).toBe(0);
  expect(relay.messages).toContain("the pipeline has ended; it needs no relay any more");
});

test("with the name of a bundle function, bundles are that function's", async () => {
  const connectString = `${server.connectString}/test-${tests}`;
  const settings = testSettings({
    connectString,
    root: "/beamkeeper",
    output: join(folder.path, `${tests}`),
  });
  const clients: ZooKeeper[] = [];
  const lambda = new LocalLambda(systemClock.now);
  const bundle = createBundleHandler({
    ...{ settings, pipelines: [summary], clock: systemClock, log: silent },
    files: new DirectoryFiles(settings.output),
    blobs: new DirectoryBlobs(settings.blobStore),
    connect: async () => {
      clients.push(await connect({ ...settings }));
      return clients.at(-1)!;
    },
  });
  lambda.deploy("bundles", bundle, 900_000);
  const endpoint = await startInvokeEndpoint({ bundles: lambda });
  try {
    const relay = new RelayCommand(server.connectString, [PIPELINE], {
      AWS_ENDPOINT_URL: endpoint.url,
      AWS_REGION: "us-east-1",
      AWS_ACCESS_KEY_ID: "none",
      AWS_SECRET_ACCESS_KEY: "none",
      BEAMKEEPER_BUNDLE_FUNCTION: "bundles",
    });
    await relay.ready();
    await new Writer().write(10);
    await settled();
    expect((await arrived()).size).toBe(8);
    expect(await relay.metric("invocations_total")).toBeGreaterThan(0);
    expect(new Set(endpoint.invoked)).toEqual(new Set(["bundles"]));
    expect(await relay.metric("in_flight")).toBeGreaterThanOrEqual(0);
    relay.kill("SIGTERM");
    expect(await relay.ended()).toBe(0);
  } finally {
    await endpoint.close();
    await bundle.close();
    for (const each of clients) await each.close();
  }
});

test("the function's relay logs its metrics for CloudWatch when its invocation ends", async () => {
  const connectString = `${server.connectString}/test-${tests}`;
  const records: Record<string, unknown>[] = [];
  const stop = new AbortController();
  const settings = testSettings({ connectString, root: "/beamkeeper", output: folder.path });
  const metrics = new RelayMetrics("summary", systemClock.now);
  const handler = createRelayHandler<ZooKeeper>({
    settings,
    pipelines: [summary],
    connect: () => connect({ ...settings }),
    elect: standingForElection,
    invoke: () => Promise.reject(new Error("no bundle is run here")),
    blobs: new MemoryBlobs(),
    clock: systemClock,
    log: jsonLines((line) => void records.push(JSON.parse(line)), systemClock.now),
    signal: stop.signal,
    metrics: () => metrics,
    logsMetrics: true,
  });
  const running = handler({}, { getRemainingTimeInMillis: () => 900_000 });
  while (metrics.figures().failures === 0 || metrics.figures().sources[0]?.elements !== 1)
    await systemClock.sleep(20);
  stop.abort();
  await running;
  const told = records.filter(({ _aws }) => _aws !== undefined);
  expect(told).toEqual([
    expect.objectContaining({ level: "info", Pipeline: "summary", Active: 0, Elements: 1, Walks: 1 }),
  ]);
  expect(told[0]?.Failures).toBe(metrics.figures().failures);
});

describe("what can't be used is said", () => {
  const run = (...args: string[]) => beamkeeper({ ZOOKEEPER_CONNECT: "127.0.0.1:1" }, "relay", ...args);

  test.each([
    [["no-such-pipeline"], 'no pipeline "no-such-pipeline"'],
    [["test/support/pipelines/no-pipeline.ts"], "has no pipeline"],
    [["test/support/pipelines/lengths.ts"], "bounded"],
    [[PIPELINE, PIPELINE], "both define"],
    [[PIPELINE, "--health", "65536"], "port from 0 to 65535"],
    [[PIPELINE, "--health-host", "0.0.0.0"], "goes with --health"],
    [["--no-such-option"], "--no-such-option"],
  ])("%j", async (args, message) => {
    const { code, errors } = await run(...args);
    expect({ code, errors }).toEqual({ code: 2, errors: expect.stringContaining(message) });
  });

  test("a port that is taken", async () => {
    const other = createServer();
    await new Promise<void>((done) => other.listen(0, "127.0.0.1", done));
    try {
      const { port } = other.address() as AddressInfo;
      const { code, errors } = await run(PIPELINE, "--health", `${port}`);
      expect(code).toBe(1);
      expect(errors).toContain(`127.0.0.1:${port}`);
      expect(errors).toContain("EADDRINUSE");
    } finally {
      other.close();
    }
  });

  test("settings that are missing", async () => {
    const { code, errors } = await beamkeeper({}, "relay", PIPELINE);
    expect(code).toBe(1);
    expect(errors).toContain("ZOOKEEPER_CONNECT is missing");
  });
});
