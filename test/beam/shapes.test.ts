import * as beam from "apache-beam";
import { type Coder, type Context, globalRegistry } from "apache-beam/coders/coders";
import { GeneralObjectCoder } from "apache-beam/coders/js_coders";
import { KVCoder } from "apache-beam/coders/required_coders";
import { max, mean, min, sum } from "apache-beam/transforms/combiners";
import { groupByKey, withCoderInternal, withRowCoder } from "apache-beam/transforms/internal";
import { reshuffle } from "apache-beam/transforms/utils";
import {
  combineGlobally,
  compilePipeline,
  distinct,
  fixedWindows,
  sample,
  sessions,
  smallest,
  top,
  trigger,
  windowingStrategy,
} from "beamkeeper";
import type { Reader, Writer } from "protobufjs/minimal";
import { shardOf } from "../../lib/checkpoint/layout";
import { at, collect, readTest, runCollecting, runCollectingAsync } from "../support/collect";
import { SHAPES } from "../support/memory-runner";

/** No plain data, so that only its own coder can carry it. */
class Point {
  readonly #x: number;
  constructor(
    x: number,
    readonly label: string,
  ) {
    this.#x = x;
  }
  get x(): number {
    return this.#x;
  }
}

/** The label is left out: points with equal x are equal keys. */
class PointCoder implements Coder<Point> {
  encode(point: Point, writer: Writer, _context: Context): void {
    if (point.x === 13) throw new RangeError("13 is not encoded");
    writer.int32(point.x);
  }
  decode(reader: Reader): Point {
    const x = reader.int32();
    if (x === 14) throw new RangeError("14 is not decoded");
    return new Point(x, "decoded");
  }
  toProto() {
    return { spec: { urn: "test:coder:point:v1", payload: new Uint8Array() }, componentCoderIds: [] };
  }
}
globalRegistry().registerClass("test:coder:point:v1", PointCoder);

/** The SDK's, whose type is lost in `apply`. */
const reshuffled =
  <T>() =>
  (input: beam.PCollection<T>): beam.PCollection<T> =>
    input.apply(reshuffle<T>());

interface Score {
  readonly who: string;
  readonly points: number;
}

