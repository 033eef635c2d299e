import { type Coder, Context } from "apache-beam/coders/coders";
import type { Pipeline } from "apache-beam/internal/pipeline";
import type * as runnerApi from "apache-beam/proto/beam_runner_api";
import { Schema } from "apache-beam/proto/schema";
import { Reader, Writer } from "protobufjs/minimal";
import { rowCoder } from "../coders/row-coder";
import { decodeStandard, encodeStandard } from "../coders/standard-coders";

/**
 * Turns what a transform gives into what the general coder can write, and back. A coder of the user's, or a declared
 * schema, decides about its values and about which keys are equal: for the engine they are its bytes.
 */
export interface ElementCoder {
  toPlain(value: unknown): unknown;
  fromPlain(plain: unknown): unknown;
}

/** Coders of the keys and values that go through a shuffle; undefined where the general coder writes them. */
export interface GroupingCoders {
  readonly key: ElementCoder | undefined;
  readonly value: ElementCoder | undefined;
  /** Their URNs, for the fingerprint. */
  readonly urns: readonly string[];
}

const KV_URN = "beam:coder:kv:v1";
const ITERABLE_URN = "beam:coder:iterable:v1";
const ROW_URN = "beam:coder:row:v1";
const WRAPPERS: ReadonlySet<string> = new Set(["beam:coder:nullable:v1", "beam:coder:length_prefix:v1"]);

/** Their values have a general encoding, which keeps more of them than these coders do in the SDK. */
const GENERAL: ReadonlySet<string> = new Set([
  ...["genericobjectjs", "bsonjs", "numbersforjs", "bytes", "string_utf8", "bool", "varint", "double"].map(
    (name) => `beam:coder:${name}:v1`,
  ),
  ...["interval_window", "global_window", "windowed_value"].map((name) => `beam:coder:${name}:v1`),
]);

/** Of a collection of {key, value}; undefined where both are general. */
export function groupingCoders(pipeline: Pipeline, collection: string): GroupingCoders | undefined {
  const { coders, pcollections } = pipeline.getProto().components!;
  const coder = coders[pcollections[collection]!.coderId];
  if (coder?.spec?.urn !== KV_URN) return undefined;
  const [key, value] = coder.componentCoderIds.map((id) => elementCoder(pipeline, id));
  const urns = coder.componentCoderIds.map((id) => urnsOf(coders, id));
  return key === undefined && value === undefined ? undefined : { key, value, urns };
}

/** Of a collection of any elements, as their values; undefined where they are general. */
export function elementCoders(pipeline: Pipeline, collection: string): GroupingCoders | undefined {
  const { coders, pcollections } = pipeline.getProto().components!;
  const { coderId } = pcollections[collection]!;
  const value = elementCoder(pipeline, coderId);
  return value && { key: undefined, value, urns: [urnsOf(coders, coderId)] };
}

/** Undefined where the general coder writes the values. */
export function elementCoder(pipeline: Pipeline, id: string): ElementCoder | undefined {
  const { spec, componentCoderIds } = pipeline.getProto().components!.coders[id]!;
  const { urn, payload } = spec!;
  if (GENERAL.has(urn)) return undefined;
  const parts = componentCoderIds.map((component) => elementCoder(pipeline, component));
  if (urn === KV_URN) return pair(parts[0], parts[1]);
  if (urn === ITERABLE_URN) return parts[0] && all(parts[0]);
  if (WRAPPERS.has(urn)) return parts[0] && unlessAbsent(parts[0]);
  if (urn === ROW_URN) return schemaCoder(payload);
  return userCoder(pipeline.getCoder(id));
}

function pair(key: ElementCoder | undefined, value: ElementCoder | undefined): ElementCoder | undefined {
  if (key === undefined && value === undefined) return undefined;
  const map = (to: "toPlain" | "fromPlain") => (element: unknown) => {
    const { key: k, value: v } = element as { key: unknown; value: unknown };
    return { key: key ? key[to](k) : k, value: value ? value[to](v) : v };
  };
  return { toPlain: map("toPlain"), fromPlain: map("fromPlain") };
}

function all(element: ElementCoder): ElementCoder {
  return {
    toPlain: (values) => Array.from(values as Iterable<unknown>, (value) => element.toPlain(value)),
    fromPlain: (values) => Array.from(values as Iterable<unknown>, (value) => element.fromPlain(value)),
  };
}

function unlessAbsent(coder: ElementCoder): ElementCoder {
  const isAbsent = (value: unknown): boolean => value === undefined || value === null;
  return {
    toPlain: (value) => (isAbsent(value) ? value : coder.toPlain(value)),
    fromPlain: (plain) => (isAbsent(plain) ? plain : coder.fromPlain(plain)),
  };
}

function schemaCoder(schema: Uint8Array): ElementCoder {
  const coder = rowCoder(schema);
  return {
    toPlain: (row) => encodeStandard(coder, row as Readonly<Record<string, unknown>>),
    fromPlain: (bytes) => decodeStandard(coder, bytes as Uint8Array),
  };
}

function userCoder(coder: Coder<unknown>): ElementCoder {
  return {
    toPlain(value) {
      const writer = new Writer();
      coder.encode(value, writer, Context.needsDelimiters);
      // A view of protobufjs' pool, which is written to no more.
      return Buffer.from(writer.finish());
    },
    fromPlain: (bytes) => coder.decode(new Reader(bytes as Uint8Array), Context.needsDelimiters),
  };
}

function urnsOf(coders: Readonly<Record<string, runnerApi.Coder>>, id: string): string {
  const { spec, componentCoderIds } = coders[id]!;
  const parts = componentCoderIds.map((component) => urnsOf(coders, component));
  const schema = spec!.urn === ROW_URN ? ` of ${fieldsOf(spec!.payload)}` : "";
  return parts.length === 0 ? spec!.urn + schema : `${spec!.urn}(${parts.join(", ")})`;
}

/** A schema without the random id that the SDK gives it. */
function fieldsOf(payload: Uint8Array): string {
  return JSON.stringify(Schema.toJson({ ...Schema.fromBinary(payload), id: "" }));
}
