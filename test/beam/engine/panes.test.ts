import fc from "fast-check";
import { keyId } from "../../../lib/beam/coders/key";
import { paneCodec } from "../../../lib/beam/coders/pane-state-coder";
import type { StoredRow } from "../../../lib/beam/coders/state-coder";
import type { Accumulation } from "../../../lib/beam/engine/aggregation";
import { EMPTY_PANES, TentativePanes } from "../../../lib/beam/engine/pane-aggregation";
import type { PaneState } from "../../../lib/beam/engine/pane-cell";
import {
  holdOfPanes,
  nextProcessingTimerOfPanes,
  nextTimerOfPanes,
  planPanes,
} from "../../../lib/beam/engine/pane-plan";
import type { Pane } from "../../../lib/beam/engine/panes";
import type { Trigger } from "../../../lib/beam/engine/trigger";
import { defaultWindowing, type Windowing } from "../../../lib/beam/engine/windowing";
import {
  assigner,
  GLOBAL_WINDOW,
  maxTimestamp,
  type Window,
  type WindowFn,
  windowName,
} from "../../../lib/beam/engine/windows";
import { reopened } from "../../support/reopened-state";

const LISTS: Accumulation = {
  create: () => [],
  add: (list, value) => {
    (list as unknown[]).push(value);
    return list;
  },
  extract: (list) => list,
  copy: (list) => [...(list as unknown[])],
  merge: (lists) => lists.flat(),
};

interface Element {
  readonly kind: "element";
  readonly key: string;
  readonly time: number;
}

interface Advance {
  readonly kind: "watermark" | "clock";
  readonly time: number;
}

type Step = Element | Advance;

interface Emitted {
  readonly key: string;
  readonly window: Window;
  readonly values: readonly number[];
  readonly timestampMs: number;
  readonly pane: Pane;
  /** The output watermark that was told to others before. */
  readonly outputWatermarkMs: number;
}

interface Outcome {
  readonly panes: Emitted[];
  readonly dropped: number;
  readonly state: PaneState<StoredRow>;
}

const END: Step = { kind: "watermark", time: Infinity };

/** A new bundle wherever `cuts` says so; state is encoded and decoded, and every bundle is also run and lost once. */
function run(windowing: Windowing, steps: readonly Step[], cuts: readonly boolean[], limit: number): Outcome {
  const plan = planPanes(windowing);
  const codec = paneCodec("test", plan.trigger.size);
  const assign = assigner(windowing.windowFn);
  const panes: Emitted[] = [];
  let state: PaneState<StoredRow> = EMPTY_PANES;
  let dropped = 0;
  let outputWatermarkMs = -Infinity;
  const play = (from: number, to: number, into: Emitted[]) => {
    const emit = (key: unknown, value: unknown, timestampMs: number, window: Window, pane: Pane) => {
      const values = [...(value as number[])];
      into.push({ key: key as string, window, values, timestampMs, pane, outputWatermarkMs });
    };
    const bundle = new TentativePanes(plan, state, LISTS, codec, { emit }, -Infinity, 0);
    for (let i = from; i < to; i++) {
      const step = steps[i]!;
      if (step.kind === "watermark") while (bundle.advance(step.time, limit));
      if (step.kind === "clock") while (bundle.advanceClock(step.time, limit));
      if (step.kind === "element") {
        for (const window of [assign(step.time, undefined, GLOBAL_WINDOW)].flat() as Window[]) {
          bundle.add(keyId(step.key), step.key, i, window, step.time);
        }
      }
    }
    return bundle;
  };
  for (let from = 0; from < steps.length; ) {
    let to = from + 1;
    while (to < steps.length && !cuts[to % cuts.length]) to++;
    play(from, to, []).result();
    const bundle = play(from, to, panes);
    const after = bundle.result();
    const least = [holdOfPanes(after), nextTimerOfPanes(after), nextProcessingTimerOfPanes(after)];
    state = reopened(after, plan);
    expect([holdOfPanes(state), nextTimerOfPanes(state), nextProcessingTimerOfPanes(state)]).toEqual(least);
    dropped += bundle.droppedLate;
    outputWatermarkMs = Math.max(outputWatermarkMs, Math.min(state.watermarkMs, holdOfPanes(state)));
    from = to;
  }
  return { panes, dropped, state };
}

