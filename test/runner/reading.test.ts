import * as beam from "apache-beam";
import {
  InputUnavailableError,
  mapAsync,
  type PipelineOptions,
  type ReadPiece,
  type SplittableSource,
  splittableRead,
  writeToZnodes,
} from "beamkeeper";
import { replayDeadLetter } from "../../lib/checkpoint/dead-letter";
import { readScopeStatus } from "../../lib/checkpoint/status";
import { readShardInput } from "../../lib/checkpoint/watermark";
import { connect, type ZooKeeper } from "../../lib/zookeeper";
import { withFault } from "../support/faults";
import { ShardLab } from "../support/shard-lab";
import { type LocalZooKeeper, startZooKeeper } from "../support/zookeeper-server";

let server: LocalZooKeeper;
let client: ZooKeeper;
let lab: ShardLab;
let results: string;
let tests = 0;

beforeAll(async () => {
  server = await startZooKeeper();
  client = await connect({ connectString: server.connectString });
});

afterAll(async () => {
  await client?.close();
  await server?.stop();
});

beforeEach(async () => {
  results = `/results-${++tests}`;
  await client.create(results);
});

afterEach(() => lab?.close());

const [, SPLIT, READ] = [0, 1, 2];
const PIECE = 37;
const TOTAL = 300;

interface Numbers {
  readonly from: number;
  readonly to: number;
}

interface Sample {
  /** Restrictions: [0, TOTAL) where the test says nothing. */
  readonly splits?: readonly Numbers[];
  /** Called for each number, in user code. */
  readonly visit?: (n: number) => void;
  /** Called for each piece, in the source. */
  readonly onPiece?: (from: number) => void;
  readonly times?: Pick<ReadPiece<Numbers, number>, "watermarkMs"> & { readonly of?: (n: number) => number };
  readonly pipeline?: Partial<PipelineOptions>;
}

/** Numbers of a range, each of which becomes a znode, once: a second creation would be a conflict. */
function numbersPipeline({
  splits = [{ from: 0, to: TOTAL }],
  visit,
  onPiece,
  times,
  pipeline,
}: Sample = {}) {
  let opened = 0;
  let closed = 0;
  const source: SplittableSource<string, Numbers, number> = {
    name: "numbers",
    size: ({ from, to }) => to - from,
    split: () => splits,
    *read({ from, to }) {
      opened += 1;
      try {
        for (let at = from; at < to; at += PIECE) {
          onPiece?.(at);
          const end = Math.min(to, at + PIECE);
          const records = Array.from({ length: end - at }, (_, index) => at + index);
          const timestampsMs = times?.of ? { timestampsMs: records.map(times.of) } : {};
          const watermark = times?.watermarkMs === undefined ? {} : { watermarkMs: times.watermarkMs };
          yield { records, rest: end < to ? { from: end, to } : undefined, ...timestampsMs, ...watermark };
        }
      } finally {
        closed += 1;
      }
    },
  };
  const definition: PipelineOptions = {
    name: `p-${tests}`,
    failures: { maxAttempts: 2 },
    build: (root) =>
      root
        .apply(beam.create(["job"]))
        .apply(splittableRead(source))
        .map((n) => {
          visit?.(n);
          return n;
        })
        .apply(writeToZnodes((n) => ({ path: `${results}/${n}`, data: "" }), { mode: "create" })),
    ...pipeline,
  };
  return { definition, reads: () => ({ opened, closed }) };
}

const numbers = (from: number, to: number): number[] =>
  Array.from({ length: to - from }, (_, index) => from + index);
const written = async (): Promise<number[]> =>
  (await client.getChildren(results)).children.map(Number).sort((a, b) => a - b);

/** A pipeline whose restrictions wait in the inbox of the stage that reads. */
async function openLab(sample: Sample = {}) {
  const { definition, reads } = numbersPipeline(sample);
  lab = await ShardLab.open(client, definition);
  await lab.drain(0);
  await lab.drain(SPLIT);
  return { reads };
}

test("a restriction is read bundle by bundle, and one process keeps it open in between", async () => {
  const { reads } = await openLab();
  const runner = lab.newRunner({ maxUnits: 1 });
  await lab.invoke(READ, runner);
  await lab.drain(READ, runner);
  expect(await written()).toEqual(numbers(0, TOTAL));
  expect((await lab.head(READ)).number).toBe(3);
  expect((await lab.head(READ)).position).toBeNull();
  expect(await lab.backlog(READ)).toBe(0);
  expect(reads()).toEqual({ opened: 1, closed: 1 });
});

