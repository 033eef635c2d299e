/// <reference lib="es2024.string" />
import { types } from "node:util";
import { UnencodableValueError } from "../errors";
import { ByteReader } from "./byte-reader";
import { ByteWriter } from "./byte-writer";

/**
 * The general coder: any value of plain data, by value.
 *
 *   encoding = version (1 byte), value
 *   value    = tag (1 byte), payload
 *
 * What it has no tag for it refuses, with the path of the offending part; nothing is dropped or turned into `{}`.
 */
export const VALUE_VERSION = 1;

/** Deeper values are refused: they are cycles, or would overflow the stack of whoever decodes them. */
export const MAX_DEPTH = 200;

export const Tag = {
  undefined: 0,
  null: 1,
  false: 2,
  true: 3,
  /** Zigzag varint; integers of 32 bits. */
  int: 4,
  double: 5,
  bigint: 6,
  /** The same with a minus. */
  negativeBigint: 7,
  string: 8,
  /** With lone surrogates, which UTF-8 can't hold. */
  utf16: 9,
  date: 10,
  bytes: 11,
  buffer: 12,
  array: 13,
  map: 14,
  set: 15,
  object: 16,
} as const;

/** Of an encoding within another. */
const SINGLE_SIZE_BYTES = 256;

const writer = new ByteWriter();
let busy = false;

/** Bytes that `decodeValue` turns into an equal value. Object properties keep their order. */
export function encodeValue(value: unknown): Buffer {
  return withWriter((out) => {
    out.byte(VALUE_VERSION);
    writeValue(out, value);
  });
}

/**
 * Bytes that are equal exactly for equal values: the order of properties, of entries in a Map and of members in a
 * Set does not count, -0 equals 0, a Buffer equals a Uint8Array. For keys.
 */
export function canonicalBytes(value: unknown): Buffer {
  return withWriter((out) => writeCanonical(out, value));
}

/** The same as a text of one character a byte (latin1). */
export function canonicalText(value: unknown): string {
  return withTextWriter((out) => writeCanonical(out, value));
}

/** `canonicalBytes` into a longer encoding. */
export function writeCanonical(out: ByteWriter, value: unknown): void {
  if (typeof value === "string") writeString(out, value);
  else writeNamed(out, value, "key", true);
}

export function decodeValue(bytes: Uint8Array): unknown {
  const reader = new ByteReader(bytes, "an encoded value");
  const version = reader.byte();
  if (version !== VALUE_VERSION)
    reader.fail(`version ${version} is unknown, this code reads version ${VALUE_VERSION}`);
  const value = readValue(reader);
  reader.end();
  return value;
}

/** Into a longer encoding, without the version. `path` is what errors call the value. */
export function writeValue(out: ByteWriter, value: unknown, path = "value"): void {
  if (typeof value === "number") writeNumber(out, value, false);
  else if (typeof value === "string") writeString(out, value);
  else writeNamed(out, value, path, false);
}

/** A part that has no encoding. Where it lies is added while it is thrown on, so that a value that has one pays nothing. */
class Refusal extends Error {
  path = "";
  within(step: string): this {
    this.path = step + this.path;
    return this;
  }
}

function within(error: unknown, step: string): unknown {
  return error instanceof Refusal ? error.within(step) : error;
}

function writeNamed(out: ByteWriter, value: unknown, path: string, canonical: boolean): void {
  try {
    write(out, value, 0, canonical);
  } catch (error) {
    throw error instanceof Refusal ? new UnencodableValueError(path + error.path, error.message) : error;
  }
}

export function withWriter(fill: (out: ByteWriter) => void): Buffer {
  return written(fill, take);
}

/** What `withWriter` gives, as a text of one character a byte (latin1). */
export function withTextWriter(fill: (out: ByteWriter) => void): string {
  return written(fill, takeText);
}

const take = (out: ByteWriter): Buffer => out.take();
const takeText = (out: ByteWriter): string => out.takeText();

function written<T>(fill: (out: ByteWriter) => void, taken: (out: ByteWriter) => T): T {
  const out = lendWriter();
  try {
    fill(out);
    return taken(out);
  } finally {
    returnWriter(out);
  }
}

/**
 * A writer for one encoding, for where `withWriter` and its function for each encoding would cost too much; to be
 * returned whatever happens. A value's getter might encode another value, so the shared one is lent to one at a time.
 */
