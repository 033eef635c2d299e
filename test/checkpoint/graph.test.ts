import * as beam from "apache-beam";
import { definePipeline, readZnodeChanges, statefulParDo, valueState, writeToZnodes } from "beamkeeper";
import { compilePipeline } from "../../lib/beam/pipeline";
import { compareGraphs, NO_CHOICES, type UpdateChoices } from "../../lib/checkpoint/graph";
import { planPipeline } from "../../lib/runner/deployment";

type Changes = beam.PCollection<{ path: string; changes: number }>;
type Build = (changes: Changes, root: beam.Root) => unknown;

const sums = () => beam.groupBy("path").combining("changes", (a: number, b: number) => a + b, "changes");
const named = (name: string) => beam.withName(name, sums());
const inHours = (changes: Changes) => changes.apply(beam.windowInto(beam.fixedWindows(3_600)));
const inDays = (changes: Changes) => changes.apply(beam.windowInto(beam.fixedWindows(86_400)));

function planned(build: Build) {
  const definition = definePipeline({
    name: "p",
    build: (root) =>
      build(
        root.apply(readZnodeChanges("/a")).map(({ path }) => ({ path, changes: 1 })),
        root,
      ),
  });
  const { graph, upstream } = planPipeline(compilePipeline(definition)).plan;
  return { graph, upstream };
}

function compare(before: Build, after: Build, choices: Partial<UpdateChoices> = {}) {
  return compareGraphs(planned(before), planned(after), { ...NO_CHOICES, ...choices });
}

const grouped: Build = (changes) => inHours(changes).apply(named("sums"));

test.each<[string, Build, string[]]>([
  ["the same", grouped, []],
  [
    "other transforms behind a grouping and before it",
    (changes) =>
      inHours(changes.map((change) => change))
        .apply(named("sums"))
        .apply(writeToZnodes(({ path }) => ({ path, data: "x" }), { mode: "create" })),
    ["readZnodeChanges changed", "sums changed"],
  ],
  [
    "one more grouping beside it",
    (changes, root) => {
      grouped(changes, root);
      inDays(changes).apply(named("more"));
    },
    ["readZnodeChanges changed", "more added"],
  ],
  [
    "one more grouping in between",
    (changes) =>
      inHours(changes)
        .apply(named("more"))
        .map(({ path, changes: n }) => ({ path, changes: n }))
        .apply(named("sums")),
    ["readZnodeChanges changed", "more added"],
  ],
  [
    "another branch from the beginning, beside it",
    (changes, root) => {
      grouped(changes, root);
      root.apply(beam.withName("other", readZnodeChanges("/b"))).map(({ path }) => path);
    },
    ["other added"],
  ],
])("code goes on with what is stored: %s", (_name, after, expected) => {
  const { stages, problems } = compare(grouped, after);
  expect(problems).toEqual([]);
  expect(stages.map(({ stage, change }) => `${stage} ${change}`)).toEqual(expected);
});

const stateful =
  (kinds: Record<string, ReturnType<typeof valueState>>): Build =>
  (changes) =>
    changes
      .map(({ path }) => ({ key: path, value: 1 }))
      .apply(beam.withName("cells", statefulParDo({ state: kinds, process: () => [] as number[] })));

test.each<[string, Build, Build, RegExp]>([
  [
    "another windowing",
    grouped,
    (changes) => inDays(changes).apply(named("sums")),
    /stage "sums": its windowing was \{.*3600000\}, and is \{.*86400000\}/,
  ],
  [
    "another kind of transform under the same name",
    grouped,
    (changes) => inHours(changes).apply(beam.withName("sums", beam.groupBy("path"))),
    /stage "sums": its transform was combine, and is groupByKey/,
  ],
  [
    "another cell of state",
    stateful({ count: valueState<number>() }),
    stateful({ count: valueState<number>(), last: valueState<number>() }),
    /stage "cells": its state was \[\["count","value"\]\], and is \[\["count","value"\],\["last","value"\]\]/,
  ],
  [
    "other znodes under the same name",
    (_changes, root) => root.apply(beam.withName("extra", readZnodeChanges("/b"))),
    (_changes, root) => root.apply(beam.withName("extra", readZnodeChanges("/c"))),
    /stage "extra": its config was .*"\/b".*, and is .*"\/c"/,
  ],
  [
    "a new source for an old grouping",
    grouped,
    (changes, root) => {
      const others = root
        .apply(beam.withName("other", readZnodeChanges("/b")))
        .map(({ path }) => ({ path, changes: 1 }));
      return inHours(beam.P([changes, others]).apply(beam.flatten())).apply(named("sums"));
    },
    /stage "sums": it reads the source "other", which it did not read before/,
  ],
  [
    "names that numbers may have shifted",
    (changes) => inHours(changes).apply(sums()),
    (changes) => {
      inHours(changes).apply(sums());
      inHours(changes).apply(sums());
    },
    /"groupBy-2" is added, and "groupBy" may not be what it was.*--rename groupBy=groupBy/,
  ],
])("code is refused that differs in %s, with the stage and what it is", (_name, before, after, message) => {
  expect(compare(before, after).problems.join("\n")).toMatch(message);
  expect(compare(before, before).problems).toEqual([]);
});

test("a stage goes on under a new name when that is said, and the hint names it", () => {
  const after: Build = (changes) => inHours(changes).apply(named("totals"));
  const { stages, problems } = compare(grouped, after);
  expect(problems).toEqual([]);
  expect(stages.find(({ change }) => change === "removed")?.what.join()).toMatch(/--rename sums=totals/);
  const renamed = compare(grouped, after, { renames: { sums: "totals" } });
  expect(renamed.problems).toEqual([]);
  expect(renamed.continued.get("totals")).toBe("sums");
});

test.each<[Partial<UpdateChoices>, RegExp]>([
  [{ renames: { sum: "totals" } }, /there is no stored stage "sum" to be renamed/],
  [{ renames: { sums: "total" } }, /the code has no stage "total" to be the renamed "sums"/],
  [{ renames: { sums: "totals", readZnodeChanges: "totals" } }, /two stages are to be "totals"/],
  [{ discard: ["readZnodeChanges"] }, /"readZnodeChanges" is to be discarded, and is no stage that has gone/],
])("what can't be meant is refused: %j", (choices, message) => {
  const after: Build = (changes) => inHours(changes).apply(named("totals"));
  expect(compare(grouped, after, choices).problems.join("\n")).toMatch(message);
});
