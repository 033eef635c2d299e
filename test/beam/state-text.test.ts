import * as beam from "apache-beam";
import {
  bagState,
  combiningState,
  compilePipeline,
  definePipeline,
  eventTimer,
  listSideInput,
  mapState,
  orderedListState,
  processingTimer,
  setState,
  splittableRead,
  statefulParDo,
  trigger,
  valueState,
  windowingStrategy,
} from "beamkeeper";
import { readPrimitive } from "../../lib/beam/primitives";
import { type StateRowText, stateRowText } from "../../lib/beam/state-text";
import { feedSource } from "../support/feed-source";

interface Sale {
  readonly key: string;
  readonly n: number;
}

const read = (root: beam.Root) =>
  root.apply(readPrimitive<Sale>("in", { kind: "znode-changes", config: {}, bounded: false }));
const sale = (key: string, n: number): Sale => ({ key, n });

/** What the second stage keeps once the first has given it these elements, as it is told. */
function rowsAfter(build: (root: beam.Root) => unknown, elements: readonly unknown[]): StateRowText[] {
  const { stages, openShard } = compilePipeline(definePipeline({ name: "p", build }));
  const [first] = stages;
  const second = stages.find(({ id }) => first!.downstream.includes(id));
  const source = openShard(first!.id).beginBundle(-Infinity, 0);
  for (const element of elements) source.processSourceElement(element, 500);
  const outputs = [...source.finish().outputs.get(second!.id)!].map(({ bytes }) => Buffer.from(bytes));
  const bundle = openShard(second!.id).beginBundle(-Infinity, 0);
  for (const bytes of outputs) bundle.processElement(bytes);
  const { stateChanges, sharedState } = advanced(bundle).finish();
  return stateChanges
    .filter(({ value }) => value !== undefined)
    .map(({ id, value }) => stateRowText(sharedState, id, Buffer.from(value!, "latin1")));
}

function advanced<B extends { advanceWatermark(ms: number, most: number): boolean }>(bundle: B): B {
  bundle.advanceWatermark(0, 10);
  return bundle;
}

const second = { kind: "interval", startMs: 0, endMs: 1_000 } as const;

test("groups: lists and sums, by key and window", () => {
  const windowed = (root: beam.Root) => read(root).apply(beam.windowInto(beam.fixedWindows(1)));
  const listed = rowsAfter((root) => windowed(root).apply(beam.groupBy("key")), [sale("a", 1), sale("a", 2)]);
  expect(listed).toEqual([
    {
      kind: "group",
      key: "'a'",
      window: second,
      text: "[ { key: 'a', n: 1 }, { key: 'a', n: 2 } ]",
      bytes: expect.any(Number),
    },
  ]);
  const strategy = windowingStrategy({ trigger: trigger.repeatedly(trigger.afterCount(9)) });
  const paned = rowsAfter(
    (root) =>
      read(root)
        .apply(beam.windowInto(beam.fixedWindows(1), strategy))
        .apply(beam.groupBy("key").combining("n", (a: number, b: number) => a + b, "n")),
    [sale("a", 1), sale("a", 2)],
  );
  expect(paned).toMatchObject([{ kind: "group", key: "'a'", text: "[0, 1000) [ 3 ]" }]);
});

test("cells, items and timers of a stateful transform", () => {
  const rows = rowsAfter(
    (root) =>
      read(root).apply(
        statefulParDo((element: Sale) => element.key, {
          state: {
            last: valueState<Sale | null>(null),
            all: bagState<number>(),
            sum: combiningState<number>((a: number, b: number) => a + b),
            byName: mapState<string, number>(),
            names: setState<string>(),
            late: orderedListState<string>(),
          },
          timers: { idle: processingTimer(), end: eventTimer() },
          process(element: Sale, { state, timers }) {
            state.last.write(element);
            state.all.add(element.n);
            state.sum.add(element.n);
            state.byName.set("x", element.n);
            state.names.add("y");
            state.late.add("z", 7);
            timers.idle.set(60_000, { tag: element.key });
            timers.end.set(5_000);
          },
          onTimer: { idle: () => [], end: () => [] },
        }),
      ),
    [sale("a", 1), sale("a", 2)],
  );
  expect(rows.map(({ kind, key, text, atMs }) => [kind, key, text, atMs])).toEqual(
    expect.arrayContaining([
      [
        "cells",
        "'a'",
        expect.stringMatching(/^cell 0: { key: 'a', n: 2 }, cell 1: \[ 1, 2 \], cell 2: 3/),
        undefined,
      ],
      ["item", "'a'", "cell 3: 'x': 2", undefined],
      ["item", "'a'", "cell 4: 'y'", undefined],
      ["item", "'a'", "cell 5: 'z'", undefined],
      ["timer", "'a'", `timer 0 "a"`, 60_000],
      ["timer", "'a'", "timer 1", 5_000],
    ]),
  );
});

test("side inputs, and what waits for them", () => {
  const rows = rowsAfter(
    (root) => {
      const sales = read(root);
      const side = listSideInput(root.apply(beam.create([1])));
      return sales.map(({ n }, { side: view }) => n + view.lookup().length, { side });
    },
    [sale("a", 1)],
  );
  expect(rows).toEqual(
    expect.arrayContaining([
      expect.objectContaining({ kind: "element", text: "[ { key: 'a', n: 1 } ]" }),
      expect.objectContaining({ kind: "timer", text: "1 elements wait for a side input" }),
    ]),
  );
});

test("reads without an end", () => {
  const { stages, openShard } = compilePipeline(
    definePipeline({
      name: "p",
      build: (root) =>
        root.apply(beam.create(["x"])).apply(splittableRead(feedSource({ x: [] }, { now: () => 0 }))),
    }),
  );
  const bundle = openShard(stages.at(-1)!.id).beginBundle(-Infinity, 0);
  const pane = { index: 0, nonSpeculativeIndex: 0, timing: "UNKNOWN", isFirst: true, isLast: true } as const;
  const restriction = { feed: "x", next: 3 };
  bundle.reads!.keep({
    ...{ id: "r1", restriction, timestampMs: 0, window: { kind: "global" }, pane, watermarkMs: 0 },
    ...{ resumeAtMs: 9_000, piece: undefined, isTruncated: false },
  });
  const { stateChanges, sharedState } = bundle.finish();
  const [{ id, value }] = stateChanges as [(typeof stateChanges)[number]];
  expect(stateRowText(sharedState, id, Buffer.from(value!, "latin1"))).toMatchObject({
    ...{ kind: "read", text: "{ feed: 'x', next: 3 }", atMs: 9_000 },
  });
});

test("what is nothing known is told as bytes", () => {
  for (const shared of [undefined, Uint8Array.of(3), Uint8Array.of(4), Uint8Array.of(7), Uint8Array.of(6)])
    expect(stateRowText(shared, "p??", Uint8Array.of(1, 2, 3))).toMatchObject({
      text: expect.stringMatching(/bytes|\[\]/),
    });
});