const times = fc.integer({ min: -60, max: 120 });
const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    {
      weight: 6,
      arbitrary: fc.record({
        kind: fc.constant("element" as const),
        key: fc.constantFrom("a", "b"),
        time: times,
      }),
    },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant("watermark" as const), time: times }) },
    {
      weight: 1,
      arbitrary: fc.record({ kind: fc.constant("clock" as const), time: fc.integer({ min: 0, max: 60 }) }),
    },
  ),
  { maxLength: 40 },
);

const { trigger } = fc.letrec<{ trigger: Trigger }>((tie) => {
  const parts = fc.array(tie("trigger"), { minLength: 1, maxLength: 3 });
  return {
    trigger: fc.oneof(
      { depthSize: "small", withCrossShrink: true },
      fc.constantFrom<Trigger>(
        { kind: "default" },
        { kind: "always" },
        { kind: "never" },
        { kind: "afterSynchronizedProcessingTime" },
        { kind: "afterEndOfWindow" },
      ),
      fc.integer({ min: 1, max: 4 }).map((count): Trigger => ({ kind: "elementCount", count })),
      fc
        .integer({ min: 0, max: 20 })
        .map(
          (delayMs): Trigger => ({ kind: "afterProcessingTime", transforms: [{ kind: "delay", delayMs }] }),
        ),
      fc
        .record({ early: tie("trigger"), late: tie("trigger") })
        .map((both): Trigger => ({ kind: "afterEndOfWindow", ...both })),
      tie("trigger").map((late): Trigger => ({ kind: "afterEndOfWindow", late })),
      parts.map((of): Trigger => ({ kind: "afterAll", parts: of })),
      parts.map((of): Trigger => ({ kind: "afterAny", parts: of })),
      parts.map((of): Trigger => ({ kind: "afterEach", parts: of })),
      fc
        .record({ main: tie("trigger"), until: tie("trigger") })
        .map((both): Trigger => ({ kind: "orFinally", ...both })),
      tie("trigger").map((part): Trigger => ({ kind: "repeatedly", part })),
    ),
  };
});

const SINGLE: WindowFn[] = [
  { kind: "global" },
  { kind: "fixed", sizeMs: 25, offsetMs: 3 },
  { kind: "sliding", sizeMs: 30, periodMs: 10, offsetMs: 0 },
];
const MERGING: WindowFn[] = [{ kind: "sessions", gapMs: 12 }];

function windowings(fns: readonly WindowFn[]): fc.Arbitrary<Windowing> {
  return fc.record({
    windowFn: fc.constantFrom(...fns),
    trigger,
    accumulating: fc.boolean(),
    allowedLatenessMs: fc.constantFrom(0, 15, 500),
    outputTime: fc.constantFrom("END_OF_WINDOW" as const, "EARLIEST" as const, "LATEST" as const),
    emptyOnTimePanes: fc.boolean(),
    emptyFinalPanes: fc.boolean(),
    alreadyMerged: fc.constant(false),
  });
}

const cuts = fc.array(fc.boolean(), { minLength: 1, maxLength: 7 });
const RUNS = { numRuns: 300 };

function text({ key, window, values, timestampMs, pane }: Emitted): string {
  return `${key} ${windowName(window)} ${values} @${timestampMs} ${JSON.stringify(pane)}`;
}

/** Panes of a key come in order; what keys are to each other depends on where a bundle begins. */
function byKey(panes: readonly Emitted[]): string[] {
  return [..."ab"].flatMap((key) => panes.filter((pane) => pane.key === key).map(text));
}

test("panes do not depend on bundles, limits, or lost commits", () => {
  fc.assert(
    fc.property(
      windowings([...SINGLE, ...MERGING]),
      steps,
      cuts,
      fc.integer({ min: 1, max: 3 }),
      (windowing, input, at, limit) => {
        const all = [...input, END];
        const whole = run(windowing, all, [false], Infinity);
        const cut = run(windowing, all, at, limit);
        expect(byKey(cut.panes)).toEqual(byKey(whole.panes));
        expect(cut.dropped).toBe(whole.dropped);
      },
    ),
    RUNS,
  );
});