describe.each(SHAPES.map((shape) => [JSON.stringify(shape), shape] as const))(
  "in bundles of shape %s",
  (_, shape) => {
    test.each([
      ["at the end of windows, lifted", beam.windowInto(fixedWindows(10))],
      ["in sessions", beam.windowInto(sessions(10))],
    ])("top, smallest, sample, min, max and mean %s", async (_name, windowing) => {
      const build = (root: beam.Root) =>
        (root.apply(readTest<Score>("in")).apply(windowing) as beam.PCollection<Score>)
          .apply(
            beam
              .groupBy("who")
              .combining("points", top<number>(2), "top")
              .combining("points", smallest<number>(3), "smallest")
              .combining("points", sample<number>(2), "sample")
              .combining("points", sample<number>(9), "all")
              .combining("points", min, "min")
              .combining("points", max, "max")
              .combining("points", mean, "mean"),
          )
          .apply(collect("out"));
      const points = [3, 9, 4, 9, 1];
      const elements = points.map((each, i) => at(i, { who: "a", points: each }));
      const result = await runCollectingAsync(build, shape, {
        in: [...elements, at(5, { who: "b", points: 7 })],
      });
      const [a, b] = result.of("out").map(({ payload }) => payload as Record<string, number[]>);
      expect(a).toMatchObject({ who: "a", top: [9, 9], smallest: [1, 3, 4], min: 1, max: 9, mean: 5.2 });
      expect(a!.sample).toHaveLength(2);
      expect([...a!.all!].sort()).toEqual([1, 3, 4, 9, 9]);
      expect(b).toEqual({
        ...{ who: "b", top: [7], smallest: [7], sample: [7], all: [7], min: 7, max: 7, mean: 7 },
      });
    });

    test("distinct, also where a window has several panes", async () => {
      const strategy = windowingStrategy({ trigger: trigger.repeatedly(trigger.afterCount(1)) });
      const build = (root: beam.Root) => {
        const words = root.apply(readTest<string>("in"));
        words
          .apply(beam.windowInto(fixedWindows(10)))
          .apply(distinct())
          .apply(collect("once"));
        words
          .apply(beam.windowInto(fixedWindows(10), strategy))
          .apply(distinct<string>((word) => word.length))
          .apply(collect("lengths"));
      };
      const input = ["a", "bb", "a", "cc"].map((word, i) => at(i, word));
      const result = await runCollectingAsync(build, shape, { in: [...input, at(10_000, "a")] });
      expect(result.values("once").sort()).toEqual(["a", "a", "bb", "cc"]);
      expect((result.values("lengths") as string[]).map((word) => word.length).sort()).toEqual([1, 1, 2]);
    });

    test("a coder of the user's carries keys and values, and tells which keys are equal", async () => {
      const build = (root: beam.Root) => {
        const points = root
          .apply(readTest<number>("in"))
          .apply(beam.windowInto(fixedWindows(10)))
          .map((n) => new Point(n % 3, `label ${n}`));
        const keyed = points
          .map((point) => ({ key: point, value: point }))
          .apply(withCoderInternal(new KVCoder(new PointCoder(), new PointCoder()))) as beam.PCollection<
          beam.KV<Point, Point>
        >;
        (keyed.apply(groupByKey()) as beam.PCollection<beam.KV<Point, Iterable<Point>>>)
          .map(({ key, value }) => [key.x, key.label, [...value].map(({ x }) => x)])
          .apply(collect("keys"));
        (points.apply(withCoderInternal(new PointCoder())) as beam.PCollection<Point>)
          .apply(beam.groupBy((point: Point) => point.x))
          .map(({ key, value }) => [key, [...value].map(({ label }) => label)])
          .apply(collect("values"));
        (points.apply(withCoderInternal(new PointCoder())) as beam.PCollection<Point>)
          .apply(reshuffled())
          .map(({ x, label }) => [x, label])
          .apply(collect("reshuffled"));
      };
      const result = await runCollectingAsync(build, shape, { in: [1, 2, 3, 4].map((n) => at(n, n)) });
      expect(result.values("keys").sort()).toEqual([
        [0, "decoded", [0]],
        [1, "decoded", [1, 1]],
        [2, "decoded", [2]],
      ]);
      expect(result.values("values").sort()).toEqual([
        [0, ["decoded"]],
        [1, ["decoded", "decoded"]],
        [2, ["decoded"]],
      ]);
      expect(result.values("reshuffled")).toEqual([0, 1, 1, 2].map((x) => [x, "decoded"]));
    });

    test("reshuffle keeps windows, times and panes", async () => {
      const strategy = windowingStrategy({
        trigger: trigger.repeatedly(trigger.afterCount(1)),
        outputTime: "earliest",
      });
      const build = (root: beam.Root) => {
        const words = root.apply(readTest<string>("in")).apply(beam.windowInto(fixedWindows(10), strategy));
        const groups = words
          .apply(beam.groupBy((word: string) => word))
          .map(({ key, value }) => `${key} ${value.length}`);
        groups.apply(collect("before"));
        groups.apply(reshuffled()).apply(collect("after"));
        words.apply(reshuffled()).apply(collect("words"));
      };
      const result = await runCollectingAsync(
        build,
        shape,
        { in: [at(1, "a"), at(2, "a"), at(12_000, "b")] },
        2,
      );
      const places = (name: string) =>
        result
          .of(name)
          .map(({ payload, timestampMs, window, pane }) => ({ payload, timestampMs, window, pane }))
          .sort((a, b) => a.timestampMs - b.timestampMs);
      expect(places("after")).toEqual(places("before"));
      expect(places("after").map(({ pane }) => pane.index)).toEqual([0, 1, 0]);
      expect(places("words")).toMatchObject([
        { payload: "a", timestampMs: 1, window: { startMs: 0 }, pane: { index: 0, timing: "UNKNOWN" } },
        { payload: "a", timestampMs: 2, window: { startMs: 0 } },
        { payload: "b", timestampMs: 12_000, window: { startMs: 10_000 } },
      ]);
    });

    test.each([
      ["no elements", [], [0], []],
      ["elements", [3, 4], [7], [7]],
    ])("combineGlobally in the global window of %s", async (_name, numbers, withDefault, without) => {
      const build = (root: beam.Root) => {
        const input = root.apply(readTest<number>("in", true));
        input.apply(combineGlobally(sum)).apply(collect("sum"));
        input.apply(combineGlobally(sum, { withoutDefaults: true })).apply(collect("without"));
      };
      const result = await runCollectingAsync(build, shape, { in: numbers.map((n) => at(n, n)) }, 2);
      expect(result.values("sum")).toEqual(withDefault);
      expect(result.values("without")).toEqual(without);
    });

    test("combineGlobally under a trigger gives panes, and the default only where there is none", async () => {
      const strategy = windowingStrategy({
        trigger: trigger.repeatedly(trigger.afterCount(2)),
        accumulation: "accumulating",
      });
      const build = (root: beam.Root) =>
        root
          .apply(readTest<number>("in"))
          .apply(beam.windowInto(beam.globalWindows(), strategy))
          .apply(combineGlobally(sum))
          .apply(collect("out"));
      const run = (numbers: number[]) =>
        runCollectingAsync(build, shape, { in: numbers.map((n) => at(n, n)) }, 2);
      expect((await run([])).values("out")).toEqual([0]);
      expect((await run([1, 2, 3])).values("out")).toEqual([3, 6]);
    });

    test("combineGlobally in windows gives one value for each that has elements", async () => {
      const build = (root: beam.Root) =>
        root
          .apply(readTest<number>("in"))
          .apply(beam.windowInto(fixedWindows(10)))
          .apply(combineGlobally(sum, { withoutDefaults: true }))
          .apply(collect("out"));
      const result = await runCollectingAsync(build, shape, { in: [1, 2, 25_000].map((n) => at(n, n)) });
      expect(result.of("out").map(({ payload, timestampMs }) => [payload, timestampMs])).toEqual([
        [3, 9999],
        [25_000, 29_999],
      ]);
    });

    test("rows of a declared schema", async () => {
      const build = (root: beam.Root) =>
        (
          root
            .apply(readTest<Score & { more?: string }>("in"))
            .apply(beam.windowInto(fixedWindows(10)))
            .apply(withRowCoder({ who: "", points: 0 })) as beam.PCollection<Score>
        )
          .apply(beam.groupBy("who"))
          .map(({ key, value }) => [key, [...value]])
          .apply(collect("out"));
      const result = await runCollectingAsync(build, shape, {
        in: [at(1, { points: 5, who: "é", more: "is not in the schema" }), at(2, { who: "é", points: -1 })],
      });
      expect(result.values("out")).toEqual([
        [
          "é",
          [
            { who: "é", points: 5 },
            { who: "é", points: -1 },
          ],
        ],
      ]);
    });
  },
);

