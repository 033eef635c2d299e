import * as beam from "apache-beam";
import type { StageOutputs } from "../../lib/beam/api";
import type { BundleOutput } from "../../lib/index";
import {
  compilePipeline,
  customWindows,
  fixedWindows,
  sessions,
  trigger,
  windowingStrategy,
} from "../../lib/index";
import { at, collect, readTest, runCollectingAsync } from "../support/collect";
import { SHAPES, type SourceStep } from "../support/memory-runner";

interface Row {
  readonly k: string;
  readonly n: number;
}

type AnyWindowFn = Parameters<typeof beam.windowInto>[0];
type Strategy = ReturnType<typeof windowingStrategy>;

function summed(windowFn: AnyWindowFn, strategy?: Strategy) {
  return (root: beam.Root) =>
    root
      .apply(readTest<Row>("in"))
      .apply(beam.windowInto(windowFn, strategy))
      .apply(beam.groupBy("k").combining("n", (a: number, b: number) => a + b, "sum"))
      .apply(collect("out"));
}

async function panes(
  build: (root: beam.Root) => unknown,
  shape: (typeof SHAPES)[number],
  steps: SourceStep[],
): Promise<string[]> {
  return (await runCollectingAsync(build, shape, { in: steps }, 2))
    .of("out")
    .map(({ payload, pane, timestampMs }) => {
      const { k, sum } = payload as { k: string; sum: number };
      const flags = `${pane.isFirst ? " first" : ""}${pane.isLast ? " last" : ""}`;
      return `${k}=${sum} @${timestampMs} ${pane.timing} ${pane.index}/${pane.nonSpeculativeIndex}${flags}`;
    });
}

const wm = (watermarkMs: number): SourceStep => ({ watermarkMs });
const clock = (clockMs: number): SourceStep => ({ clockMs });
const a = (time: number, n = 1): SourceStep => at(time, { k: "a", n });

describe.each(SHAPES.map((shape) => [JSON.stringify(shape), shape] as const))(
  "in bundles of shape %s",
  (_, shape) => {
    test("early, on-time and late panes, discarding and accumulating", async () => {
      const run = (accumulation: "discarding" | "accumulating") =>
        panes(
          summed(
            fixedWindows(10),
            windowingStrategy({
              trigger: trigger.afterWatermark({ early: trigger.afterCount(2), late: trigger.afterCount(1) }),
              accumulation,
              allowedLatenessSeconds: 20,
            }),
          ),
          shape,
          [a(1000, 1), a(2000, 2), a(3000, 4), wm(10_000), a(4000, 8), wm(30_000), a(5000, 16)],
        );
      expect(await run("accumulating")).toEqual([
        "a=3 @9999 EARLY 0/-1 first",
        "a=7 @9999 ON_TIME 1/0",
        "a=15 @9999 LATE 2/1",
      ]);
      expect(await run("discarding")).toEqual([
        "a=3 @9999 EARLY 0/-1 first",
        "a=4 @9999 ON_TIME 1/0",
        "a=8 @9999 LATE 2/1",
      ]);
    });

    test("processing time: a delay from the first element of a pane", async () => {
      const strategy = windowingStrategy({
        trigger: trigger.repeatedly(trigger.afterProcessingTime({ delaySeconds: 5 })),
      });
      const steps = [
        clock(0),
        a(1000, 1),
        clock(3000),
        a(2000, 2),
        clock(5000),
        a(3000, 4),
        clock(9000),
        clock(10_000),
      ];
      expect(await panes(summed(beam.globalWindows(), strategy), shape, steps)).toEqual([
        "a=3 @9223371950454774 EARLY 0/-1 first",
        "a=4 @9223371950454774 EARLY 1/-1",
      ]);
    });

    test("sessions by key", async () => {
      const steps = [
        a(1000, 1),
        a(25_000, 2),
        at(3000, { k: "b", n: 5 }),
        a(9000, 4),
        wm(20_000),
        a(30_000, 8),
      ];
      expect((await panes(summed(sessions(10)), shape, steps)).sort()).toEqual([
        "a=10 @39999 ON_TIME 0/0 first last",
        "a=5 @18999 ON_TIME 0/0 first last",
        "b=5 @12999 ON_TIME 0/0 first last",
      ]);
      expect((await panes(summed(beam.sessions(10)), shape, steps)).sort()).toEqual(
        (await panes(summed(sessions(10)), shape, steps)).sort(),
      );
    });

    test("a grouping after a grouping passes each pane on, and does not merge sessions again", async () => {
      const strategy = windowingStrategy({
        trigger: trigger.repeatedly(trigger.afterCount(2)),
        onTime: "if-nonempty",
      });
      const build = (root: beam.Root) =>
        root
          .apply(readTest<Row>("in"))
          .apply(beam.windowInto(sessions(10), strategy))
          .apply(beam.groupBy("k").combining("n", (x: number, y: number) => x + y, "n"))
          .map(({ n }) => ({ k: "all", n }))
          .apply(beam.groupBy("k").combining("n", (x: number, y: number) => x + y, "sum"))
          .apply(collect("out"));
      const steps = [a(1000, 1), a(2000, 2), at(3000, { k: "b", n: 10 }), at(4000, { k: "b", n: 20 })];
      // Keys of different shards come in any order.
      const sums = (await panes(build, shape, steps)).map((pane) => pane.split(" ")[0]);
      expect(sums.sort()).toEqual(["all=3", "all=30"]);
    });

    test("custom windows that merge", async () => {
      // All windows of a key become one.
      const windowFn = customWindows<Row>({
        name: "hull",
        assign: ({ timestampMs }) => [{ startMs: timestampMs, endMs: timestampMs + 1 }],
        merge: (windows) => {
          const to = {
            startMs: Math.min(...windows.map(({ startMs }) => startMs)),
            endMs: Math.max(...windows.map(({ endMs }) => endMs)),
          };
          return [{ from: windows, to }];
        },
      });
      expect(await panes(summed(windowFn), shape, [a(5, 1), a(900, 2), a(100, 4)])).toEqual([
        "a=7 @900 ON_TIME 0/0 first last",
      ]);
    });
  },
);

