import { fork } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import * as beam from "apache-beam";
import {
  definePipeline,
  fixedWindows,
  type PipelineDefinition,
  readAllText,
  readJsonLines,
  readRun,
  readText,
  readZnodes,
  writeToJsonLines,
  writeToText,
} from "beamkeeper";
import { createBatchHandler } from "../../functions/batch";
import { createBundleHandler } from "../../functions/bundle";
import { enqueue, openRuns } from "../../lib/batch/ledger";
import { compilePipeline } from "../../lib/beam/pipeline";
import { DirectoryBlobs } from "../../lib/checkpoint/blobs";
import { decodeDeadLetter } from "../../lib/checkpoint/dead-letter";
import { DirectoryFiles } from "../../lib/checkpoint/files";
import type { ShardReply } from "../../lib/checkpoint/invocation";
import { PipelineLayout } from "../../lib/checkpoint/layout";
import { type RunRecord, readRun as readRunRecord } from "../../lib/checkpoint/run";
import { systemClock } from "../../lib/clock";
import { silent } from "../../lib/log";
import { planPipeline } from "../../lib/runner/deployment";
import { readSettings } from "../../lib/settings";
import { randomNumbers } from "../../lib/simulation/random-numbers";
import { connect, type ZooKeeperClient } from "../../lib/zookeeper";
import { readFolder, temporaryFolder } from "../support/deployment";
import { expectedSums, type LinesSampleOptions, linesPipeline } from "../support/lines-pipeline";
import { useProgram } from "../support/program";
import { type LocalZooKeeper, startZooKeeper } from "../support/zookeeper-server";

const program = useProgram("batch-process");

let ensemble: LocalZooKeeper;
let client: ZooKeeperClient;
let folder: ReturnType<typeof temporaryFolder>;
let input: string;
let environment: Record<string, string>;

beforeAll(async () => {
  folder = temporaryFolder();
  input = join(folder.path, "input");
  mkdirSync(input);
  ensemble = await startZooKeeper({ config: { tickTime: "500" } });
  client = await connect({ connectString: ensemble.connectString });
  environment = {
    ZOOKEEPER_CONNECT: ensemble.connectString,
    BEAMKEEPER_SESSION_TIMEOUT_MS: "1000",
    BEAMKEEPER_OUTPUT: join(folder.path, "output"),
    BEAMKEEPER_BLOB_STORE: join(folder.path, "blobs"),
  };
});

afterAll(async () => {
  await client?.close();
  await ensemble?.stop();
  folder?.remove();
});

const context = { getRemainingTimeInMillis: () => 900_000 };

/** One invocation of the batch function, which drives what is waiting. */
async function drive(
  definition: PipelineDefinition,
  changed: Record<string, string> = {},
  stop?: AbortSignal,
) {
  const settings = readSettings({ ...environment, ...changed });
  const shared = { settings, pipelines: [definition], clock: systemClock, log: silent };
  const bundle = createBundleHandler({
    ...shared,
    connect: async () => client,
    files: new DirectoryFiles(settings.output),
    blobs: new DirectoryBlobs(settings.blobStore),
  });
  const batch = createBatchHandler({
    ...shared,
    connect: () => connect({ ...settings }),
    invoke: async (request) => (await bundle(request, context)) as ShardReply,
    ...(stop ? { stays: true, signal: stop } : {}),
  });
  return (await batch({}, context)) as Record<string, Record<string, string>>;
}

async function ask(definition: PipelineDefinition, id: string, timeMs = 0): Promise<void> {
  const layout = new PipelineLayout("/beamkeeper", definition.name);
  await openRuns(client, layout, planPipeline(compilePipeline(definition)).plan);
  await enqueue(client, layout, [{ id, cause: "manual", timeMs, limit: 0 }]);
}

async function runOf({ name }: PipelineDefinition, id: string): Promise<RunRecord> {
  return (await readRunRecord(client, new PipelineLayout("/beamkeeper", name), id))!;
}