test("what is left at the deadline is read by another process, and the head says how much was read", async () => {
  const { definition } = numbersPipeline({ onPiece: () => (lab.nowMs += 1_000) });
  lab = await ShardLab.open(client, definition);
  await lab.drain(0);
  await lab.drain(SPLIT);
  const outcomes: string[] = [];
  const reads: number[] = [];
  for (let outcome = "more"; outcome !== "idle"; ) {
    const request = { pipeline: lab.layout.pipeline, stage: lab.stage(READ), shard: 0, zxid: "0" };
    ({ outcome } = await lab.newRunner().run(request, lab.nowMs + 2_500));
    outcomes.push(outcome);
    reads.push((await lab.head(READ)).counters.readBytes);
  }
  // Three pieces until it is past the deadline.
  expect(reads.slice(0, 3)).toEqual([3 * PIECE, 6 * PIECE, TOTAL]);
  expect(outcomes).toEqual(["more", "more", "idle"]);
  expect(await written()).toEqual(numbers(0, TOTAL));
  const { counters } = await lab.head(READ);
  expect(counters).toMatchObject({ readBytes: TOTAL, elementsIn: TOTAL });
  expect((await lab.head(SPLIT)).counters).toMatchObject({ totalBytes: TOTAL });
});

test("a process that dies before or after a commit loses nothing and doubles nothing", async () => {
  await openLab();
  for (let nth = 1, isDone = false; !isDone; nth++) {
    const died = (): never => {
      throw new RangeError("died");
    };
    const point = nth % 2 === 0 ? { before: died } : { after: died };
    const mortal = withFault(client, { kind: "bundle", nth: 1 + (nth % 3), ...point });
    const failures = await lab.drain(READ, lab.newRunner({ maxUnits: 1 }, mortal), 1);
    isDone = failures.length === 0;
  }
  expect(await written()).toEqual(numbers(0, TOTAL));
  expect((await lab.head(READ)).counters).toMatchObject({ elementsIn: TOTAL, readBytes: TOTAL });
});

test("asynchronous calls on what is read keep up with it, and what one fails on goes to dead-letter alone", async () => {
  const { definition } = numbersPipeline();
  const broken = 123;
  const build = (root: beam.Root): void => {
    const source: SplittableSource<string, Numbers, number> = {
      name: "numbers",
      split: () => [{ from: 0, to: TOTAL }],
      *read({ from, to }) {
        for (let at = from; at < to; at += PIECE) {
          const end = Math.min(to, at + PIECE);
          yield { records: numbers(at, end), rest: end < to ? { from: end, to } : undefined };
        }
      },
    };
    root
      .apply(beam.create(["job"]))
      .apply(splittableRead(source))
      .apply(
        mapAsync(async (n: number) => {
          await Promise.resolve();
          if (n === broken) throw new RangeError("not this one");
          return n;
        }),
      )
      .apply(writeToZnodes((n) => ({ path: `${results}/${n}`, data: "" }), { mode: "create" }));
  };
  lab = await ShardLab.open(client, { ...definition, build });
  for (const stage of [0, SPLIT, READ]) await lab.drain(stage, lab.newRunner({ maxUnits: 1 }));
  expect(await written()).toEqual(numbers(0, TOTAL).filter((n) => n !== broken));
  const [only, ...others] = await lab.letters();
  expect(others).toEqual([]);
  expect(only!.letter).toMatchObject({
    kind: "element",
    error: { message: expect.stringMatching(/not this one$/) },
  });
});

test("restrictions are spread over the shards", async () => {
  const splits = Array.from({ length: 10 }, (_, part) => ({ from: part * 10, to: part * 10 + 10 }));
  const { definition } = numbersPipeline({ splits, pipeline: { shards: 3 } });
  lab = await ShardLab.open(client, definition);
  const runner = lab.newRunner();
  for (const stage of [0, SPLIT, READ])
    for (let shard = 0; shard < 3; shard++)
      await runner.run(
        { pipeline: lab.layout.pipeline, stage: lab.stage(stage), shard, zxid: "0" },
        Number.POSITIVE_INFINITY,
      );
  expect(await written()).toEqual(numbers(0, 100));
  const { shards } = await readScopeStatus(client, lab.current);
  const reads = shards.filter(({ stage }) => stage === lab.stage(READ)).map(({ elementsIn }) => elementsIn);
  for (const elements of reads) expect(elements).toBeGreaterThanOrEqual(20);
});

describe("a record that user code fails on", () => {
  test.each([0, 36, 37, 155, 299])("at %d goes to dead-letter alone, and can be replayed", async (poison) => {
    let isMended = false;
    const visit = (n: number): void => {
      if (n === poison && !isMended) throw new RangeError(`${n} is poison`);
    };
    await openLab({ visit });
    const failures = await lab.drain(READ);
    expect(failures).toHaveLength(1);
    expect(await written()).toEqual(numbers(0, TOTAL).filter((n) => n !== poison));
    const [only, ...others] = await lab.letters();
    expect(others).toEqual([]);
    expect(only!.letter).toMatchObject({ kind: "element", error: { name: "RangeError" } });
    expect(only!.letter.text).toMatch(new RegExp(`^${poison} at`));
    isMended = true;
    await replayDeadLetter(client, lab.layout, only!.id);
    await lab.drain(READ);
    expect(await written()).toEqual(numbers(0, TOTAL));
  });
});

