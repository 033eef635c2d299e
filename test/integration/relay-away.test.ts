import { join } from "node:path";
import { randomNumbers } from "../../lib/simulation/random-numbers";
import { connect, type ZooKeeperClient } from "../../lib/zookeeper";
import { Deployment, readTree, temporaryFolder } from "../support/deployment";
import { type Summary, summaryPipeline } from "../support/sample-pipelines";
import { TcpProxy } from "../support/tcp-proxy";
import { type LocalZooKeeper, startZooKeeper } from "../support/zookeeper-server";

/** What a writer did to one path, in order; null is a deletion. */
type History = Map<string, (string | null)[]>;

let ensemble: LocalZooKeeper;
let client: ZooKeeperClient;
let folder: ReturnType<typeof temporaryFolder>;
let tests = 0;

beforeAll(async () => {
  folder = temporaryFolder();
  ensemble = await startZooKeeper();
  client = await connect({ connectString: ensemble.connectString });
});

afterAll(async () => {
  await client?.close();
  await ensemble?.stop();
  folder?.remove();
});

interface Place {
  readonly source: string;
  readonly root: string;
  readonly results: string;
  readonly output: string;
}

async function newPlace(): Promise<Place> {
  const name = `${++tests}`;
  await client.create(`/app-${name}`);
  return {
    source: `/app-${name}`,
    root: `/beamkeeper-${name}`,
    results: `/results-${name}`,
    output: join(folder.path, name),
  };
}

function deploy(place: Place, connectString = ensemble.connectString): Deployment {
  return new Deployment({ connectString, definition: summaryPipeline(place), ...place });
}

/** A writer that keeps a history: creates, changes and deletes over `znodes` paths, as the seed says. */
class Writer {
  readonly history: History = new Map();
  private readonly alive = new Set<string>();
  private count = 0;

  constructor(
    private readonly source: string,
    private readonly random: () => number,
  ) {}

  async write(writes: number, znodes: number, deletions: number): Promise<void> {
    for (let done = 0; done < writes; done++) {
      const path = `${this.source}/znode-${Math.floor(this.random() * znodes)}`;
      const value = this.alive.has(path) && this.random() < deletions ? null : `value-${++this.count}`;
      await this.apply(path, value);
    }
  }

  async apply(path: string, value: string | null): Promise<void> {
    if (value === null) await client.delete(path);
    else if (this.alive.has(path)) await client.setData(path, Buffer.from(value));
    else await client.create(path, Buffer.from(value));
    if (value === null) this.alive.delete(path);
    else this.alive.add(path);
    this.history.set(path, [...(this.history.get(path) ?? []), value]);
  }
}

interface Delivered {
  readonly values: (string | null)[];
  readonly missed: number;
  readonly atLeast: boolean;
}

/** What arrived for each path, over all windows, in the order of the zxids. */
async function delivered(place: Place): Promise<Map<string, Delivered>> {
  const summaries = [...(await readTree(client, place.results)).values()]
    .filter(Boolean)
    .map((text) => JSON.parse(text) as Summary);
  const byPath = new Map<string, Summary[]>();
  for (const summary of summaries) byPath.set(summary.path, [...(byPath.get(summary.path) ?? []), summary]);
  return new Map(
    [...byPath].map(([path, parts]) => {
      const seen = parts.flatMap((part) => part.seen).sort((a, b) => (a.order < b.order ? -1 : 1));
      const missed = parts.reduce((sum, part) => sum + part.missed, 0);
      return [
        path,
        { values: seen.map(({ value }) => value), missed, atLeast: parts.some((part) => part.atLeast) },
      ];
    }),
  );
}

function expectEveryFinalValueOnce(history: History, arrived: Map<string, Delivered>): void {
  for (const [path, values] of history) {
    const got = arrived.get(path);
    const written = values.filter((value) => value !== null);
    const seen = got?.values.filter((value) => value !== null) ?? [];
    if (!got && values.at(-1) === null) continue;
    expect({ path, final: got?.values.at(-1) }).toEqual({ path, final: values.at(-1) });
    expect(new Set(seen).size).toBe(seen.length);
    const counted = seen.length + (got?.missed ?? 0);
    if (got?.atLeast) expect(counted).toBeLessThanOrEqual(written.length);
    else expect({ path, counted }).toEqual({ path, counted: written.length });
  }
}

