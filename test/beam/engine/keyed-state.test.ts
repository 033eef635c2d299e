import fc from "fast-check";
import { keyId } from "../../../lib/beam/coders/key";
import {
  decodeSharedKeyed,
  encodeSharedKeyed,
  keyedCodec,
  keyedRowGroup,
  timesOfKeyedRow,
} from "../../../lib/beam/coders/keyed-state-coder";
import type { StoredRow } from "../../../lib/beam/coders/state-coder";
import type { KeyedElement, KeyedPlan, OpenPlace, Timer } from "../../../lib/beam/engine/keyed-place";
import {
  holdOfKeyed,
  type KeyedState,
  nextClockOfKeyed,
  nextTimerOfKeyed,
  TentativeKeyedState,
} from "../../../lib/beam/engine/keyed-state";
import { NO_FIRING } from "../../../lib/beam/engine/panes";
import { Rows } from "../../../lib/beam/engine/rows";
import { defaultWindowing } from "../../../lib/beam/engine/windowing";
import {
  assigner,
  GLOBAL_WINDOW,
  type Window,
  type WindowFn,
  windowName,
} from "../../../lib/beam/engine/windows";
import { type CellSpec, PlaceCells, type ValueCell } from "../../../lib/beam/operators/state-cells";

/**
 * Random elements, watermarks and clocks against a reference that keeps everything in lists and looks for what comes
 * next each time. What user code does is random too: each call makes its own list of timers to set and clear.
 */
type Step =
  | { readonly kind: "element"; readonly key: string; readonly time: number; readonly acts: readonly Act[] }
  | { readonly kind: "watermark"; readonly time: number }
  | { readonly kind: "clock"; readonly time: number };

/** Relative to what is at hand: a timer is set so long after it, or cleared. */
interface Act {
  readonly timer: number;
  readonly tag: string;
  /** Undefined clears it. */
  readonly after: number | undefined;
}

interface Setting {
  readonly windowFn: WindowFn;
  readonly latenessMs: number;
  readonly isSorted: boolean;
  readonly hasExpiration: boolean;
  /** What the n-th timer call of a key and window does. */
  readonly onTimer: readonly (readonly Act[])[];
}

interface Outcome {
  /** By key and window, what was called and what the state was. */
  readonly calls: ReadonlyMap<string, readonly string[]>;
  readonly dropped: number;
}

const TIMERS = ["event", "event", "processing"] as const;
const CELLS: readonly CellSpec[] = [{ kind: "value", initial: 0 }];

const planOf = ({ windowFn, latenessMs, isSorted, hasExpiration }: Setting): KeyedPlan => ({
  windowing: { ...defaultWindowing(windowFn), allowedLatenessMs: latenessMs },
  isSorted,
  hasExpiration,
  timers: TIMERS,
});

const lastOf = (window: Window, latenessMs: number): number =>
  window.kind === "global" ? 1e12 : window.endMs - 1 + latenessMs;

const elementText = (n: number, time: number): string => `${n}: element ${time}`;
const timerText = (n: number, { index, tag, timeMs }: Pick<Timer, "index" | "tag" | "timeMs">): string =>
  `${n}: timer ${index}${tag} ${timeMs}`;