export function lendWriter(): ByteWriter {
  if (busy) return new ByteWriter(SINGLE_SIZE_BYTES);
  busy = true;
  writer.reset();
  return writer;
}

export function returnWriter(out: ByteWriter): void {
  if (out === writer) busy = false;
}

function write(out: ByteWriter, value: unknown, depth: number, canonical: boolean): void {
  if (typeof value === "string") writeString(out, value);
  else if (typeof value === "number") writeNumber(out, value, canonical);
  else if (typeof value === "object" && value !== null) writeObject(out, value, depth, canonical);
  else if (typeof value === "boolean") out.byte(value ? Tag.true : Tag.false);
  else if (value === undefined) out.byte(Tag.undefined);
  else if (value === null) out.byte(Tag.null);
  else if (typeof value === "bigint") writeBigint(out, value);
  else throw new Refusal(`is a ${typeof value}, which can't be encoded; pass plain data between transforms`);
}

function writeString(out: ByteWriter, value: string): void {
  if (out.taggedAscii(Tag.string, value)) return;
  if (value.isWellFormed()) {
    out.byte(Tag.string);
    out.utf8(value);
  } else {
    out.byte(Tag.utf16);
    out.utf16(value);
  }
}

function writeNumber(out: ByteWriter, value: number, canonical: boolean): void {
  if ((value | 0) === value && (canonical || value !== 0 || !Object.is(value, -0))) {
    out.tagged(Tag.int, value < 0 ? -2 * value - 1 : 2 * value);
  } else {
    out.byte(Tag.double);
    out.double(canonical && Number.isNaN(value) ? NaN : value);
  }
}

function writeBigint(out: ByteWriter, value: bigint): void {
  out.byte(value < 0n ? Tag.negativeBigint : Tag.bigint);
  const hex = (value < 0n ? -value : value).toString(16);
  const bytes = Buffer.from(hex.length % 2 === 0 ? hex : `0${hex}`, "hex");
  out.varint(bytes.length);
  out.bytes(bytes);
}

function writeObject(out: ByteWriter, value: object, depth: number, canonical: boolean): void {
  if (depth >= MAX_DEPTH) throw new Refusal(`lies more than ${MAX_DEPTH} levels deep; it may contain itself`);
  if (Array.isArray(value)) writeArray(out, value, depth, canonical);
  else if (isPlain(value)) writeProperties(out, value as Record<string, unknown>, depth, canonical);
  else if (types.isUint8Array(value)) writeBytes(out, value, canonical);
  else if (types.isDate(value)) {
    out.byte(Tag.date);
    out.double(value.getTime());
  } else if (types.isMap(value)) writeMap(out, value, depth, canonical);
  else if (types.isSet(value)) writeSet(out, value, depth, canonical);
  else throw new Refusal(refusal(value));
}

function writeArray(out: ByteWriter, values: readonly unknown[], depth: number, canonical: boolean): void {
  out.byte(Tag.array);
  out.varint(values.length);
  let i = 0;
  try {
    for (; i < values.length; i++) write(out, values[i], depth + 1, canonical);
  } catch (error) {
    throw within(error, `[${i}]`);
  }
}

function writeBytes(out: ByteWriter, value: Uint8Array, canonical: boolean): void {
  out.byte(Buffer.isBuffer(value) && !canonical ? Tag.buffer : Tag.bytes);
  out.varint(value.length);
  out.bytes(value);
}

function writeProperties(
  out: ByteWriter,
  value: Record<string, unknown>,
  depth: number,
  canonical: boolean,
): void {
  const names = Object.keys(value);
  if (canonical) names.sort();
  out.byte(Tag.object);
  out.varint(names.length);
  let i = 0;
  try {
    for (; i < names.length; i++) {
      writeString(out, names[i]!);
      write(out, value[names[i]!], depth + 1, canonical);
    }
  } catch (error) {
    throw within(error, `.${names[i]}`);
  }
}

function writeMap(
  out: ByteWriter,
  value: ReadonlyMap<unknown, unknown>,
  depth: number,
  canonical: boolean,
): void {
  out.byte(Tag.map);
  out.varint(value.size);
  const entries = canonical ? sorted(value.keys(), (key) => key) : [...value.keys()];
  entries.forEach((key, i) => {
    writePart(out, key, `.keys[${i}]`, depth, canonical);
    writePart(out, value.get(key), `.values[${i}]`, depth, canonical);
  });
}