/** Runs it once, and gives its record. */
async function run(definition: PipelineDefinition, changed: Record<string, string> = {}, id = "r1") {
  await ask(definition, id);
  expect(await drive(definition, changed)).toEqual({ [definition.name]: { [id]: "succeeded" } });
  return runOf(definition, id);
}

/** What the pipeline wrote, by file, sorted. */
function outputs(name: string): { files: string[]; lines: string[] } {
  const files = [...readFolder(join(folder.path, "output", name))];
  return { files: files.map(([file]) => file).sort(), lines: files.flatMap(([, lines]) => lines).sort() };
}

/** What went to dead-letter in a run. */
async function letters({ name }: PipelineDefinition, id = "r1") {
  const { stages } = new PipelineLayout("/beamkeeper", name).run(id);
  const found: { message: string; text: string }[] = [];
  for (const stage of (await client.getChildren(stages)).children)
    for (const shard of (await client.getChildren(`${stages}/${stage}`)).children) {
      const path = `${stages}/${stage}/${shard}/dead-letter`;
      for (const letter of (await client.getChildren(path)).children) {
        const { data } = await client.getData(`${path}/${letter}`);
        const { error, text } = decodeDeadLetter(data, path);
        found.push({ message: error.message, text });
      }
    }
  return found;
}

/** Lines that are all different, of any length up to 200 characters, some with CRLF and letters of several bytes. */
function someText(lines: number, seed: number): string {
  const random = randomNumbers(seed);
  return Array.from({ length: lines }, (_, n) => {
    const filling = "äbc 日本 d".repeat(Math.floor(random() * 20)).slice(0, Math.floor(random() * 200));
    return `${n} ${filling}${random() < 0.3 ? "\r" : ""}`;
  }).join("\n");
}

const linesOf = (text: string): string[] => text.split("\n").map((line) => line.replace(/\r$/, ""));

describe("a process that kills itself in the middle of reading", () => {
  test.each([
    { nth: 7, point: "before" },
    { nth: 12, point: "after" },
  ] as const)("$point commit $nth loses no line and doubles none", async ({ nth, point }) => {
    const texts = [someText(12_000, nth), someText(12_000, nth + 100)];
    mkdirSync(join(input, `${nth}`));
    for (const [index, text] of texts.entries()) writeFileSync(join(input, `${nth}`, `${index}.txt`), text);
    const sample: LinesSampleOptions = {
      ...{ name: `killed-${nth}`, pattern: join(input, `${nth}`, "*.txt") },
      ...{ splitBytes: 300_000, shards: 2 },
    };
    // Few records in a bundle, so that there are many checkpoints within a split.
    const small = { ...environment, BEAMKEEPER_BUNDLE_UNITS: "10" };
    const definition = linesPipeline(sample);
    await ask(definition, "r1");
    const doomed = fork(program.file, {
      env: {
        ...process.env,
        ...small,
        TEST_SAMPLE: "lines",
        TEST_PIPELINE: JSON.stringify(sample),
        TEST_DEATH: JSON.stringify({ nth, point }),
        TEST_EVENT: "{}",
      },
    });
    try {
      expect((await once(doomed, "exit"))[1]).toBe("SIGKILL");
    } finally {
      doomed.kill("SIGKILL");
    }
    const { state } = await runOf(definition, "r1");
    expect(state).toBe("running");
    const stop = new AbortController();
    const driving = drive(definition, small, stop.signal);
    while ((await runOf(definition, "r1")).state === "running")
      await new Promise((again) => setTimeout(again, 100));
    stop.abort();
    await driving;
    const { counters, ...ended } = await runOf(definition, "r1");
    expect(ended).toMatchObject({ state: "succeeded" });
    const { files, lines } = outputs(sample.name);
    expect(files.map((file) => file.replace(/.*sums/, "sums"))).toEqual([
      "sums-r1-00000-of-00002",
      "sums-r1-00001-of-00002",
    ]);
    expect(lines).toEqual(expectedSums(texts.flatMap(linesOf).map((line) => Number(/^\d+/.exec(line)![0]))));
    const bytes = texts.reduce((sum, text) => sum + Buffer.byteLength(text), 0);
    expect(counters).toMatchObject({ totalBytes: bytes, readBytes: bytes, deadLettered: 0 });
    // Far more checkpoints than splits.
    expect(counters!.commits).toBeGreaterThan(20);
  });
});

