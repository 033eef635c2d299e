import { compilePipeline, type UserCodeError } from "beamkeeper";
import { at, collect, readTest } from "../collect";
import { runInMemory } from "../memory-runner";

/** Prints the stack of what a function of the user's throws in a bundle. */
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
  process.stdout.write((error as UserCodeError).stack!);
}
