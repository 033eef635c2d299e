import * as beam from "apache-beam";
import { mapAsync, readZnodeLatest, trigger, windowingStrategy } from "beamkeeper";
import {
  assertThat,
  ManualClock,
  readTestStream,
  runPipeline,
  runTest,
  TestStream,
  znodeChange,
} from "beamkeeper/testing";
import flaps from "../../pipelines/registry-flaps";
import readme from "../support/pipelines/readme";

interface Hit {
  readonly key: string;
  readonly n: number;
}

const sums = (hits: beam.PCollection<Hit>, strategy?: ReturnType<typeof windowingStrategy>) =>
  hits
    .apply(beam.windowInto(beam.fixedWindows(1), strategy))
    .apply(beam.groupBy("key").combining("n", (a: number, b: number) => a + b, "sum"));
const hit = (key: string, n: number): Hit => ({ key, n });

describe("runTest", () => {
  test("windows and panes: early, on time, late", () => {
    const stream = new TestStream<Hit>()
      .at(100, hit("a", 1), hit("b", 10))
      .advanceProcessingTime(500)
      .at(900, hit("a", 2))
      .advanceWatermarkTo(1_000)
      .at(950, hit("a", 4))
      .at(1_500, hit("a", 8));
    const strategy = windowingStrategy({
      trigger: trigger.afterWatermark({
        early: trigger.afterProcessingTime({ delaySeconds: 0.2 }),
        late: trigger.afterCount(1),
      }),
      accumulation: "accumulating",
      allowedLatenessSeconds: 10,
    });
    return runTest((root) => {
      const all = sums(root.apply(readTestStream(stream)), strategy);
      assertThat(all)
        .inWindow([0, 1_000])
        .inPanes("EARLY")
        .containsInAnyOrder([
          { key: "a", sum: 1 },
          { key: "b", sum: 10 },
        ]);
      assertThat(all)
        .inWindow([0, 1_000])
        .inPanes("ON_TIME")
        .containsInAnyOrder([
          { key: "a", sum: 3 },
          { key: "b", sum: 10 },
        ]);
      assertThat(all)
        .inWindow([0, 1_000])
        .inPanes("LATE")
        .containsInAnyOrder([{ key: "a", sum: 7 }]);
      assertThat(all)
        .inWindow([1_000, 2_000])
        .atTime(1_999)
        .containsInAnyOrder([{ key: "a", sum: 8 }]);
      assertThat(all)
        .inWindow([0, 1_000])
        .inPane(0)
        .containsInAnyOrder([expect.anything(), expect.anything()]);
      assertThat(all).inWindow("global").isEmpty();
    });
  });

  test("the example of docs/testing.md", () => {
    const numbers = new TestStream<number>().at(100, 1, 2).advanceWatermarkTo(1_000).at(1_500, 4);
    return runTest((root) => {
      const sums = root
        .apply(readTestStream(numbers))
        .apply(beam.windowInto(beam.fixedWindows(1)))
        .apply(
          beam.groupGlobally<number>().combining(
            (n: number) => n,
            (a: number, b: number) => a + b,
            "sum",
          ),
        );
      assertThat(sums)
        .inWindow([0, 1_000])
        .inPanes("ON_TIME")
        .containsInAnyOrder([{ sum: 3 }]);
    });
  });

  test("what is missing and what is too much is told, with the place and the bundles", async () => {
    const wrong = runTest((root) => {
      const numbers = root.apply(readTestStream(new TestStream<number>().at(0, 1, 2, 2)));
      assertThat(numbers).inWindow("global").containsInAnyOrder([1, 2, 3]);
    });
    await expect(wrong).rejects.toThrow(
      'assertThat-1, in bundles of shape "single": in the window global:\nmissing 3\nunexpected 2',
    );
  });

  test("any check may look at the elements, and its own error comes out", async () => {
    const run = (most: number) =>
      runTest((root) => {
        const numbers = root.apply(beam.create([1, 2, 3]));
        assertThat(numbers).satisfies((all) => expect(Math.max(...all)).toBe(most));
      });
    await run(3);
    await expect(run(4)).rejects.toThrow(/Expected: .*4/);
  });

  test("every shape of bundles is run, or the one that is asked for", async () => {
    const run = async (options = {}): Promise<number> => {
      let builds = 0;
      await runTest((root) => {
        builds += 1;
        assertThat(root.apply(beam.create([1]))).containsInAnyOrder([1]);
      }, options);
      return builds;
    };
    expect([await run(), await run({ bundles: "single" })]).toEqual([5, 1]);
  });

  test("time limits of asynchronous transforms follow a manual clock", async () => {
    const clock = new ManualClock();
    const run = runTest(
      (root) => {
        const hanging = mapAsync((n: number) => new Promise<number>(() => n), { timeoutMs: 60_000 });
        assertThat(root.apply(beam.create([1])).apply(hanging)).isEmpty();
      },
      { clock, bundles: "whole" },
    );
    const ended = expect(run).rejects.toThrow(/no answer within 60000 ms/);
    await new Promise((resolve) => setImmediate(resolve));
    clock.advance(60_000);
    await ended;
  });

  test("a followed znode has what the stream says at that moment", () => {
    const orders = new TestStream<number>()
      .at(0, 1)
      .setZnode("/limit", "20")
      .at(1, 2)
      .setZnode("/limit", undefined)
      .at(2, 3);
    return runTest(
      (root) => {
        const limit = readZnodeLatest("/limit", { default: "none" });
        const seen = root
          .apply(readTestStream(orders))
          .map((order, { limit }) => `${order} of ${limit.lookup()}`, { limit });
        assertThat(seen).containsInAnyOrder(["1 of 10", "2 of 20", "3 of none"]);
      },
      { znodes: { "/limit": "10" } },
    );
  });

  test("outside of a build there is nothing to read and nothing to assert", () => {
    expect(() => readTestStream(new TestStream())).toThrow("belongs into the build of runTest");
    expect(() => assertThat({} as beam.PCollection<number>)).toThrow("belongs into the build of runTest");
    expect(() => new TestStream().advanceProcessingTime(0)).toThrow(RangeError);
  });
});

