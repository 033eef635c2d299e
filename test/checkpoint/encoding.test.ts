import fc from "fast-check";
import {
  decodeFrame,
  decodeJson,
  EncodingError,
  encodeFrame,
  encodeJson,
  fromJsonTime,
  RECORD_KINDS,
  type RecordKind,
  toJsonTime,
} from "../../lib/checkpoint/encoding";

const KINDS = Object.keys(RECORD_KINDS) as RecordKind[];
const SEED = 20260724;

test("what was framed is read again, for every kind", () => {
  fc.assert(
    fc.property(fc.constantFrom(...KINDS), fc.uint8Array({ maxLength: 200 }), (kind, payload) => {
      expect(decodeFrame(kind, encodeFrame(kind, payload), "/a")).toEqual(Buffer.from(payload));
    }),
    { seed: SEED },
  );
});

test("a frame inside a larger buffer is read without its neighbours", () => {
  const frame = encodeFrame("head", Buffer.from("payload"));
  const around = Buffer.concat([Buffer.from("xxx"), frame, Buffer.from("yyy")]);
  const view = new Uint8Array(around.buffer, around.byteOffset + 3, frame.length);
  expect(decodeFrame("head", view, "/a").toString()).toBe("payload");
});

test("a frame that is cut or damaged at any byte names the path and what to do", () => {
  const frame = encodeFrame("cursor", Buffer.from("0123456789"));
  for (let at = 0; at < frame.length; at += 1) {
    expect(() => decodeFrame("cursor", frame.subarray(0, at), "/p/cursor")).toThrow(EncodingError);
    for (let bit = 0; bit < 8; bit += 1) {
      const damaged = Buffer.from(frame);
      damaged[at]! ^= 1 << bit;
      expect(() => decodeFrame("cursor", damaged, "/p/cursor")).toThrow(/^\/p\/cursor: .*\. [A-Z]/);
    }
  }
});

test("every kind refuses every other kind", () => {
  for (const written of KINDS) {
    for (const read of KINDS.filter((kind) => kind !== written)) {
      const frame = encodeFrame(written, Buffer.from("{}"));
      expect(() => decodeFrame(read, frame, "/a")).toThrow(`expected a ${read} record`);
    }
  }
});

test("the tags of the kinds differ", () => {
  expect(new Set(KINDS.map((kind) => RECORD_KINDS[kind].tag)).size).toBe(KINDS.length);
});

test("an unknown version says which one, and who reads it", () => {
  const frame = encodeFrame("stateRun", Buffer.from("x"));
  frame[2] = 9;
  expect(() => decodeFrame("stateRun", frame, "/a/state")).toThrow(
    /^\/a\/state: the stateRun record has version 9, this code reads version 1\..*newer/,
  );
});

test("an intact frame that is not JSON names the path", () => {
  expect(() => decodeJson("head", encodeFrame("head", Buffer.from("{")), "/a")).toThrow(EncodingError);
  expect(decodeJson("head", encodeJson("head", { a: [1] }), "/a")).toEqual({ a: [1] });
});

test("times with infinities survive JSON", () => {
  for (const ms of [Number.NEGATIVE_INFINITY, -(2 ** 53), -1, 0, 0.5, 1e15, Number.POSITIVE_INFINITY]) {
    expect(fromJsonTime(JSON.parse(JSON.stringify(toJsonTime(ms))))).toBe(ms);
  }
});
