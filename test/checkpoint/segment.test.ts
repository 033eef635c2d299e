import fc from "fast-check";
import { EncodingError, encodeFrame } from "../../lib/checkpoint/encoding";
import { cutSegments, decodeSegment, encodeSegment, type SegmentElement } from "../../lib/checkpoint/segment";

const SEED = 20260724;
const element: fc.Arbitrary<SegmentElement> = fc.record({
  bytes: fc.uint8Array({ maxLength: 40 }),
  timestampMs: fc.integer(),
});

test("elements cut into segments come out as they went in, in order", () => {
  fc.assert(
    fc.property(
      fc.array(element, { maxLength: 60, size: "max" }),
      fc.integer({ min: 1, max: 400 }),
      (elements, size) => {
        const drafts = cutSegments(elements, size);
        const decoded = drafts.flatMap(({ data }) => decodeSegment(data, "/s"));
        expect(decoded).toEqual(elements.map(({ bytes }) => Buffer.from(bytes)));
        let from = 0;
        for (const draft of drafts) {
          const own = elements.slice(from, from + draft.elements);
          from += draft.elements;
          expect(draft.elements).toBeGreaterThan(0);
          expect(draft.minTimestampMs).toBe(Math.min(...own.map(({ timestampMs }) => timestampMs)));
          if (draft.elements > 1) expect(draft.data.length).toBeLessThanOrEqual(size);
        }
      },
    ),
    { seed: SEED, numRuns: 100 },
  );
});

test("no two neighbours would have fitted into one segment", () => {
  fc.assert(
    fc.property(
      fc.array(element, { maxLength: 60, size: "max" }),
      fc.integer({ min: 20, max: 400 }),
      (elements, size) => {
        const drafts = cutSegments(elements, size);
        for (let index = 1; index < drafts.length; index += 1) {
          const first = decodeSegment(drafts[index]!.data, "/s")[0]!;
          expect(drafts[index - 1]!.data.length + 4 + first.length).toBeGreaterThan(size);
        }
      },
    ),
    { seed: SEED },
  );
});

test("nothing becomes no segment", () => {
  expect(cutSegments([], 100)).toEqual([]);
  expect(decodeSegment(encodeSegment([]).data, "/s")).toEqual([]);
});

test("a segment that is cut or damaged at any byte names the path", () => {
  const { data } = encodeSegment([
    { bytes: Buffer.from("one"), timestampMs: 1 },
    { bytes: Buffer.alloc(0), timestampMs: 2 },
    { bytes: Buffer.from("three"), timestampMs: 3 },
  ]);
  for (let at = 0; at < data.length; at += 1) {
    const damaged = Buffer.from(data);
    damaged[at]! ^= 0x55;
    for (const bad of [data.subarray(0, at), damaged]) {
      expect(() => decodeSegment(bad, "/inbox/1")).toThrow(EncodingError);
      expect(() => decodeSegment(bad, "/inbox/1")).toThrow(/^\/inbox\/1: /);
    }
  }
});

test("a payload with a right checksum and wrong lengths is refused, never half consumed", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 40 }), (payload) => {
      const frame = encodeFrame("segment", payload);
      let elements: Buffer[];
      try {
        elements = decodeSegment(frame, "/s");
      } catch (error) {
        expect(error).toBeInstanceOf(EncodingError);
        return;
      }
      const again = encodeSegment(elements.map((bytes) => ({ bytes, timestampMs: 0 })));
      expect(again.data).toEqual(frame);
    }),
    { seed: SEED, numRuns: 500 },
  );
});
