import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Schema } from "apache-beam/proto/schema";
import { parseAllDocuments } from "yaml";
import { rowCoder } from "../../../lib/beam/coders/row-coder";
import {
  BOOL,
  BYTES,
  customWindow,
  DOUBLE,
  decodeStandard,
  encodeStandard,
  GLOBAL_WINDOW_CODER,
  INTERVAL_WINDOW,
  iterable,
  kv,
  nullable,
  PANE,
  paramWindowedValue,
  STRING_UTF8,
  type StandardCoder,
  shardedKey,
  stateBackedIterable,
  timer,
  VARINT,
  windowedValue,
} from "../../../lib/beam/coders/standard-coders";
import { CorruptEncodingError } from "../../../lib/index";

/** The examples that all SDKs share, byte for byte. */
interface CoderSpec {
  readonly urn: string;
  readonly payload?: string;
  readonly components?: readonly CoderSpec[];
  readonly state?: Record<string, string>;
  readonly non_deterministic?: boolean;
}

interface Section {
  readonly coder: CoderSpec;
  readonly nested?: boolean;
  readonly examples: Map<string, unknown>;
}

const sections = parseAllDocuments(readFileSync(join(__dirname, "../data/standard_coders.yaml"), "utf8"), {
  intAsBigInt: true,
}).map((document) => {
  const section = document.toJS({ mapAsMap: true }) as Map<string, unknown>;
  return plain(section) as unknown as Section;
});

/** Examples stay a Map: their order and keys such as "" matter. */
function plain(section: Map<string, unknown>): Record<string, unknown> {
  return {
    ...(toObject(new Map([...section].filter(([name]) => name !== "examples"))) as object),
    examples: section.get("examples"),
  };
}

function toObject(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(toObject);
  if (!(value instanceof Map)) return value;
  return Object.fromEntries([...value].map(([name, part]) => [name, toObject(part)]));
}

const latin1 = (text: string) => Buffer.from(text, "latin1");

/** A coder, and what an example of the file is as a value of ours. */
interface Tested {
  // biome-ignore lint/suspicious/noExplicitAny: each URN has its own values.
  readonly coder: StandardCoder<any>;
  toValue(example: unknown): unknown;
}

const same = (example: unknown): unknown => example;

function tested(spec: CoderSpec): Tested {
  const [first, second] = (spec.components ?? []).map(tested);
  switch (spec.urn.split(":")[2]) {
    case "bytes":
      return { coder: BYTES, toValue: (text) => latin1(text as string) };
    case "string_utf8":
      return { coder: STRING_UTF8, toValue: same };
    case "bool":
      return { coder: BOOL, toValue: same };
    case "varint":
      return { coder: VARINT, toValue: integer };
    case "double":
      return { coder: DOUBLE, toValue: Number };
    case "global_window":
      return { coder: GLOBAL_WINDOW_CODER, toValue: () => "global" };
    case "interval_window":
      return { coder: INTERVAL_WINDOW, toValue: (window) => integers(window as Map<string, bigint>) };
    case "kv":
      return {
        coder: kv(first!.coder, second!.coder),
        toValue: (pair) => ({
          key: first!.toValue((pair as Map<string, unknown>).get("key")),
          value: second!.toValue((pair as Map<string, unknown>).get("value")),
        }),
      };
    case "iterable":
      return { coder: iterable(first!.coder), toValue: (list) => (list as unknown[]).map(first!.toValue) };
    case "state_backed_iterable": {
      const fetch = (token: Uint8Array) => latin1(spec.state![Buffer.from(token).toString("latin1")]!);
      return {
        coder: stateBackedIterable(first!.coder, fetch),
        toValue: (list) => (list as unknown[]).map(first!.toValue),
      };
    }
    case "nullable":
      return {
        coder: nullable(first!.coder),
        toValue: (value) => (value === null ? null : first!.toValue(value)),
      };
    case "custom_window":
      return {
        coder: customWindow(first!.coder),
        toValue: (example) => ({ window: first!.toValue((example as Map<string, unknown>).get("window")) }),
      };
    case "sharded_key":
      return {
        coder: shardedKey(first!.coder),
        toValue: (example) => {
          const { shardId, key } = toObject(example) as { shardId: string; key: unknown };
          return { shardId: latin1(shardId), key };
        },
      };
    default:
      return testedElement(spec, first, second);
  }
}