test("changes while the relay is away arrive once, and what was overwritten is counted", async () => {
  const place = await newPlace();
  const writer = new Writer(place.source, randomNumbers(11));
  const first = deploy(place);
  await first.settled(client);
  await writer.write(100, 20, 0.1);
  await first.settled(client);
  await first.end();

  await writer.write(300, 30, 0);
  const second = deploy(place);
  await second.settled(client);
  await second.end();
  const arrived = await delivered(place);
  expectEveryFinalValueOnce(writer.history, arrived);
});

test("within one life, missed is exact over an absence", async () => {
  const place = await newPlace();
  const writer = new Writer(place.source, randomNumbers(12));
  const first = deploy(place);
  await first.settled(client);
  await writer.apply(`${place.source}/lasting`, "seen");
  await first.settled(client);
  await first.end();
  for (let index = 0; index < 9; index++) await writer.apply(`${place.source}/lasting`, `unseen-${index}`);
  await writer.apply(`${place.source}/lasting`, "final");
  await writer.apply(`${place.source}/reborn`, "unseen life");
  await writer.apply(`${place.source}/reborn`, null);
  await writer.apply(`${place.source}/reborn`, "second life");
  const second = deploy(place);
  await second.settled(client);
  await second.end();
  const arrived = await delivered(place);
  expect(arrived.get(`${place.source}/lasting`)).toEqual({
    values: ["seen", "final"],
    missed: 9,
    atLeast: false,
  });
  expect(arrived.get(`${place.source}/reborn`)).toEqual({
    values: ["second life"],
    missed: 0,
    atLeast: true,
  });
});

test("deletions and second lives while the relay is away", async () => {
  const place = await newPlace();
  const writer = new Writer(place.source, randomNumbers(13));
  const first = deploy(place);
  await writer.apply(`${place.source}/gone`, "old");
  await writer.apply(`${place.source}/again`, "old");
  await first.settled(client);
  await first.end();
  await writer.apply(`${place.source}/gone`, null);
  await writer.apply(`${place.source}/again`, null);
  await writer.apply(`${place.source}/again`, "new");
  await writer.apply(`${place.source}/again`, "newer");
  const second = deploy(place);
  await second.settled(client);
  await second.end();
  const arrived = await delivered(place);
  expect(arrived.get(`${place.source}/gone`)).toEqual({ values: ["old", null], missed: 0, atLeast: true });
  expect(arrived.get(`${place.source}/again`)).toEqual({
    values: ["old", null, "newer"],
    missed: 1,
    atLeast: true,
  });
});

test("a relay whose connection breaks again and again loses nothing", async () => {
  const place = await newPlace();
  const proxy = await TcpProxy.start(ensemble.connectString);
  const deployment = deploy(place, proxy.address);
  try {
    const writer = new Writer(place.source, randomNumbers(14));
    for (let round = 0; round < 8; round++) {
      await writer.write(60, 25, 0.15);
      proxy.cut();
      await writer.write(40, 25, 0.15);
    }
    await deployment.settled(client);
    expectEveryFinalValueOnce(writer.history, await delivered(place));
  } finally {
    await deployment.end();
    await proxy.stop();
  }
});

test("while it is connected, everything is counted exactly, short lives included", async () => {
  const place = await newPlace();
  const deployment = deploy(place);
  await deployment.settled(client);
  const writer = new Writer(place.source, randomNumbers(15));
  await writer.write(1500, 12, 0.3);
  await deployment.settled(client);
  await deployment.end();
  const arrived = await delivered(place);
  expectEveryFinalValueOnce(writer.history, arrived);
  expect([...arrived.values()].filter(({ atLeast }) => atLeast)).toEqual([]);
});
