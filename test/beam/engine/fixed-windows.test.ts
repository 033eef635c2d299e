import fc from "fast-check";
import { cellCodec, type StoredRow } from "../../../lib/beam/coders/state-coder";
import {
  type Accumulation,
  type AggregateState,
  EMPTY_AGGREGATE,
  holdOf,
  nextTimerOf,
  TentativeAggregation,
} from "../../../lib/beam/engine/aggregation";
import { MAX_TIMESTAMP_MS, MIN_TIMESTAMP_MS } from "../../../lib/beam/engine/time";
import {
  assigner,
  fixedWindow,
  GLOBAL_WINDOW,
  maxTimestamp,
  type Window,
} from "../../../lib/beam/engine/windows";

const LISTS: Accumulation = {
  create: () => [],
  add: (list, value) => [...(list as unknown[]), value],
  extract: (list) => list,
  copy: (list) => list,
  merge: (lists) => (lists as unknown[][]).flat(),
};

const CODEC = cellCodec("test");

test.each([
  [0, 1000, 0, 0],
  [999, 1000, 0, 0],
  [1000, 1000, 0, 1000],
  [-1, 1000, 0, -1000],
  [-1000, 1000, 0, -1000],
  [-1001, 1000, 0, -2000],
  [7, 500, 250, -250],
  [250, 500, 250, 250],
  [1, 1, 0, 1],
])("the window of %i by %i ms offset %i begins at %i", (time, size, offset, start) => {
  expect(fixedWindow(time, size, offset)).toEqual({ kind: "interval", startMs: start, endMs: start + size });
});

test("windows at the ends of time are cut off there", () => {
  const first = fixedWindow(MIN_TIMESTAMP_MS, 60_000, 0);
  expect(first.startMs).toBe(MIN_TIMESTAMP_MS);
  expect(first.endMs).toBeGreaterThan(MIN_TIMESTAMP_MS);
  const last = fixedWindow(MAX_TIMESTAMP_MS - 1000, 60_000, 0);
  expect(last.startMs).toBeLessThanOrEqual(MAX_TIMESTAMP_MS - 1000);
  expect(last.endMs).toBeLessThanOrEqual(MAX_TIMESTAMP_MS);
});

test("every timestamp lies in its window, and windows do not overlap", () => {
  const times = fc.integer({ min: -1e9, max: 1e9 });
  fc.assert(
    fc.property(
      times,
      times,
      fc.integer({ min: 1, max: 1e6 }),
      fc.integer({ min: 0, max: 1e6 }),
      (a, b, size, offset) => {
        const assign = assigner({ kind: "fixed", sizeMs: size, offsetMs: offset % size });
        for (const time of [a, b]) {
          const window = assign(time, undefined, GLOBAL_WINDOW) as { startMs: number; endMs: number };
          expect(window.startMs <= time && time < window.endMs).toBe(true);
          expect(window.endMs - window.startMs).toBe(size);
          expect((window.startMs - offset) % size === 0).toBe(true);
        }
      },
    ),
  );
});

test("holds and timers: the end of the first window, nothing when empty", () => {
  expect([holdOf(EMPTY_AGGREGATE), nextTimerOf(EMPTY_AGGREGATE)]).toEqual([Infinity, Infinity]);
  const bundle = new TentativeAggregation(EMPTY_AGGREGATE, LISTS, CODEC, -Infinity);
  bundle.add("k", "k", 1, fixedWindow(2500, 1000, 0));
  bundle.add("k", "k", 1, fixedWindow(500, 1000, 0));
  expect([holdOf(bundle.result()), nextTimerOf(bundle.result())]).toEqual([999, 1000]);
});

test("the global window fires at the end of time only", () => {
  const bundle = new TentativeAggregation(EMPTY_AGGREGATE, LISTS, CODEC, -Infinity);
  bundle.add("k", "k", 1, GLOBAL_WINDOW);
  const fired: unknown[] = [];
  bundle.advance(1e15, 10, { emit: (key) => fired.push(key) });
  expect(fired).toEqual([]);
  bundle.advance(Infinity, 10, { emit: (key) => fired.push(key) });
  expect(fired).toEqual(["k"]);
});

