import { PipelineLayout, segmentPrefix } from "../../lib/checkpoint/layout";
import { readGeneration } from "../../lib/checkpoint/scope";
import { definePipeline, readZnodeChanges, writeToZnodes } from "../../lib/index";
import type { RelayCommit } from "../../lib/relay/source-relay";
import { connect, type ZooKeeperClient } from "../../lib/zookeeper";
import { beamkeeper, beamkeeperOn, beamkeeperProcess, type CommandResult } from "../support/command";
import { Deployment, readTree, temporaryFolder } from "../support/deployment";
import { type Summary, summaryPipeline } from "../support/sample-pipelines";
import { type LocalZooKeeper, startZooKeeper } from "../support/zookeeper-server";

const place = { source: "/app", results: "/results", root: "/beamkeeper" };

let ensemble: LocalZooKeeper;
let client: ZooKeeperClient;
let folder: ReturnType<typeof temporaryFolder>;

beforeAll(async () => {
  folder = temporaryFolder();
  ensemble = await startZooKeeper();
  client = await connect({ connectString: ensemble.connectString });
  await client.create("/app");
});

afterAll(async () => {
  await client?.close();
  await ensemble?.stop();
  folder?.remove();
});

const command = (...args: string[]): Promise<CommandResult> =>
  beamkeeper({ ZOOKEEPER_CONNECT: ensemble.connectString }, ...args);

function deploy(): Deployment {
  const definition = summaryPipeline(place);
  return new Deployment({ connectString: ensemble.connectString, definition, output: folder.path, ...place });
}

async function delivered(): Promise<(string | null)[]> {
  const summaries = [...(await readTree(client, "/results")).values()].filter(Boolean);
  return summaries.flatMap((text) => (JSON.parse(text) as Summary).seen.map(({ value }) => value)).sort();
}

test("a running pipeline delivers what is there once more when it is asked to", async () => {
  const places = { ...place, source: "/catalogue", results: "/copies" };
  for (const path of ["/catalogue", "/copies", "/catalogue/a", "/catalogue/b"])
    await client.create(path, Buffer.from("1"));
  const kinds = definePipeline({
    name: "copies",
    build: (root) =>
      root
        .apply(readZnodeChanges("/catalogue", { start: "now" }))
        .apply(
          writeToZnodes(({ path, kind }) => ({ path: `/copies/${path.slice(11) || "top"}`, data: kind })),
        ),
  });
  const ends: (() => void)[] = [];
  const end = (): Promise<void> => new Promise((resolve) => ends.push(resolve));
  const { connectString } = ensemble;
  const seen = new Set<string>();
  const onCommit = ({ snapshot }: RelayCommit): void => {
    if (snapshot?.end === undefined || seen.has(snapshot.id)) return;
    seen.add(snapshot.id);
    ends.shift()?.();
  };
  const deployment = new Deployment({
    connectString,
    definition: kinds,
    output: folder.path,
    onCommit,
    ...places,
  });
  await deployment.settled(client);
  expect((await command("snapshot", "copies", "--show")).output).toMatch(/was never asked for a snapshot/);
  const ofOne = end();
  const asked = await command("snapshot", "copies", "--path", "/catalogue/b");
  expect(asked).toMatchObject({ code: 0, output: expect.stringMatching(/readZnodeChanges +\/catalogue\/b/) });
  await ofOne;
  expect((await command("snapshot", "copies", "--show")).output).toMatch(/done +1 /);
  await deployment.settled(client);
  expect((await client.getData("/copies/b")).data.toString()).toBe("existing");
  expect(await client.exists("/copies/a")).toBeNull();
  const ofAll = end();
  const all = await command("snapshot", "copies", "--json");
  expect(JSON.parse(all.output)).toMatchObject([{ request: { path: "/", state: "running" } }]);
  await ofAll;
  await deployment.settled(client);
  expect((await client.getData("/copies/a")).data.toString()).toBe("existing");
  expect(await command("snapshot", "copies", "--pause", "--cancel")).toMatchObject({ code: 2 });
  const reset = await command("reset", "copies", "--source", "readZnodeChanges");
  expect(reset).toMatchObject({
    code: 1,
    errors: expect.stringMatching(/copies is running; pause it first/),
  });
  expect(await command("reset", "copies")).toMatchObject({ code: 2 });
  for (const [args, problem] of [
    [["--source", "other"], /has no source "other"; it has "readZnodeChanges"/],
    [["--resume"], /no snapshot of copies is under way/],
  ] as const) {
    const refused = await command("snapshot", "copies", ...args);
    expect(refused).toMatchObject({ code: 1, errors: expect.stringMatching(problem) });
  }
  await deployment.end();
});

