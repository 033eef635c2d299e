import { readFileSync } from "node:fs";
import { join } from "node:path";
import { createBundleHandler } from "../../functions/bundle";
import { shardInvoker } from "../../lib/aws/lambda";
import { DirectoryBlobs } from "../../lib/checkpoint/blobs";
import { DirectoryFiles } from "../../lib/checkpoint/files";
import { systemClock } from "../../lib/clock";
import { silent } from "../../lib/log";
import type { Part } from "../../lib/simulation/steps";
import { connect, type ZooKeeperClient } from "../../lib/zookeeper";
import { Deployment, readFolder, readTree, temporaryFolder, testSettings } from "../support/deployment";
import { withFault } from "../support/faults";
import type { Death } from "../support/function-process";
import { MortalFunction } from "../support/mortal-function";
import { type Summary, summaryPipeline } from "../support/sample-pipelines";
import { TcpProxy } from "../support/tcp-proxy";
import { fourLetterWord, type LocalZooKeeper, startZooKeeper } from "../support/zookeeper-server";

/**
 * The znodes are written before the pipelines start, so that their times, and with them the windows, are the same
 * for every run: a run with a fault in it must give what an undisturbed one gives, to the byte.
 */
const ZNODES = 60;

let ensemble: LocalZooKeeper;
let client: ZooKeeperClient;
let folder: ReturnType<typeof temporaryFolder>;
let runs = 0;

interface Results {
  readonly znodes: Map<string, string>;
  readonly files: Map<string, string[]>;
}

let undisturbed: Results;

beforeAll(async () => {
  folder = temporaryFolder();
  ensemble = await startZooKeeper();
  client = await connect({ connectString: ensemble.connectString });
  await client.create("/app");
  for (let index = 0; index < ZNODES; index++) {
    await client.create(`/app/znode-${index}`, Buffer.from(`first-${index}`));
    if (index % 3 === 0) await client.setData(`/app/znode-${index}`, Buffer.from(`second-${index}`));
  }
  undisturbed = await run({});
});

const functionProcesses: MortalFunction[] = [];

/** A function that is ended with the test, also when it fails. */
function mortal(options: ConstructorParameters<typeof MortalFunction>[0]): MortalFunction {
  const started = new MortalFunction(options);
  functionProcesses.push(started);
  return started;
}

afterEach(() => {
  for (const started of functionProcesses.splice(0)) started.end();
});

afterAll(async () => {
  await client?.close();
  await ensemble?.stop();
  folder?.remove();
});

type RunOptions = Partial<ConstructorParameters<typeof Deployment>[0]> & {
  readonly shards?: number;
  readonly make?: (place: Place) => Partial<ConstructorParameters<typeof Deployment>[0]>;
};

interface Place {
  readonly root: string;
  readonly results: string;
  readonly output: string;
}

function newPlace(): Place {
  const name = `run-${++runs}`;
  return { root: `/beamkeeper-${name}`, results: `/results-${name}`, output: join(folder.path, name) };
}

async function run({ shards = 1, make, ...options }: RunOptions): Promise<Results> {
  const place = newPlace();
  const definition = summaryPipeline({ source: "/app", results: place.results, shards });
  const { connectString } = ensemble;
  const deployment = new Deployment({ connectString, definition, ...place, ...options, ...make?.(place) });
  try {
    await deployment.settled(client);
  } finally {
    await deployment.end();
  }
  return collect(place);
}

async function collect(place: Place): Promise<Results> {
  const files = readFolder(join(place.output, place.results.slice(1)));
  return { znodes: await readTree(client, place.results), files };
}

test("an undisturbed run delivers every znode once, in znodes and in files", () => {
  const summaries = [...undisturbed.znodes.values()].filter(Boolean).map((text) => JSON.parse(text));
  expect(summaries.map(({ path }) => path).sort()).toEqual(
    ["/app", ...Array.from({ length: ZNODES }, (_, index) => `/app/znode-${index}`)].sort(),
  );
  const lines = [...undisturbed.files.values()].flat().map((line) => JSON.parse(line).summary);
  expect(lines.length).toBe(summaries.length);
  expect(new Set(lines.map((line) => JSON.stringify(line)))).toEqual(
    new Set(summaries.map((each) => JSON.stringify(each))),
  );
});

test("four shards give the same results as one", async () => {
  expect(await run({ shards: 4 })).toEqual(undisturbed);
});

describe("a reply that is lost", () => {
  const cases: [Part, "before" | "after", number][] = [];
  for (const point of ["before", "after"] as const) {
    cases.push(["relay", point, 1]);
    for (const nth of [1, 2, 3]) cases.push(["bundle", point, nth]);
  }
  test.each(cases)("%s commit, connection cut %s it takes effect, number %i", async (kind, point, nth) => {
    const proxy = await TcpProxy.start(ensemble.connectString);
    let hits = 0;
    // Before: the request is swallowed. After: it is applied, and its reply is swallowed; the client sees a cut.
    const before = (): void => {
      hits += 1;
      if (point === "before") proxy.stall("toServer");
      else proxy.dropReplies();
      setTimeout(() => {
        proxy.cut();
        proxy.resume();
      }, 100);
    };
    const wrap = (each: ZooKeeperClient): ZooKeeperClient => withFault(each, { kind, nth, before });
    const wraps = kind === "relay" ? { wrapRelay: wrap } : { wrapBundle: wrap };
    const results = await run({ connectString: proxy.address, ...wraps }).finally(() => proxy.stop());
    expect(hits).toBe(1);
    expect(results).toEqual(undisturbed);
  });
});

