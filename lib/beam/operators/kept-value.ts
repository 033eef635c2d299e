import { ByteReader } from "../coders/byte-reader";
import type { ByteWriter } from "../coders/byte-writer";
import { readValue, withWriter, writeValue } from "../coders/value-coder";

/** A value that could be changed in place, as its encoding. */
class Encoded {
  constructor(readonly text: string) {}
}

/** A value of the state, out of reach of whoever gave or gets it: what is read is a copy, and what is written is copied. */
export type Kept = Encoded | string | number | boolean | bigint | null | undefined;

/** @throws UnencodableValueError, so where the value is given and not when the bundle ends. */
export function keep(value: unknown): Kept {
  switch (typeof value) {
    case "string":
    case "number":
    case "boolean":
    case "bigint":
    case "undefined":
      return value;
    default:
      return value === null ? null : new Encoded(encodedText(value));
  }
}

export function reveal(kept: Kept, subject: string): unknown {
  return kept instanceof Encoded
    ? readValue(new ByteReader(Buffer.from(kept.text, "latin1"), subject))
    : kept;
}

export function writeKept(out: ByteWriter, kept: Kept): void {
  if (kept instanceof Encoded) out.bytes(Buffer.from(kept.text, "latin1"));
  else writeValue(out, kept);
}

/** All that is left of the reader. */
export function readKept(reader: ByteReader): Kept {
  const bytes = reader.rest();
  const value = readValue(new ByteReader(bytes, "a value of the state"));
  return typeof value === "object" && value !== null ? new Encoded(bytes.toString("latin1")) : keep(value);
}

export function encodedText(value: unknown): string {
  return withWriter((out) => writeValue(out, value)).toString("latin1");
}