test("a pipeline is paused, stands still, and goes on where it stood", async () => {
  const first = deploy();
  await first.settled(client);
  const paused = await command("pause", "summary");
  expect(paused.output).toMatch(/summary is paused \(epoch 1\)/);
  expect(paused.code).toBe(0);
  await expect(first.relay).resolves.toMatchObject({ summary: { reason: "paused" } });
  await first.end();

  await client.create("/app/meanwhile", Buffer.from("written while it was paused"));
  const environment = { ZOOKEEPER_CONNECT: ensemble.connectString };
  const before = JSON.parse((await beamkeeperProcess(environment, "status", "summary", "--json")).output);
  expect(before.generation.state).toBe("paused");
  const refused = deploy();
  await expect(refused.relay).resolves.toMatchObject({ summary: { reason: "paused" } });
  await refused.end();
  expect(JSON.parse((await command("status", "summary", "--json")).output)).toEqual(before);

  const resumed = await command("resume", "summary");
  expect(resumed.output).toMatch(/summary is running/);
  const second = deploy();
  await second.settled(client);
  await second.end();
  expect(await delivered()).toEqual(["", "written while it was paused"]);
});

test("status shows each shard", async () => {
  const { output, code } = await command("status", "summary");
  expect(output).toMatch(/source readZnodeChanges: watermark \d{4}-\d\d-\d\dT[\d:.]+Z, [\d,]+ commits/);
  expect(output).toMatch(/groupBy +0 +0 +\S+ +\d+/);
  expect(code).toBe(0);
});

