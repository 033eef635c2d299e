import { compilePipeline } from "../../lib/beam/pipeline";
import { definePipeline, json, type ReadEventsOptions, readEvents, writeToZnodes } from "../../lib/index";
import { planPipeline } from "../../lib/runner/deployment";

function compile(...sources: readonly ReadEventsOptions[]) {
  return compilePipeline(
    definePipeline({
      name: "p",
      build: (root) => {
        for (const source of sources)
          root.apply(readEvents(source)).apply(writeToZnodes(({ id }) => ({ path: `/${id}`, data: "" })));
      },
    }),
  );
}

test("a source and its stage have the source's name, with a decoder and without", () => {
  const decoded = definePipeline({
    name: "p",
    build: (root) =>
      root
        .apply(readEvents({ name: "orders", from: "sqs", queue: "q", decode: json<{ a: number }>() }))
        .apply(writeToZnodes(({ value }) => ({ path: `/${value.a}`, data: "" }))),
  });
  for (const pipeline of [compilePipeline(decoded), compile({ name: "orders", from: "sqs", queue: "q" })])
    expect(planPipeline(pipeline).eventSources).toEqual([
      {
        id: "orders",
        source: { name: "orders", from: "sqs" },
        settings: { origin: "q", rememberMs: 15 * 86_400_000, delayMs: 10_000 },
        consumers: ["orders"],
      },
    ]);
});

test("where records come from, and how long they are remembered, may be changed while a pipeline lives", () => {
  const before = compile({ from: "sqs", queue: "q" });
  const after = compile({
    from: "sqs",
    queue: "other",
    rememberSeconds: 60,
    delaySeconds: 1,
    batchWindowSeconds: 5,
  });
  expect(after.fingerprint).toBe(before.fingerprint);
  expect(compile({ from: "sqs", queue: "q", idAttribute: "id" }).fingerprint).not.toBe(before.fingerprint);
  expect(compile({ from: "kinesis", stream: "q", name: "sqs" }).fingerprint).not.toBe(before.fingerprint);
});

test("what waits for a batch to get full comes later by so much", () => {
  const [source] = planPipeline(compile({ from: "sqs", queue: "q", batchWindowSeconds: 60 })).eventSources;
  expect(source!.settings.delayMs).toBe(70_000);
});

test.each([
  [{ from: "queue" }, /from must be one of sqs, kinesis, s3, eventbridge, direct/],
  [{ from: "sqs" }, /readEvents\("sqs"\): queue must be a text/],
  [{ from: "kinesis", stream: "" }, /stream must be a text/],
  [{ from: "s3", bucket: "b", prefix: 1 }, /prefix must be a text/],
  [{ from: "eventbridge", pattern: "shop" }, /pattern must be an event pattern/],
  [{ from: "direct", name: "a/b" }, /a name has 1 to 100 letters/],
  [{ from: "direct", idAttribute: "" }, /idAttribute must be the name of an attribute/],
  [{ from: "direct", rememberSeconds: 0 }, /rememberSeconds must be a number from 1 to/],
  [{ from: "sqs", queue: "q", batchSize: 100 }, /a batchSize above 10 needs batchWindowSeconds/],
  [{ from: "direct", decode: {} }, /decode must be a decoder such as json\(\)/],
])("%j is refused", (options, message) => {
  expect(() => readEvents(options as never)).toThrow(message);
});

test("two sources of one name are refused", () => {
  const both = compile({ from: "sqs", queue: "a" }, { from: "sqs", queue: "b" });
  expect(() => planPipeline(both)).toThrow(
    /two sources of events are called "sqs"; give one of them another name/,
  );
});
