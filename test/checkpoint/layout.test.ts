import fc from "fast-check";
import { keyHashOf } from "../../lib/checkpoint/key-hash";
import {
  encodeName,
  KEY_GROUPS,
  PipelineLayout,
  segmentNames,
  segmentPrefix,
  shardOf,
} from "../../lib/checkpoint/layout";
import { checkPath } from "../../lib/zookeeper";

const SEED = 20260724;
/** The Beam model's smallest and largest times, in ms. */
const MIN_TIME_MS = Number(-9223372036854775n);
const MAX_TIME_MS = Number(9223372036854775n);
const time = fc.oneof(
  fc.integer({ min: MIN_TIME_MS, max: MAX_TIME_MS }),
  fc.constantFrom(MIN_TIME_MS, MAX_TIME_MS, -1, 0, 1, 1_700_000_000_000),
);

function serverName(timestampMs: number, sequence: number): string {
  const path = segmentPrefix("/inbox", timestampMs) + String(sequence).padStart(10, "0");
  return path.slice("/inbox/".length);
}

describe("segment names", () => {
  test("tell the time and the sequence that they were made from", () => {
    fc.assert(
      fc.property(time, fc.nat(2 ** 31 - 1), (timestampMs, sequence) => {
        const name = serverName(timestampMs, sequence);
        expect(segmentNames([name])).toEqual([{ name, minTimestampMs: timestampMs, sequence }]);
      }),
      { seed: SEED },
    );
  });

  test("sort as text by time, and fractions of a millisecond never make a name later than its elements", () => {
    fc.assert(
      fc.property(time, time, (a, b) => {
        expect(serverName(a, 1) < serverName(b, 1)).toBe(a < b);
      }),
      { seed: SEED },
    );
    expect(segmentNames([serverName(-0.5, 1)])[0]!.minTimestampMs).toBe(-1);
    expect(segmentNames([serverName(7.9, 1)])[0]!.minTimestampMs).toBe(7);
  });

  test("come in the order of appends, whatever their times, and other children are ignored", () => {
    fc.assert(
      fc.property(fc.array(time, { maxLength: 20 }), fc.infiniteStream(fc.nat()), (times, chance) => {
        const names = times.map((timestampMs, index) => ({
          name: serverName(timestampMs, index),
          by: chance.next().value!,
        }));
        const shuffled = [...names].sort((a, b) => a.by - b.by).map(({ name }) => name);
        const found = segmentNames([...shuffled, "state", "1-2", `x${shuffled[0] ?? ""}`]);
        expect(found.map(({ sequence }) => sequence)).toEqual(times.map((_, index) => index));
      }),
      { seed: SEED },
    );
  });
});

describe("shards of keys", () => {
  test("every shard has its share of the key groups, and a group has one shard", () => {
    for (let shards = 1; shards <= KEY_GROUPS; shards += 1) {
      const groups = Array.from({ length: KEY_GROUPS }, (_, group) => shardOf(group, shards));
      const sizes = Array.from(
        { length: shards },
        (_, shard) => groups.filter((each) => each === shard).length,
      );
      expect(Math.max(...sizes) - Math.min(...sizes)).toBeLessThanOrEqual(1);
      expect(Math.min(...sizes)).toBeGreaterThanOrEqual(1);
      expect(shardOf(0xffffffff, shards)).toBe(groups[0xffffffff % KEY_GROUPS]);
    }
  });

  test("paths that look alike spread evenly", () => {
    const counts = new Map<number, number>();
    for (let index = 0; index < 8_000; index += 1) {
      const shard = shardOf(keyHashOf(`/services/s-${index}`), 8);
      counts.set(shard, (counts.get(shard) ?? 0) + 1);
    }
    expect(counts.size).toBe(8);
    for (const count of counts.values()) expect(Math.abs(count - 1_000)).toBeLessThan(200);
  });
});

test("text of a user's becomes one znode name that a server takes, and no two texts the same", () => {
  fc.assert(
    fc.property(fc.string({ minLength: 1, unit: "grapheme" }), fc.string({ minLength: 1 }), (text, other) => {
      const name = encodeName(text);
      expect(name).not.toContain("/");
      expect(() => checkPath(`/${name}`)).not.toThrow();
      expect(decodeURIComponent(name)).toBe(text);
      expect(encodeName(other) === name).toBe(other === text);
    }),
    { seed: SEED },
  );
  for (const text of [".", "..", "zookeeper/../x", "\u0000", "a b", "%2E"]) {
    expect(() => checkPath(`/${encodeName(text)}`)).not.toThrow();
  }
});

test("the layout is the one of the design", () => {
  const pipeline = new PipelineLayout("/beamkeeper", "my pipeline");
  const scope = pipeline.epoch(3);
  expect(pipeline.generation).toBe("/beamkeeper/my%20pipeline/generation");
  expect(scope.source("a/b").cursor).toBe("/beamkeeper/my%20pipeline/epochs/3/sources/a%2Fb");
  expect(scope.source("a").manifestDelta(7)).toBe(
    "/beamkeeper/my%20pipeline/epochs/3/sources/a/manifest/0000000000000007",
  );
  expect(scope.shard("s", 2).inbox).toBe("/beamkeeper/my%20pipeline/epochs/3/stages/s/2/inbox");
  expect(scope.shard("s", 2).state).toBe("/beamkeeper/my%20pipeline/epochs/3/stages/s/2/state");
});
