import { AtomicType, type FieldType, type LogicalType, Schema } from "apache-beam/proto/schema";
import type { ByteReader } from "./byte-reader";
import {
  BOOL,
  BYTES,
  DOUBLE,
  INSTANT,
  type Integer,
  iterable,
  nullable,
  STRING_UTF8,
  type StandardCoder,
  VARINT,
} from "./standard-coders";

export type Row = Readonly<Record<string, unknown>>;

/**
 * Rows of a schema: the number of fields, a bit for each null, then the fields that are not null in the order of
 * their encoding positions. Beam model: `beam:coder:row:v1`. `payload` is the schema as a proto.
 *
 * Logical types have the value of their representation, but for `millis_instant` (milliseconds since 1970) and
 * `decimal` (text, as "3.1415").
 *
 * @throws TypeError if the schema has a type that is unknown.
 */
export function rowCoder(payload: Uint8Array): StandardCoder<Row> {
  return ofSchema(Schema.fromBinary(payload));
}

function ofSchema(schema: Schema): StandardCoder<Row> {
  const fields = schema.fields.map((field, index) => ({
    name: field.name,
    coder: ofValue(field.type!) as StandardCoder<unknown>,
    position: schema.encodingPositionsSet ? field.encodingPosition : index,
  }));
  fields.sort((a, b) => a.position - b.position);
  return {
    encode(row, out) {
      out.varint(fields.length);
      BYTES.encode(nullBits(fields.map(({ name }) => isNull(row[name]))), out, true);
      for (const { name, coder } of fields) if (!isNull(row[name])) coder.encode(row[name], out, true);
    },
    decode(reader) {
      const count = reader.varint();
      // A row of an older or newer schema.
      if (count !== fields.length) reader.fail(`a row has ${count} fields, its schema ${fields.length}`);
      const bits = BYTES.decode(reader, true);
      return Object.fromEntries(
        fields.map(({ name, coder }, i) => [name, hasBit(bits, i) ? null : coder.decode(reader, true)]),
      );
    },
  };
}

function isNull(value: unknown): boolean {
  return value === null || value === undefined;
}

/** The first field is the lowest bit of the first byte; zeros at the end are left out. */
function nullBits(nulls: readonly boolean[]): Uint8Array {
  const bits = new Uint8Array(Math.ceil((nulls.lastIndexOf(true) + 1) / 8));
  nulls.forEach((isSet, i) => {
    if (isSet) bits[i >> 3]! |= 1 << (i & 7);
  });
  return bits;
}

function hasBit(bits: Uint8Array, index: number): boolean {
  return ((bits[index >> 3] ?? 0) & (1 << (index & 7))) !== 0;
}

/** Of a part that can be null within an array or a map; in a row the null bits tell. */
function ofPart(type: FieldType): StandardCoder<unknown> {
  const coder = ofValue(type) as StandardCoder<unknown>;
  return type.nullable ? nullable(coder) : coder;
}

// biome-ignore lint/suspicious/noExplicitAny: what kind of value it is the schema tells, at run time.
function ofValue({ typeInfo }: FieldType): StandardCoder<any> {
  switch (typeInfo.oneofKind) {
    case "atomicType":
      return ofAtomic(typeInfo.atomicType);
    case "arrayType":
      return iterable(ofPart(typeInfo.arrayType.elementType!));
    case "iterableType":
      return iterable(ofPart(typeInfo.iterableType.elementType!));
    case "mapType":
      return map(ofPart(typeInfo.mapType.keyType!), ofPart(typeInfo.mapType.valueType!));
    case "rowType":
      return ofSchema(typeInfo.rowType.schema!);
    case "logicalType":
      return ofLogical(typeInfo.logicalType);
    default:
      throw new TypeError(`a field of the type ${String(typeInfo.oneofKind)} is not supported`);
  }
}

