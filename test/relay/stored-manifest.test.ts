import { PipelineLayout } from "../../lib/checkpoint/layout";
import { encodeCursor, NEW_CURSOR } from "../../lib/checkpoint/records";
import { openPipeline } from "../../lib/checkpoint/scope";
import type { KnownZnode, ManifestUpdate } from "../../lib/relay/manifest";
import { type ManifestChange, StoredManifest } from "../../lib/relay/stored-manifest";
import { StoredSource } from "../../lib/relay/stored-source";
import { MemoryBlobs } from "../../lib/simulation/memory-files";
import { randomNumbers } from "../../lib/simulation/random-numbers";
import { connect, type Op, type ZooKeeper } from "../../lib/zookeeper";

import { type LocalZooKeeper, startZooKeeper } from "../support/zookeeper-server";

const SEEDS = [1, 2, 3, 4, 5, 6];
const COMMITS = 250;
const ZNODES = 60;
/** So that a snapshot of these has several chunks, each with the number of another commit. */
const CHUNK_BYTES = 1_000;

let server: LocalZooKeeper;
let client: ZooKeeper;

beforeAll(async () => {
  server = await startZooKeeper();
  client = await connect({ connectString: server.connectString });
});

afterAll(async () => {
  await client?.close();
  await server?.stop();
});

type Known = Readonly<Record<string, string>>;

function known(stored: StoredManifest): Known {
  return Object.fromEntries(
    [...stored.known.paths()].sort().map((path) => [path, String(stored.known.get(path)!.mzxid)]),
  );
}

/** A source of its own, and what it takes to write to it. */
async function newSource(name: string) {
  const current = await openPipeline(client, new PipelineLayout("/beamkeeper", name), {
    ...{
      fingerprint: "f",
      sources: ["s"],
      shards: { read: 1 },
      upstream: {},
      impulses: [],
      minTimestampMs: 0,
    },
  });
  const layout = current.scope.source("s");
  let number = 0;
  return {
    layout,
    get number() {
      return number;
    },
    load: async (): Promise<StoredManifest> =>
      (await StoredManifest.load(client, new MemoryBlobs(), layout, number, CHUNK_BYTES))!,
    async commit({ ops, committed }: ManifestChange): Promise<void> {
      number += 1;
      const cursor: Op = {
        type: "setData",
        path: layout.cursor,
        data: encodeCursor({ ...NEW_CURSOR, number }),
      };
      await client.multi([cursor, ...ops]);
      committed(new Map());
    },
  };
}

test.each(SEEDS)(
  "who loads it or follows it knows what its writer does, in any turn: seed %i",
  async (seed) => {
    const next = randomNumbers(seed);
    const below = (limit: number): number => Math.floor(next() * limit);
    const source = await newSource(`p-${seed}`);
    const written = new Map<string, string>();
    let writer = await source.load();
    let follower = await source.load();
    let loadedAnew = 0;
    let followed = 0;
    const change = (): ManifestUpdate => {
      const path = `/some/where/znode-${below(ZNODES)}`;
      if (next() < 0.2) {
        written.delete(path);
        return [path, null, BigInt(source.number)];
      }
      const now: KnownZnode = {
        ...{ czxid: 1n, mzxid: BigInt(source.number * 1_000 + below(1_000)), version: 0 },
        ...{ cversion: 0, aversion: 0 },
      };
      written.set(path, String(now.mzxid));
      return [path, now];
    };
    const follow = async (): Promise<void> => {
      const news = await follower.follow(client, source.number);
      if (news) {
        news.apply();
        followed += 1;
      } else {
        follower = await source.load();
        loadedAnew += 1;
      }
      const expected = Object.fromEntries([...written].sort(([a], [b]) => (a < b ? -1 : 1)));
      expect(known(follower)).toEqual(expected);
    };
    while (source.number < COMMITS) {
      const number = source.number + 1;
      if (writer.isCompactionDue && next() < 0.7) await source.commit(writer.compaction(number));
      else await source.commit(writer.delta(Array.from({ length: below(4) }, change), number));
      if (next() < 0.15) await follow();
      // The one that follows goes on where the other stood, which loads what there is then.
      if (next() < 0.01) {
        await follow();
        [writer, follower] = [follower, await source.load()];
      }
    }
    await follow();
    expect(followed).toBeGreaterThan(0);
    expect(loadedAnew).toBeLessThan(followed);
  },
);

