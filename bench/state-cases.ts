import * as beam from "apache-beam";
import { readPrimitive } from "../lib/beam/primitives";
import { compilePipeline, eventTimer, mapSideInput, mapState, statefulParDo, valueState } from "../lib/index";
import type { Case, Metric, Sample } from "./frame";
import { runTimed } from "./memory-engine";

const ELEMENTS = 100_000;
const KEYS = 1_000;
const METRIC: Metric = { name: "ns of CPU an element", better: "lower" };

type Pair = beam.KV<string, number>;
type Shape = (input: beam.PCollection<Pair>, root: beam.Root) => unknown;

const pairs: readonly Pair[] = Array.from({ length: ELEMENTS }, (_, n) => ({
  key: `key-${(n * 7919) % KEYS}`,
  value: n % 100,
}));

let sum = 0;

/** CPU of this process for all elements, in bundles of 10,000; what goes from stage to stage is encoded. */
function running(shape: Shape, sides?: "before" | "after"): () => Promise<Sample> {
  const build = (root: beam.Root): void => {
    const spec = { kind: "znode-changes", config: {}, bounded: true } as const;
    shape(root.apply(readPrimitive<Pair>("in", spec)), root);
  };
  const pipeline = compilePipeline({ name: "bench", build, shards: 1 });
  return async () => {
    const before = process.cpuUsage();
    runTimed(pipeline, pairs, sides);
    const { user, system } = process.cpuUsage(before);
    if (Number.isNaN(sum)) throw new Error("the elements were not what they should be");
    return { [METRIC.name]: ((user + system) * 1_000) / ELEMENTS };
  };
}

/** The peer: the same elements through a ParDo that needs no shuffle. */
const plain: Shape = (input) =>
  input.apply(
    beam.parDo<Pair, number, undefined>({
      process({ value }: Pair) {
        sum += value;
        return [];
      },
    }),
  );

/** A shuffle by key as well, and nothing kept. */
const stateless: Shape = (input) =>
  input.apply(
    statefulParDo({
      process({ value }: Pair) {
        sum += value;
      },
    }),
  );

const oneValue: Shape = (input) =>
  input.apply(
    statefulParDo({ total: valueState(0) }, ({ value }: Pair, { state }) => {
      state.total.write(state.total.read() + value);
    }),
  );

const valueAndTimer: Shape = (input) =>
  input.apply(
    statefulParDo({
      state: { total: valueState(0) },
      timers: { flush: eventTimer() },
      process({ value }: Pair, { state, timers, timestampMs }) {
        state.total.write(state.total.read() + value);
        timers.flush.set(timestampMs + 1_000);
      },
      onTimer: {
        flush({ state }) {
          sum += state.total.read();
        },
      },
    }),
  );

const mapEntry: Shape = (input) =>
  input.apply(
    statefulParDo({ seen: mapState<number, number>() }, ({ value }: Pair, { state }) => {
      state.seen.set(value, (state.seen.get(value) ?? 0) + 1);
    }),
  );

const mapView: Shape = (input, root) => {
  const prices = Array.from({ length: KEYS }, (_, n) => ({ key: `key-${n}`, value: n }));
  return input.map(
    ({ key, value }, { side }) => {
      sum += value + side.lookup().get(key)!;
      return value;
    },
    { side: mapSideInput(root.apply(beam.create(prices))) },
  );
};

const sideInput: Shape = (input, root) => {
  const side = beam.iterableSideInput(root.apply(beam.create([1, 2, 3])));
  return input.map(
    ({ value }, { side }) => {
      sum += value + [...side.lookup()].length;
      return value;
    },
    { side },
  );
};

export function stateCases(): Case[] {
  const shapes: readonly (readonly [name: string, shape: Shape, sides?: "before" | "after"])[] = [
    ["by key, without state", stateless],
    ["one value read and written", oneValue],
    ["one value read and written, one timer set", valueAndTimer],
    ["one entry of a map read and written", mapEntry],
    ["an iterable side input looked up", sideInput],
    ["a map of 1,000 keys as a side input, one looked up", mapView],
    ["an iterable side input that comes after the elements", sideInput, "after"],
  ];
  const peer = running(plain);
  return shapes.map(([name, shape, sides]) => ({
    name: `${name} / plain parDo`,
    metrics: [METRIC],
    ours: running(shape, sides),
    peer,
  }));
}