const ATOMIC: Partial<Record<AtomicType, unknown>> = {
  [AtomicType.BYTE]: {
    encode: (v, out) => out.byte(v & 0xff),
    decode: (r) => r.byte(),
  } satisfies StandardCoder<number>,
  [AtomicType.INT16]: {
    encode: (v, out) => out.int16(v),
    decode: (r) => r.int16(),
  } satisfies StandardCoder<number>,
  [AtomicType.INT32]: {
    // Negative ones take five bytes, not ten: it is a varint of 32 bits.
    encode: (v, out) => out.varint(v >>> 0),
    decode: (r) => int32(r),
  } satisfies StandardCoder<number>,
  [AtomicType.INT64]: VARINT,
  [AtomicType.FLOAT]: {
    encode: (v, out) => out.float(v),
    decode: (r) => r.float(),
  } satisfies StandardCoder<number>,
  [AtomicType.DOUBLE]: DOUBLE,
  [AtomicType.STRING]: STRING_UTF8,
  [AtomicType.BOOLEAN]: BOOL,
  [AtomicType.BYTES]: BYTES,
};

/** Some SDKs write negative ones in 64 bits. */
function int32(reader: ByteReader): number {
  return Number(BigInt.asIntN(32, reader.varint64()));
}

function ofAtomic(type: AtomicType): StandardCoder<unknown> {
  const coder = ATOMIC[type];
  if (coder === undefined) throw new TypeError(`a field of the atomic type ${type} is not supported`);
  return coder as StandardCoder<unknown>;
}

function map(
  key: StandardCoder<unknown>,
  value: StandardCoder<unknown>,
): StandardCoder<ReadonlyMap<unknown, unknown>> {
  return {
    encode(entries, out) {
      out.int32(entries.size);
      for (const [k, v] of entries) {
        key.encode(k, out, true);
        value.encode(v, out, true);
      }
    },
    decode(reader) {
      const size = reader.int32();
      if (size < 0 || size > reader.remaining) reader.fail(`${size} entries are announced`);
      const entries = new Map<unknown, unknown>();
      for (let i = 0; i < size; i++) entries.set(key.decode(reader, true), value.decode(reader, true));
      return entries;
    },
  };
}

function ofLogical({ urn, representation }: LogicalType): StandardCoder<unknown> {
  if (urn === "beam:logical_type:millis_instant:v1") return INSTANT as StandardCoder<unknown>;
  if (urn === "beam:logical_type:decimal:v1") return DECIMAL as StandardCoder<unknown>;
  if (representation === undefined) throw new TypeError(`the logical type ${urn} has no representation`);
  return ofValue(representation);
}

/** Digits after the point (varint), then all digits as an integer in two's complement. */
const DECIMAL: StandardCoder<string> = {
  encode(value, out) {
    const match = /^(-?)(\d+)(?:\.(\d*))?$/.exec(value);
    if (match === null) throw new TypeError(`${JSON.stringify(value)} is no decimal number`);
    const [, sign, whole, fraction = ""] = match;
    out.varint(fraction.length);
    BYTES.encode(twosComplement(BigInt(`${sign}${whole}${fraction}`)), out, true);
  },
  decode(reader) {
    const scale = Number(VARINT.decode(reader, true) as Integer);
    const bytes = Buffer.from(BYTES.decode(reader, true));
    if (scale < 0 || scale > 10_000 || bytes.length === 0) reader.fail("a decimal number is none");
    const unscaled = BigInt.asIntN(bytes.length * 8, BigInt(`0x${bytes.toString("hex")}`));
    const digits = (unscaled < 0n ? -unscaled : unscaled).toString().padStart(scale + 1, "0");
    const sign = unscaled < 0n ? "-" : "";
    if (scale === 0) return `${sign}${digits}`;
    return `${sign}${digits.slice(0, -scale)}.${digits.slice(-scale)}`;
  },
};

/** As few bytes as hold the number and its sign. */
function twosComplement(value: bigint): Buffer {
  let length = 1;
  while (BigInt.asIntN(length * 8, value) !== value) length++;
  return Buffer.from(
    BigInt.asUintN(length * 8, value)
      .toString(16)
      .padStart(length * 2, "0"),
    "hex",
  );
}