test("what cannot be read goes to dead-letter from the place on where reading fails, others are read", async () => {
  let isMended = false;
  const onPiece = (from: number): void => {
    if (from === 3 * PIECE && !isMended) throw new RangeError("no such page");
  };
  await openLab({
    splits: [
      { from: 0, to: 150 },
      { from: 150, to: TOTAL },
    ],
    onPiece,
  });
  await lab.drain(READ);
  expect(await written()).toEqual([...numbers(0, 3 * PIECE), ...numbers(150, TOTAL)]);
  const [only] = await lab.letters();
  expect(only!.letter).toMatchObject({ kind: "element", error: { message: "no such page" } });
  expect(only!.letter.text).toMatch(/from: 111, to: 150/);
  isMended = true;
  await replayDeadLetter(client, lab.layout, only!.id);
  await lab.drain(READ);
  expect(await written()).toEqual(numbers(0, TOTAL));
});

test("an element that cannot be split goes to dead-letter", async () => {
  const { definition } = numbersPipeline();
  const broken: SplittableSource<string, Numbers, number> = {
    name: "broken",
    split: async () => {
      throw new RangeError("no such job");
    },
    read: () => [],
  };
  lab = await ShardLab.open(client, {
    ...definition,
    build: (root) => root.apply(beam.create(["job"])).apply(splittableRead(broken)),
  });
  await lab.drain(0);
  await lab.drain(SPLIT);
  const [only] = await lab.letters();
  expect(only!.letter).toMatchObject({ kind: "element", error: { message: "no such job" } });
  expect(only!.letter.text).toMatch(/^'job'/);
});

test("a store that does not answer is no fault of what is read", async () => {
  let outages = 2;
  const onPiece = (from: number): void => {
    if (from === 2 * PIECE && outages-- > 0) throw new InputUnavailableError("busy");
  };
  await openLab({ onPiece });
  const failures = await lab.drain(READ);
  expect(failures.map(({ name }) => name)).toEqual(["InputUnavailableError", "InputUnavailableError"]);
  expect(await written()).toEqual(numbers(0, TOTAL));
  expect((await lab.head(READ)).counters).toMatchObject({ failures: 0, deadLettered: 0 });
});

describe("the watermark of what is being read", () => {
  const graph = () => ({
    stages: Object.entries(lab.current.generation.upstream).map(([id, upstream]) => ({ id, upstream })),
    cursors: new Set<string>(),
    shards: lab.current.generation.shards,
  });

  async function openGrouping(times: NonNullable<Sample["times"]>): Promise<void> {
    const { definition } = numbersPipeline({ times });
    const { build } = definition;
    // A stage behind the one that reads.
    const grouped = (root: beam.Root) => {
      build(root);
      root
        .apply(beam.create([1]))
        .map((n) => ({ key: 0, n }))
        .apply(beam.groupBy("key"));
    };
    lab = await ShardLab.open(client, { ...definition, build: grouped });
    await lab.drain(0);
    await lab.drain(SPLIT);
  }

  const outputMs = async (): Promise<number> => {
    // What a stage would see whose only input is the one that reads.
    const stages = graph().stages.slice(0, READ + 1);
    const behind = { id: lab.stage(READ + 2), upstream: [{ type: "stage" as const, id: lab.stage(READ) }] };
    const { inputWatermarkMs } = await readShardInput(
      client,
      lab.current.scope,
      { ...graph(), stages: [...stages, behind] },
      behind.id,
      0,
    );
    return inputWatermarkMs;
  };

  test("is the source's estimate, and free at the end", async () => {
    await openGrouping({ of: (n) => 10_000 + n, watermarkMs: 10_000 });
    expect(await outputMs()).toBeLessThan(0);
    const runner = lab.newRunner({ maxUnits: 1 });
    const request = { pipeline: lab.layout.pipeline, stage: lab.stage(READ), shard: 0, zxid: "0" };
    await runner.run({ ...request, writes: 1 }, Number.POSITIVE_INFINITY);
    expect((await lab.head(READ)).position).toMatchObject({ holdMs: 10_000 });
    expect(await outputMs()).toBe(10_000);
    await lab.drain(READ);
    expect(await outputMs()).toBe(Number.POSITIVE_INFINITY);
    expect(await written()).toEqual(numbers(0, TOTAL));
  });

  test("may not be broken by the source", async () => {
    const late = (n: number): number => (n === 2 * PIECE ? 9_000 : 10_000);
    await openGrouping({ of: late, watermarkMs: 10_000 });
    await lab.drain(READ);
    expect(await written()).toEqual(numbers(0, TOTAL).filter((n) => n !== 2 * PIECE));
    const [only] = await lab.letters();
    expect(only!.letter.error).toMatchObject({
      message: expect.stringMatching(
        /source "numbers" gave a record of 9000 ms after a watermark of 10000 ms/,
      ),
    });
  });
});

test.each([
  [undefined, /a source needs a name/],
  [{ name: "s", split: () => [] }, /"s" has no function read/],
])("what is no source is refused where it is made", (source, refusal) => {
  expect(() => splittableRead(source as never)).toThrow(refusal);
});
