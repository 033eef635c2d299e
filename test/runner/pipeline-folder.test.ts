import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { definePipeline } from "../../lib/beam/pipeline";
import { collectDefinitions, definitionOf, PipelineFileError } from "../../lib/runner/definitions";
import { loadPipelines, pipelineFiles } from "../../lib/runner/pipeline-folder";
import { temporaryFolder } from "../support/deployment";

const pipeline = (name: string) => definePipeline({ name, build: () => undefined });

let folder: ReturnType<typeof temporaryFolder>;

beforeEach(() => {
  folder = temporaryFolder();
});

afterEach(() => folder.remove());

test("each file of the folder is a pipeline; what is not code, and what lies deeper, is not", async () => {
  const files = ["b.js", "a.cjs", "c.d.ts", "notes.md"];
  for (const name of files) {
    const text = `exports.default = { name: "${name[0]}", build: () => undefined, shards: 1 };`;
    writeFileSync(join(folder.path, name), text);
  }
  expect(pipelineFiles(folder.path)).toEqual([join(folder.path, "a.cjs"), join(folder.path, "b.js")]);
  expect((await loadPipelines(folder.path)).map(({ name }) => name)).toEqual(["a", "b"]);
});

test("the project's own pipelines are found", async () => {
  expect((await loadPipelines(join(__dirname, "../../pipelines"))).map(({ name }) => name)).toContain(
    "znode-summary",
  );
});

test("the default export may lie deeper, where modules of two kinds meet", () => {
  const definition = pipeline("a");
  for (const module of [definition, { default: definition }, { default: { default: definition } }])
    expect(definitionOf("a.ts", module).name).toBe("a");
});

test.each([[undefined], [{}], [{ default: 1 }], [{ pipeline: pipeline("a") }]])(
  "a module without a pipeline is refused by its file's name",
  (module) => {
    expect(() => definitionOf("pipelines/a.ts", module)).toThrow(PipelineFileError);
    expect(() => definitionOf("pipelines/a.ts", module)).toThrow(
      /^pipelines\/a.ts has no pipeline: its default export/,
    );
  },
);

test("two files with one pipeline's name are refused, both named", () => {
  const modules = [
    ["x.ts", pipeline("same")],
    ["y.ts", pipeline("same")],
  ] as const;
  expect(() => collectDefinitions(modules)).toThrow('x.ts and y.ts both define the pipeline "same"');
});

test("no folder, and an empty one, say where a pipeline is looked for", () => {
  expect(() => pipelineFiles(join(folder.path, "pipelines"))).toThrow(/there is no folder .*pipelines/);
  expect(() => pipelineFiles(folder.path)).toThrow(/has no pipeline: put a file there/);
});
