import { join } from "node:path";
import { definePipeline, type PipelineDefinition, readZnodeChanges, writeToZnodes } from "beamkeeper";
import { listDeadLetters, type StoredLetter } from "../../lib/checkpoint/dead-letter";
import { PipelineLayout } from "../../lib/checkpoint/layout";
import { readStatus } from "../../lib/checkpoint/status";
import { connect, type ZooKeeperClient } from "../../lib/zookeeper";
import { beamkeeper, type CommandResult } from "../support/command";
import { Deployment, readFolder, readTree, temporaryFolder } from "../support/deployment";
import type { Death } from "../support/function-process";
import { MortalFunction } from "../support/mortal-function";
import { type SampleOptions, type Summary, summaryPipeline } from "../support/sample-pipelines";
import { type LocalZooKeeper, startZooKeeper } from "../support/zookeeper-server";

/** Dead letters as a user meets them: through the relay, the functions and the command. */
const ROOT = "/beamkeeper";
const failures = { maxAttempts: 2 };

let ensemble: LocalZooKeeper;
let client: ZooKeeperClient;
let folder: ReturnType<typeof temporaryFolder>;
let deployments: Deployment[] = [];
let mortal: MortalFunction | undefined;
let tests = 0;

beforeAll(async () => {
  folder = temporaryFolder();
  ensemble = await startZooKeeper();
  client = await connect({ connectString: ensemble.connectString });
});

afterEach(async () => {
  mortal?.end();
  mortal = undefined;
  await Promise.all(deployments.map((deployment) => deployment.end()));
  deployments = [];
});

afterAll(async () => {
  await client?.close();
  await ensemble?.stop();
  folder?.remove();
});

const command = (...args: string[]): Promise<CommandResult> =>
  beamkeeper({ ZOOKEEPER_CONNECT: ensemble.connectString }, "dead-letter", ...args);
const lettersOf = (name: string): Promise<StoredLetter[]> =>
  listDeadLetters(client, new PipelineLayout(ROOT, name));

function deploy(definition: PipelineDefinition, options: Partial<Deployment["options"]> = {}): Deployment {
  const output = join(folder.path, definition.name);
  const { connectString } = ensemble;
  const deployment = new Deployment({ connectString, root: ROOT, definition, output, ...options });
  deployments.push(deployment);
  return deployment;
}

/** Copies what is written below /app-<n> to /copies-<n>; `fails` says for which values the function throws. */
function copying(fails: (text: string) => boolean): PipelineDefinition {
  const n = tests;
  return definePipeline({
    name: `copy-${n}`,
    failures,
    build: (root) =>
      root
        .apply(readZnodeChanges(`/app-${n}`))
        .map(({ path, text }) => {
          if (fails(text!)) throw new RangeError(`${text} is poison`);
          return { name: path.split("/").at(-1)!, text: text! };
        })
        .apply(writeToZnodes(({ name, text }) => ({ path: `/copies-${n}/${name}`, data: text }))),
  });
}

const copies = async (): Promise<string[]> =>
  [...(await readTree(client, `/copies-${tests}`)).values()].sort();

test("through the command: list, show, status, and a replay that the running relay hears of", async () => {
  const app = `/app-${++tests}`;
  const name = `copy-${tests}`;
  await client.create(app, Buffer.from("top"));
  for (const value of ["a", "poison-1", "b", "poison-2", "c"])
    await client.create(`${app}/${value}`, Buffer.from(value));
  const failing = deploy(copying((text) => text.startsWith("poison")));
  await failing.settled(client);
  expect(await copies()).toEqual(["a", "b", "c", "top"]);

  const listed = await command("list", name);
  expect(listed.output).toMatch(/^id +kind +since +attempts +what\n/);
  expect(listed.output).toMatch(
    /readZnodeChanges\/0\/\d+-0 +element +\S+Z +\d +RangeError: .*\/poison-1 existing/,
  );
  const letters: { id: string; text: string }[] = JSON.parse((await command("list", name, "--json")).output);
  expect(letters).toHaveLength(2);
  const { id } = letters.find(({ text }) => text.includes("poison-1"))!;
  const shown = await command("show", name, id);
  expect(shown.output).toMatch(/RangeError: .*poison-1 is poison\n\nRangeError: poison-1 is poison\n +at /s);
  expect([listed.code, shown.code]).toEqual([0, 0]);
  expect((await beamkeeper({ ZOOKEEPER_CONNECT: ensemble.connectString }, "status", name)).output).toMatch(
    /late +dead\n.* 2$/m,
  );

  // Still failing: what is replayed comes back, and nothing is lost.
  expect(await command("replay", name, id)).toMatchObject({ code: 0, output: /replayed 1/ });
  await failing.settled(client);
  expect((await lettersOf(name)).map(({ letter }) => letter.text.match(/poison-\d/)![0])).toEqual([
    "poison-2",
    "poison-1",
  ]);
  await failing.end();

  const mended = deploy(copying(() => false));
  await mended.settled(client);
  expect(await copies()).toHaveLength(4);
  const replayed = await command("replay", name, "--all", "--json");
  expect(JSON.parse(replayed.output).map(({ outcome }: { outcome: string }) => outcome)).toEqual([
    "done",
    "done",
  ]);
  await mended.settled(client);
  expect(await copies()).toEqual(["a", "b", "c", "poison-1", "poison-2", "top"]);
  expect((await command("list", name)).output).toBe(`${name} has no dead letters\n`);
  const { shards } = (await readStatus(client, mended.layout))!;
  expect(shards[0]).toMatchObject({ deadLetters: 0, deadLettered: 3, failing: null, elementsIn: 6 });
  expect(shards[0]!.failures).toBeGreaterThanOrEqual(2);
});

