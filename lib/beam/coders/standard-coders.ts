import type { Pane } from "../engine/panes";
import { ByteReader } from "./byte-reader";
import { ByteWriter } from "./byte-writer";

/**
 * The coders that all Beam SDKs and runners share, byte for byte. Beam model: `StandardCoders` in
 * beam_runner_api.proto, with the examples of standard_coders.yaml.
 *
 * Integers of 64 bits are numbers as long as they are safe, else bigints; both are taken. Times are milliseconds
 * since 1970, as such integers.
 */
export interface StandardCoder<T> {
  /** `nested`: other data follows, so the encoding must tell where it ends. */
  encode(value: T, out: ByteWriter, nested: boolean): void;
  decode(reader: ByteReader, nested: boolean): T;
}

export type Integer = number | bigint;

/** Most are a few bytes. */
const SINGLE_SIZE_BYTES = 64;

export function encodeStandard<T>(coder: StandardCoder<T>, value: T, nested = false): Buffer {
  const out = new ByteWriter(SINGLE_SIZE_BYTES);
  coder.encode(value, out, nested);
  return out.take();
}

/** @throws CorruptEncodingError if the bytes are cut off, too many, or no encoding of such a value. */
export function decodeStandard<T>(coder: StandardCoder<T>, bytes: Uint8Array, nested = false): T {
  const reader = new ByteReader(bytes, "an encoded value");
  const value = coder.decode(reader, nested);
  reader.end();
  return value;
}

export const BYTES: StandardCoder<Uint8Array> = {
  encode(value, out, nested) {
    if (nested) out.varint(value.length);
    out.bytes(value);
  },
  decode: (reader, nested) => (nested ? reader.bytes() : reader.rest()),
};

export const STRING_UTF8: StandardCoder<string> = {
  encode: (value, out, nested) => BYTES.encode(Buffer.from(value, "utf8"), out, nested),
  decode: (reader, nested) => Buffer.from(BYTES.decode(reader, nested)).toString("utf8"),
};

export const BOOL: StandardCoder<boolean> = {
  encode: (value, out) => out.byte(value ? 1 : 0),
  decode(reader) {
    const byte = reader.byte();
    return byte > 1 ? reader.fail(`${byte} is no boolean`) : byte === 1;
  },
};

export const VARINT: StandardCoder<Integer> = {
  encode: (value, out) => out.varint64(BigInt(value)),
  decode: (reader) => safe(reader.varint64()),
};

export const DOUBLE: StandardCoder<number> = {
  encode: (value, out) => out.double(value),
  decode: (reader) => reader.double(),
};

const SIGN = 1n << 63n;

/** Big-endian with the sign bit turned over, so that encodings sort as times do. */
export const INSTANT: StandardCoder<Integer> = {
  encode: (value, out) => out.uint64(BigInt(value) + SIGN),
  decode: (reader) => safe(reader.uint64() - SIGN),
};

export interface KeyValue<K, V> {
  readonly key: K;
  readonly value: V;
}

export function kv<K, V>(key: StandardCoder<K>, value: StandardCoder<V>): StandardCoder<KeyValue<K, V>> {
  return {
    encode(pair, out, nested) {
      key.encode(pair.key, out, true);
      value.encode(pair.value, out, nested);
    },
    decode: (reader, nested) => ({ key: key.decode(reader, true), value: value.decode(reader, nested) }),
  };
}

export function nullable<T>(coder: StandardCoder<T>): StandardCoder<T | null> {
  return {
    encode(value, out, nested) {
      out.byte(value === null ? 0 : 1);
      if (value !== null) coder.encode(value, out, nested);
    },
    decode: (reader, nested) => (BOOL.decode(reader, true) ? coder.decode(reader, nested) : null),
  };
}

/** In batches of elements, if their number was not known when they were encoded. */
const UNKNOWN_LENGTH = -1;

export function iterable<T>(element: StandardCoder<T>): StandardCoder<T[]> {
  return stateBackedIterable(element, (token) => {
    throw new Error(`the rest of an iterable lies in state (${token.length} bytes of token)`);
  });
}

