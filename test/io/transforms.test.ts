import * as beam from "apache-beam";
import { compilePipeline } from "../../lib/beam/pipeline";
import {
  definePipeline,
  readZnodeChanges,
  type TextFilePayload,
  UserCodeError,
  writeToText,
  writeToZnodes,
  type ZnodeWrite,
  type ZnodeWritePayload,
} from "../../lib/index";
import { patternProblem } from "../../lib/io/znode-path";
import { planPipeline } from "../../lib/runner/deployment";
import { pathProblem } from "../../lib/zookeeper/paths";
import { at, readTest, runCollecting } from "../support/collect";
import { SHAPES } from "../support/memory-runner";

test.each([
  ["", "empty"],
  ["a", "begin"],
  ["/a/", "end"],
  ["/a//b", "empty name"],
  ["/a/./b", `"."`],
  ["/a/../b", `".."`],
  ["/a\u0000", "U+0000"],
  ["/a\u0085b", "U+0085"],
  ["/\ud83d", "U+D83D"],
])("the path %j is refused", (path, why) => {
  expect(pathProblem(path)).toContain(why);
  expect(() => readZnodeChanges(path)).toThrow(TypeError);
});

test("paths and patterns", () => {
  for (const path of ["/", "/a", "/a/b.c/ü", "/a/...", "/a/*"]) expect(pathProblem(path)).toBeUndefined();
  expect(patternProblem("/dubbo/*/providers")).toBeUndefined();
  expect(patternProblem("/dubbo/a*")).toContain("whole name");
  expect(() => readZnodeChanges("/a", { recursive: "yes" } as never)).toThrow(
    /recursive must be true or false/,
  );
});

test("how a source is batched is checked, and is not part of the graph", () => {
  for (const batching of [{ size: 0 }, { windowMs: 0.5 }, { bytes: 1_023 }, { size: 10_001 }, { window: 5 }])
    expect(() => readZnodeChanges("/a", { batching } as never)).toThrow(
      /batching: (there is no|\w+ must be)/,
    );
  const compiled = [undefined, { size: 7, windowMs: 50, bytes: 4_096 }].map((batching) =>
    compilePipeline(
      definePipeline({
        name: "p",
        build: (root) =>
          root
            .apply(readZnodeChanges("/a", batching ? { batching } : {}))
            .apply(writeToZnodes(({ path }) => ({ path: `/copy${path}` }))),
      }),
    ),
  );
  expect(compiled[0]!.fingerprint).toBe(compiled[1]!.fingerprint);
  const [source] = planPipeline(compiled[1]!).sources;
  expect(source?.batching).toEqual({ size: 7, windowMs: 50, bytes: 4_096 });
});

test("options of the sinks are checked when they are made", () => {
  expect(() => writeToZnodes(undefined as never)).toThrow(/needs a function/);
  expect(() => writeToZnodes(() => ({ path: "/" }), { mode: "append" } as never)).toThrow(
    /mode must be one of upsert/,
  );
  expect(() => writeToZnodes(() => ({ path: "/" }), { onConflict: "x" } as never)).toThrow(
    /onConflict must be one of/,
  );
  expect(() => writeToText("")).toThrow(/prefix/);
  expect(() => writeToText("a", { shards: 0 })).toThrow(/shards/);
  expect(() => writeToText("a", { suffix: "/x" })).toThrow(/suffix/);
  expect(() => writeToText("a", { format: 5 } as never)).toThrow(/format/);
});

function written(write: (n: number) => ZnodeWrite, options = {}) {
  const build = (root: beam.Root) => root.apply(readTest<number>("in")).apply(writeToZnodes(write, options));
  return runCollecting(build, "whole", { in: [at(5, 1)] }).of("znodes")[0]!;
}

test("writeToZnodes gives the whole write, with text as UTF-8", () => {
  const effect = written((n) => ({ path: `/out/${n}`, data: "ü", version: 0 }), {
    mode: "update",
    onConflict: "skip",
  });
  expect(effect).toMatchObject({
    sink: "znodes",
    transform: "writeToZnodes",
    timestampMs: 5,
    window: { kind: "global" },
  });
  expect(effect.payload).toEqual({
    path: "/out/1",
    data: Buffer.from("ü"),
    version: 0,
    mode: "update",
    onConflict: "skip",
  } satisfies ZnodeWritePayload);
  expect(written(() => ({ path: "/x" }), { mode: "delete" }).payload).toMatchObject({
    mode: "delete",
    onConflict: "fail",
  });
});

test.each<[string, ZnodeWrite, string]>([
  ["a path that is none", { path: "out", data: "" }, `the path "out" must begin with "/"`],
  ["the root", { path: "/", data: "" }, "is the root"],
  ["no data", { path: "/a" }, "the data of /a must be a string or a Uint8Array, it is undefined"],
  [
    "a version of -1",
    { path: "/a", data: "", version: -1 },
    "the version of /a must be a whole number from 0",
  ],
])(
  "writeToZnodes refuses %s when the element is processed, by transform and element",
  (_, write, message) => {
    expect(() => written(() => write)).toThrow(UserCodeError);
    expect(() => written(() => write)).toThrow(message);
    expect(() => written(() => write)).toThrow(/transform "writeToZnodes" on element 1/);
  },
);

test.each(SHAPES.map((shape) => [JSON.stringify(shape), shape] as const))(
  "writeToText in bundles of shape %s",
  (_, shape) => {
    const build = (root: beam.Root) => {
      const input = root.apply(readTest<unknown>("in")).apply(beam.windowInto(beam.fixedWindows(1)));
      input.apply(writeToText("out/x", { shards: 3, suffix: ".jsonl" }));
    };
    const elements = ["plain", { a: 1n, b: [2] }, 5, null, "two", "three", "four", "five"];
    const steps = elements.flatMap((value, i) => [at(i, value), at(1500 + i, value)]);
    const result = runCollecting(build, shape, { in: steps }, 2);
    const files = result
      .of("text-files")
      .map(({ payload, window }) => ({ ...(payload as TextFilePayload), window }));
    for (const { prefix, suffix, shards, shard } of files) {
      expect([prefix, suffix, shards]).toEqual(["out/x", ".jsonl", 3]);
      expect([0, 1, 2]).toContain(shard);
    }
    const names = files.map(({ window, shard }) => JSON.stringify([window, shard]));
    expect(new Set(names).size).toBe(files.length);
    for (const start of [0, 1000]) {
      const lines = files
        .filter(({ window }) => (window as { startMs: number }).startMs === start)
        .flatMap((file) => file.lines);
      expect(lines.sort()).toEqual(
        ["plain", `{"a":"1","b":[2]}`, "5", "null", "two", "three", "four", "five"].sort(),
      );
    }
  },
);