test.each([
  [["list", "nowhere"], 1, /no pipeline.*nowhere/],
  [["show", "copy-1", "readZnodeChanges/0/1-0"], 1, /has no dead letter "readZnodeChanges\/0\/1-0"/],
  [["replay", "copy-1", "x/0/1-0"], 1, /has no dead letter "x\/0\/1-0"/],
  [["list", "copy-1", "--stage", "other"], 1, /no stage "other"; its stages are readZnodeChanges/],
  [["replay", "copy-1"], 2, /name dead letters by their ids, or say --all/],
  [["replay", "copy-1", "a", "--all"], 2, /name dead letters by their ids, or say --all/],
  [["list", "copy-1", "a"], 2, /name one pipeline/],
  [["show", "copy-1"], 2, /name one dead letter/],
  [["resurrect", "copy-1"], 2, /has no "resurrect"; it has list, show, replay, discard/],
  [["list", "copy-1", "--all"], 2, /no option --all/],
  [[], 2, /needs list, show/],
])("beamkeeper dead-letter %j", async (args, code, message) => {
  const result = await command(...args);
  expect(result.errors).toMatch(message);
  expect(result.code).toBe(code);
});

test("discard gives them up", async () => {
  const app = `/app-${++tests}`;
  await client.create(app, Buffer.from("poison"));
  const deployment = deploy(copying((text) => text.startsWith("poison")));
  await deployment.settled(client);
  expect(await command("discard", `copy-${tests}`, "--all")).toMatchObject({
    code: 0,
    output: /discarded 1/,
  });
  expect(await lettersOf(`copy-${tests}`)).toEqual([]);
});

interface Outcome {
  readonly values: (string | null)[];
  readonly files: (string | null)[];
  readonly letters: string[];
}

async function outcome(name: string, results: string): Promise<Outcome> {
  const valuesOf = ({ seen }: Summary): (string | null)[] => seen.map(({ value }) => value);
  const znodes = [...(await readTree(client, results)).values()].filter(Boolean);
  const lines = [...readFolder(join(folder.path, name)).values()].flat();
  return {
    values: znodes.flatMap((text) => valuesOf(JSON.parse(text))).sort(),
    files: lines.flatMap((text) => valuesOf(JSON.parse(text).summary)).sort(),
    letters: (await lettersOf(name))
      .map(({ letter: { kind, error } }) => `${kind}: ${error.stack.match(/RangeError: (.*) is poison/)![1]}`)
      .sort(),
  };
}

test.each(["before", "after"] as const)(
  "SIGKILL %s the commit that puts something aside, and once more behind it: nothing is lost or doubled",
  async (point) => {
    const app = `/app-${++tests}`;
    const place: SampleOptions = {
      name: `killed-${tests}`,
      source: app,
      results: `/results-${tests}`,
      poison: "poison",
      failures,
    };
    await client.create(app, Buffer.from("top"));
    const good = Array.from({ length: 12 }, (_, n) => `value-${n}`);
    const values = [
      ...good.slice(0, 5),
      "poison-element",
      ...good.slice(5, 9),
      "poison-pane",
      ...good.slice(9),
    ];
    for (const [n, value] of values.entries()) await client.create(`${app}/z-${n}`, Buffer.from(value));
    // Two attempts are noted, what comes before the element is committed, and the fourth commit is its own.
    const deaths: Death[] = [4, 3].map((nth) => ({ kind: "bundle", nth, point }));
    const environment = {
      ZOOKEEPER_CONNECT: ensemble.connectString,
      BEAMKEEPER_ROOT: ROOT,
      BEAMKEEPER_OUTPUT: join(folder.path, place.name!),
    };
    mortal = new MortalFunction({ environment, pipeline: place, deaths });
    const deployment = deploy(summaryPipeline(place), { bundles: mortal, maxFailures: 50 });
    await deployment.settled(client);
    expect(mortal.deaths).toBe(deaths.length);
    const processed = [...good, "top"].sort();
    expect(await outcome(place.name!, place.results)).toEqual({
      values: processed,
      files: processed,
      letters: ["element: poison-element", `pane: a pane of ${app}/z-10`],
    });
  },
);