test("discarding, each element that was not dropped is in exactly one pane of each of its windows", () => {
  fc.assert(
    fc.property(windowings([...SINGLE, ...MERGING]), steps, cuts, (windowing, input, at) => {
      const { panes, dropped } = run({ ...windowing, accumulating: false }, [...input, END], at, 2);
      const assign = assigner(windowing.windowFn);
      const given = input.flatMap((step, i) =>
        step.kind === "element" ? [assign(step.time, undefined, GLOBAL_WINDOW)].flat().map(() => i) : [],
      );
      const seen = panes.flatMap(({ values }) => values);
      expect(seen.length + dropped).toBe(given.length);
      for (const { key, values, window } of panes) {
        expect(new Set(values).size).toBe(values.length);
        for (const value of values) {
          const step = input[value] as Element;
          expect(step.key).toBe(key);
          if (window.kind === "interval") {
            expect(window.startMs <= step.time && step.time < window.endMs).toBe(true);
          }
        }
      }
      const names = panes.flatMap(({ window, values }) =>
        values.map((value) => `${windowName(window)} ${value}`),
      );
      expect(new Set(names).size).toBe(names.length);
    }),
    RUNS,
  );
});

test("without merging, panes are EARLY*, ON_TIME?, LATE*, numbered, and none follows the last", () => {
  fc.assert(
    fc.property(windowings(SINGLE), steps, cuts, (windowing, input, at) => {
      const { panes } = run(windowing, [...input, END], at, 2);
      const groups = new Map<string, Emitted[]>();
      for (const pane of panes) {
        const name = `${pane.key} ${windowName(pane.window)}`;
        groups.set(name, [...(groups.get(name) ?? []), pane]);
      }
      for (const group of groups.values()) checkPanes(group, windowing);
    }),
    RUNS,
  );
});

function checkPanes(group: readonly Emitted[], { accumulating }: Windowing): void {
  expect(group.map(({ pane }) => pane.timing[0]).join("")).toMatch(/^E*O?L*$/);
  let spoken = 0;
  group.forEach(({ pane, values }, i) => {
    expect([pane.index, pane.isFirst]).toEqual([i, i === 0]);
    expect(pane.nonSpeculativeIndex).toBe(pane.timing === "EARLY" ? -1 : spoken++);
    if (pane.isLast) expect(i).toBe(group.length - 1);
    if (accumulating && i > 0)
      expect(values.slice(0, group[i - 1]!.values.length)).toEqual(group[i - 1]!.values);
  });
}

test("no pane comes before the output watermark, unless it is late and within the lateness", () => {
  fc.assert(
    fc.property(windowings([...SINGLE, ...MERGING]), steps, cuts, (windowing, input, at) => {
      for (const { pane, timestampMs, outputWatermarkMs, window } of run(windowing, input, at, 2).panes) {
        expect(timestampMs).toBeLessThanOrEqual(maxTimestamp(window));
        if (pane.timing !== "LATE") expect(timestampMs).toBeGreaterThanOrEqual(outputWatermarkMs);
        else
          expect(maxTimestamp(window) + windowing.allowedLatenessMs).toBeGreaterThanOrEqual(
            outputWatermarkMs,
          );
      }
    }),
    RUNS,
  );
});

test("at the end of time nothing is kept, held, or waited for; before it, timers lie ahead", () => {
  fc.assert(
    fc.property(windowings([...SINGLE, ...MERGING]), steps, cuts, (windowing, input, at) => {
      const { state } = run(windowing, input, at, 2);
      expect(nextTimerOfPanes(state)).toBeGreaterThan(state.watermarkMs);
      expect(nextProcessingTimerOfPanes(state)).toBeGreaterThan(state.nowMs ?? -Infinity);
      const end = run(windowing, [...input, END], at, 2).state;
      expect(end.rows.size).toBe(0);
      expect([holdOfPanes(end), nextTimerOfPanes(end)]).toEqual([Infinity, Infinity]);
    }),
    RUNS,
  );
});

interface Reference {
  readonly panes: string[];
  readonly dropped: number;
}

/**
 * Slow and plain, for windows of a fixed size: the default trigger, and early and late counts, from what is written
 * of them. All elements are kept in a list, and each step looks at all of it.
 */