function writeSet(out: ByteWriter, value: ReadonlySet<unknown>, depth: number, canonical: boolean): void {
  out.byte(Tag.set);
  out.varint(value.size);
  const members = canonical ? sorted(value, (member) => member) : [...value];
  members.forEach((member, i) => {
    writePart(out, member, `.members[${i}]`, depth, canonical);
  });
}

function writePart(out: ByteWriter, value: unknown, step: string, depth: number, canonical: boolean): void {
  try {
    write(out, value, depth + 1, canonical);
  } catch (error) {
    throw within(error, step);
  }
}

function sorted<T>(values: Iterable<T>, key: (value: T) => unknown): T[] {
  return [...values]
    .map((value) => ({ value, order: canonicalBytes(key(value)) }))
    .sort((a, b) => Buffer.compare(a.order, b.order))
    .map(({ value }) => value);
}

/** Compared without identity of `Object`, so that objects of another realm (a vm, a test sandbox) are plain too. */
function isPlain(value: object): boolean {
  const prototype = Object.getPrototypeOf(value);
  if (prototype === null || prototype === Object.prototype) return true;
  return Object.getPrototypeOf(prototype) === null && Object.hasOwn(prototype, "isPrototypeOf");
}

function refusal(value: object): string {
  const name = value.constructor?.name || "an unnamed class";
  if (types.isPromise(value)) return "is a Promise; functions of a pipeline must return values, not Promises";
  if (name === "Long" && "toNumber" in value)
    return "is a Long, as Beam's timestamps are; use its toNumber()";
  return `is an instance of ${name}, which can't be encoded; pass plain data between transforms, as in {...value}`;
}

export function readValue(reader: ByteReader, depth = 0): unknown {
  const tag = reader.byte();
  if (tag === Tag.int) return readInt(reader);
  if (tag === Tag.string) return reader.utf8();
  switch (tag) {
    case Tag.undefined:
      return undefined;
    case Tag.null:
      return null;
    case Tag.false:
      return false;
    case Tag.true:
      return true;
    case Tag.double:
      return reader.double();
    case Tag.bigint:
      return readBigint(reader);
    case Tag.negativeBigint:
      return -readBigint(reader);
    case Tag.utf16:
      return reader.utf16();
    case Tag.date:
      return new Date(reader.double());
    case Tag.bytes:
      return new Uint8Array(reader.bytes());
    case Tag.buffer:
      return reader.bytes();
    default:
      return readCollection(reader, tag, depth);
  }
}

function readCollection(reader: ByteReader, tag: number, depth: number): unknown {
  if (depth >= MAX_DEPTH) reader.fail(`more than ${MAX_DEPTH} levels`);
  if (tag === Tag.array) return readArray(reader, depth);
  if (tag === Tag.map) return readMap(reader, depth);
  if (tag === Tag.set) return new Set(readArray(reader, depth));
  if (tag === Tag.object) return readObject(reader, depth);
  return reader.fail(`tag ${tag} is unknown`);
}

function readInt(reader: ByteReader): number {
  const zigzag = reader.varint();
  if (zigzag < 0x80000000) return (zigzag >>> 1) ^ -(zigzag & 1);
  return zigzag % 2 === 0 ? zigzag / 2 : -(zigzag + 1) / 2;
}

function readBigint(reader: ByteReader): bigint {
  const bytes = reader.bytes();
  return bytes.length === 0 ? 0n : BigInt(`0x${bytes.toString("hex")}`);
}

function readArray(reader: ByteReader, depth: number): unknown[] {
  const length = reader.count();
  const values: unknown[] = [];
  for (let i = 0; i < length; i++) values.push(readValue(reader, depth + 1));
  return values;
}

function readMap(reader: ByteReader, depth: number): Map<unknown, unknown> {
  const size = reader.count(2);
  const map = new Map<unknown, unknown>();
  for (let i = 0; i < size; i++) map.set(readValue(reader, depth + 1), readValue(reader, depth + 1));
  return map;
}

function readObject(reader: ByteReader, depth: number): Record<string, unknown> {
  const size = reader.count(2);
  const object: Record<string, unknown> = {};
  for (let i = 0; i < size; i++) {
    const name = readValue(reader, depth + 1);
    if (typeof name !== "string") return reader.fail("the name of a property is not a string");
    const value = readValue(reader, depth + 1);
    if (name === "__proto__")
      Object.defineProperty(object, name, { value, enumerable: true, writable: true, configurable: true });
    else object[name] = value;
  }
  return object;
}
