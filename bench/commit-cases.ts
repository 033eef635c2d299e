/** The cases of the benchmark `commit`; see there how this file is loaded. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import * as beam from "apache-beam";
import { definePipeline, readZnodeChanges, writeToZnodes } from "beamkeeper";
import type { CompiledPipeline } from "../lib/beam/api";
import { compilePipeline } from "../lib/beam/pipeline";
import { DirectoryBlobs } from "../lib/checkpoint/blobs";
import { DirectoryFiles } from "../lib/checkpoint/files";
import { PipelineLayout, segmentPrefix } from "../lib/checkpoint/layout";
import { type CurrentGeneration, openPipeline } from "../lib/checkpoint/scope";
import { cutSegments, encodeSegment, type SegmentElement } from "../lib/checkpoint/segment";
import { encodeZnodeChange } from "../lib/checkpoint/znode-change";
import { deployLocally } from "../lib/cli/local-deployment";
import { systemClock } from "../lib/clock";
import { silent } from "../lib/log";
import { planPipeline } from "../lib/runner/deployment";
import { ShardRunner } from "../lib/runner/shard-runner";
import { readSettings } from "../lib/settings";
import { connect, type MultiResult, type Op, type ZooKeeperClient } from "../lib/zookeeper";
import { type Case, type Metric, quantile, type Sample } from "./frame";

const ROOT = "/beamkeeper";
const NAME = "sums";
/** Elements of a segment, and of a bundle: the backlog of a shard is worked off in as many commits as it has segments. */
export const SEGMENT_ELEMENTS = 100;
/** Over all shards, so that what runs is warm in every case: Node still compiles after a few thousand commits. */
export const BACKLOG_SEGMENTS = 2_000;
const PATHS = 500;
const SETTINGS = readSettings({ ZOOKEEPER_CONNECT: "unused" });

function sums(shards: number): CompiledPipeline {
  return compilePipeline(
    definePipeline({
      name: NAME,
      shards,
      build: (root) => {
        root
          .apply(readZnodeChanges("/load"))
          .map(({ path, version }) => ({ path, value: version }))
          .apply(beam.windowInto(beam.fixedWindows(60)))
          .apply(beam.groupBy("path").combining("value", (a: number, b: number) => a + b, "sum"))
          .apply(writeToZnodes(({ path, sum }) => ({ path: `/sums${path}`, data: String(sum) })));
      },
    }),
  );
}

function change(number: number, paths: number): SegmentElement {
  const data = Buffer.from(String(number));
  return encodeZnodeChange(
    {
      ...{ path: `/load/znode-${number % paths}`, kind: "changed", data, text: data.toString() },
      ...{ version: number, czxid: 1n, mzxid: BigInt(number), zxid: 1n, ctimeMs: 0, mtimeMs: 0 },
      ...{ missed: 0, missedAtLeast: false, cversion: 0, aversion: 0, numChildren: 0, isEphemeral: false },
    },
    0,
  );
}

/** A pipeline below a root of its own, and someone who runs its shards. */
interface Place {
  readonly client: ZooKeeperClient;
  readonly current: CurrentGeneration;
  readonly stages: readonly string[];
  readonly runner: ShardRunner;
  end(): Promise<void>;
}

/** Hears of each multi that writes the head of a shard, when it is sent. */
type Sent = (head: string, ops: readonly Op[]) => void;