function fixedReference(
  input: readonly Step[],
  size: number,
  lateness: number,
  early: number,
  late: number,
): Reference {
  interface Group {
    readonly key: string;
    readonly start: number;
    pending: number[];
    ended: boolean;
    seenOnTime: boolean;
  }
  const groups: Group[] = [];
  const panes: string[] = [];
  let watermark = -Infinity;
  let dropped = 0;
  const fire = (group: Group, timing: string) => {
    panes.push(`${group.key} ${group.start} ${timing} ${group.pending}`);
    group.pending = [];
  };
  const end = () => {
    for (const group of [...groups].sort((a, b) => a.start - b.start)) {
      if (!group.ended && group.start + size <= watermark) {
        group.ended = true;
        fire(group, "ON_TIME");
        group.seenOnTime = true;
      }
      if (group.start + size + lateness <= watermark) {
        if (group.pending.length > 0) fire(group, "LATE");
        groups.splice(groups.indexOf(group), 1);
      }
    }
  };
  input.forEach((step, i) => {
    if (step.kind !== "element") {
      if (step.kind === "clock") return;
      watermark = Math.max(watermark, step.time);
      end();
      return;
    }
    const start = Math.floor(step.time / size) * size;
    if (start + size + lateness <= watermark) {
      dropped++;
      return;
    }
    let group = groups.find((other) => other.key === step.key && other.start === start);
    if (group === undefined) {
      group = { key: step.key, start, pending: [], ended: start + size <= watermark, seenOnTime: false };
      groups.push(group);
    }
    group.pending.push(i);
    // The first firing of a window that opened late is its transition from early to late.
    if (!group.ended && group.pending.length >= early) fire(group, "EARLY");
    else if (group.ended && (!group.seenOnTime || group.pending.length >= late)) {
      group.seenOnTime = true;
      fire(group, "LATE");
    }
  });
  return { panes: panes.sort(), dropped };
}

test("early and late firings in fixed windows agree with a slow reference", () => {
  const small = fc.integer({ min: 1, max: 4 });
  fc.assert(
    fc.property(
      steps,
      fc.integer({ min: 1, max: 50 }),
      fc.constantFrom(0, 10, 100),
      small,
      small,
      cuts,
      (input, size, lateness, early, late, at) => {
        const windowing: Windowing = {
          ...defaultWindowing({ kind: "fixed", sizeMs: size, offsetMs: 0 }),
          trigger: {
            kind: "afterEndOfWindow",
            early: { kind: "elementCount", count: early },
            late: { kind: "elementCount", count: late },
          },
          allowedLatenessMs: lateness,
          emptyFinalPanes: false,
        };
        const all = [...input, END];
        const { panes, dropped } = run(windowing, all, at, 2);
        const texts = panes.map(
          ({ key, window, values, pane }) =>
            `${key} ${(window as { startMs: number }).startMs} ${pane.timing} ${values}`,
        );
        expect({ panes: texts.sort(), dropped }).toEqual(fixedReference(all, size, lateness, early, late));
      },
    ),
    RUNS,
  );
});

/** Sessions under the default trigger without lateness: open sessions in a list, joined one element at a time. */
function sessionReference(input: readonly Step[], gap: number): Reference {
  let open: { key: string; start: number; end: number; values: number[] }[] = [];
  const panes: string[] = [];
  let watermark = -Infinity;
  let dropped = 0;
  input.forEach((step, i) => {
    if (step.kind !== "element") {
      if (step.kind === "clock") return;
      watermark = Math.max(watermark, step.time);
      for (const { key, start, end, values } of open.filter((session) => session.end <= watermark)) {
        panes.push(`${key} ${start} ${end} ${[...values].sort((a, b) => a - b)}`);
      }
      open = open.filter((session) => session.end > watermark);
      return;
    }
    if (step.time + gap <= watermark) {
      dropped++;
      return;
    }
    const joined = { key: step.key, start: step.time, end: step.time + gap, values: [i] };
    const meets = (session: (typeof open)[number]) =>
      session.key === step.key && session.start < step.time + gap && step.time < session.end;
    for (const session of open.filter(meets)) {
      joined.start = Math.min(joined.start, session.start);
      joined.end = Math.max(joined.end, session.end);
      joined.values.push(...session.values);
    }
    open = [...open.filter((session) => !meets(session)), joined];
  });
  return { panes: panes.sort(), dropped };
}

test("sessions agree with a slow reference", () => {
  fc.assert(
    fc.property(steps, fc.integer({ min: 1, max: 40 }), cuts, (input, gap, at) => {
      const all: Step[] = [...input, { kind: "watermark", time: 1e6 }];
      const { panes, dropped } = run(defaultWindowing({ kind: "sessions", gapMs: gap }), all, at, 2);
      const texts = panes.map(({ key, window, values }) => {
        const { startMs, endMs } = window as { startMs: number; endMs: number };
        return `${key} ${startMs} ${endMs} ${[...values].sort((a, b) => a - b)}`;
      });
      expect({ panes: texts.sort(), dropped }).toEqual(sessionReference(all, gap));
    }),
    RUNS,
  );
});