/** As `iterable`; what is not in the encoding itself is fetched by its token, as encoded elements. */
export function stateBackedIterable<T>(
  element: StandardCoder<T>,
  fetch: (token: Uint8Array) => Uint8Array,
): StandardCoder<T[]> {
  return {
    encode(values, out) {
      out.int32(values.length);
      for (const value of values) element.encode(value, out, true);
    },
    decode(reader) {
      const length = reader.int32();
      if (length >= 0) return several(reader, element, length);
      if (length !== UNKNOWN_LENGTH) return reader.fail(`${length} is no number of elements`);
      const values: T[] = [];
      for (;;) {
        const count = Number(reader.varint64());
        if (count === 0) return values;
        if (count === -1) return values.concat(suffix(fetch(reader.bytes()), element));
        values.push(...several(reader, element, count));
      }
    },
  };
}

function suffix<T>(bytes: Uint8Array, element: StandardCoder<T>): T[] {
  const reader = new ByteReader(bytes, "the rest of an iterable");
  const values: T[] = [];
  while (reader.remaining > 0) values.push(element.decode(reader, true));
  return values;
}

function several<T>(reader: ByteReader, element: StandardCoder<T>, count: number): T[] {
  // An element may take no bytes (a global window), so the count can't be held against what is left.
  if (count < 0 || count > MAX_ELEMENTS) reader.fail(`${count} is no number of elements`);
  const values: T[] = [];
  for (let i = 0; i < count; i++) values.push(element.decode(reader, true));
  return values;
}

const MAX_ELEMENTS = 100_000_000;

export const GLOBAL_WINDOW_CODER: StandardCoder<"global"> = {
  encode() {},
  decode: () => "global",
};

/** A window by its end and its length, in milliseconds. */
export interface StandardInterval {
  readonly end: Integer;
  readonly span: Integer;
}

export const INTERVAL_WINDOW: StandardCoder<StandardInterval> = {
  encode({ end, span }, out) {
    INSTANT.encode(end, out, true);
    VARINT.encode(span, out, true);
  },
  decode: (reader) => ({ end: INSTANT.decode(reader, true), span: VARINT.decode(reader, true) }),
};

/** Windows that a runner knows nothing of: their last timestamp comes first. */
export function customWindow<W extends StandardInterval>(
  coder: StandardCoder<W>,
): StandardCoder<{ window: W }> {
  return {
    encode({ window }, out, nested) {
      INSTANT.encode(BigInt(window.end) - 1n, out, true);
      coder.encode(window, out, nested);
    },
    decode(reader, nested) {
      const last = BigInt(INSTANT.decode(reader, true));
      const window = coder.decode(reader, nested);
      return BigInt(window.end) - 1n === last
        ? { window }
        : reader.fail("a window does not end where it says");
    },
  };
}

const TIMINGS = ["EARLY", "ON_TIME", "LATE", "UNKNOWN"] as const;
const PaneForm = { first: 0, oneIndex: 1, twoIndices: 2 } as const;

/** Flags, then no index for a first pane, one if it says both, or two. Beam model: `PaneInfoCoder`. */
export const PANE: StandardCoder<Pane> = {
  encode({ timing, isFirst, isLast, index, nonSpeculativeIndex }, out) {
    const flags = Number(isFirst) + Number(isLast) * 2 + TIMINGS.indexOf(timing) * 4;
    const speculative = timing === "EARLY" ? -1 : index;
    if (timing === "UNKNOWN" || (index === 0 && nonSpeculativeIndex === (timing === "EARLY" ? -1 : 0))) {
      out.byte(flags | (PaneForm.first << 4));
    } else if (nonSpeculativeIndex === speculative) {
      out.byte(flags | (PaneForm.oneIndex << 4));
      out.varint(index);
    } else {
      out.byte(flags | (PaneForm.twoIndices << 4));
      out.varint(index);
      VARINT.encode(nonSpeculativeIndex, out, true);
    }
  },
  decode(reader) {
    const byte = reader.byte();
    const timing = TIMINGS[(byte >> 2) & 3]!;
    const base = { timing, isFirst: (byte & 1) !== 0, isLast: (byte & 2) !== 0 };
    const form = byte >> 4;
    if (form > PaneForm.twoIndices) return reader.fail(`a pane of the form ${form} is unknown`);
    const index = form === PaneForm.first ? 0 : reader.varint();
    const implied = timing === "EARLY" ? -1 : index;
    const nonSpeculativeIndex = form === PaneForm.twoIndices ? Number(reader.varint64()) : implied;
    return { ...base, index, nonSpeculativeIndex };
  },
};