describe("SIGKILL of the function's process", () => {
  test.each([
    [
      "before its first commit is sent, and again before the second",
      [
        { point: "before", nth: 1 },
        { point: "before", nth: 2 },
      ],
    ],
    [
      "after its commits took effect and before their replies are heard",
      [
        { point: "after", nth: 1 },
        { point: "after", nth: 1 },
      ],
    ],
    [
      "at the commit that writes the text files",
      [
        { point: "before", nth: 3 },
        { point: "after", nth: 1 },
      ],
    ],
  ] as const)("%s", async (_name, points) => {
    const deaths: Death[] = points.map((point) => ({ kind: "bundle", ...point }));
    let functions: MortalFunction | undefined;
    const results = await run({
      make: (place) => {
        const pipeline = { source: "/app", results: place.results };
        functions = mortal({ environment: environmentOf(place), pipeline, deaths });
        return { bundles: functions };
      },
    });
    expect(functions?.deaths).toBe(deaths.length);
    expect(results).toEqual(undisturbed);
  });
});

describe("a function's process that runs out of memory", () => {
  test.each(["before", "after"] as const)("%s its commit takes effect", async (point) => {
    let functions: MortalFunction | undefined;
    const results = await run({
      make: (place) => {
        const pipeline = { source: "/app", results: place.results };
        const deaths: Death[] = [{ kind: "bundle", nth: 1, point, by: "memory" }];
        functions = mortal({ environment: environmentOf(place), pipeline, deaths });
        return { bundles: functions };
      },
    });
    expect(functions?.deaths).toBe(1);
    expect(results).toEqual(undisturbed);
  });
});

test("an environment that thaws in time goes on with its session, and one that thaws later with a new one", async () => {
  const place = newPlace();
  const source = `/frozen-${runs}`;
  await client.create(source);
  const pipeline = { source, results: place.results };
  const environment = { ...environmentOf(place), BEAMKEEPER_SESSION_TIMEOUT_MS: "4000" };
  const functions = mortal({ environment, pipeline, deaths: [] });
  const definition = summaryPipeline(pipeline);
  const { connectString } = ensemble;
  const deployment = new Deployment({ connectString, definition, ...place, bundles: functions });
  const round = async (name: string): Promise<string[]> => {
    for (let index = 0; index < 5; index++)
      await client.create(`${source}/${name}-${index}`, Buffer.from(name));
    await deployment.settled(client);
    return sessions();
  };
  try {
    const first = await round("warm");
    functions.freeze();
    functions.thaw();
    expect(await round("thawed in time")).toEqual(first);
    functions.freeze();
    let left = await sessions();
    while (left.length === first.length) {
      await systemClock.sleep(50);
      left = await sessions();
    }
    expect(first).toEqual(expect.arrayContaining(left));
    functions.thaw();
    const last = await round("thawed late");
    expect(last).toEqual(expect.arrayContaining(left));
    expect(last).toHaveLength(first.length);
  } finally {
    await deployment.end();
  }
  const { znodes } = await collect(place);
  const seen = [...znodes.values()].filter(Boolean).flatMap((text) => (JSON.parse(text) as Summary).seen);
  expect(seen).toHaveLength(16);
  expect(new Set(seen.map(({ order }) => order)).size).toBe(16);
});

/** The ids of the sessions that the server has, sorted. */
async function sessions(): Promise<string[]> {
  const port = Number(ensemble.connectString.split(":")[1]);
  const listed = (await fourLetterWord(port, "cons")).matchAll(/sid=(0x[0-9a-f]+)/g);
  return [...new Set([...listed].map(([, id]) => id!))].sort();
}