test("a watermark that comes back lower takes nothing back", () => {
  const first = new TentativeAggregation(EMPTY_AGGREGATE, LISTS, CODEC, -Infinity);
  first.advance(5000, 10, { emit() {} });
  const second = new TentativeAggregation(first.result(), LISTS, CODEC, 1000);
  second.add("k", "k", 1, fixedWindow(500, 1000, 0));
  expect(second.droppedLate).toBe(1);
});

interface Input {
  readonly key: string;
  readonly time: number;
}
type Step = Input | { readonly watermark: number };

const steps = fc.array(
  fc.oneof(
    {
      weight: 4,
      arbitrary: fc.record({
        key: fc.constantFrom("a", "b", "c"),
        time: fc.integer({ min: -300, max: 300 }),
      }),
    },
    { weight: 1, arbitrary: fc.record({ watermark: fc.integer({ min: -300, max: 350 }) }) },
  ),
  { maxLength: 60 },
);

/** Slow and plain: all elements so far are kept, and each watermark looks through every window. */
function reference(input: readonly Step[], size: number): { panes: string[]; dropped: number } {
  const panes: string[] = [];
  const open: { key: string; start: number; values: number[] }[] = [];
  let watermark = -Infinity;
  let dropped = 0;
  input.forEach((step, i) => {
    if ("watermark" in step) {
      watermark = Math.max(watermark, step.watermark);
      const due = open.filter(({ start }) => start + size <= watermark).sort((a, b) => a.start - b.start);
      for (const pane of due) {
        panes.push(`${pane.key} ${pane.start} ${pane.values} ${pane.start + size - 1}`);
        open.splice(open.indexOf(pane), 1);
      }
      return;
    }
    const start = Math.floor(step.time / size) * size;
    if (start + size <= watermark) dropped++;
    else {
      const group = open.find((candidate) => candidate.key === step.key && candidate.start === start);
      if (group === undefined) open.push({ key: step.key, start, values: [i] });
      else group.values.push(i);
    }
  });
  return { panes, dropped };
}

/** A new bundle wherever `cuts` says so; every bundle is also run once and thrown away. */
function engine(input: readonly Step[], size: number, cuts: readonly boolean[], limit: number) {
  const panes: string[] = [];
  let dropped = 0;
  let state: AggregateState<StoredRow> = EMPTY_AGGREGATE;
  const emit = (key: unknown, values: unknown, timestamp: number, window: Window) => {
    panes.push(`${key} ${(window as { startMs: number }).startMs} ${values} ${timestamp}`);
    expect(timestamp).toBe(maxTimestamp(window));
  };
  const run = (bundle: TentativeAggregation<StoredRow>, from: number, to: number, out: typeof emit) => {
    for (let i = from; i < to; i++) {
      const step = input[i]!;
      if ("watermark" in step) while (bundle.advance(step.watermark, limit, { emit: out }));
      else bundle.add(step.key, step.key, i, fixedWindow(step.time, size, 0));
    }
  };
  for (let from = 0; from < input.length; ) {
    let to = from + 1;
    while (to < input.length && !cuts[to % cuts.length]) to++;
    run(new TentativeAggregation(state, LISTS, CODEC, -Infinity), from, to, () => {});
    const bundle = new TentativeAggregation(state, LISTS, CODEC, -Infinity);
    run(bundle, from, to, emit);
    state = bundle.result();
    dropped += bundle.droppedLate;
    from = to;
  }
  return { panes, dropped };
}

test("fixed windows agree with a slow reference, for any times, watermarks and bundles", () => {
  fc.assert(
    fc.property(
      steps,
      fc.integer({ min: 1, max: 120 }),
      fc.array(fc.boolean(), { minLength: 1, maxLength: 7 }),
      fc.integer({ min: 1, max: 4 }),
      (input, size, cuts, limit) => {
        expect(sortedPanes(engine(input, size, cuts, limit))).toEqual(sortedPanes(reference(input, size)));
      },
    ),
    { numRuns: 1000 },
  );
});

/** Windows fire in the order of time; keys within a window are compared as a set. */
function sortedPanes({ panes, dropped }: { panes: string[]; dropped: number }) {
  return { panes: [...panes].sort(), dropped, order: panes.map((pane) => pane.split(" ")[3]) };
}