export interface StandardWindowedValue<T, W> {
  readonly value: T;
  readonly timestamp: Integer;
  readonly windows: readonly W[];
  readonly pane: Pane;
}

export function windowedValue<T, W>(
  value: StandardCoder<T>,
  window: StandardCoder<W>,
): StandardCoder<StandardWindowedValue<T, W>> {
  const windows = iterable(window);
  return {
    encode(element, out, nested) {
      INSTANT.encode(element.timestamp, out, true);
      windows.encode([...element.windows], out, true);
      PANE.encode(element.pane, out, true);
      value.encode(element.value, out, nested);
    },
    decode(reader, nested) {
      const timestamp = INSTANT.decode(reader, true);
      const inWindows = windows.decode(reader, true);
      const pane = PANE.decode(reader, true);
      return { timestamp, windows: inWindows, pane, value: value.decode(reader, nested) };
    },
  };
}

/** Values only; time, windows and pane are the same for all and lie in the coder's payload. */
export function paramWindowedValue<T, W>(
  value: StandardCoder<T>,
  window: StandardCoder<W>,
  payload: Uint8Array,
): StandardCoder<StandardWindowedValue<T, W>> {
  const place = decodeStandard(windowedValue(BYTES, window), payload, true);
  return {
    encode: (element, out, nested) => value.encode(element.value, out, nested),
    decode: (reader, nested) => ({ ...place, value: value.decode(reader, nested) }),
  };
}

export interface StandardTimer<K, W> {
  readonly userKey: K;
  readonly dynamicTimerTag: string;
  readonly windows: readonly W[];
  /** Undefined for a timer that is cleared. */
  readonly set?: { readonly fireTimestamp: Integer; readonly holdTimestamp: Integer; readonly pane: Pane };
}

export function timer<K, W>(
  key: StandardCoder<K>,
  window: StandardCoder<W>,
): StandardCoder<StandardTimer<K, W>> {
  const windows = iterable(window);
  return {
    encode({ userKey, dynamicTimerTag, windows: inWindows, set }, out) {
      key.encode(userKey, out, true);
      STRING_UTF8.encode(dynamicTimerTag, out, true);
      windows.encode([...inWindows], out, true);
      BOOL.encode(set === undefined, out, true);
      if (set === undefined) return;
      INSTANT.encode(set.fireTimestamp, out, true);
      INSTANT.encode(set.holdTimestamp, out, true);
      PANE.encode(set.pane, out, true);
    },
    decode(reader) {
      const userKey = key.decode(reader, true);
      const dynamicTimerTag = STRING_UTF8.decode(reader, true);
      const inWindows = windows.decode(reader, true);
      const base = { userKey, dynamicTimerTag, windows: inWindows };
      if (BOOL.decode(reader, true)) return base;
      const fireTimestamp = INSTANT.decode(reader, true);
      const holdTimestamp = INSTANT.decode(reader, true);
      return { ...base, set: { fireTimestamp, holdTimestamp, pane: PANE.decode(reader, true) } };
    },
  };
}

export interface ShardedKey<K> {
  readonly shardId: Uint8Array;
  readonly key: K;
}

export function shardedKey<K>(key: StandardCoder<K>): StandardCoder<ShardedKey<K>> {
  return {
    encode(sharded, out) {
      BYTES.encode(sharded.shardId, out, true);
      key.encode(sharded.key, out, true);
    },
    decode: (reader) => ({ shardId: BYTES.decode(reader, true), key: key.decode(reader, true) }),
  };
}

function safe(value: bigint): Integer {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}