/** The engine in bundles cut at `cuts`, its state encoded in between; every bundle is also run and lost once. */
function runEngine(
  setting: Setting,
  steps: readonly Step[],
  cuts: readonly boolean[],
  limit: number,
): Outcome & { readonly left: number } {
  const plan = planOf(setting);
  const assign = assigner(setting.windowFn);
  const calls = new Map<string, string[]>();
  let state: KeyedState<StoredRow> = { watermarkMs: -Infinity, nowMs: undefined, rows: rowsOf([], plan) };
  let dropped = 0;
  const play = (from: number, to: number, into: Map<string, string[]>) => {
    const { rows } = state;
    const codec = keyedCodec<PlaceCells>("test", {
      open: (place, own) =>
        new PlaceCells(
          CELLS,
          "test",
          place,
          {
            get: (id) => {
              const row = rows.get(id);
              return row === undefined ? undefined : Buffer.from(row as string, "latin1");
            },
            inGroup: (name) => rows.inGroup(name),
          },
          own,
        ),
      own: (cells) => cells.own(),
    });
    type Place = OpenPlace<StoredRow, PlaceCells>;
    const note = (place: Place, text: (n: number) => string): number => {
      const cell = place.cells.cell(0) as ValueCell;
      const n = cell.read() as number;
      cell.write(n + 1);
      const name = `${place.key} ${windowName(place.window)}`;
      into.set(name, [...(into.get(name) ?? []), text(n)]);
      return n;
    };
    const act = (place: Place, acts: readonly Act[], atMs: number) => {
      for (const { timer, tag, after } of acts) {
        if (after === undefined) bundle.clearTimer(place, timer, tag);
        else {
          const timeMs = TIMERS[timer] === "event" ? atMs + after : bundle.nowMs! + after;
          if (TIMERS[timer] === "event" && timeMs > lastOf(place.window, setting.latenessMs)) continue;
          bundle.setTimer(place, { index: timer, tag, timeMs, outputMs: atMs, isHeld: true });
        }
      }
    };
    const bundle: TentativeKeyedState<StoredRow, PlaceCells> = new TentativeKeyedState(
      plan,
      state,
      codec,
      {
        process(place: Place, { value, timestampMs }: KeyedElement) {
          note(place, (n) => elementText(n, timestampMs));
          act(place, (steps[value as number] as { acts: readonly Act[] }).acts, timestampMs);
        },
        timer(place: Place, timer: Timer) {
          const n = note(place, (count) => timerText(count, timer));
          const atMs = TIMERS[timer.index] === "event" ? timer.timeMs : timer.outputMs;
          act(place, actsOf(setting, n), atMs);
        },
        expire(place: Place) {
          note(place, (n) => `${n}: expired`);
        },
      },
      -Infinity,
      0,
    );
    for (let i = from; i < to; i++) {
      const step = steps[i]!;
      if (step.kind === "watermark") while (bundle.advance(step.time, limit));
      else if (step.kind === "clock") while (bundle.advanceClock(step.time, limit));
      else
        for (const window of [assign(step.time, undefined, GLOBAL_WINDOW)].flat() as Window[]) {
          const element = { value: i, timestampMs: step.time, pane: NO_FIRING };
          bundle.add(keyId(step.key), step.key, element, window);
        }
    }
    return bundle;
  };
  for (let from = 0; from < steps.length; ) {
    let to = from + 1;
    while (to < steps.length && !cuts[to % cuts.length]) to++;
    play(from, to, new Map()).result();
    const bundle = play(from, to, calls);
    const after = bundle.result();
    const least = [holdOfKeyed(after), nextTimerOfKeyed(after), nextClockOfKeyed(after)];
    const rows = rowsOf([...after.rows.entries()], plan);
    state = { ...decodeSharedKeyed(encodeSharedKeyed(after), "test"), rows };
    expect([holdOfKeyed(state), nextTimerOfKeyed(state), nextClockOfKeyed(state)]).toEqual(least);
    dropped += bundle.droppedLate;
    from = to;
  }
  return { calls, dropped, left: state.rows.size };
}

/** Rows as an invocation finds them that has to load them, in another order than they were in. */
function rowsOf(entries: readonly (readonly [string, StoredRow])[], plan: KeyedPlan): Rows<StoredRow> {
  const builder = Rows.builder<StoredRow>(undefined, keyedRowGroup);
  for (const [id, row] of entries) {
    const bytes = Buffer.from(row as string, "latin1");
    builder.add(id, row, timesOfKeyedRow(Buffer.from(id, "latin1"), bytes, "test", plan));
  }
  return builder.build();
}

function actsOf({ onTimer }: Setting, n: number): readonly Act[] {
  return onTimer[n % onTimer.length] ?? [];
}

interface PlainPlace {
  readonly key: string;
  readonly window: Window;
  count: number;
  waiting: { readonly step: number; readonly time: number }[];
  timers: { index: number; tag: string; timeMs: number; outputMs: number }[];
  isExpired: boolean;
}