describe("SIGKILL of a process with asynchronous calls and finalisers", () => {
  test("in the middle of calls, after a commit, in a finaliser: nothing is lost, doubled or told too early", async () => {
    const deaths: readonly Death[] = [
      { kind: "call", nth: 20, point: "before" },
      { kind: "bundle", nth: 1, point: "after" },
      { kind: "finalizer", nth: 5, point: "after" },
    ];
    let functions: MortalFunction | undefined;
    let diary = "";
    const results = await run({
      make: (place) => {
        diary = join(folder.path, `${place.results.slice(1)}.diary`);
        const pipeline = { source: "/app", results: place.results, diary };
        functions = mortal({ environment: environmentOf(place), pipeline, deaths });
        return { bundles: functions, definition: summaryPipeline(pipeline) };
      },
    });
    expect(functions?.deaths).toBe(deaths.length);
    expect(results).toEqual(undisturbed);
    const lines = readFileSync(diary, "utf8").trimEnd().split("\n");
    const told = (kind: string): string[] =>
      lines.filter((line) => line.startsWith(kind)).map((line) => line.slice(kind.length + 1));
    const zxids = (kind: string): string[] => told(kind).map((line) => line.split(" ")[0]!);
    const elements = [...undisturbed.znodes.values()]
      .filter(Boolean)
      .flatMap((text) =>
        (JSON.parse(text) as Summary).seen.map(({ order }) => order.replace(/^0+(?=.)/, "")),
      );
    // Each at least once; of a call whose bundle was not committed, never.
    expect([...new Set(zxids("finalizer"))].sort()).toEqual(elements.sort());
    expect(new Set(told("finalizer")).size).toBe(elements.length);
    const again = (kind: string): number => zxids(kind).length - elements.length;
    expect(again("call")).toBeGreaterThan(0);
    expect(again("finalizer")).toBeGreaterThan(0);
  });
});

describe("SIGKILL of the relay's process", () => {
  test.each(["before", "after"] as const)(
    "between read and append: %s the append takes effect",
    async (point) => {
      const place = newPlace();
      const pipeline = { source: "/app", results: place.results };
      const settings = environmentOf(place);
      const bundles = mortal({ environment: settings, pipeline, deaths: [] });
      const invoke = shardInvoker(bundles, "bundle");
      const relay = mortal({
        environment: settings,
        pipeline,
        deaths: [{ kind: "relay", nth: 1, point }],
        invoke,
      });
      const first = await relay.invoke({ FunctionName: "relay" });
      expect(first.FunctionError).toBe("Unhandled");
      expect(relay.deaths).toBe(1);
      const definition = summaryPipeline(pipeline);
      const deployment = new Deployment({ connectString: ensemble.connectString, definition, ...place });
      try {
        await deployment.settled(client);
      } finally {
        await deployment.end();
      }
      expect(await collect(place)).toEqual(undisturbed);
    },
  );
});

function environmentOf(place: Place): Record<string, string> {
  return {
    ZOOKEEPER_CONNECT: ensemble.connectString,
    BEAMKEEPER_ROOT: place.root,
    BEAMKEEPER_OUTPUT: place.output,
    BEAMKEEPER_IDLE_INTERVAL_MS: "50",
  };
}

test("of two invocations of one shard at once, one commits and the other is superseded", async () => {
  const place = newPlace();
  const definition = summaryPipeline({ source: "/app", results: place.results });
  const outcomes: string[] = [];
  const meeting = meetingOfTwo();
  const twins = [twinHandler(place, definition, meeting), twinHandler(place, definition, meeting)];
  const deployment = new Deployment({
    connectString: ensemble.connectString,
    definition,
    ...place,
    bundles: {
      async invoke({ Payload }) {
        const event = JSON.parse(Buffer.from(Payload as Uint8Array).toString("utf8"));
        const replies = await Promise.all(
          twins.map((twin) => twin.handler(event, { getRemainingTimeInMillis: () => 900_000 })),
        );
        const found = replies.map((reply) => (reply as { outcome: string }).outcome).sort();
        outcomes.push(found.join("+"));
        const winner =
          replies.find((reply) => (reply as { outcome: string }).outcome !== "superseded") ?? replies[0];
        return { StatusCode: 200, Payload: Buffer.from(JSON.stringify(winner), "utf8") as never };
      },
    },
  });
  try {
    await deployment.settled(client);
  } finally {
    await deployment.end();
    for (const twin of twins) await twin.close();
  }
  expect(meeting.count).toBe(2);
  expect(outcomes).toContain("idle+superseded");
  expect(await collect(place)).toEqual(undisturbed);
});

/** Lets the first two who come wait for each other, so that both have built their commit before either sends it. */
function meetingOfTwo(): { arrive: () => Promise<void>; count: number } {
  let open: () => void = () => undefined;
  const both = new Promise<void>((resolve) => {
    open = resolve;
  });
  const meeting = {
    count: 0,
    arrive: async (): Promise<void> => {
      meeting.count += 1;
      if (meeting.count === 2) open();
      await both;
    },
  };
  return meeting;
}

function twinHandler(
  place: Place,
  definition: ReturnType<typeof summaryPipeline>,
  meeting: { arrive: () => Promise<void> },
) {
  const clients: ZooKeeperClient[] = [];
  const handler = createBundleHandler({
    settings: testSettings({ connectString: ensemble.connectString, ...place }),
    pipelines: [definition],
    connect: async () => {
      const own = await connect({ connectString: ensemble.connectString });
      clients.push(own);
      return withFault(own, { kind: "bundle", nth: 1, before: meeting.arrive });
    },
    files: new DirectoryFiles(place.output),
    blobs: new DirectoryBlobs(join(place.output, ".blobs")),
    clock: systemClock,
    log: silent,
  });
  return { handler, close: async () => void (await Promise.all(clients.map((each) => each.close()))) };
}