test.each(SEEDS.slice(0, 3))(
  "what could not be read or told is told the next time: seed %i",
  async (seed) => {
    const next = randomNumbers(seed);
    const source = await newSource(`told-${seed}`);
    const writer = await source.load();
    let isFaulty = false;
    const failing = (): void => {
      if (isFaulty && next() < 0.1) throw new Error("no answer");
    };
    const faulty = new Proxy(client, {
      get: (target, name) => {
        const value: unknown = Reflect.get(target, name, target);
        if (typeof value !== "function") return value;
        if (name !== "getData" && name !== "getChildren") return value.bind(target);
        return async (path: string) => {
          failing();
          return target[name](path);
        };
      },
    });
    const stored = new StoredSource(faulty, new MemoryBlobs(), source.layout, CHUNK_BYTES);
    await stored.load();
    isFaulty = true;
    const delivered: ManifestUpdate[] = [];
    const told: ManifestUpdate[] = [];
    let failed = 0;
    const follow = async (): Promise<void> => {
      const isWhole = await stored.follow({
        beforehand: async () => failing(),
        take: (updates) => void told.push(...updates),
      });
      expect(isWhole).toBe(true);
    };
    while (delivered.length < COMMITS) {
      const number = source.number + 1;
      const now = { czxid: 1n, mzxid: BigInt(number), version: 0, cversion: 0, aversion: 0 };
      const update: ManifestUpdate = [`/znode-${number % ZNODES}`, now];
      await source.commit(writer.delta([update], number));
      delivered.push(update);
      if (next() < 0.9) continue;
      const hasFollowed = await follow().then(
        () => true,
        () => false,
      );
      if (hasFollowed) continue;
      failed += 1;
      // Nobody may compare with what it was not told.
      const toldOf = told.map(([path, znode]): [string, string] => [path, String(znode!.mzxid)]);
      expect(known(stored.manifest)).toEqual(Object.fromEntries(toldOf));
      isFaulty = false;
      await follow();
      expect(told).toEqual(delivered);
      isFaulty = true;
    }
    expect(failed).toBeGreaterThan(5);
  },
);

test("it is loaded while another relay commits faster than its chunks are read", async () => {
  const source = await newSource("loaded-meanwhile");
  const writer = await source.load();
  const known = (number: number): KnownZnode => ({
    ...{ czxid: 1n, mzxid: BigInt(number), version: 0, cversion: 0, aversion: 0 },
  });
  const deliver = (): Promise<void> => {
    const number = source.number + 1;
    return source.commit(writer.delta([[`/znode-${number % ZNODES}`, known(number)]], number));
  };
  while (!writer.isCompactionDue) await deliver();
  while (writer.isCompactionDue) await source.commit(writer.compaction(source.number + 1));
  const MOST_READS = 100;
  let reads = 0;
  const behind = new Proxy(client, {
    get: (target, name) => {
      if (name === "getData")
        return async (path: string) => {
          if (path.startsWith(`${source.layout.manifest}/g`)) await deliver();
          if (++reads > MOST_READS) throw new Error("it is read again and again");
          return target.getData(path);
        };
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
  const stored = new StoredSource(behind, new MemoryBlobs(), source.layout, CHUNK_BYTES);
  await stored.load();
  expect(stored.cursor.number).toBe(source.number);
  expect([...stored.manifest.known.paths()].sort()).toEqual([...writer.known.paths()].sort());
  for (const path of writer.known.paths())
    expect(stored.manifest.known.get(path)).toEqual(writer.known.get(path));
});