function testedElement(spec: CoderSpec, first: Tested | undefined, second: Tested | undefined): Tested {
  switch (spec.urn) {
    case "beam:coder:windowed_value:v1":
      return { coder: windowedValue(first!.coder, second!.coder), toValue: element(first!, second!) };
    case "beam:coder:param_windowed_value:v1": {
      const coder = paramWindowedValue(first!.coder, second!.coder, latin1(spec.payload!));
      return { coder, toValue: element(first!, second!) };
    }
    case "beam:coder:timer:v1":
      return { coder: timer(first!.coder, second!.coder), toValue: toTimer };
    case "beam:coder:row:v1":
      return {
        coder: rowCoder(latin1(spec.payload!)),
        toValue: (row) => toRow(spec, row as Map<string, unknown>),
      };
    default:
      throw new Error(`no coder for ${spec.urn}`);
  }
}

function integer(value: unknown): unknown {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}

function integers(values: Map<string, bigint>): Record<string, unknown> {
  return Object.fromEntries([...values].map(([name, value]) => [name, integer(value)]));
}

function toPane(pane: unknown) {
  const { is_first, is_last, timing, index, on_time_index } = toObject(pane) as Record<string, unknown>;
  return {
    isFirst: is_first,
    isLast: is_last,
    timing,
    index: Number(index),
    nonSpeculativeIndex: Number(on_time_index),
  };
}

function element(value: Tested, window: Tested) {
  return (example: unknown) => {
    const map = example as Map<string, unknown>;
    return {
      value: value.toValue(map.get("value")),
      timestamp: integer(map.get("timestamp")),
      pane: toPane(map.get("pane")),
      windows: (map.get("windows") as unknown[]).map(window.toValue),
    };
  };
}

function toTimer(example: unknown) {
  const map = example as Map<string, unknown>;
  const base = {
    userKey: map.get("userKey"),
    dynamicTimerTag: map.get("dynamicTimerTag"),
    windows: map.get("windows"),
  };
  if (map.get("clearBit")) return base;
  const [fireTimestamp, holdTimestamp] = [
    integer(map.get("fireTimestamp")),
    integer(map.get("holdTimestamp")),
  ];
  return { ...base, set: { fireTimestamp, holdTimestamp, pane: toPane(map.get("pane")) } };
}

/** Values by the types of the schema: floats are text in the file, bytes are text, instants carry their raw bits. */
function toRow(spec: CoderSpec, row: Map<string, unknown>): unknown {
  const schema = Schema.fromBinary(latin1(spec.payload!));
  return Object.fromEntries(
    schema.fields.map(({ name, type }) => {
      const value = row.get(name);
      if (value === null) return [name, null];
      const info = type!.typeInfo;
      if (info.oneofKind === "logicalType") return [name, toLogical(info.logicalType.urn, value)];
      if (info.oneofKind !== "atomicType") return [name, value instanceof Map ? mapped(value) : value];
      // FLOAT and DOUBLE, BYTES, then the integers.
      if (info.atomicType === 5) return [name, Math.fround(Number(value))];
      if (info.atomicType === 6) return [name, Number(value)];
      if (info.atomicType === 9) return [name, latin1(value as string)];
      return [name, typeof value === "bigint" ? integer(value) : value];
    }),
  );
}

function mapped(map: Map<unknown, unknown>): unknown {
  return new Map([...map].map(([key, value]) => [key, typeof value === "bigint" ? integer(value) : value]));
}