test("a coder that throws is named with its transform and the element; its URN is part of the fingerprint", () => {
  const build = (coder: Coder<unknown>) => (root: beam.Root) => {
    const points = root
      .apply(readTest<number>("in"))
      .apply(beam.windowInto(fixedWindows(10)))
      .map((n) => ({ key: "k", value: new Point(n, "a") as unknown }));
    const coded: beam.PCollection<beam.KV<string, unknown>> = points.apply(
      withCoderInternal(new KVCoder(new GeneralObjectCoder<string>(), coder)),
    );
    const grouped: beam.PCollection<unknown> = coded.apply(groupByKey());
    grouped.apply(collect("out"));
  };
  const run = (n: number) => () =>
    runCollecting(build(new PointCoder()), "one bundle" as never, { in: [at(1, n)] });
  expect(run(13)).toThrow(/transform "groupByKey" on element .*Point.*13 is not encoded/);
  expect(run(14)).toThrow(/transform "groupByKey" on element .*14 is not decoded/);
  const [own, general] = [new PointCoder(), new GeneralObjectCoder<unknown>()].map(
    (coder) => compilePipeline({ name: "t", build: build(coder as Coder<unknown>), shards: 1 }).fingerprint,
  );
  expect(own).not.toBe(general);
});

test("reshuffled elements go to all shards in turn and on at once, and leave no state", () => {
  const build = (root: beam.Root) =>
    root.apply(readTest<string>("in")).apply(reshuffled()).apply(collect("out"));
  const pipeline = compilePipeline({ name: "t", build, shards: 1 });
  expect(pipeline.stages.map(({ isKeyless }) => isKeyless)).toEqual([false, true]);
  const [source, behind] = pipeline.stages.map(({ id }) => id);
  const sending = pipeline.openShard(source!).beginBundle(-Infinity);
  for (let n = 0; n < 8; n++) sending.processSourceElement("same", 5);
  const sent = [...sending.finish().outputs.get(behind!)!];
  expect(new Set(sent.map(({ keyHash }) => shardOf(keyHash, 8))).size).toBe(8);
  const passing = pipeline.openShard(behind!).beginBundle(-Infinity);
  for (const { bytes } of sent) passing.processElement(bytes);
  const { effects, isStateEmpty } = passing.finish();
  expect(effects.map(({ payload, timestampMs }) => [payload, timestampMs])).toEqual(
    new Array(8).fill(["same", 5]),
  );
  expect(isStateEmpty).toBe(true);
});

test("a number of values to keep that is none is refused", () => {
  expect(() => top(0)).toThrow(RangeError);
  expect(() => sample(1.5)).toThrow(RangeError);
});