async function open(
  address: string,
  pipeline: CompiledPipeline,
  maxUnits: number,
  sent: Sent = () => undefined,
): Promise<Place> {
  const whole = await connect({ connectString: address });
  const { path } = await whole.create("/round-", undefined, { mode: "persistent-sequential" });
  await whole.close();
  const client = await connect({ connectString: `${address}${path}` });
  const layout = new PipelineLayout(ROOT, NAME);
  const current = await openPipeline(client, layout, planPipeline(pipeline).plan);
  const folder = mkdtempSync(join(tmpdir(), "beamkeeper-bench-"));
  const { commitSizeBytes, segmentSizeBytes } = SETTINGS;
  const runner = new ShardRunner({
    client: telling(client, sent),
    root: ROOT,
    pipelines: new Map([[NAME, pipeline]]),
    files: new DirectoryFiles(folder),
    blobs: new DirectoryBlobs(folder),
    clock: systemClock,
    log: silent,
    limits: { maxUnits, commitSizeBytes, segmentSizeBytes },
  });
  return {
    ...{ client, current, runner },
    stages: pipeline.stages.map(({ id }) => id),
    async end() {
      await client.close();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

function telling(client: ZooKeeperClient, sent: Sent): ZooKeeperClient {
  const multi = (ops: readonly Op[]): Promise<MultiResult> => {
    const head = ops.find(({ type }) => type === "setData")?.path;
    if (head !== undefined) sent(head, ops);
    return client.multi(ops);
  };
  const bound = new Map<string | symbol, unknown>([["multi", multi]]);
  return new Proxy(client, {
    get(target, name) {
      const known = bound.get(name);
      if (known !== undefined) return known;
      const value: unknown = Reflect.get(target, name, target);
      if (typeof value !== "function") return value;
      bound.set(name, value.bind(target));
      return bound.get(name);
    },
  });
}

/** The same in every round, so that what is measured does not begin behind the garbage of making it. */
function backlog(): readonly Buffer[] {
  return Array.from({ length: BACKLOG_SEGMENTS }, (_, segment) => {
    const from = segment * SEGMENT_ELEMENTS;
    return encodeSegment(Array.from({ length: SEGMENT_ELEMENTS }, (_, n) => change(from + n, PATHS))).data;
  });
}

/** Spreads the segments over the shards of the first stage, each with as many that follow each other. */
async function fill(
  { client, current, stages }: Place,
  shards: number,
  segments: readonly Buffer[],
): Promise<void> {
  const each = segments.length / shards;
  for (let shard = 0; shard < shards; shard++) {
    const { inbox } = current.scope.shard(stages[0]!, shard);
    await Promise.all(
      segments
        .slice(shard * each, (shard + 1) * each)
        .map((data) => client.create(segmentPrefix(inbox, 0), data, { mode: "persistent-sequential" })),
    );
  }
}

/** Calls each shard of the stage until it is idle, all side by side. */
async function drain({ runner }: Pick<Place, "runner">, stage: string, shards: number): Promise<void> {
  const request = { pipeline: NAME, stage, zxid: "0" };
  await Promise.all(
    Array.from({ length: shards }, async (_, shard) => {
      while ((await runner.run({ ...request, shard }, Number.POSITIVE_INFINITY)).outcome !== "idle");
    }),
  );
}

interface Load {
  readonly shards: number;
  readonly elements: number;
  readonly commits: number;
  readonly seconds: number;
  readonly cpuMicros: number;
}

function figures({ elements, commits, seconds, cpuMicros }: Load): Sample {
  return {
    "commits/s": commits / seconds,
    "elements/s": elements / seconds,
    "CPU µs a commit": cpuMicros / commits,
  };
}

const RATES: readonly Metric[] = [
  { name: "commits/s", better: "higher" },
  { name: "elements/s", better: "higher" },
  { name: "CPU µs a commit", better: "lower" },
];

async function timed(run: () => Promise<void>): Promise<{ seconds: number; cpuMicros: number }> {
  const cpuBefore = process.cpuUsage();
  const startedAt = performance.now();
  await run();
  const { user, system } = process.cpuUsage(cpuBefore);
  return { seconds: (performance.now() - startedAt) / 1000, cpuMicros: user + system };
}

/** What both stages of one backlog commit, in the first round of ours, by shard: what the bare client sends. */
type Recorded = Map<string, (readonly Op[])[]>;

function backlogCase(address: string, servers: number, shards: number, segments: readonly Buffer[]): Case {
  const pipeline = sums(shards);
  const elements = BACKLOG_SEGMENTS * SEGMENT_ELEMENTS;
  let recorded: Recorded | undefined;
  const ours = async (): Promise<Sample> => {
    const keeping: Recorded | undefined = recorded === undefined ? new Map() : undefined;
    let commits = 0;
    const place = await open(address, pipeline, SEGMENT_ELEMENTS, (head, ops) => {
      commits += 1;
      if (keeping !== undefined) keeping.set(head, [...(keeping.get(head) ?? []), ops]);
    });
    try {
      await fill(place, shards, segments);
      const time = await timed(async () => {
        for (const stage of place.stages) await drain(place, stage, shards);
      });
      recorded ??= keeping;
      return figures({ shards, elements, commits, ...time });
    } finally {
      await place.end();
    }
  };
  const peer = async (): Promise<Sample> => {
    if (recorded === undefined) await ours();
    const place = await open(address, pipeline, SEGMENT_ELEMENTS);
    try {
      await fill(place, shards, segments);
      const time = await timed(() => replay(place, recorded!, shards));
      return figures({ shards, elements, commits: count(recorded!), ...time });
    } finally {
      await place.end();
    }
  };
  return {
    name: `${shards} shard${shards > 1 ? "s" : ""}, ${servers} server${servers > 1 ? "s" : ""}`,
    metrics: RATES,
    ours,
    peer,
  };
}

function count(sent: Recorded): number {
  return [...sent.values()].reduce((sum, multis) => sum + multis.length, 0);
}

/** Stage by stage, for each shard one after the other: below another root, where everything has the same versions. */
async function replay({ client, current, stages }: Place, sent: Recorded, shards: number): Promise<void> {
  for (const stage of stages) {
    await Promise.all(
      Array.from({ length: shards }, async (_, shard) => {
        for (const ops of sent.get(current.scope.shard(stage, shard).head) ?? []) await client.multi(ops);
      }),
    );
  }
}

const STATE_COMMITS = 20;
/** Behind a fill, with what it left to be brought together; counted apart. */
const FIRST_COMMITS = 200;
const STATE_CPU = "CPU µs a commit";
const FIRST_CPU = `${STATE_CPU}, the first ${FIRST_COMMITS}`;
const TOUCHED_KEYS = 100;
const FEW_KEYS = 1_000;

/** A shard that holds so many keys, and commits that each touch some of them. */
class FilledShard {
  private first: Sample = {};

  private constructor(
    private readonly pipeline: CompiledPipeline,
    private readonly place: Place,
    private readonly keys: number,
    private readonly sent: { commits: number; bytes: number },
  ) {}

  static async open(address: string, pipeline: CompiledPipeline, keys: number): Promise<FilledShard> {
    const sent = { commits: 0, bytes: 0 };
    const place = await open(address, pipeline, SETTINGS.bundleUnits, (head, ops) => {
      if (head !== place.current.scope.shard(place.stages[1]!, 0).head) return;
      sent.commits += 1;
      sent.bytes += dataBytes(ops);
    });
    const filled = new FilledShard(pipeline, place, keys, sent);
    for (let from = 0; from < keys; from += SETTINGS.bundleUnits) {
      await filled.send(from, Math.min(SETTINGS.bundleUnits, keys - from));
      await drain(filled.place, filled.place.stages[1]!, 1);
    }
    const { [STATE_CPU]: cpuMicros } = await filled.commits(FIRST_COMMITS);
    filled.first = { [FIRST_CPU]: cpuMicros! };
    return filled;
  }

  async commits(count = STATE_COMMITS): Promise<Sample> {
    const { place, sent } = this;
    const stage = place.stages[1]!;
    Object.assign(sent, { commits: 0, bytes: 0 });
    let seconds = 0;
    let cpuMicros = 0;
    for (let commit = 0; commit < count; commit++) {
      await this.send(commit * TOUCHED_KEYS, TOUCHED_KEYS);
      const more = await timed(() => drain(place, stage, 1));
      seconds += more.seconds;
      cpuMicros += more.cpuMicros;
    }
    return {
      "ms a commit": (seconds * 1000) / sent.commits,
      [STATE_CPU]: cpuMicros / sent.commits,
      "bytes a commit": sent.bytes / sent.commits,
      ...this.first,
    };
  }

  /** What the first stage makes of one element for each key from `from` on, without its commits. */
  private async send(from: number, elements: number): Promise<void> {
    const { client, current, stages } = this.place;
    const bundle = this.pipeline.openShard(stages[0]!).beginBundle(Number.NEGATIVE_INFINITY);
    for (let number = from; number < from + elements; number++)
      bundle.processSourceElement({ path: `/load/znode-${number % this.keys}`, version: number }, 0);
    const all = [...bundle.finish().outputs.get(stages[1]!)!];
    const { inbox } = current.scope.shard(stages[1]!, 0);
    for (const { data } of cutSegments(all, SETTINGS.segmentSizeBytes))
      await client.create(segmentPrefix(inbox, 0), data, { mode: "persistent-sequential" });
  }

  end(): Promise<void> {
    return this.place.end();
  }
}

function stateCase(keys: number, filled: (keys: number) => Promise<FilledShard>): Case {
  const of = async (stored: number): Promise<Sample> => (await filled(stored)).commits();
  return {
    name: `${keys.toLocaleString("en")} keys in the state, ${TOUCHED_KEYS} touched; peer: ${FEW_KEYS.toLocaleString("en")} keys`,
    metrics: [
      { name: "ms a commit", better: "lower" },
      { name: STATE_CPU, better: "lower" },
      { name: "bytes a commit", better: "lower" },
      { name: FIRST_CPU, better: "lower" },
    ],
    ours: () => of(keys),
    peer: () => of(FEW_KEYS),
  };
}

function dataBytes(ops: readonly Op[]): number {
  return ops.reduce(
    (sum, op) => sum + ((op.type === "create" || op.type === "setData") && op.data ? op.data.length : 0),
    0,
  );
}

const COPIES = 100;

/** Each value written to a znode, copied to another: from the write's acknowledgement until the copy is committed. */
function copyCase(address: string): Case {
  const definition = definePipeline({
    name: "copies",
    build: (root) => {
      root
        .apply(readZnodeChanges("/load", { start: "now" }))
        .apply(writeToZnodes(({ text }) => ({ path: "/copy", data: text ?? "" })));
    },
  });
  /** Writes one value after the other, and waits for each copy by a watch of the writer's own. */
  const measureCopies = async (client: ZooKeeperClient): Promise<Sample> => {
    const delays: number[] = [];
    let arrived: (() => void) | undefined;
    await client.addWatch("/copy", "persistent", ({ type }) => {
      if (type === "event") arrived?.();
    });
    for (let number = 0; number < COPIES; number++) {
      const copied = new Promise<void>((resolve) => {
        arrived = resolve;
      });
      const startedAt = performance.now();
      await client.setData("/load/znode", Buffer.from(String(number)));
      await copied;
      delays.push(performance.now() - startedAt);
      // Long enough for the pipeline to be quiet again.
      await delay(30);
    }
    return { "p50 ms": quantile(delays, 0.5), "p99 ms": quantile(delays, 0.99) };
  };
  const below = async (run: (client: ZooKeeperClient, connectString: string) => Promise<Sample>) => {
    const whole = await connect({ connectString: address });
    const { path } = await whole.create("/round-", undefined, { mode: "persistent-sequential" });
    await whole.close();
    const client = await connect({ connectString: `${address}${path}` });
    try {
      for (const znode of ["/load", "/load/znode", "/copy", "/offset"]) await client.create(znode);
      return await run(client, `${address}${path}`);
    } finally {
      await client.close();
    }
  };
  return {
    name: `a write to its copy, ${COPIES} one by one; peer: watch, getData, multi`,
    metrics: [
      { name: "p50 ms", better: "lower" },
      { name: "p99 ms", better: "lower" },
    ],
    ours: () =>
      below(async (client, connectString) => {
        const output = mkdtempSync(join(tmpdir(), "beamkeeper-bench-"));
        const settings = readSettings({ ZOOKEEPER_CONNECT: connectString, BEAMKEEPER_OUTPUT: output });
        const onCommit = (): void => undefined;
        const deployment = deployLocally({ settings, definition, log: silent, maxFailures: 5, onCommit });
        try {
          // What is written before the relay watches is not for it.
          while ((await client.getData("/copy")).data.length === 0) {
            await client.setData("/load/znode", Buffer.from("first"));
            await delay(100);
          }
          return await measureCopies(client);
        } finally {
          await deployment.stop();
          rmSync(output, { recursive: true, force: true });
        }
      }),
    peer: () =>
      below(async (client, connectString) => {
        const worker = await connect({ connectString });
        try {
          await worker.addWatch("/load", "persistentRecursive", ({ type }) => {
            if (type !== "event") return;
            void worker.getData("/load/znode").then(({ data, stat }) =>
              worker.multi([
                { type: "setData", path: "/copy", data },
                { type: "setData", path: "/offset", data: Buffer.from(stat.mzxid.toString(16)) },
              ]),
            );
          });
          return await measureCopies(client);
        } finally {
          await worker.close();
        }
      }),
  };
}

/** `one` and `three` are the connect strings of one server and of three. */
export function commitCases(
  one: string,
  three: string,
): { readonly cases: readonly Case[]; end(): Promise<void> } {
  const all = [1, 4, 16];
  const segments = backlog();
  const pipeline = sums(1);
  const shards = new Map<number, Promise<FilledShard>>();
  const filled = (keys: number): Promise<FilledShard> => {
    const shard = shards.get(keys) ?? FilledShard.open(one, pipeline, keys);
    shards.set(keys, shard);
    return shard;
  };
  return {
    cases: [
      ...all.map((shards) => backlogCase(one, 1, shards, segments)),
      ...all.map((shards) => backlogCase(three, 3, shards, segments)),
      copyCase(one),
      ...[10_000, 100_000, 1_000_000].map((keys) => stateCase(keys, filled)),
    ],
    async end() {
      for (const shard of shards.values()) await (await shard).end();
    },
  };
}
