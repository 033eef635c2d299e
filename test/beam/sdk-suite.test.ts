import { dirname, join } from "node:path";
import type * as beam from "apache-beam";
import { compilePipeline, UnsupportedPipelineError } from "../../lib/index";
import { type RunResult, runInMemory, SHAPES } from "../support/memory-runner";

/**
 * The SDK's own suite of primitives, on our operators. It is written for mocha and runs the SDK's runners when it
 * is loaded, so its globals are taken away while that happens.
 */
const root = join(dirname(require.resolve("apache-beam")), "../../..");
const { suite } = withoutTests(() => require(join(root, "dist/test/primitives_test.js")));

/** Tests of the suite that use what is not supported yet, by what is refused. */
const UNSUPPORTED: readonly RegExp[] = [/singleton side input/, /side input sharing input root/];

describe.each(SHAPES.map((shape) => [JSON.stringify(shape), shape] as const))(
  "in bundles of shape %s",
  (_, shape) => {
    const runner = {
      async run(build: (root: beam.Root) => unknown) {
        const result = runInMemory(compilePipeline({ name: "suite", build, shards: 1 }), {}, { shape });
        return {
          counters: async () => unqualified(result.counters),
          distributions: async () => unqualified(result.distributions),
        };
      },
    };
    const it = global.it;
    global.it = ((name: string, run: () => Promise<unknown>) => {
      if (!UNSUPPORTED.some((pattern) => pattern.test(name))) return it(name, run);
      return it(`${name} (refused)`, () => expect(run()).rejects.toThrow(UnsupportedPipelineError));
    }) as typeof global.it;
    try {
      suite(runner);
    } finally {
      global.it = it;
    }
  },
);

function unqualified<T>(metrics: RunResult["counters"] | ReadonlyMap<string, T>): Record<string, unknown> {
  return Object.fromEntries(
    [...metrics].map(([name, value]) => [name.slice(name.lastIndexOf(":") + 1), value]),
  );
}

function withoutTests<T>(load: () => T): T {
  const globals = global as unknown as Record<string, unknown>;
  const names = ["describe", "before", "after", "it"];
  const kept = names.map((name) => globals[name]);
  for (const name of names) globals[name] = () => {};
  try {
    return load();
  } finally {
    names.forEach((name, i) => {
      globals[name] = kept[i];
    });
  }
}