describe("runPipeline", () => {
  test("registry-flaps, the example, in milliseconds", async () => {
    const instance = (name: string, kind: "created" | "deleted") =>
      znodeChange({ path: `/services/orders/${name}`, kind });
    const changes = new TestStream<ReturnType<typeof znodeChange>>()
      .at(10_000, instance("a", "created"), instance("b", "created"))
      .at(50_000, instance("a", "deleted"))
      .advanceWatermarkTo(60_000)
      .at(61_000, instance("a", "created"))
      .at(59_000, instance("late", "created"));
    const { znodes, droppedLate } = await runPipeline(flaps, { sources: { readZnodeChanges: changes } });
    expect(znodes).toEqual({
      "/flaps/orders/0": '{"joined":2,"left":1}',
      "/flaps/orders/60000": '{"joined":1,"left":0}',
    });
    expect(droppedLate).toBe(1);
  });

  test("the README's pipeline: znodes and text files", async () => {
    const changes = new TestStream<ReturnType<typeof znodeChange>>().at(
      500,
      znodeChange({ path: "/dubbo/orders/providers/1" }),
      znodeChange({ path: "/dubbo/stock/providers/1" }),
      znodeChange({ path: "/dubbo/orders/providers/2" }),
    );
    const { znodes, files, writes } = await runPipeline(readme, {
      sources: { readZnodeChanges: changes },
      shards: 2,
    });
    expect(znodes).toEqual({
      "/alerts/orders": '{"service":"orders","flaps":2}',
      "/alerts/stock": '{"service":"stock","flaps":1}',
    });
    expect(Object.values(files)).toEqual([
      ['{"service":"orders","flaps":2}', '{"service":"stock","flaps":1}'],
    ]);
    expect(Object.keys(files)).toEqual([
      "registry-flaps/flaps-1970-01-01T00:00:00.000Z-1970-01-01T00:00:01.000Z-00000-of-00001",
    ]);
    expect(writes[0]).toMatchObject({ mode: "upsert", timestampMs: 999, pane: { timing: "ON_TIME" } });
  });

  test("a source that the pipeline does not have is named", async () => {
    const run = runPipeline(readme, { sources: { readChanges: new TestStream() } });
    await expect(run).rejects.toThrow('has no source "readChanges"; its sources are readZnodeChanges');
  });
});
