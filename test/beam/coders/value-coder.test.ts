import fc from "fast-check";
import { ByteReader } from "../../../lib/beam/coders/byte-reader";
import { ByteWriter } from "../../../lib/beam/coders/byte-writer";
import { decodeInboxElement, encodeElement } from "../../../lib/beam/coders/element-coder";
import { keyHash, keyId, murmur3 } from "../../../lib/beam/coders/key";
import { decodeSharedPanes, encodeSharedPanes, paneCodec } from "../../../lib/beam/coders/pane-state-coder";
import { cellCodec, decodeShared, encodeShared } from "../../../lib/beam/coders/state-coder";
import {
  canonicalBytes,
  decodeValue,
  encodeValue,
  readValue,
  writeValue,
} from "../../../lib/beam/coders/value-coder";
import { newCell } from "../../../lib/beam/engine/open-cell";
import { NO_FIRING } from "../../../lib/beam/engine/panes";
import { CorruptEncodingError, UnencodableValueError } from "../../../lib/beam/errors";

const values = fc.anything({
  withBigInt: true,
  // Valid ones come below; Jest takes two invalid dates for different, so they have a test of their own.
  withDate: false,
  withMap: true,
  withSet: true,
  withSparseArray: false,
  withNullPrototype: false,
  key: fc.oneof(fc.string(), fc.constant("__proto__"), fc.string({ unit: "binary" })),
  values: [
    fc.boolean(),
    fc.integer(),
    fc.double(),
    fc.maxSafeInteger(),
    fc.bigInt(),
    fc.string({ unit: "binary" }),
    fc.array(fc.integer({ min: 0xd7ff, max: 0xe001 })).map((codes) => String.fromCharCode(...codes)),
    fc.constantFrom(null, undefined, NaN, Infinity, -Infinity, -0, 0, 2 ** 31, -(2 ** 31), 2 ** 53),
    fc.date({ noInvalidDate: true }),
    fc.uint8Array(),
    fc.uint8Array().map((bytes) => Buffer.from(bytes)),
  ],
});

test("an invalid date stays one", () => {
  const decoded = decodeValue(encodeValue([new Date(Number.NaN)])) as Date[];
  expect(decoded[0]).toBeInstanceOf(Date);
  expect(decoded[0]!.getTime()).toBeNaN();
});

test("what is encoded is decoded, type and all", () => {
  fc.assert(
    fc.property(values, (value) => {
      expect(decodeValue(encodeValue(value))).toStrictEqual(value);
    }),
    { numRuns: 1000 },
  );
});

test("many values in one buffer are what they were, read in place, with texts over the borders of pages", () => {
  const text = fc.string({ unit: fc.constantFrom("a", "z", "é", "語"), minLength: 0, maxLength: 1500 });
  const ascii = fc.string({ minLength: 20, maxLength: 300 });
  fc.assert(
    fc.property(fc.array(fc.oneof(ascii, text, values), { maxLength: 60 }), (given) => {
      const out = new ByteWriter(16);
      const ends = given.map((value) => {
        writeValue(out, value);
        return out.length;
      });
      const reader = new ByteReader(Buffer.alloc(0), "a test");
      const read = (bytes: Uint8Array) => (end: number, index: number) => {
        reader.reset(bytes, ends[index - 1] ?? 0, end);
        const value = readValue(reader);
        reader.end();
        return value;
      };
      const moved = Buffer.concat([Buffer.alloc(7), out.all]).subarray(7);
      expect(ends.map(read(out.all))).toStrictEqual(given);
      expect(ends.map(read(moved))).toStrictEqual(given);
    }),
    { numRuns: 100 },
  );
});

test("a text of other characters is what it was wherever in its buffer it comes to lie", () => {
  for (let length = 21; length < 1000; length += 7) {
    const text = "é".repeat(length);
    expect(decodeValue(encodeValue(["before", text, 1]))).toEqual(["before", text, 1]);
  }
});

test("-0 and the order of properties survive", () => {
  expect(Object.is(decodeValue(encodeValue(-0)), -0)).toBe(true);
  expect(Object.keys(decodeValue(encodeValue({ b: 1, a: 2 })) as object)).toEqual(["b", "a"]);
});