/** One place at a time, one happening at a time, everything looked for anew. */
function runReference(setting: Setting, steps: readonly Step[]): Outcome {
  const assign = assigner(setting.windowFn);
  const places = new Map<string, PlainPlace>();
  const calls = new Map<string, string[]>();
  let [watermark, now, dropped] = [-Infinity, 0, 0];
  const expiry = ({ window }: PlainPlace | { window: Window }) =>
    window.kind === "global" ? Infinity : window.endMs + setting.latenessMs;
  const note = (place: PlainPlace, text: string) => {
    const name = `${place.key} ${windowName(place.window)}`;
    calls.set(name, [...(calls.get(name) ?? []), text]);
    place.count++;
  };
  const act = (place: PlainPlace, acts: readonly Act[], atMs: number) => {
    for (const { timer: index, tag, after } of acts) {
      const timeMs = after === undefined ? NaN : TIMERS[index] === "event" ? atMs + after : now + after;
      if (TIMERS[index] === "event" && timeMs > lastOf(place.window, setting.latenessMs)) continue;
      place.timers = place.timers.filter((each) => each.index !== index || each.tag !== tag);
      if (after !== undefined) place.timers.push({ index, tag, timeMs, outputMs: atMs });
    }
  };
  const process = (place: PlainPlace, step: number, time: number) => {
    note(place, elementText(place.count, time));
    act(place, (steps[step] as { acts: readonly Act[] }).acts, time);
  };
  const fire = (place: PlainPlace, timer: PlainPlace["timers"][number]) => {
    place.timers = place.timers.filter((each) => each !== timer);
    const n = place.count;
    note(place, timerText(n, timer));
    act(place, actsOf(setting, n), TIMERS[timer.index] === "event" ? timer.timeMs : timer.outputMs);
  };
  const firstTimer = (place: PlainPlace, domain: "event" | "processing") =>
    place.timers
      .filter(
        ({ index, timeMs }) =>
          TIMERS[index] === domain && (domain === "event" ? timeMs < watermark : timeMs <= now),
      )
      .sort((a, b) => a.timeMs - b.timeMs || a.index - b.index || (a.tag < b.tag ? -1 : 1))[0];
  /** One happening of a place in event time; false when there is none. */
  const happen = (place: PlainPlace): boolean => {
    if (place.isExpired) return false;
    const element = place.waiting
      .filter(({ time }) => time + setting.latenessMs < watermark)
      .sort((a, b) => a.time - b.time || a.step - b.step)[0];
    const timer = firstTimer(place, "event");
    if (element && (!timer || element.time + setting.latenessMs <= timer.timeMs)) {
      place.waiting = place.waiting.filter((each) => each !== element);
      process(place, element.step, element.time);
    } else if (timer) fire(place, timer);
    else if (expiry(place) <= watermark) {
      if (setting.hasExpiration) note(place, `${place.count}: expired`);
      place.isExpired = true;
    } else return false;
    return true;
  };
  steps.forEach((step, index) => {
    if (step.kind === "watermark") {
      watermark = Math.max(watermark, step.time);
      for (const place of places.values()) while (happen(place));
      return;
    }
    if (step.kind === "clock") {
      now = Math.max(now, step.time);
      for (const place of places.values())
        for (let timer = firstTimer(place, "processing"); timer && !place.isExpired; ) {
          fire(place, timer);
          timer = firstTimer(place, "processing");
        }
      return;
    }
    for (const window of [assign(step.time, undefined, GLOBAL_WINDOW)].flat() as Window[]) {
      const isLate = setting.isSorted && step.time + setting.latenessMs < watermark;
      if (isLate || expiry({ window }) <= watermark) {
        dropped++;
        continue;
      }
      const name = `${step.key} ${windowName(window)}`;
      const place: PlainPlace = places.get(name) ?? {
        ...{ key: step.key, window, count: 0, waiting: [], timers: [], isExpired: false },
      };
      places.set(name, place);
      if (setting.isSorted) place.waiting.push({ step: index, time: step.time });
      else {
        for (let timer = firstTimer(place, "event") ?? firstTimer(place, "processing"); timer; ) {
          fire(place, timer);
          timer = firstTimer(place, "event") ?? firstTimer(place, "processing");
        }
        process(place, index, step.time);
      }
    }
  });
  return { calls, dropped };
}

const acts = fc.array(
  fc.record({
    timer: fc.integer({ min: 0, max: TIMERS.length - 1 }),
    tag: fc.constantFrom("", "x"),
    // Never for a time that has come already, or it might go on for ever.
    after: fc.option(fc.integer({ min: 1, max: 40 }), { nil: undefined, freq: 4 }),
  }),
  { maxLength: 3 },
);
const times = fc.integer({ min: -60, max: 120 });
const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    {
      weight: 6,
      arbitrary: fc.record({
        kind: fc.constant("element" as const),
        key: fc.constantFrom("a", "b"),
        time: times,
        acts,
      }),
    },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant("watermark" as const), time: times }) },
    {
      weight: 2,
      arbitrary: fc.record({ kind: fc.constant("clock" as const), time: fc.integer({ min: 0, max: 80 }) }),
    },
  ),
  { maxLength: 40 },
);
const settings: fc.Arbitrary<Setting> = fc.record({
  windowFn: fc.constantFrom<WindowFn>(
    { kind: "global" },
    { kind: "fixed", sizeMs: 25, offsetMs: 3 },
    { kind: "sliding", sizeMs: 30, periodMs: 10, offsetMs: 0 },
  ),
  latenessMs: fc.constantFrom(0, 15, 500),
  isSorted: fc.boolean(),
  hasExpiration: fc.boolean(),
  // At least one call that sets no timer, so that loops end.
  onTimer: fc.array(acts, { maxLength: 3 }).map((some) => [...some, [], []]),
});
const cuts = fc.array(fc.boolean(), { minLength: 1, maxLength: 7 });

test("the engine does what the reference does, however bundles are cut", () => {
  fc.assert(
    fc.property(settings, steps, cuts, fc.integer({ min: 1, max: 4 }), (setting, some, where, limit) => {
      const engine = runEngine(setting, some, where, limit);
      const reference = runReference(setting, some);
      expect(engine.dropped).toBe(reference.dropped);
      expect(Object.fromEntries([...engine.calls].sort())).toEqual(
        Object.fromEntries([...reference.calls].sort()),
      );
    }),
    { numRuns: 250 },
  );
});

test("at the end of time nothing is left", () => {
  const end: Step = { kind: "watermark", time: Infinity };
  fc.assert(
    fc.property(settings, steps, cuts, (setting, some, where) => {
      expect(runEngine(setting, [...some, end], where, 3).left).toBe(0);
    }),
    { numRuns: 80 },
  );
});
