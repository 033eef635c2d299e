import { spawn } from "node:child_process";
import { join } from "node:path";
import { PipelineLayout } from "../../lib/checkpoint/layout";
import { connect, type ZooKeeperClient } from "../../lib/zookeeper";
import { readTree, temporaryFolder } from "../support/deployment";
import { type LocalZooKeeper, startZooKeeper } from "../support/zookeeper-server";

/**
 * Bad input as a person meets it: through the command, whose message has to name the thing and the remedy, and whose
 * exit code has to show it. After each, what was bad is mended, and everything arrives: nothing was lost.
 */
const PROJECT = join(__dirname, "../..");
const PIPELINES = "test/support/pipelines";
const layout = new PipelineLayout("/beamkeeper", "copy");
const shard = layout.epoch(1).shard("readZnodeChanges", 0);

let ensemble: LocalZooKeeper;
let folder: ReturnType<typeof temporaryFolder>;
let client: ZooKeeperClient;
let chroots = 0;
let connectString: string;

beforeAll(async () => {
  folder = temporaryFolder();
  ensemble = await startZooKeeper();
});

afterAll(async () => {
  await ensemble?.stop();
  folder?.remove();
});

beforeEach(async () => {
  const chroot = `/test-${++chroots}`;
  const outer = await connect({ connectString: ensemble.connectString });
  await outer.create(chroot);
  await outer.close();
  connectString = `${ensemble.connectString}${chroot}`;
  client = await connect({ connectString });
  await client.create("/app", Buffer.from("root"));
});

afterEach(() => client.close());

interface Ended {
  readonly code: number | null;
  readonly output: string;
  readonly errors: string;
}