function toLogical(urn: string, value: unknown): unknown {
  if (urn.includes("millis_instant")) return integer((value as bigint) + (1n << 63n));
  if (urn.includes("bytes")) return latin1(value as string);
  return value instanceof Map ? integers(value as Map<string, bigint>) : value;
}

const examples = sections.flatMap(({ coder, nested, examples: map }) =>
  [...map].flatMap(([bytes, value]) =>
    (nested === undefined ? [false, true] : [nested]).map(
      (context) =>
        [coder.urn, JSON.stringify(bytes), context, { spec: coder, bytes: latin1(bytes), value }] as const,
    ),
  ),
);

describe("standard_coders.yaml", () => {
  test.each(examples)("%s %s, nested: %s", (_urn, _text, nested, { spec, bytes, value }) => {
    const { coder, toValue } = tested(spec);
    const expected = toValue(value);
    expect(comparable(decodeStandard(coder, bytes, nested))).toEqual(comparable(expected));
    // The file says of these that another encoding of the same value is as good.
    if (spec.non_deterministic === true) {
      const again = encodeStandard(coder, expected, nested);
      expect(comparable(decodeStandard(coder, again, nested))).toEqual(comparable(expected));
    } else expect(encodeStandard(coder, expected, nested).toString("hex")).toBe(bytes.toString("hex"));
  });

  test("has all URNs, and nothing is skipped", () => {
    expect(new Set(sections.map(({ coder }) => coder.urn)).size).toBe(17);
    expect(new Set(examples.map(([urn]) => urn)).size).toBe(17);
    const counted = sections.reduce((sum, { examples: map }) => sum + map.size, 0);
    expect(counted).toBe(EXAMPLES);
  });
});

const EXAMPLES = 117;

/** Bytes are compared by content, whatever class holds them. */
function comparable(value: unknown): unknown {
  if (value instanceof Uint8Array) return { bytes: Buffer.from(value).toString("hex") };
  if (Array.isArray(value)) return value.map(comparable);
  if (value instanceof Map) return { map: [...value].map(comparable) };
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, part]) => [name, comparable(part)]));
}

test.each([-(2n ** 63n), 2n ** 63n - 1n, -1n, 2n ** 53n, -(2n ** 53n)])("64-bit integer %s", (value) => {
  expect(BigInt(decodeStandard(VARINT, encodeStandard(VARINT, value)))).toBe(value);
});

test.each([
  [{ timing: "EARLY", index: 0, nonSpeculativeIndex: -1, isFirst: true, isLast: false }, "01"],
  [{ timing: "EARLY", index: 3, nonSpeculativeIndex: -1, isFirst: false, isLast: false }, "1003"],
  [{ timing: "ON_TIME", index: 0, nonSpeculativeIndex: 0, isFirst: true, isLast: true }, "07"],
  [{ timing: "ON_TIME", index: 3, nonSpeculativeIndex: 0, isFirst: false, isLast: true }, "260300"],
  [{ timing: "LATE", index: 4, nonSpeculativeIndex: 4, isFirst: false, isLast: false }, "1804"],
] as const)("pane %j", (pane, hex) => {
  expect(encodeStandard(PANE, pane).toString("hex")).toBe(hex);
  expect(decodeStandard(PANE, Buffer.from(hex, "hex"))).toEqual(pane);
});

test("damaged bytes are refused", () => {
  for (const [coder, hex] of [
    [BOOL, "02"],
    [VARINT, "ff"],
    [VARINT, "ffffffffffffffffffff7f"],
    [DOUBLE, "00"],
    [iterable(VARINT), "ff"],
    [iterable(VARINT), "fffffffe"],
    [PANE, "3f"],
    [STRING_UTF8, "05616263"],
  ] as const) {
    const decode = () =>
      decodeStandard<unknown>(coder as StandardCoder<unknown>, Buffer.from(hex, "hex"), true);
    expect(decode).toThrow(CorruptEncodingError);
  }
});
