import * as beam from "apache-beam";
import { Context } from "apache-beam/coders/coders";
import { GeneralObjectCoder } from "apache-beam/coders/js_coders";
import { StrUtf8Coder } from "apache-beam/coders/standard_coders";
import { directRunner } from "apache-beam/runners/direct_runner";
import { compilePipeline } from "beamkeeper";
import Long from "long";
import { Reader, Writer } from "protobufjs/minimal";
import { ByteReader } from "../lib/beam/coders/byte-reader";
import { readValue, withWriter, writeValue } from "../lib/beam/coders/value-coder";
import { readPrimitive } from "../lib/beam/primitives";
import type { Case, Metric, Sample } from "./frame";
import { runTimed } from "./memory-engine";

const NUMBERS = 100_000;
const EVENTS = 100_000;
const CODED = 50_000;
const KEYS = 100;
const WINDOW_MS = 10_000;

const CPU: readonly Metric[] = [{ name: "ns of CPU an element", better: "lower" }];

/** CPU of this process for `work`, spread over its elements. */
async function timed(elements: number, work: () => unknown): Promise<Sample> {
  const before = process.cpuUsage();
  await work();
  const { user, system } = process.cpuUsage(before);
  return { "ns of CPU an element": ((user + system) * 1_000) / elements };
}

interface Event {
  readonly key: string;
  readonly value: number;
  readonly timeMs: number;
}

const numbers = Array.from({ length: NUMBERS }, (_, n) => n);
const events: readonly Event[] = Array.from({ length: EVENTS }, (_, n) => ({
  key: `key-${(n * 7919) % KEYS}`,
  value: n % 100,
  timeMs: n * 2,
}));

/**
 * The direct runner serialises functions by their text, so they find what they need in one global object instead of
 * in variables around them; ours do too, to be the same.
 */
declare global {
  var bench: {
    elements: readonly unknown[];
    sum: number;
    keys: readonly string[];
    add(n: number): number;
    toTime(ms: number): Long;
  };
}
globalThis.bench = {
  elements: [],
  sum: 0,
  keys: Array.from({ length: KEYS }, (_, n) => `key-${n}`),
  add: (n) => {
    bench.sum += n;
    return n;
  },
  toTime: (ms) => Long.fromNumber(ms),
};

type Shape = (input: beam.PCollection<never>) => unknown;

const fiveMaps: Shape = (input: beam.PCollection<number>) =>
  input
    .map((n) => n + 1)
    .map((n) => n * 2)
    .map((n) => n - 3)
    .map((n) => n ^ 5)
    .map((n) => bench.add(n));

/** Two milliseconds apart. */
const groupByKey: Shape = (input: beam.PCollection<number>) =>
  input
    .apply(beam.assignTimestamps((n: number) => bench.toTime(n * 2)))
    .apply(beam.windowInto(beam.fixedWindows(WINDOW_MS / 1000)))
    .apply(beam.groupBy((n: number) => bench.keys[n % bench.keys.length]!))
    .map(({ value }) => bench.add([...value].length));

const sumPerKey: Shape = (input: beam.PCollection<Event>) =>
  input
    .apply(beam.assignTimestamps(({ timeMs }: Event) => bench.toTime(timeMs)))
    .apply(beam.windowInto(beam.fixedWindows(WINDOW_MS / 1000)))
    .apply(beam.groupBy("key").combining("value", (a: number, b: number) => a + b, "sum"))
    .map(({ sum }) => bench.add(sum));

/** The pipeline on our operators; the elements come from a source, as they do from an inbox. */
function ours(elements: readonly unknown[], shape: Shape): () => Promise<Sample> {
  const build = (root: beam.Root): void => {
    const spec = { kind: "znode-changes", config: {}, bounded: true } as const;
    shape(root.apply(readPrimitive<never>("in", spec)));
  };
  const pipeline = compilePipeline({ name: "bench", build, shards: 1 });
  const run = () => runTimed(pipeline, elements);
  return () => timed(elements.length, run);
}

/** The same on the SDK's direct runner, from one impulse. */
function direct(elements: readonly unknown[], shape: Shape): () => Promise<Sample> {
  const build = (root: beam.Root): void => {
    shape(root.apply(beam.impulse()).flatMap(() => bench.elements) as beam.PCollection<never>);
  };
  return async () => {
    bench.elements = elements;
    const { debug } = console;
    // It prints a line for each bundle.
    console.debug = () => {};
    try {
      return await timed(elements.length, () => directRunner().run(build));
    } finally {
      console.debug = debug;
    }
  };
}

