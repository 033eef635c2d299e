import { compilePipeline } from "beamkeeper";
import { jsonLines } from "../../../lib/log";
import { at, collect, readTest } from "../collect";
import { runInMemory } from "../memory-runner";

/** Logs what a function of the user's throws in a bundle. */
function failOnPurpose(path: string): never {
  throw new RangeError(`no ${path}`);
}

const pipeline = compilePipeline({
  name: "failing",
  shards: 1,
  build: (root) =>
    root
      .apply(readTest<string>("in", true))
      .map((path) => failOnPurpose(path))
      .apply(collect("out")),
});
try {
  runInMemory(pipeline, { in: [at(0, "/a")] }, { shape: "whole" });
} catch (error) {
  jsonLines((line) => process.stdout.write(line), Date.now)("error", "the bundle failed", { error });
}