test("plain and packed files, empty ones and one in a folder below are read together", async () => {
  const base = join(input, "mixed");
  mkdirSync(join(base, "deep/er"), { recursive: true });
  const [plain, packed, deep] = [someText(500, 1), someText(1_000, 2), "\uFEFFone\r\n\ntwo"];
  writeFileSync(join(base, "a.log"), plain);
  writeFileSync(
    join(base, "b.log.gz"),
    Buffer.concat([gzipSync(packed), gzipSync("\nlast of two members\n")]),
  );
  writeFileSync(join(base, "empty.log"), "");
  writeFileSync(join(base, "deep/er/c.log"), deep);
  writeFileSync(join(base, ".hidden.log"), "hidden");
  writeFileSync(join(base, "d.txt"), "another kind");
  const definition = definePipeline({
    name: "mixed",
    build: (root) =>
      root
        .apply(readText([`${base}/**/*.log`, `${base}/*.gz`], { splitBytes: 999 }))
        .apply(writeToText("mixed/all")),
  });
  const { counters } = await run(definition, { BEAMKEEPER_BUNDLE_UNITS: "50" });
  expect(outputs("mixed").lines).toEqual(
    [...linesOf(plain), ...linesOf(packed), "last of two members", "one", "two"].sort(),
  );
  expect(counters!.readBytes).toBe(counters!.totalBytes);
});

test("what is no JSON goes to dead-letter alone, with its file and offset; the others are written as JSON lines", async () => {
  const file = join(input, "records.jsonl");
  const good = Array.from({ length: 300 }, (_, n) => ({ n, text: "é".repeat(n % 7) }));
  const before = good.slice(0, 200).map((each) => `${JSON.stringify(each)}\n`);
  const offset = Buffer.byteLength(before.join(""));
  const behind = good.slice(200).map((each) => JSON.stringify(each));
  const long = JSON.stringify("x".repeat(600));
  writeFileSync(file, [`${before.join("")}{"n": oops}\r`, "  ", ...behind, long].join("\n"));
  const definition = definePipeline({
    name: "json",
    failures: { maxAttempts: 1 },
    build: (root) =>
      root
        .apply(readJsonLines<{ n: number; text: string }>(file, { splitBytes: 1_000, maxLineBytes: 500 }))
        .map(({ n, text }) => ({ n, length: text.length }))
        .apply(writeToJsonLines("json/lengths", { shards: 2 })),
  });
  const { counters } = await run(definition);
  expect(counters).toMatchObject({ deadLettered: 2 });
  const { files, lines } = outputs("json");
  expect(files.map((name) => name.replace(/.*lengths/, ""))).toEqual([
    "-r1-00000-of-00002.jsonl",
    "-r1-00001-of-00002.jsonl",
  ]);
  const wanted = good.map(({ n, text }) => JSON.stringify({ n, length: text.length }));
  expect(lines).toEqual(wanted.sort());
  const dead = (await letters(definition)).map(({ message }) => message);
  const [noJson, tooLong] = dead[0]!.includes("longer") ? dead.toReversed() : dead;
  expect(noJson).toContain(`records.jsonl: the line at byte ${offset} is no JSON: `);
  expect(tooLong).toMatch(/records\.jsonl: the line at byte \d+ is longer than 500 bytes/);
});

test.each([
  [
    "no-match",
    () => readText(join(input, "nowhere/*.txt")),
    /readText: no file has the name ".*nowhere\/\*\.txt"/,
  ],
  [
    "cut-off",
    () => readText(join(input, "cut.gz")),
    /cut\.gz is no whole gzip file: unexpected end of file, after \d+ bytes/,
  ],
  ["no-znode", () => readZnodes("/nowhere"), /there is no znode \/nowhere/],
])("%s: the error says what is wrong, and the rest of the run goes on", async (name, read, message) => {
  writeFileSync(join(input, "cut.gz"), gzipSync(someText(1_000, 3)).subarray(0, 2_000));
  const definition = definePipeline({
    name,
    failures: { maxAttempts: 1 },
    build: (root) => {
      root.apply(read() as ReturnType<typeof readText>).apply(writeToText(`${name}/read`));
      root.apply(beam.create(["another"])).apply(writeToText(`${name}/other`));
    },
  });
  expect((await run(definition)).counters).toMatchObject({ deadLettered: 1 });
  expect(outputs(name).lines).toContain("another");
  expect(await letters(definition)).toMatchObject([{ message: expect.stringMatching(message) }]);
});

