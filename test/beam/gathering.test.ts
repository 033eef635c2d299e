import * as beam from "apache-beam";
import { sum } from "apache-beam/transforms/combiners";
import { groupByKey } from "apache-beam/transforms/internal";
import { GATHERED_BYTES } from "../../lib/beam/operators/gather";
import { describeInboxElement } from "../../lib/beam/operators/set-aside";
import { inboxKeyHash } from "../../lib/beam/rescaling";
import { compilePipeline, trigger, windowingStrategy } from "../../lib/index";
import { at, collect, readTest, runCollectingAsync, shuffled } from "../support/collect";
import { SHAPES, type SourceStep, testWhereWatermarksAreLearnedAtOnce } from "../support/memory-runner";

interface Sale {
  readonly key: unknown;
  readonly value: unknown;
}
type Windows = beam.PTransform<beam.PCollection<Sale>, beam.PCollection<Sale>>;

const fixed: Windows = beam.windowInto(beam.fixedWindows(10));
/** The SDK's, whose type is lost in `apply`. */
const groups = groupByKey() as unknown as beam.PTransform<
  beam.PCollection<Sale>,
  beam.PCollection<beam.KV<unknown, Iterable<unknown>>>
>;
const grouping =
  (windows: Windows = fixed) =>
  (root: beam.Root) =>
    root
      .apply(readTest<Sale>("in"))
      .apply(windows)
      .apply(groups)
      .map(({ key, value }) => ({ key, values: [...value] }))
      .apply(collect("out"));
const windowFrom = (startMs: number) => ({ kind: "interval", startMs, endMs: startMs + 10_000 });

/** The stage that groups, given a bundle of these. */
function grouped(sales: readonly (readonly [number, Sale])[], build = grouping()) {
  const pipeline = compilePipeline({ name: "test", build, shards: 1 });
  const [source, group] = pipeline.stages.map(({ id }) => pipeline.openShard(id));
  const above = source!.beginBundle(-Infinity);
  for (const [timestampMs, sale] of sales) above.processSourceElement(sale, timestampMs);
  const sent = above.finish();
  const outputs = [...sent.outputs.values()].flatMap((each) => [...each]);
  const bundle = group!.beginBundle(-Infinity);
  for (const { bytes } of outputs) bundle.processElement(bytes);
  return { pipeline, sent, outputs, bundle };
}

test("the values of a key and window go through the shuffle together, in order, with the earliest time", () => {
  const sent = shuffled(grouping(), [
    [4000, { key: "a", value: 1 }],
    [5000, { key: "b", value: [2] }],
    [3000, { key: "a", value: "three" }],
    [12_000, { key: "a", value: 4 }],
    [9000, { key: "a", value: undefined }],
  ]);
  expect(sent).toMatchObject([
    ...[
      {
        form: "gathered",
        key: "a",
        timestampMs: 3000,
        window: windowFrom(0),
        value: [1, "three", undefined],
      },
    ],
    ...[{ form: "element", key: "b", timestampMs: 5000, window: windowFrom(0), value: [2] }],
    ...[{ form: "element", key: "a", timestampMs: 12_000, window: windowFrom(10_000), value: 4 }],
  ]);
});

test.each<[string, unknown, unknown]>([
  ["objects in any order of properties", { x: 1, y: 2 }, { y: 2, x: 1 }],
  ["zero and minus zero", 0, -0],
  ["long texts", "é".repeat(40), "é".repeat(40)],
])("keys are equal by value: %s", (_, one, other) => {
  const { outputs, bundle } = grouped([
    [0, { key: one, value: 1 }],
    [1, { key: other, value: 2 }],
  ]);
  expect(outputs).toHaveLength(1);
  expect(inboxKeyHash(outputs[0]!.bytes)).toBe(outputs[0]!.keyHash);
  bundle.advanceWatermark(Infinity, 10);
  expect(bundle.finish().effects.map(({ payload }) => payload)).toEqual([{ key: one, values: [1, 2] }]);
});

test.each<[string, Windows]>([
  ["windows that merge", beam.windowInto(beam.sessions(10))],
  [
    "a trigger that counts",
    beam.windowInto(
      beam.fixedWindows(10),
      windowingStrategy({ trigger: trigger.repeatedly(trigger.afterCount(2)) }),
    ),
  ],
  ["late panes", beam.windowInto(beam.fixedWindows(10), windowingStrategy({ allowedLatenessSeconds: 5 }))],
  [
    "the time of the earliest element",
    beam.windowInto(beam.fixedWindows(10), windowingStrategy({ outputTime: "earliest" })),
  ],
])("each element goes alone with %s", (_, windows) => {
  const sales = [1, 2, 3].map((n): [number, Sale] => [n, { key: "a", value: n }]);
  expect(shuffled(grouping(windows), sales).map(({ form, value }) => [form, value])).toEqual([
    ["element", 1],
    ["element", 2],
    ["element", 3],
  ]);
});