function command(
  args: readonly string[],
  environment: Readonly<Record<string, string>> = {},
): Promise<Ended> {
  const child = spawn(process.execPath, ["--import", "tsx", "lib/cli/main.ts", "dev", ...args], {
    cwd: PROJECT,
    env: {
      ...process.env,
      ZOOKEEPER_CONNECT: connectString,
      BEAMKEEPER_OUTPUT: join(folder.path, `${chroots}`),
      ...environment,
    },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  let errors = "";
  child.stdout.on("data", (chunk) => {
    output += chunk;
  });
  child.stderr.on("data", (chunk) => {
    errors += chunk;
  });
  return new Promise((resolve) => child.once("close", (code) => resolve({ code, output, errors })));
}

function runCopy(environment: Readonly<Record<string, string>> = {}): Promise<Ended> {
  return command([`${PIPELINES}/copy.ts`, "--seconds", "1"], environment);
}

/**
 * Runs it until it ends while a shard is failing. A second of a busy machine may be over between two bundles of the search
 * for what fails, of which one succeeded.
 */
async function runUntilFailing(environment: Readonly<Record<string, string>>): Promise<Ended> {
  for (;;) {
    const ended = await runCopy(environment);
    if (ended.code !== 0) return ended;
  }
}

async function copies(): Promise<Record<string, string>> {
  const tree = await readTree(client, "/copies");
  return Object.fromEntries([...tree].map(([name, data]) => [decodeURIComponent(name.slice(1)), data]));
}

test("a connect string that leads nowhere", async () => {
  const { code, errors } = await command([`${PIPELINES}/copy.ts`], {
    ZOOKEEPER_CONNECT: "127.0.0.1:1",
    BEAMKEEPER_CONNECT_TIMEOUT_MS: "300",
  });
  expect(errors).toMatch(/127\.0\.0\.1:1/);
  expect(errors).toMatch(/ECONNREFUSED/);
  expect(code).toBe(1);
});

test("a path that is not one", async () => {
  const { code, errors } = await command([`${PIPELINES}/bad-path.ts`]);
  expect(errors).toMatch(/bad-path.*"app\/without\/slash" must begin with "\/"/s);
  expect(code).toBe(1);
});

test("a pipeline that throws in build", async () => {
  const { code, errors } = await command([`${PIPELINES}/throws-in-build.ts`]);
  expect(errors).toMatch(/throws-in-build.*the configuration file is missing/s);
  expect(code).toBe(1);
});

test.each([
  ["a file that does not exist", ["nowhere.ts"], /nowhere\.ts/],
  ["a file without a pipeline", [`${PIPELINES}/no-pipeline.ts`], /definePipeline/],
  ["an unknown option", ["--sharts", "4"], /sharts/],
  ["a number that is none", ["--shards", "many"], /--shards must be a whole number from 1, not "many"/],
])("%s", async (_name, args, message) => {
  const { code, errors } = await command(args);
  expect(errors).toMatch(message);
  expect(code).toBe(2);
});

test("a function that throws, until it is mended", async () => {
  await client.create("/app/a", Buffer.from("good"));
  await client.create("/app/b", Buffer.from("bad"));
  const failed = await runUntilFailing({ POISON: "bad" });
  expect(failed.errors).toMatch(/"?copy"?.*map.*poison/s);
  expect(failed.errors).toMatch(/"?bad"?/);
  expect(failed.code).toBe(1);
  const mended = await runCopy();
  expect(mended.code).toBe(0);
  expect(await copies()).toEqual({ "/app": "root", "/app/a": "good", "/app/b": "bad" });
});

test("a segment that is corrupt, until it is taken away", async () => {
  expect((await runCopy()).code).toBe(0);
  const { path } = await client.create(
    `${shard.inbox}/00000000000000001-`,
    Buffer.from("no segment at all"),
    {
      mode: "persistent-sequential",
    },
  );
  await client.create("/app/later", Buffer.from("behind the corrupt one"));
  const failed = await runCopy();
  expect(failed.errors).toContain(path);
  expect(failed.errors).toMatch(/not a segment record.*Restore the znode/s);
  expect(failed.code).toBe(1);
  await client.delete(path);
  expect((await runCopy()).code).toBe(0);
  expect(await copies()).toEqual({ "/app": "root", "/app/later": "behind the corrupt one" });
});

test("a segment whose bytes were changed, until it is put back", async () => {
  await client.create("/app/a", Buffer.from("value"));
  expect((await runCopy({ POISON: "value" })).code).toBe(1);
  const [name] = (await client.getChildren(shard.inbox)).children;
  const { data } = await client.getData(`${shard.inbox}/${name}`);
  const changed = Buffer.from(data);
  changed.writeUInt8(changed.readUInt8(changed.length - 1) ^ 1, changed.length - 1);
  await client.setData(`${shard.inbox}/${name}`, changed);
  const failed = await runCopy();
  expect(failed.errors).toMatch(/corrupt \(its checksum does not match\)/);
  expect(failed.errors).toContain(name);
  expect(failed.code).toBe(1);
  await client.setData(`${shard.inbox}/${name}`, data);
  expect((await runCopy()).code).toBe(0);
  expect(await copies()).toEqual({ "/app": "root", "/app/a": "value" });
});

test("a head of an unknown version, until the right code runs", async () => {
  expect((await runCopy()).code).toBe(0);
  const { data } = await client.getData(shard.head);
  const future = Buffer.from(data);
  future[2] = 99;
  await client.setData(shard.head, future);
  await client.create("/app/a", Buffer.from("later"));
  const failed = await runCopy();
  expect(failed.errors).toContain(shard.head);
  expect(failed.errors).toMatch(/version 99, this code reads version \d+.*newer/s);
  expect(failed.code).toBe(1);
  await client.setData(shard.head, data);
  expect((await runCopy()).code).toBe(0);
  expect(await copies()).toEqual({ "/app": "root", "/app/a": "later" });
});

test("a value that no commit of the relay could hold goes through a blob", async () => {
  const large = "x".repeat(110_000);
  await client.create("/app/large", Buffer.from(large));
  const small = { BEAMKEEPER_COMMIT_SIZE_BYTES: "131072", BEAMKEEPER_SEGMENT_SIZE_BYTES: "16384" };
  expect(await runCopy(small)).toMatchObject({ code: 0 });
  expect((await copies())["/app/large"]?.length).toBe(large.length);
});

test("a result larger than the limit names the shard and the limit", async () => {
  const large = "x".repeat(40_000);
  await client.create("/app/large", Buffer.from(large));
  await client.create("/copies", Buffer.alloc(0));
  // The value fits in the relay's commit; with its copy beside it the bundle's does not.
  const failed = await runUntilFailing({
    BEAMKEEPER_COMMIT_SIZE_BYTES: "65536",
    BEAMKEEPER_SEGMENT_SIZE_BYTES: "16384",
    COPIES: "2",
  });
  expect(failed.errors).toMatch(/shard 0 of stage "readZnodeChanges".*the limit is 65536/s);
  expect(failed.code).toBe(1);
  expect((await runCopy()).code).toBe(0);
  const { "/app": root, "/app/large": copy } = await copies();
  // What fitted was committed by the first run, which writes everything twice.
  expect(root).toBe("rootroot");
  expect(copy?.length).toBe(large.length);
});