test("a key is its value: order of properties, entries and members does not count, -0 is 0, NaN is NaN", () => {
  const same: [unknown, unknown][] = [
    [
      { a: 1, b: { c: 2, d: 3 } },
      { b: { d: 3, c: 2 }, a: 1 },
    ],
    [0, -0],
    [[0], [-0]],
    [NaN, -NaN],
    [
      new Map([
        ["a", 1],
        ["b", 2],
      ]),
      new Map([
        ["b", 2],
        ["a", 1],
      ]),
    ],
    [new Set([1, 2]), new Set([2, 1])],
    [Buffer.from("x"), new Uint8Array([120])],
    [new Date(5), new Date(5)],
  ];
  for (const [a, b] of same) {
    expect(keyId(a)).toBe(keyId(b));
    expect(keyHash(a)).toBe(keyHash(b));
  }
  const different: unknown[] = [
    0,
    0n,
    "0",
    false,
    null,
    undefined,
    [],
    {},
    [0],
    "",
    new Date(0),
    new Map(),
    new Set(),
    2 ** 32,
    NaN,
  ];
  expect(new Set(different.map(keyId)).size).toBe(different.length);
});

test("equal keys have equal bytes and different ones do not", () => {
  fc.assert(
    fc.property(values, values, (a, b) => {
      expect(canonicalBytes(decodeValue(encodeValue(a))).equals(canonicalBytes(a))).toBe(true);
      expect(keyId(a) === keyId(b)).toBe(canonicalBytes(a).equals(canonicalBytes(b)));
    }),
  );
});

test("the hash is MurmurHash3 and spreads like keys over shards", () => {
  // Reference values of MurmurHash3_x86_32 with seed 0.
  expect(murmur3(Buffer.from(""))).toBe(0);
  expect(murmur3(Buffer.from("hello"))).toBe(0x248bfa47);
  expect(murmur3(Buffer.from("hello, world"))).toBe(0x149bbb7f);
  expect(murmur3(Buffer.from("The quick brown fox jumps over the lazy dog"))).toBe(0x2e4ff723);
  const counts = new Array<number>(8).fill(0);
  for (let i = 0; i < 8000; i++) counts[keyHash(`/services/s${i}`) % 8]!++;
  for (const count of counts) expect(Math.abs(count - 1000)).toBeLessThan(150);
});

class Point {
  constructor(readonly x: number) {}
}

test.each<[string, unknown, string]>([
  ["a function", { a: [1, () => 1] }, "value.a[1] is a function"],
  ["a symbol", Symbol("x"), "value is a symbol"],
  ["a Promise", { p: Promise.resolve(1) }, "value.p is a Promise"],
  ["an instance of a class", [{ at: new Point(1) }], "value[0].at is an instance of Point"],
  ["an Error", new RangeError("x"), "value is an instance of RangeError"],
  ["another typed array", new Float64Array(1), "value is an instance of Float64Array"],
  ["a regular expression in a Map", new Map([["k", /x/]]), "value.values[0] is an instance of RegExp"],
])("%s is refused by type and path", (_, value, message) => {
  expect(() => encodeValue(value)).toThrow(UnencodableValueError);
  expect(() => encodeValue(value)).toThrow(message);
});

test("a cycle is refused", () => {
  const cycle: { self?: unknown } = {};
  cycle.self = cycle;
  expect(() => encodeValue(cycle)).toThrow(/may contain itself/);
});