function mapLoop(): void {
  for (const n of numbers) bench.sum += ((n + 1) * 2 - 3) ^ 5;
}

function groupLoop(): void {
  const groups = new Map<string, number[]>();
  for (const n of numbers) {
    const group = `${Math.floor((n * 2) / WINDOW_MS)} ${bench.keys[n % bench.keys.length]}`;
    const values = groups.get(group);
    if (values === undefined) groups.set(group, [n]);
    else values.push(n);
  }
  for (const values of groups.values()) bench.sum += values.length;
}

function sumLoop(): void {
  const sums = new Map<string, number>();
  for (const { key, value, timeMs } of events) {
    const group = `${Math.floor(timeMs / WINDOW_MS)} ${key}`;
    sums.set(group, (sums.get(group) ?? 0) + value);
  }
  for (const sum of sums.values()) bench.sum += sum;
}

interface SdkCoder {
  encode(value: unknown, writer: Writer, context: Context): void;
  decode(reader: Reader, context: Context): unknown;
}

/**
 * Values one after the other into one buffer, and out of it. A sample of a single pass has much of what the contestant
 * before left to the garbage collector in it, one of several passes has mostly its own.
 */
function coding(name: string, values: readonly unknown[], coder: SdkCoder, passes = 1): Case {
  const metrics = [
    { name: "ns to encode", better: "lower" },
    { name: "ns to decode", better: "lower" },
  ] as const;
  const sample = async (encode: () => Uint8Array, decode: (bytes: Uint8Array) => void): Promise<Sample> => {
    let bytes: Uint8Array = new Uint8Array();
    const encoding = await timed(passes * values.length, () => {
      for (let pass = 0; pass < passes; pass++) bytes = encode();
    });
    const decoding = await timed(passes * values.length, () => {
      for (let pass = 0; pass < passes; pass++) decode(bytes);
    });
    return {
      "ns to encode": encoding["ns of CPU an element"]!,
      "ns to decode": decoding["ns of CPU an element"]!,
    };
  };
  return {
    name,
    metrics,
    ours: () =>
      sample(
        () =>
          withWriter((out) => {
            for (const value of values) writeValue(out, value);
          }),
        (bytes) => {
          const reader = new ByteReader(bytes, "a benchmark");
          for (let i = 0; i < values.length; i++) readValue(reader);
        },
      ),
    peer: () =>
      sample(
        () => {
          const writer = new Writer();
          for (const value of values) coder.encode(value, writer, Context.needsDelimiters);
          return writer.finish();
        },
        (bytes) => {
          const reader = new Reader(bytes);
          for (let i = 0; i < values.length; i++) coder.decode(reader, Context.needsDelimiters);
        },
      ),
  };
}

function pipelines(): Case[] {
  const loops = { fiveMaps: mapLoop, groupByKey: groupLoop, sumPerKey: sumLoop };
  const shapes = [
    ["five maps", numbers, fiveMaps, loops.fiveMaps],
    ["map, GroupByKey in fixed windows", numbers, groupByKey, loops.groupByKey],
    ["sum per key in fixed windows", events, sumPerKey, loops.sumPerKey],
  ] as const;
  return shapes.flatMap(([name, elements, shape, loop]): Case[] => {
    const run = ours(elements, shape);
    return [
      { name: `${name} / direct runner`, metrics: CPU, ours: run, peer: direct(elements, shape) },
      { name: `${name} / loop`, metrics: CPU, ours: run, peer: () => timed(elements.length, loop) },
    ];
  });
}

/** The cases of the benchmark `beam`; see there how this file is loaded. */
export function engineCases(): Case[] {
  const texts = Array.from({ length: CODED }, (_, n) => `/services/orders/providers/${n}`);
  const objects = events
    .slice(0, CODED)
    .map(({ key, value, timeMs }) => ({ key, value, timeMs, tags: ["a", "b"], ok: true }));
  return [
    ...pipelines(),
    coding("strings / StrUtf8Coder", texts, new StrUtf8Coder() as SdkCoder),
    coding("strings, five passes / StrUtf8Coder", texts, new StrUtf8Coder() as SdkCoder, 5),
    coding("objects / GeneralObjectCoder", objects, new GeneralObjectCoder() as SdkCoder),
  ];
}
