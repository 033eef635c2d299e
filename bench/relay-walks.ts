/** The relay's walks, its memory and its hand-over with trees of 10,000, 100,000 and a million znodes: what grows, and how. */
import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { SourcePaths, wantedKinds } from "../lib/checkpoint/znode-source";
import { Manifest } from "../lib/relay/manifest";
import { walk } from "../lib/relay/walk";
import type { Op, ZooKeeper } from "../lib/zookeeper";
import type { Case, Metric, Sample } from "./frame";
import { handOver } from "./relay-hand-over";

const WALK: readonly Metric[] = [
  { name: "znodes/s", better: "higher" },
  { name: "CPU µs a znode", better: "lower" },
];
const TAKE_UP: readonly Metric[] = [
  { name: "znodes/s", better: "higher" },
  { name: "CPU µs a znode", better: "lower" },
  { name: "MB at most", better: "lower" },
];
const HAND_OVER: readonly Metric[] = [{ name: "ms without a commit", better: "lower" }];
const MAX_HAND_OVER_MS = 300;
const READS = 256;
const FOLDER = 1_000;
/** Creates in one multi, and folders that are filled at once. */
const MULTI = 100;
const FOLDERS_AT_ONCE = 8;
/** Versions of a znode that was only created. */
const NEW = { version: 0, cversion: 0, aversion: 0 };
/** From here on a walk takes a minute, and is made once. */
const MANY = 1_000_000;

/** The cases for trees of these numbers of znodes, each of which is created when its first case begins. */
export function walkCases(client: ZooKeeper, connectString: string, sizes: readonly number[]): Case[] {
  return sizes.flatMap((size): Case[] => {
    const root = `/walked-${size}`;
    let created: Promise<Tree> | undefined;
    const tree = (): Promise<Tree> => {
      created ??= createTree(client, root, size);
      return created;
    };
    const name = size.toLocaleString("en");
    return [
      {
        name: `a walk of ${name}, all known`,
        metrics: WALK,
        once: size >= MANY,
        async ours() {
          const { known } = await tree();
          return measured(() => walked(client, root, known));
        },
        async peer() {
          const { paths } = await tree();
          return measured(() => readAll(client, paths));
        },
      },
      {
        name: `a source of ${name} taken up`,
        metrics: TAKE_UP,
        once: true,
        ours: () => takenUp("relay", connectString, root, size),
        peer: () => takenUp("map", connectString, root, size),
      },
      {
        name: `a hand-over with ${name} watched; peer: the budget`,
        metrics: HAND_OVER,
        once: true,
        async ours() {
          await tree();
          return handOver(connectString, root);
        },
        peer: async () => ({ [HAND_OVER[0]!.name]: MAX_HAND_OVER_MS }),
      },
    ];
  });
}

interface Tree {
  readonly paths: readonly string[];
  readonly known: Manifest;
}

/** Folders side by side, each with its znodes in a few multis. */
async function createTree(client: ZooKeeper, root: string, size: number): Promise<Tree> {
  await client.create(root);
  const known = new Manifest();
  const folders = Array.from({ length: Math.ceil((size - 1) / FOLDER) }, (_, folder) => folder);
  const create = async (folder: number): Promise<string[]> => {
    const parent = `${root}/folder-${folder}`;
    const paths = Array.from(
      { length: Math.min(FOLDER, size - 1 - folder * FOLDER) - 1 },
      (_, index) => `${parent}/znode-${index}`,
    );
    await client.create(parent);
    for (let from = 0; from < paths.length; from += MULTI) {
      const ops = paths.slice(from, from + MULTI).map((path): Op => ({ type: "create", path }));
      const { zxid } = await client.multi(ops);
      for (const { path } of ops) known.apply([[path, { czxid: zxid, mzxid: zxid, ...NEW }]]);
    }
    return [parent, ...paths];
  };
  const paths = [root];
  for (let from = 0; from < folders.length; from += FOLDERS_AT_ONCE) {
    const portion = await Promise.all(folders.slice(from, from + FOLDERS_AT_ONCE).map(create));
    for (const created of portion) paths.push(...created);
  }
  // Of those with children the versions have moved on.
  for (const path of [root, ...folders.map((folder) => `${root}/folder-${folder}`)])
    known.apply([[path, (await client.exists(path))!]]);
  return { paths, known };
}

/** The same znodes with as many requests under way; nothing is compared. */
async function readAll(client: ZooKeeper, paths: readonly string[]): Promise<number> {
  let next = 0;
  const work = async (): Promise<void> => {
    while (next < paths.length) await client.getChildren(paths[next++]!);
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
  for await (const portion of walk(client, source, manifest)) {
    znodes += portion.znodes;
    const { length } = portion.different;
    if (length > 0) throw new Error(`${length} znodes are not as they are known`);
  }
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
