import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { compilePipeline } from "../../lib/beam/pipeline";
import { PipelineLayout, segmentNames } from "../../lib/checkpoint/layout";
import { readGeneration } from "../../lib/checkpoint/scope";
import { decodeSegment } from "../../lib/checkpoint/segment";
import { decodeZnodeChange, type ZnodeChange } from "../../lib/checkpoint/znode-change";
import { connect, type ZooKeeper } from "../../lib/zookeeper";
import { useProgram } from "../support/program";
import type { FromRelay } from "../support/relay-process";
import { summaryPipeline } from "../support/sample-pipelines";
import { type LocalZooKeeper, startZooKeeper } from "../support/zookeeper-server";

// Processes that compile TypeScript first take their time on a busy machine.
// The shortest that the server grants.
const SESSION_TIMEOUT_MS = 4_000;
const program = useProgram("relay-process");
const bytes = (text: string): Buffer => Buffer.from(text);

let server: LocalZooKeeper;
let client: ZooKeeper;
let app: string;
let relays: RelayProcess[] = [];
let writers: Writer[] = [];
let tests = 0;

beforeAll(async () => {
  server = await startZooKeeper();
  client = await connect({ connectString: server.connectString });
});

afterAll(async () => {
  await client?.close();
  await server?.stop();
});

beforeEach(async () => {
  app = `/app-${++tests}`;
  await client.create(app, bytes("root"));
});

afterEach(async () => {
  for (const writer of writers) await writer.stop();
  writers = [];
  for (const relay of relays) relay.kill("SIGKILL");
  relays = [];
});

const definition = () => summaryPipeline({ source: app, results: `/results-${tests}`, shards: 1 });

/** A relay in a process of its own. */
class RelayProcess {
  readonly logs: string[] = [];
  readonly watermarks: number[] = [];
  elements = 0;
  end: unknown;
  private readonly child: ChildProcess;
  private onNews: () => void = () => undefined;

  constructor() {
    this.child = fork(program.file, {
      env: {
        ...process.env,
        ZOOKEEPER_CONNECT: server.connectString,
        BEAMKEEPER_ROOT: `/beamkeeper-${tests}`,
        BEAMKEEPER_SESSION_TIMEOUT_MS: `${SESSION_TIMEOUT_MS}`,
        BEAMKEEPER_IDLE_INTERVAL_MS: "50",
        TEST_PIPELINE: JSON.stringify({ source: app, results: `/results-${tests}`, shards: 1 }),
      },
    });
    this.child.on("message", (message: FromRelay) => {
      if ("log" in message) this.logs.push(message.log);
      else if ("end" in message) this.end = message.end;
      else {
        this.elements += message.commit.elements;
        this.watermarks.push(message.commit.watermarkMs);
      }
      this.onNews();
    });
    this.child.on("exit", () => this.onNews());
    relays.push(this);
  }

  async until(isSo: () => boolean): Promise<void> {
    while (!isSo()) {
      if (this.child.exitCode !== null || this.child.signalCode !== null)
        throw new Error(`the relay ended: ${JSON.stringify(this.end)}`);
      await new Promise<void>((done) => {
        this.onNews = done;
      });
    }
  }

  /** What is written up to now is appended. */
  async caughtUp(): Promise<void> {
    const { stat } = await client.create("/clock-", undefined, { mode: "ephemeral-sequential" });
    await this.until(() => (this.watermarks.at(-1) ?? 0) > stat.ctime);
  }

  kill(signal: "SIGKILL" | "SIGSTOP" | "SIGCONT" | "SIGTERM"): void {
    this.child.kill(signal);
  }

  async ended(): Promise<void> {
    if (this.child.exitCode === null && this.child.signalCode === null) await once(this.child, "exit");
  }
}

/** Writes to some znodes of one life each, until stopped; knows what it wrote. */
class Writer {
  readonly written = new Map<string, string[]>();
  private stopped = false;
  private readonly work = this.write();

  constructor() {
    writers.push(this);
  }

  private async write(): Promise<void> {
    for (let count = 0; !this.stopped; count++) {
      const path = `${app}/znode-${count % 7}`;
      const value = `value-${count}`;
      const before = this.written.get(path);
      if (before) await client.setData(path, bytes(value));
      else await client.create(path, bytes(value));
      this.written.set(path, [...(before ?? []), value]);
    }
  }

  stop(): Promise<void> {
    this.stopped = true;
    return this.work;
  }
}

async function appended(): Promise<ZnodeChange[]> {
  const { name } = definition();
  const generation = await readGeneration(client, new PipelineLayout(`/beamkeeper-${tests}`, name));
  const stage = compilePipeline(definition()).sources[0]!.consumers[0]!;
  const { inbox } = generation!.scope.shard(stage, 0);
  const changes: ZnodeChange[] = [];
  for (const segment of segmentNames((await client.getChildren(inbox)).children)) {
    const path = `${inbox}/${segment.name}`;
    for (const element of decodeSegment((await client.getData(path)).data, path))
      changes.push(decodeZnodeChange(element).change);
  }
  return changes;
}

/** Every value at most once, the last one delivered, and all that was written is delivered or counted. */
async function expectAllCounted({ written }: Writer): Promise<void> {
  const changes = await appended();
  for (const [path, values] of written) {
    const own = changes.filter((change) => change.path === path);
    const seen = own.map(({ text }) => text);
    expect(new Set(seen).size).toBe(seen.length);
    expect(seen.at(-1)).toBe(values.at(-1));
    const counted = own.reduce((sum, { missed }) => sum + missed + 1, 0);
    expect(`${path} ${counted}`).toBe(`${path} ${values.length}`);
  }
}

const STANDING_BY = "the relay stands by";
const WALKED = "walked the source";
const ACTIVE = "the relay has its turn";

/** A writer begins between the two, so that all that it writes is new to the source. */
async function activeAndStandby(): Promise<{ active: RelayProcess; standby: RelayProcess; writer: Writer }> {
  const active = new RelayProcess();
  await active.until(() => active.elements > 0);
  const standby = new RelayProcess();
  const writer = new Writer();
  await standby.until(() => standby.logs.includes(STANDING_BY) && standby.logs.includes(WALKED));
  return { active, standby, writer };
}

test("a relay that is told to end hands over to the one that stands by, which needs no walk", async () => {
  const { active, standby, writer } = await activeAndStandby();
  expect(standby.elements).toBe(0);
  active.kill("SIGTERM");
  await standby.until(() => standby.elements > 0);
  await active.ended();
  await writer.stop();
  await standby.caughtUp();
  await expectAllCounted(writer);
  expect(standby.logs.filter((log) => log === WALKED)).toHaveLength(1);
});

test("a relay that is stopped for longer than its session is fenced when it goes on", async () => {
  const { active, standby, writer } = await activeAndStandby();
  active.kill("SIGSTOP");
  await standby.until(() => standby.logs.includes(ACTIVE) && standby.elements > 0);
  active.kill("SIGCONT");
  // It hears that its session is over, and stands by again.
  await active.until(() => active.logs.filter((log) => log === STANDING_BY).length === 2);
  await writer.stop();
  await standby.caughtUp();
  await expectAllCounted(writer);
  // And it takes over in its turn.
  await client.create(`${app}/last`, bytes("x"));
  standby.kill("SIGKILL");
  await active.until(() => active.logs.filter((log) => log === ACTIVE).length === 2);
  await active.caughtUp();
  const last = (await appended()).filter(({ path }) => path === `${app}/last`);
  expect(last.map(({ text }) => text)).toEqual(["x"]);
});
