import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Finding } from "../../lib/cli/finding";
import { connect, type ZooKeeper } from "../../lib/zookeeper";
import { beamkeeperIn, type CommandResult } from "../support/command";
import { type LocalZooKeeper, startZooKeeper } from "../support/zookeeper-server";

const WATCHING = `
import { definePipeline, readZnodeChanges, writeToZnodes } from "beamkeeper";
export default definePipeline({
  name: "watching",
  shards: 8,
  build: (root) => root.apply(readZnodeChanges("/app")).apply(writeToZnodes(() => ({ path: "/results/one", data: "" }))),
});
`;

const scheduled = (name: string, schedule: string): string => `
import { definePipeline, readRun, writeToZnodes } from "beamkeeper";
export default definePipeline({
  name: ${JSON.stringify(name)},
  schedule: ${schedule},
  build: (root) => root.apply(readRun()).apply(writeToZnodes(() => ({ path: "/results/one", data: "" }))),
});
`;

const PROJECT = join(__dirname, "../..");
let ensemble: LocalZooKeeper;
let client: ZooKeeper;
let folder: string;

beforeAll(async () => {
  ensemble = await startZooKeeper({
    config: { maxClientCnxns: "11", "4lw.commands.whitelist": "srvr,conf" },
  });
  client = await connect({ connectString: ensemble.connectString });
  for (const path of ["/app", "/app/a", "/app/b"]) await client.create(path);
});

afterAll(async () => {
  await client?.close();
  await ensemble?.stop();
});

beforeEach(() => {
  // In the project, so that its packages are found from there.
  folder = mkdtempSync(join(PROJECT, ".beamkeeper", "check-"));
  mkdirSync(join(folder, "pipelines"));
  write("watching.ts", WATCHING);
});

afterEach(() => rmSync(folder, { recursive: true, force: true }));

function write(file: string, text: string): void {
  writeFileSync(join(folder, "pipelines", file), text);
}

async function check(
  changed: Record<string, string>,
  ...args: string[]
): Promise<CommandResult & { findings: Finding[] }> {
  const environment = {
    ZOOKEEPER_CONNECT: ensemble.connectString,
    BEAMKEEPER_MAX_IN_FLIGHT: "4",
    ...changed,
  };
  const result = await beamkeeperIn(folder, environment, "check", "--json", ...args);
  return { ...result, findings: result.code === 2 ? [] : JSON.parse(result.output).findings };
}

const textOf = (findings: readonly Finding[], about: string): string[] =>
  findings.filter((each) => each.about === about).map(({ level, text }) => `${level}: ${text}`);

const FOLLOWING = `
import { definePipeline, readZnodeChanges, readZnodeLatest, writeToZnodes } from "beamkeeper";
export default definePipeline({
  name: "following",
  build: (root) =>
    root
      .apply(readZnodeChanges("/app"))
      .map((change, { a, gone, secret }) => a.lookup() + gone.lookup() + secret.lookup(), {
        a: readZnodeLatest("/app/a"),
        gone: readZnodeLatest("/app/gone"),
        secret: readZnodeLatest("/hidden"),
      })
      .apply(writeToZnodes((data) => ({ path: "/results/one", data }))),
});
`;

test("what is in order is said, with numbers, and nothing is changed", async () => {
  write("nightly.ts", scheduled("nightly", '{ cron: "30 2 * * ? *", timeZone: "Europe/Berlin" }'));
  const { mzxid } = (await client.exists("/app"))!;
  const { code, findings } = await check({});
  expect(findings.filter(({ level }) => level === "error")).toEqual([]);
  expect(code).toBe(0);
  expect(textOf(findings, "watching watches /app")).toEqual(["ok: 3 znodes, each of which a walk reads"]);
  expect(textOf(findings, "pipeline nightly")).toEqual([
    "ok: 1 stages, 1 shards, cron(30 2 * * ? *) in Europe/Berlin",
  ]);
  expect(textOf(findings, "rights at /beamkeeper")).toEqual(["ok: /beamkeeper can be created below /"]);
  const about = `connections to ${ensemble.connectString}`;
  expect(textOf(findings, about)).toEqual([
    "ok: functions behind one address may open 9 connections; it takes 11",
  ]);
  expect((await client.getChildren("/")).children.sort()).toEqual(["app", "zookeeper"]);
  expect((await client.exists("/app"))!.mzxid).toBe(mzxid);
});

test("every mistake is an error of its own, with what to do, and the exit code is 1", async () => {
  write("february.ts", scheduled("february", '{ cron: "0 0 30 2 ? *" }'));
  write("olympus.ts", scheduled("olympus", '{ rate: "1 day", timeZone: "Mars/Olympus" }'));
  const acl = [{ perms: 1, scheme: "world", id: "anyone" }];
  await client.create("/readable", undefined, { acl });
  await client.create("/hidden", undefined, { acl: [{ perms: 4, scheme: "world", id: "anyone" }] });
  write("following.ts", FOLLOWING);
  write("hidden.ts", WATCHING.replace('"/app"', '"/hidden"').replace('"watching"', '"hidden"'));
  const { code, findings } = await check(
    { BEAMKEEPER_ROOT: "/readable", BEAMKEEPER_MAX_IN_FLIGHT: "16" },
    ...["watching", "hidden", "following", "other"],
  );
  expect(code).toBe(1);
  expect(textOf(findings, "following follows /app/a")).toEqual(["ok: 0 bytes"]);
  expect(textOf(findings, "following follows /app/gone")).toEqual(["warning: there is no such znode yet"]);
  const errors = findings.filter(({ level }) => level === "error");
  expect(errors.map(({ about, text }) => `${about}: ${text}`).sort()).toEqual([
    expect.stringMatching(/^connections to .*may open 21 connections; it takes 11$/),
    "following follows /hidden: it may not be read",
    "hidden watches /hidden: it may not be read",
    expect.stringMatching(/^pipeline other: there is no such pipeline$/),
    expect.stringMatching(/^pipelines\/february\.ts: .*never fires after/),
    expect.stringMatching(/^pipelines\/olympus\.ts: .*must be an IANA name/),
    expect.stringMatching(/^rights at \/readable: write, create, delete at \/readable is not granted to ip:/),
  ]);
  for (const { remedy } of errors) expect(remedy).toMatch(/\w{3}/);
});

test("an ensemble that does not answer, and settings that can't be used, are errors", async () => {
  const away = await check({ ZOOKEEPER_CONNECT: "127.0.0.1:1", BEAMKEEPER_CONNECT_TIMEOUT_MS: "300" });
  expect(away.code).toBe(1);
  expect(textOf(away.findings, "ensemble")[0]).toMatch(/^error: .*127\.0\.0\.1:1/);
  const bad = await check({ ZOOKEEPER_CONNECT: "" });
  expect(textOf(bad.findings, "settings")[0]).toMatch(/ZOOKEEPER_CONNECT is empty/);
  expect((await check({}, "--changes", "many")).code).toBe(2);
});

test("cost tells what the pipelines would cost, and by which formula", async () => {
  const environment = { ZOOKEEPER_CONNECT: "" };
  const { code, output } = await beamkeeperIn(folder, environment, "cost", "--changes", "5");
  expect(code).toBe(0);
  expect(output).toMatch(/watching +10 +5\.00 +0\.00 +657,000 /);
  expect(output).toMatch(/^writes\/s += relay commits/m);
  expect((await beamkeeperIn(folder, environment, "cost", "other")).code).toBe(2);
});
