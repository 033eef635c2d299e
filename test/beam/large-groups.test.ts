import * as beam from "apache-beam";
import type { BundleOutput, BundleResult } from "../../lib/beam/api";
import { CHUNK_BYTES } from "../../lib/beam/operators/bag";
import { compilePipeline, sessions, trigger, windowingStrategy } from "../../lib/index";
import { at, collect, readTest, runCollecting } from "../support/collect";
import { SHAPES, type SourceStep } from "../support/memory-runner";

interface Item {
  readonly k: string;
  readonly id: number;
  readonly content: string;
}

type WindowFn = Parameters<typeof beam.windowInto>[0];
type Strategy = ReturnType<typeof windowingStrategy>;

const grouped = (windowFn: WindowFn, strategy?: Strategy) => (root: beam.Root) =>
  root
    .apply(readTest<Item>("in"))
    .apply(beam.windowInto(windowFn, strategy))
    .apply(beam.groupBy("k"))
    .map(({ key, value }) => `${key}: ${value.map(({ id }) => id).sort((a, b) => a - b)}`)
    .apply(collect("out"));

/** Two keys, values of so many characters in bursts, watermarks in between. */
function steps(characters: number): SourceStep[] {
  const items = Array.from({ length: 90 }, (_, id): SourceStep[] => {
    const item = { k: id % 3 === 0 ? "a" : "b", id, content: `${id}`.padEnd(characters, ".") };
    const timeMs = (id * 7_919) % 30_000;
    return id % 20 === 19 ? [at(timeMs, item), { watermarkMs: id * 20 }] : [at(timeMs, item)];
  });
  return items.flat();
}

const early = (accumulation: "discarding" | "accumulating") =>
  windowingStrategy({
    trigger: trigger.afterWatermark({ early: trigger.afterCount(11) }),
    accumulation,
    allowedLatenessSeconds: 60,
  });

describe.each<[string, WindowFn, Strategy | undefined]>([
  ["fixed windows", beam.fixedWindows(10), undefined],
  ["sessions that merge", sessions(2), undefined],
  ["panes that discard", beam.fixedWindows(30), early("discarding")],
  ["panes that accumulate", beam.fixedWindows(30), early("accumulating")],
  ["sessions with panes that accumulate", sessions(1), early("accumulating")],
])("%s", (_, windowFn, strategy) => {
  test.each(SHAPES)("large groups come out as small ones do, in bundles of shape %j", (shape) => {
    const run = (characters: number) => {
      const result = runCollecting(grouped(windowFn, strategy), shape, { in: steps(characters) }, 2);
      return result.of("out").map(({ payload, pane }) => [payload, pane.timing, pane.index]);
    };
    // Chunks are begun again and again: five values fill one.
    expect(run(CHUNK_BYTES / 5).sort()).toEqual(run(3).sort());
  });
});

test("a large group reads like an array, and can't be written to", () => {
  const seen: unknown[] = [];
  const look = (values: Item[]): void => {
    seen.push(values.length, Array.isArray(values), values[0]!.id, values.at(-1)!.id, values[17]!.id);
    seen.push(
      [...values].length,
      values.slice(3, 6).map(({ id }) => id),
      values.find(({ id }) => id === 8)!.id,
    );
    seen.push(values[99], 5 in values, 99 in values, JSON.parse(JSON.stringify(values)).length);
    seen.push(
      values.reduce((sum, { id }) => sum + id, 0),
      Object.keys(values.entries().next().value!),
    );
    for (const change of [() => values.sort(), () => values.push(values[0]!), () => delete values[0]])
      expect(change).toThrow("the values of a large group are read from storage");
  };
  const build = (root: beam.Root) =>
    root
      .apply(readTest<Item>("in"))
      .apply(beam.windowInto(beam.fixedWindows(10)))
      .apply(beam.groupBy("k"))
      .map(({ value }) => look(value))
      .apply(collect("out"));
  const items = Array.from({ length: 30 }, (_, id) =>
    at(id, { k: "a", id, content: "".padEnd(CHUNK_BYTES / 4) }),
  );
  runCollecting(build, "single", { in: items });
  expect(seen.slice(0, 5)).toEqual([30, true, 0, 29, 17]);
  expect(seen.slice(5, 8)).toEqual([30, [3, 4, 5], 8]);
  expect(seen.slice(8, 12)).toEqual([undefined, true, false, 30]);
  expect(seen[12]).toBe(435);
});

test("a bundle that adds to a large group writes what it adds, and the last takes everything away", () => {
  const pipeline = compilePipeline({ name: "t", build: grouped(beam.fixedWindows(10)), shards: 1 });
  const [source, group] = pipeline.stages.map(({ id }) => id) as [string, string];
  const encoded = (id: number): BundleOutput => {
    const bundle = pipeline.openShard(source).beginBundle(-Infinity);
    bundle.processSourceElement({ k: "a", id, content: "x".repeat(CHUNK_BYTES / 8) }, 5);
    return [...bundle.finish().outputs.get(group)!][0]!;
  };
  let shard = pipeline.openShard(group);
  const stored = new Set<string>();
  const finish = (bundle: ReturnType<typeof shard.beginBundle>): BundleResult => {
    const result = bundle.finish();
    for (const { id, value } of result.stateChanges) {
      if (value === undefined) expect(stored.delete(id)).toBe(true);
      else stored.add(id);
    }
    shard = result.shard;
    shard.accept();
    return result;
  };
  for (let id = 0; id < 200; id++) {
    const bundle = shard.beginBundle(-Infinity);
    bundle.processElement(encoded(id).bytes);
    const { stateChanges, isStateEmpty } = finish(bundle);
    expect(stateChanges.reduce((sum, { value }) => sum + value!.length, 0)).toBeLessThan(1.3 * CHUNK_BYTES);
    expect(isStateEmpty).toBe(false);
  }
  expect(stored.size).toBeGreaterThan(20);
  const last = shard.beginBundle(-Infinity);
  last.advanceWatermark(20_000, 10);
  const result = finish(last);
  expect(result.effects).toHaveLength(1);
  expect([stored.size, result.isStateEmpty]).toEqual([0, true]);
});
