import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { PipelineLayout } from "../../lib/checkpoint/layout";
import { audit } from "../../lib/verify/auditor";
import { connect, type ZooKeeperClient } from "../../lib/zookeeper";
import {
  adler32,
  readTransactionLog,
  readTransactionLogs,
  TransactionLogError,
} from "../../lib/zookeeper/transaction-log";
import { Deployment, temporaryFolder } from "../support/deployment";
import { summaryPipeline } from "../support/sample-pipelines";
import { type LocalZooKeeper, startZooKeeper } from "../support/zookeeper-server";

const ROOT = "/beamkeeper";
const ZNODES = 40;

let ensemble: LocalZooKeeper;
let client: ZooKeeperClient;
let folder: ReturnType<typeof temporaryFolder>;
const definition = summaryPipeline({ source: "/app", results: "/results", shards: 2 });
const layout = new PipelineLayout(ROOT, definition.name);
const inbox = `${layout.epoch(1).shard("readZnodeChanges", 0).inbox}`;

beforeAll(async () => {
  folder = temporaryFolder();
  ensemble = await startZooKeeper();
  client = await connect({ connectString: ensemble.connectString });
  await client.create("/app");
  for (let index = 0; index < ZNODES; index++) await client.create(`/app/znode-${index}`, Buffer.from("x"));
  const deployment = new Deployment({
    connectString: ensemble.connectString,
    root: ROOT,
    definition,
    output: join(folder.path, "output"),
    environment: { BEAMKEEPER_BUNDLE_UNITS: "5" },
  });
  try {
    await deployment.settled(client);
  } finally {
    await deployment.end();
  }
});

afterAll(async () => {
  await client?.close();
  await ensemble?.stop();
  folder?.remove();
});

const transactions = () => readTransactionLogs(ensemble.servers[0]!.directory);

test("a server's own log proves that every element was consumed once, with its effects", () => {
  const result = audit(transactions(), layout);
  expect(result.problems).toEqual([]);
  // The znodes and their parent, in three stages.
  expect(result.elementsAppended).toBeGreaterThanOrEqual((ZNODES + 1) * 2);
  expect(result.elementsConsumed).toBe(result.elementsAppended);
  expect(result.waiting).toBe(0);
  expect(result.bundleCommits).toBeGreaterThan(2);
  expect(result.relayCommits).toBeGreaterThan(0);
});

test("a commit that is left out of the log is missed by the next one of its shard", () => {
  const all = transactions();
  const headOf = ({ ops }: (typeof all)[number]): string | undefined => {
    const op = ops.find((each) => each.type === "setData" && /\/stages\/[^/]+\/\d+$/.test(each.path));
    return op && "path" in op ? op.path : undefined;
  };
  const commits = all.filter((each) => headOf(each) !== undefined);
  const followed = commits.filter((each, index) =>
    commits.slice(index + 1).some((later) => headOf(later) === headOf(each)),
  );
  expect(followed.length).toBeGreaterThan(0);
  for (const left of followed) {
    const { problems } = audit(
      all.filter((each) => each !== left),
      layout,
    );
    expect(problems.join("\n")).toMatch(/commit \d+ follows commit \d+/);
  }
});

test("a commit that is split in two is found: the segments deleted first, the head afterwards", () => {
  const all = transactions();
  const index = all.findIndex(({ ops }) =>
    ops.some((op) => op.type === "delete" && op.path.includes("/inbox/")),
  );
  const commit = all[index]!;
  const deletes = commit.ops.filter((op) => op.type === "delete");
  const rest = commit.ops.filter((op) => op.type !== "delete");
  const split = [
    ...all.slice(0, index),
    { ...commit, ops: rest },
    { ...commit, isMulti: false, ops: deletes },
    ...all.slice(index + 1),
  ];
  expect(audit(split, layout).problems.join("\n")).toMatch(/outside every commit/);
});

test("a segment that a stranger deletes by a plain delete is found in the server's log", async () => {
  const { path } = await client.create(`${inbox}/10000000000000000-`, SEGMENT, {
    mode: "persistent-sequential",
  });
  await client.delete(path);
  const { problems } = audit(transactions(), layout);
  expect(problems.some((each) => each.includes(`a single create of ${path}, outside every commit`))).toBe(
    true,
  );
  expect(problems.some((each) => each.includes(`a single delete of ${path}, outside every commit`))).toBe(
    true,
  );
});

/** A segment without elements: count 0, framed. */
const SEGMENT = Buffer.from([0x42, 0x4b, 1, 5, 0x21, 0x44, 0xdf, 0x1c, 0, 0, 0, 0]);

test("a damaged entry is an error that says where; what was allocated ahead is no entry", () => {
  const [name] = logNames();
  const bytes = readFileSync(name!);
  expect(bytes.length).toBeGreaterThan(1_000_000);
  bytes[40] = bytes[40]! ^ 1;
  expect(() => readTransactionLog(bytes, name!)).toThrow(TransactionLogError);
  expect(() => readTransactionLog(bytes, name!)).toThrow(/at byte 16 is damaged/);
  expect(() => readTransactionLog(Buffer.from("not a log, but long enough"), "x")).toThrow(/ZKLG/);
  expect(() => readTransactionLogs(folder.path)).toThrow(/no transaction log/);
});

function logNames(): string[] {
  const directory = join(ensemble.servers[0]!.directory, "version-2");
  return readdirSync(directory)
    .filter((each) => each.startsWith("log."))
    .map((each) => join(directory, each));
}

test("Adler-32 is that of RFC 1950", () => {
  expect(adler32(Buffer.from("Wikipedia"))).toBe(0x11e60398);
  expect(adler32(Buffer.alloc(0))).toBe(1);
});
