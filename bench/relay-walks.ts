/** The relay's walks and its memory over trees of 10,000, 100,000 and a million znodes: what grows, and how. */
import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { SourcePaths, wantedKinds } from "../lib/checkpoint/znode-source";
import { Manifest } from "../lib/relay/manifest";
import { walk } from "../lib/relay/walk";
import type { ZooKeeper } from "../lib/zookeeper";
import type { Case, Metric, Sample } from "./frame";

const WALK: readonly Metric[] = [
  { name: "znodes/s", better: "higher" },
  { name: "CPU µs a znode", better: "lower" },
];
const TAKE_UP: readonly Metric[] = [
  { name: "znodes/s", better: "higher" },
  { name: "CPU µs a znode", better: "lower" },
  { name: "MB at most", better: "lower" },
];
const READS = 256;
const FOLDER = 1_000;
/** From here on a walk takes a minute, and is made once. */
const MANY = 1_000_000;

/** The cases for trees of these numbers of znodes, which are created now. */
export async function walkCases(
  client: ZooKeeper,
  connectString: string,
  sizes: readonly number[],
): Promise<Case[]> {
  const cases: Case[] = [];
  for (const size of sizes) {
    const root = `/walked-${size}`;
    const paths = await createTree(client, root, size);
    const known = new Manifest();
    await readAll(client, paths, known);
    const name = size.toLocaleString("en");
    cases.push(
      {
        name: `a walk of ${name}, all known`,
        metrics: WALK,
        once: size >= MANY,
        ours: () => measured(() => walked(client, root, known)),
        peer: () => measured(() => readAll(client, paths)),
      },
      {
        name: `a source of ${name} taken up`,
        metrics: TAKE_UP,
        once: true,
        ours: () => takenUp("relay", connectString, root, size),
        peer: () => takenUp("map", connectString, root, size),
      },
    );
  }
  return cases;
}

async function createTree(client: ZooKeeper, root: string, size: number): Promise<string[]> {
  await client.create(root);
  const paths: string[] = [root];
  for (let folder = 0; paths.length < size; folder++) {
    const parent = `${root}/folder-${folder}`;
    const count = Math.min(FOLDER, size - paths.length) - 1;
    const children = Array.from({ length: count }, (_, index) => `${parent}/znode-${index}`);
    await client.create(parent);
    await Promise.all(children.map((path) => client.create(path)));
    paths.push(parent, ...children);
  }
  return paths;
}

/** The same znodes with as many requests under way; nothing is compared. */
async function readAll(client: ZooKeeper, paths: readonly string[], known?: Manifest): Promise<number> {
  let next = 0;
  const work = async (): Promise<void> => {
    while (next < paths.length) {
      const path = paths[next++]!;
      const { stat } = await client.getChildren(path);
      known?.apply([[path, stat]]);
    }
  };
  await Promise.all(Array.from({ length: READS }, work));
  return paths.length;
}

async function walked(client: ZooKeeper, root: string, manifest: Manifest): Promise<number> {
  const source = {
    paths: new SourcePaths({ paths: [root], recursive: true }),
    ...{ wanted: wantedKinds({}), isExcluded: () => false },
  };
  let znodes = 0;
  for await (const portion of walk(client, source, manifest)) znodes += portion.znodes;
  return znodes;
}

async function measured(work: () => Promise<number>): Promise<Sample> {
  const cpu = process.cpuUsage();
  const beganMs = performance.now();
  const znodes = await work();
  const { user, system } = process.cpuUsage(cpu);
  const seconds = (performance.now() - beganMs) / 1_000;
  return { "znodes/s": znodes / seconds, "CPU µs a znode": (user + system) / znodes };
}

let runs = 0;

async function takenUp(
  who: "relay" | "map",
  connectString: string,
  root: string,
  size: number,
): Promise<Sample> {
  const script = join(__dirname, "relay-take-up.ts");
  const args = ["--import", "tsx", script, who, connectString, root, `taken-up-${++runs}`];
  const { stdout } = await promisify(execFile)(process.execPath, args);
  const { seconds, cpuMs, megabytes } = JSON.parse(stdout) as Record<
    "seconds" | "cpuMs" | "megabytes",
    number
  >;
  return {
    "znodes/s": size / seconds,
    "CPU µs a znode": (cpuMs * 1_000) / size,
    "MB at most": megabytes,
  };
}
