import "../support/property-seed";
import * as beam from "apache-beam";
import fc from "fast-check";
import { compilePipeline } from "../../lib/beam/pipeline";
import { fixedWindows, listSideInput, slidingWindows } from "../../lib/index";
import { collect, readTest } from "../support/collect";
import { runInMemoryAsync, type TimelineStep } from "../support/memory-runner";

/**
 * Side inputs against a reference that knows no bundles: a side window holds what came for it before the side input's
 * watermark passed its end, and every element looks at that, whenever it came. Seconds.
 */
interface Windows {
  readonly size: number;
  readonly period: number;
}

type Step =
  | { readonly kind: "main" | "side"; readonly after: number }
  | { readonly kind: "main watermark"; readonly by: number }
  | { readonly kind: "side watermark"; readonly by: number };

interface Seen {
  readonly main: number;
  readonly windowEnd: number;
  readonly side: readonly number[];
}

const windows = fc
  .record({ size: fc.integer({ min: 1, max: 6 }), period: fc.integer({ min: 1, max: 6 }) })
  .map(({ size, period }) => ({ size, period: Math.min(size, period) }));
const steps = fc.array(
  fc.oneof(
    fc.record({
      kind: fc.constantFrom("main" as const, "side" as const),
      after: fc.integer({ min: -4, max: 8 }),
    }),
    fc.record({
      kind: fc.constantFrom("main watermark" as const, "side watermark" as const),
      by: fc.integer({ min: 0, max: 5 }),
    }),
  ),
  { maxLength: 25 },
);

/** The ends of the windows that hold a time, the latest first. */
function endsOf({ size, period }: Windows, time: number): number[] {
  const ends: number[] = [];
  for (let start = Math.floor(time / period) * period; start > time - size; start -= period)
    ends.push(start + size);
  return ends;
}

/** Elements of the main input come with its watermark or later, so that none is late; those of the side may be. */
function expected(all: readonly Step[], main: Windows, side: Windows): Seen[] {
  const mains: number[] = [];
  const held = new Map<number, number[]>();
  let [mainMark, sideMark] = [0, 0];
  for (const step of all) {
    if (step.kind === "main watermark") mainMark += step.by;
    else if (step.kind === "side watermark") sideMark += step.by;
    else if (step.kind === "main") mains.push(mainTime(mainMark, step.after));
    else
      for (const end of endsOf(side, sideMark + step.after))
        if (end > sideMark) held.set(end, [...(held.get(end) ?? []), sideMark + step.after]);
  }
  return mains.flatMap((time) =>
    endsOf(main, time).map((windowEnd) => {
      // The earliest side window that holds the main window's last timestamp, a millisecond before its end.
      const last = windowEnd - 0.001;
      const lookedAt = Math.min(...endsOf(side, last));
      return { main: time, windowEnd, side: (held.get(lookedAt) ?? []).sort((a, b) => a - b) };
    }),
  );
}

function mainTime(watermark: number, after: number): number {
  return watermark + Math.max(0, after);
}

function timelineOf(all: readonly Step[]): TimelineStep[] {
  let [mainMark, sideMark] = [0, 0];
  return [
    { source: "main", steps: [{ watermarkMs: 0 }] },
    { source: "side", steps: [{ watermarkMs: 0 }] },
    ...all.map((step): TimelineStep => {
      const source = step.kind.startsWith("main") ? "main" : "side";
      if (step.kind === "main watermark") mainMark += step.by;
      else if (step.kind === "side watermark") sideMark += step.by;
      const watermark = source === "main" ? mainMark : sideMark;
      if ("by" in step) return { source, steps: [{ watermarkMs: watermark * 1000 }] };
      const value = step.kind === "main" ? mainTime(mainMark, step.after) : sideMark + step.after;
      return { source, steps: [{ value, timestampMs: value * 1000 }] };
    }),
  ];
}

const into = ({ size, period }: Windows) =>
  beam.windowInto<number, beam.IntervalWindow>(
    size === period ? fixedWindows(size) : slidingWindows(size, period),
  );

async function seenBy(all: readonly Step[], main: Windows, side: Windows, seed: number, shards: number) {
  const build = (root: beam.Root) => {
    const sides = root.apply(readTest<number>("side")).apply(into(side));
    root
      .apply(readTest<number>("main"))
      .apply(into(main))
      .map(
        (value, { view, window }) => ({
          main: value,
          windowEnd: (window.lookup() as beam.IntervalWindow).end.toNumber() / 1000,
          side: [...view.lookup()].sort((a, b) => a - b),
        }),
        { view: listSideInput(sides), window: beam.windowParam() },
      )
      .apply(collect<Seen>("out"));
  };
  const pipeline = compilePipeline({ name: "test", build, shards });
  const { effects, droppedLate } = await runInMemoryAsync(pipeline, timelineOf(all), {
    shape: { seed },
    shards,
  });
  return { seen: effects.map(({ payload }) => payload as Seen), droppedLate };
}

const texts = (seen: readonly Seen[]): string[] => seen.map((each) => JSON.stringify(each)).sort();

test("each element sees what the reference says, however bundles are cut", async () => {
  await fc.assert(
    fc.asyncProperty(
      ...[steps, windows, windows, fc.nat(1_000), fc.integer({ min: 1, max: 3 })],
      async (all, main, side, seed, shards) => {
        const { seen } = await seenBy(all, main, side, seed, shards);
        expect(texts(seen)).toEqual(texts(expected(all, main, side)));
      },
    ),
    { numRuns: 60 },
  );
});