test("each run reads what is there, and writes files of its own for the same windows", async () => {
  const file = join(input, "changing.txt");
  const definition = definePipeline({
    name: "twice",
    build: (root) =>
      root
        .apply(readRun())
        .map(() => file)
        .apply(readAllText())
        .apply(beam.windowInto(fixedWindows(60)))
        .apply(writeToText("twice/lines")),
  });
  for (const [id, text] of [
    ["r1", "first"],
    ["r2", "second"],
  ] as const) {
    writeFileSync(file, text);
    await run(definition, {}, id);
  }
  const files = readFolder(join(folder.path, "output/twice"));
  expect([...files.values()]).toEqual(expect.arrayContaining([["first"], ["second"]]));
  const window = "1970-01-01T00:00:00.000Z-1970-01-01T00:01:00.000Z-00000-of-00001";
  expect([...files.keys()].map((name) => name.replace(/.*lines/, "lines")).sort()).toEqual([
    `lines-r1-${window}`,
    `lines-r2-${window}`,
  ]);
});

test("a snapshot of znodes has each once, however wide and deep", async () => {
  const paths = [
    "/snapshot",
    "/snapshot/wide",
    "/snapshot/a",
    "/snapshot/a/b",
    "/snapshot/a-b",
    "/snapshot/a/b/c",
  ];
  for (let n = 0; n < 700; n++) paths.push(`/snapshot/wide/${n}`);
  const isWide = (path: string): boolean => path.startsWith("/snapshot/wide/");
  const create = (path: string): Promise<unknown> => client.create(path, Buffer.from(`${path}!`));
  for (const path of paths.filter((each) => !isWide(each)).toSorted()) await create(path);
  await Promise.all(paths.filter(isWide).map(create));
  const definition = definePipeline({
    name: "snapshot",
    shards: 3,
    build: (root) =>
      root
        .apply(readZnodes("/snapshot"))
        .map(({ path, data, version }) => `${path} ${Buffer.from(data).toString()} ${version}`)
        .apply(writeToText("snapshot/all")),
  });
  await run(definition);
  expect(outputs("snapshot").lines).toEqual(paths.map((path) => `${path} ${path}! 0`).sort());
});

test("a snapshot of all leaves out Beamkeeper's own znodes", async () => {
  await client.create("/beamkeeper-not");
  const definition = definePipeline({
    name: "everything",
    build: (root) =>
      root
        .apply(readZnodes("/"))
        .map(({ path }) => path)
        .apply(writeToText("everything/all")),
  });
  await run(definition);
  const { lines } = outputs("everything");
  expect(lines).toEqual(expect.arrayContaining(["/", "/beamkeeper-not"]));
  expect(lines.filter((path) => /^\/(beamkeeper|zookeeper)(\/|$)/.test(path))).toEqual([]);
});

test("the file that a reader has begun may not change under it", async () => {
  const file = join(input, "rewritten.txt");
  writeFileSync(file, someText(3_000, 9));
  const definition = definePipeline({
    name: "rewritten",
    failures: { maxAttempts: 1 },
    build: (root) =>
      root
        .apply(readText(file, { splitBytes: 50_000 }))
        .map((line) => {
          if (readFileSync(file).length > 10) writeFileSync(file, "new");
          return line;
        })
        .apply(writeToText("rewritten/lines")),
  });
  await run(definition);
  const dead = await letters(definition);
  expect(dead.length).toBeGreaterThan(0);
  for (const { message } of dead)
    expect(message).toMatch(/rewritten\.txt has changed since its reading began/);
});
