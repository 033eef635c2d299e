import fc from "fast-check";
import { EncodingError, encodeJson } from "../../lib/checkpoint/encoding";
import {
  type Cursor,
  decodeCursor,
  decodeGeneration,
  decodeHead,
  decodeOutput,
  encodeCursor,
  encodeGeneration,
  encodeHead,
  encodeOutput,
  type Head,
  NEW_CURSOR,
  NEW_HEAD,
  NO_COMMITS,
  nextCommit,
  REMEMBERED_COMMITS,
} from "../../lib/checkpoint/records";

const SEED = 20260724;
const time = fc.oneof(fc.integer(), fc.constantFrom(Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY));
// JSON has no -0, and nobody asks for it.
const number = fc.double().map((value) => value + 0);
const history = { number: fc.nat(), ids: fc.array(fc.string(), { maxLength: 8 }) };

test("heads survive their encoding", () => {
  const head: fc.Arbitrary<Head> = fc.record({
    ...history,
    watermarkMs: time,
    holdMs: time,
    nextTimerMs: time,
    nextProcessingTimerMs: time,
    position: fc.option(fc.record({ segment: fc.string(), elements: fc.nat() })),
    inherited: fc.array(fc.record({ through: fc.string(), watermarkMs: time }), { maxLength: 3 }),
    garbage: fc.array(fc.string(), { maxLength: 3 }),
    state: fc.record({ shared: fc.option(fc.base64String()), znodes: fc.nat(), bytes: fc.nat() }),
    failing: fc.option(
      fc.record({ attempts: fc.nat(), sinceMs: fc.nat(), units: fc.nat(), isExhausted: fc.boolean() }),
    ),
    counters: fc.record({
      ...{ elementsIn: fc.nat(), elementsOut: fc.nat(), droppedLate: fc.nat() },
      ...{ failures: fc.nat(), deadLettered: fc.nat(), totalBytes: fc.nat(), readBytes: fc.nat() },
    }),
    metrics: fc.record({
      counters: fc.dictionary(fc.string(), number),
      distributions: fc.dictionary(
        fc.string(),
        fc.record({ count: fc.nat(), sum: number, min: number, max: number }),
      ),
    }),
  });
  fc.assert(
    fc.property(head, (each) => expect(decodeHead(encodeHead(each), "/h")).toEqual(each)),
    { seed: SEED },
  );
  expect(decodeHead(encodeHead(NEW_HEAD), "/h")).toEqual(NEW_HEAD);
});

test("cursors survive their encoding, with zxids beyond what a double holds", () => {
  const zxid = fc.bigInt({ min: 0n, max: 2n ** 63n - 1n });
  const cursor: fc.Arbitrary<Cursor> = fc.record({
    ...history,
    zxid,
    watermarkMs: time,
    startZxid: fc.option(zxid),
  });
  fc.assert(
    fc.property(cursor, (each) => expect(decodeCursor(encodeCursor(each), "/c")).toEqual(each)),
    { seed: SEED },
  );
  expect(decodeCursor(encodeCursor(NEW_CURSOR), "/c")).toEqual(NEW_CURSOR);
});

test("generations and outputs survive their encoding", () => {
  const shards = { a: 1, "b/c": 4 };
  const upstream = { a: [{ type: "source", id: "s" }], "b/c": [{ type: "stage", id: "a" }] } as const;
  const generation = {
    state: "running",
    epoch: 2,
    fingerprint: "f",
    shards,
    upstream,
    sideInputStages: [],
  } as const;
  expect(decodeGeneration(encodeGeneration(generation), "/g")).toEqual(generation);
  const output = { temporary: "t", final: "out/ü" };
  expect(decodeOutput(encodeOutput(output), "/o")).toEqual(output);
});

test("a history remembers the last eight commits, newest first", () => {
  let history = NO_COMMITS;
  for (let commit = 1; commit <= 20; commit += 1) history = nextCommit(history, `id-${commit}`);
  expect(history.number).toBe(20);
  expect(history.ids).toEqual(Array.from({ length: REMEMBERED_COMMITS }, (_, index) => `id-${20 - index}`));
});

test("a record without a history is no head and no cursor", () => {
  expect(() => decodeHead(encodeJson("head", {}), "/the/head")).toThrow(/^\/the\/head: .*no commit history/);
  expect(() => decodeCursor(encodeJson("cursor", { number: 1 }), "/the/cursor")).toThrow(EncodingError);
});