test("top shows rates, lag and who relays, once or again and again", async () => {
  const deployment = deploy();
  await deployment.settled(client);
  const writing = (async () => {
    for (let n = 0; n < 40; n++) {
      await client.create(`/app/top-${n}`);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  })();
  const once = JSON.parse((await command("top", "summary", "--once", "--json", "--interval", "0.5")).output);
  expect(once).toMatchObject({ pipeline: "summary", state: "running", relays: [{ epoch: 1, failing: [] }] });
  const [read] = once.stages;
  expect(read).toMatchObject({ stage: "readZnodeChanges", shards: 1 });
  expect(read.elementsPerSecond).toBeGreaterThan(0);
  expect(read.commitsPerSecond).toBeGreaterThan(0);
  expect(read.lagMs).toBeLessThan(30_000);
  await writing;
  const stop = new AbortController();
  setTimeout(() => stop.abort(), 600);
  const environment = { ZOOKEEPER_CONNECT: ensemble.connectString };
  const live = await beamkeeperOn(
    { size: { rows: 5, columns: 60 }, signal: stop.signal },
    environment,
    ...["top", "summary", "--interval", "0.2"],
  );
  expect(live.code).toBe(0);
  const frames = live.output.split("\x1b[H\x1b[J").slice(1);
  expect(frames.length).toBeGreaterThan(1);
  for (const frame of frames) {
    const lines = frame.trimEnd().split("\n");
    expect(lines.length).toBeLessThanOrEqual(4);
    expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(60);
    expect(lines.at(-1)).toMatch(/\d more lines; --once shows all/);
  }
  await deployment.end();
  const { output } = await command("top", "summary", "--once", "--interval", "0.01");
  expect(output).toMatch(/no relay is at work/);
  expect(output).toMatch(/stage +shards +backlog +watermark +lag +commits\/s +elements\/s/);
});

test("inspect shows a pipeline, a stage and a shard", async () => {
  const whole = await command("inspect", "summary");
  expect(whole.output).toMatch(/groupBy <- readZnodeChanges/);
  expect(whole.output).toMatch(/writeToText +0 +[\d,]+ +\S+ +0/);
  const stage = await command("inspect", "summary", "groupBy");
  expect(stage.output).not.toMatch(/writeToText +0/);
  const { scope } = (await readGeneration(client, new PipelineLayout("/beamkeeper", "summary")))!;
  const { inbox, state } = scope.shard("groupBy", 0);
  await client.create(segmentPrefix(inbox, 1_000), Buffer.from("corrupt"), { mode: "persistent-sequential" });
  const shard = await command("inspect", "summary", "groupBy", "0");
  expect(shard.output).toMatch(
    /backlog +1 segments\n\nsegment +oldest element +appended +bytes\n\d+-\d+ +1970/,
  );
  const found = JSON.parse((await command("inspect", "summary", "groupBy", "0", "--json")).output);
  expect(found.shards).toHaveLength(1);
  // Its windows may be open or not.
  const { rows, counts } = found.rows;
  expect(rows).toHaveLength(counts.group ?? 0);
  for (const row of rows) expect(row).toMatchObject({ kind: "group", key: expect.stringMatching(/^'\/app/) });
  const znodes = 1 + (await client.getChildren(state)).children.length;
  expect(found.shards[0]).toMatchObject({ stage: "groupBy", backlog: 1, state: { znodes } });
  for (const { name } of found.shards[0].segments) await client.delete(`${inbox}/${name}`);
});

test("a process that is called wrongly ends with 2, and one that fails with 1", async () => {
  const environment = { ZOOKEEPER_CONNECT: ensemble.connectString };
  expect((await beamkeeperProcess(environment, "status")).code).toBe(2);
  const { code, errors } = await beamkeeperProcess(environment, "pause", "nowhere");
  expect(errors).toMatch(/beamkeeper: there is no pipeline/);
  expect(code).toBe(1);
});

test("an ensemble that can't be reached is named", async () => {
  const { code, errors } = await beamkeeper(
    { ZOOKEEPER_CONNECT: "127.0.0.1:1", BEAMKEEPER_CONNECT_TIMEOUT_MS: "200" },
    ...["status", "summary"],
  );
  expect(errors).toMatch(/No ZooKeeper server could be reached.*127\.0\.0\.1:1/);
  expect(code).toBe(1);
});

test.each([
  [
    "a pipeline that is not there",
    ["status", "nowhere"],
    /there is no pipeline at \/beamkeeper\/nowhere; below \/beamkeeper there are copies, summary/,
    1,
  ],
  ["an option of another verb", ["pause", "summary", "--wait"], /pause has no option --wait/, 2],
  [
    "a time that is none",
    ["drain", "summary", "--timeout", "soon"],
    /--timeout must be a number of seconds/,
    2,
  ],
  ["pausing what is not there", ["pause", "nowhere"], /there is no pipeline at \/beamkeeper\/nowhere/, 1],
  [
    "a stage that is not there",
    ["inspect", "summary", "x"],
    /no stage "x"; its stages are readZ.*, group/,
    2,
  ],
  ["a shard that is not there", ["inspect", "summary", "groupBy", "1"], /has the shards 0 to 0, not 1/, 2],
  [
    "rows that are no number",
    ["inspect", "summary", "groupBy", "0", "--rows", "few"],
    /whole number from 0/,
    2,
  ],
  ["a shard that is no number", ["inspect", "summary", "groupBy", "one"], /named by its number/, 2],
  ["no name", ["status"], /name one pipeline/, 2],
  ["an unknown option", ["pause", "summary", "--now"], /--now/, 2],
  ["an unknown command", ["paws", "summary"], /there is no command "paws"/, 2],
] as const)("%s", async (_name, args, message, expected) => {
  const { errors, code } = await command(...args);
  expect(errors).toMatch(message);
  expect(code).toBe(expected);
});