test("state of another windowing is refused with what to do", () => {
  const plain = compilePipeline({ name: "t", build: summed(fixedWindows(10)), shards: 1 });
  const strategy = windowingStrategy({ trigger: trigger.repeatedly(trigger.afterCount(2)) });
  const triggered = compilePipeline({ name: "t", build: summed(fixedWindows(10), strategy), shards: 1 });
  const encoded = (pipeline: typeof plain) => {
    const bundle = pipeline.openShard("groupBy").beginBundle(-Infinity);
    bundle.advanceWatermark(5, 10);
    return bundle.finish().sharedState;
  };
  expect(() => triggered.loadShard("groupBy").open(encoded(plain))).toThrow(
    /version 3 is unknown, this windowing has version 4/,
  );
  expect(() => plain.loadShard("groupBy").open(encoded(triggered))).toThrow(/version 4 is unknown/);
});

test("a bundle tells when the clock has something to do", () => {
  const strategy = windowingStrategy({
    trigger: trigger.repeatedly(trigger.afterProcessingTime({ delaySeconds: 5 })),
  });
  const pipeline = compilePipeline({ name: "t", build: summed(fixedWindows(10), strategy), shards: 1 });
  const source = pipeline.openShard(pipeline.stages[0]!.id).beginBundle(-Infinity);
  source.processSourceElement({ k: "a", n: 1 }, 1000);
  const [[stage, outputs]] = [...source.finish().outputs] as [[string, StageOutputs]];
  const [output] = [...outputs] as [BundleOutput];
  const first = pipeline.openShard(stage).beginBundle(-Infinity, 100);
  first.processElement(output.bytes);
  const result = first.finish();
  expect(result.nextProcessingTimerMs).toBe(5100);
  const loader = pipeline.loadShard(stage);
  for (const { id, value } of result.stateChanges) loader.add(id, Buffer.from(value!, "latin1"));
  const second = loader.open(result.sharedState).beginBundle(-Infinity, 5100);
  expect(second.advanceProcessingTime(5100, 10)).toBe(false);
  const after = second.finish();
  expect([after.effects.length, after.nextProcessingTimerMs]).toEqual([1, Infinity]);

  const timeless = pipeline.openShard(stage).beginBundle(-Infinity);
  timeless.processElement(output.bytes);
  expect(timeless.finish().nextProcessingTimerMs).toBe(Infinity);
});

test("an unbounded source in the global window may be grouped with a trigger", () => {
  const strategy = windowingStrategy({ trigger: trigger.repeatedly(trigger.afterCount(1)) });
  expect(() =>
    compilePipeline({ name: "t", build: summed(beam.globalWindows(), strategy), shards: 1 }),
  ).not.toThrow();
});

test("builders refuse what is no trigger", () => {
  expect(() => trigger.afterCount(0)).toThrow("the count must be a whole number from 1");
  expect(() => trigger.afterAll()).toThrow("needs at least one trigger");
  expect(() => trigger.afterProcessingTime({ delaySeconds: -1 })).toThrow("delaySeconds must be");
  expect(() => windowingStrategy({ outputTime: "soon" as never })).toThrow("outputTime must be one of");
  expect(() => windowingStrategy({ allowedLatenessSeconds: -1 })).toThrow("allowedLatenessSeconds must be");
});