describe("damaged bytes give an error of their own", () => {
  const value = {
    s: "text",
    n: [1, 2.5, -3n, null],
    m: new Map([["a", new Set([new Date(1)])]]),
    b: Buffer.from("xyz"),
  };
  const window = { kind: "interval" as const, startMs: 0, endMs: 1000 };
  const cell = { key: { b: 1, a: 2 }, window, accumulator: [1, value] };
  const trigger = { finished: [true, false], values: [undefined, 3], askedMs: 7 };
  const pane = { ...newCell(window, true), filled: true, accumulator: value, elementHoldMs: 9, trigger };
  const last = { index: 3, spoken: 2, timing: "LATE" as const };
  const [cells, panes] = [cellCodec("s"), paneCodec("s", 2)];
  const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString("latin1");
  const rows: [string, Buffer, (bytes: Uint8Array) => unknown][] = [
    [
      "cell",
      Buffer.from(cells.encode(cells.id(cell.key, window), cell) as string, "latin1"),
      (bytes) => cells.decode(cells.id(cell.key, window), text(bytes)),
    ],
    [
      "panes",
      Buffer.from(panes.encode(panes.id("k"), "k", [pane, { ...pane, pane: last }]) as string, "latin1"),
      (bytes) => panes.decode(panes.id("k"), text(bytes)),
    ],
  ];
  const versioned: [string, Buffer, (bytes: Uint8Array) => unknown][] = [
    ["value", encodeValue(value), decodeValue],
    [
      "element",
      encodeElement({ key: "k", value, timestampMs: 1, window, pane: NO_FIRING }),
      decodeInboxElement,
    ],
    ["shared state", encodeShared(5)!, (bytes) => decodeShared(bytes, "s")],
    [
      "shared state of panes",
      encodeSharedPanes({ watermarkMs: 5, nowMs: 6 }, 2)!,
      (bytes) => decodeSharedPanes(bytes, "s", 2),
    ],
  ];
  const cases = [...versioned, ...rows];

  test("intact rows come back as they were", () => {
    expect(rows[0]![2](rows[0]![1])).toEqual(cell);
    expect(rows[1]![2](rows[1]![1])).toEqual({ key: "k", cells: [pane, { ...pane, pane: last }] });
  });

  test.each(cases)("%s cut off at every byte, or with a byte too many", (_, bytes, decode) => {
    decode(bytes);
    for (let end = 0; end < bytes.length; end++)
      expect(() => decode(bytes.subarray(0, end))).toThrow(CorruptEncodingError);
    expect(() => decode(Buffer.concat([bytes, Buffer.of(0)]))).toThrow(CorruptEncodingError);
  });

  test.each(versioned)("%s of another version", (_, bytes, decode) => {
    expect(() => decode(Buffer.concat([Buffer.of(99), bytes.subarray(1)]))).toThrow(/version 99 is unknown/);
  });

  test.each(cases)(
    "%s with bytes changed, or at random: a value or that error, never more memory than bytes",
    (_, bytes, decode) => {
      fc.assert(
        fc.property(
          fc.uint8Array({ maxLength: 200 }),
          fc.nat(bytes.length - 1),
          fc.nat(255),
          (noise, place, byte) => {
            const changed = Buffer.from(bytes);
            changed[place] = byte;
            for (const input of [
              changed,
              Buffer.from(noise),
              Buffer.concat([bytes.subarray(0, place), noise]),
            ]) {
              try {
                decode(input);
              } catch (error) {
                expect(error).toBeInstanceOf(CorruptEncodingError);
              }
            }
          },
        ),
        { numRuns: 500 },
      );
    },
  );
});

test("a reader of one memory sees what was written there after it had read beside it", () => {
  const memory = Buffer.alloc(4096);
  const reader = new ByteReader(Buffer.alloc(0), "a test");
  let start = 0;
  for (const text of ["a".repeat(100), "b".repeat(100), "é".repeat(100), "c".repeat(100)]) {
    const bytes = encodeValue(text).subarray(1);
    bytes.copy(memory, start);
    reader.reset(memory.subarray(start, start + bytes.length), 0, bytes.length);
    expect(readValue(reader)).toBe(text);
    start += bytes.length;
  }
});

const sizes = fc.array(
  fc.oneof(
    { weight: 3, arbitrary: fc.nat(900) },
    { weight: 2, arbitrary: fc.integer({ min: 15_000, max: 200_000 }) },
    { weight: 1, arbitrary: fc.integer({ min: 1_000_000, max: 5_000_000 }) },
  ),
  { maxLength: 12 },
);

test("encodings of any sizes, one after the other, stay as they were when they were taken", () => {
  fc.assert(
    fc.property(sizes, (lengths) => {
      const writer = new ByteWriter();
      const taken = lengths.map((length, n) => {
        writer.reset();
        // In parts, so that it moves from buffer to buffer on its way.
        const part = Buffer.alloc(Math.ceil(length / 7), n + 1);
        for (let left = length; left > 0; left -= part.length) writer.bytes(part.subarray(0, left));
        return n % 3 === 2 ? Buffer.from(writer.takeText(), "latin1") : writer.take();
      });
      for (const [n, bytes] of taken.entries())
        expect(bytes.equals(Buffer.alloc(lengths[n]!, n + 1))).toBe(true);
    }),
    { numRuns: 50 },
  );
});