test("what waits is sent before it is too much for one element, and keeps its order", () => {
  const sales = Array.from({ length: 300 }, (_, n): [number, Sale] => {
    return [n, { key: n % 2, value: `${n} ${"x".repeat(1000)}` }];
  });
  const { outputs, bundle } = grouped(sales);
  expect(outputs.length).toBeGreaterThanOrEqual(8);
  for (const { bytes } of outputs) expect(bytes.length).toBeLessThan(GATHERED_BYTES + 2000);
  bundle.advanceWatermark(Infinity, 10);
  const values = bundle.finish().effects.map(({ payload }) => (payload as { values: string[] }).values);
  expect(values).toEqual(
    [0, 1].map((key) => sales.flatMap(([, sale]) => (sale.key === key ? [sale.value] : []))),
  );
});

test("elements are counted, however they travel, and what waits counts towards the size of the bundle", () => {
  const pipeline = compilePipeline({ name: "test", build: grouping(), shards: 1 });
  const above = pipeline.openShard(pipeline.stages[0]!.id).beginBundle(-Infinity);
  for (let n = 0; n < 100; n++) above.processSourceElement({ key: n % 10, value: "x".repeat(50) }, n);
  expect(above.pendingBytes).toBeGreaterThan(5000);
  const { outputs, counters, pendingBytes } = above.finish();
  expect(counters).toMatchObject({ elementsIn: 100, elementsOut: 100 });
  const encoded = [...outputs.values()].flatMap((each) => [...each]);
  expect(encoded).toHaveLength(10);
  const bytes = encoded.reduce((total, each) => total + each.bytes.length, 0);
  expect(pendingBytes).toBeGreaterThanOrEqual(bytes);
  expect(pendingBytes).toBeLessThan(2 * bytes);
  const bundle = pipeline.openShard(pipeline.stages[1]!.id).beginBundle(10_000);
  for (const each of encoded) bundle.processElement(each.bytes);
  expect(bundle.finish().counters).toMatchObject({ elementsIn: 100, droppedLate: 100 });
});

describe.each(SHAPES)("in bundles of shape %j", (shape) => {
  testWhereWatermarksAreLearnedAtOnce("elements that come too late are counted", async () => {
    const sale = (ms: number, key: string, value: number) => at(ms, { key, value });
    const late: SourceStep[] = [sale(100, "a", 2), sale(200, "a", 3), sale(300, "b", 4)];
    const steps = [sale(15_000, "a", 1), { watermarkMs: 12_000 }, ...late, sale(16_000, "a", 5)];
    const result = await runCollectingAsync(grouping(), shape, { in: steps });
    expect(result.values("out")).toEqual([{ key: "a", values: [1, 5] }]);
    expect(result.droppedLate).toBe(3);
  });
});

test("a value without an encoding names the transform and the element", () => {
  const sales = [1, () => 2].map((value): [number, Sale] => [0, { key: "a", value }]);
  expect(() => grouped(sales)).toThrow(
    /groupByKey.*on element \{ key: 'a', value: \[Function.*is a function/s,
  );
});

test("people see an element of several values as one of an array", () => {
  const { outputs } = grouped([1, 2].map((value): [number, Sale] => [value, { key: "a", value }]));
  expect(describeInboxElement(outputs[0]!.bytes)).toEqual({ kind: "element", text: "'a': [ 1, 2 ] at 1 ms" });
});

test("a stage whose elements have to come alone refuses it", () => {
  const { outputs } = grouped([1, 2].map((value): [number, Sale] => [value, { key: "a", value }]));
  const build = (root: beam.Root) =>
    root
      .apply(readTest<Sale>("in"))
      .apply(fixed)
      .apply(beam.groupBy("key").combining("value", sum, "sum"));
  const pipeline = compilePipeline({ name: "test", build, shards: 1 });
  const bundle = pipeline.openShard(pipeline.stages[1]!.id).beginBundle(-Infinity);
  expect(() => bundle.processElement(outputs[0]!.bytes)).toThrow(
    "several values come where each has to come alone",
  );
});
