import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parse } from "yaml";
import type { EventServices, QueueDescription } from "../../lib/aws/event-services";
import { compilePipeline } from "../../lib/beam/pipeline";
import { checkEventSources, EVENTS_TIMEOUT_SECONDS } from "../../lib/cli/event-checks";
import { definePipeline, type ReadEventsOptions, readEvents, writeToZnodes } from "../../lib/index";
import { planPipeline } from "../../lib/runner/deployment";

const DAY = 86_400;
const QUEUE: QueueDescription = {
  ...{ visibilitySeconds: 180, retentionSeconds: 4 * DAY, maxReceives: 1_000 },
};

/** Services that have what is given, under these names. */
function services(there: { queue?: Partial<QueueDescription>; tellsEventBridge?: boolean }): EventServices {
  const named =
    <T>(wanted: string, value: T) =>
    (name: string) =>
      Promise.resolve(name === wanted ? value : undefined);
  return {
    queue: named("orders-prod", { ...QUEUE, ...there.queue }),
    stream: named("clicks-prod", { retentionSeconds: DAY }),
    hasBus: async (name) => name === "shop-prod",
    bucket: named("uploads-prod", { tellsEventBridge: there.tellsEventBridge ?? true }),
  };
}

async function findings(options: ReadEventsOptions, from: EventServices): Promise<string[]> {
  const pipeline = definePipeline({
    name: "p",
    build: (root) =>
      root
        .apply(readEvents({ ...options, name: "source" }))
        .apply(writeToZnodes(() => ({ path: "/r", data: "" }))),
  });
  const found = await checkEventSources(from, planPipeline(compilePipeline(pipeline)), "prod");
  for (const { level, remedy } of found) expect(remedy === undefined).toBe(level === "ok");
  expect(found.every(({ about }) => about === "p reads source")).toBe(true);
  return found.map(({ level, text }) => `${level}: ${text}`);
}

const SQS = { from: "sqs", queue: "orders-{stage}" } as const;

test.each<[string, ReadEventsOptions, Parameters<typeof services>[0], (RegExp | string)[]]>([
  ["a queue that fits", SQS, {}, ["ok: queue orders-prod hides messages for 180 s"]],
  [
    "a queue that hides messages for less than the function may run",
    SQS,
    { queue: { visibilitySeconds: 20 } },
    [/^error: queue orders-prod hides messages for 20 s, and taking them may last 30 s/],
  ],
  [
    "a window that is too long for the queue",
    { ...SQS, batchWindowSeconds: 170 },
    {},
    [/^error: .* for 180 s, and taking them may last 200 s/],
  ],
  [
    "a queue that hides messages for less than AWS advises",
    SQS,
    { queue: { visibilitySeconds: 60 } },
    [
      "warning: queue orders-prod hides messages for 60 s; AWS advises 180 s (six timeouts and batchWindowSeconds)",
    ],
  ],
  [
    "ids that are forgotten too early",
    { ...SQS, rememberSeconds: DAY },
    {},
    [/^warning: .* again for 4 days, and its id is remembered for 1 days: after that it counts twice/],
  ],
  [
    "no target for what is refused",
    SQS,
    { queue: { maxReceives: undefined } },
    [/^warning: .* no dead-letter queue: what is refused is gone after 4 days/],
  ],
  [
    "messages that are given up while a pipeline is paused for a short time",
    SQS,
    { queue: { maxReceives: 5 } },
    [
      "warning: queue orders-prod gives a message up after 5 receives, some 15 minutes while a pipeline is paused or behind",
    ],
  ],
  ["no such queue", { ...SQS, queue: "other" }, {}, ["error: there is no queue other"]],
  [
    "a stream",
    { from: "kinesis", stream: "clicks-{stage}" },
    {},
    ["ok: stream clicks-prod keeps records for 1 days"],
  ],
  ["no such stream", { from: "kinesis", stream: "clicks" }, {}, ["error: there is no stream clicks"]],
  [
    "records that wait longer for their batch than the watermark waits for them",
    {
      ...{ from: "kinesis", stream: "clicks-{stage}" },
      ...{ timestampAttribute: "at", batchWindowSeconds: 60, delaySeconds: 10 },
    },
    {},
    [/^warning: batchWindowSeconds \(60\) is more than delaySeconds \(10\)/],
  ],
  [
    "a bucket that tells nobody",
    { from: "s3", bucket: "uploads-{stage}" },
    { tellsEventBridge: false },
    [/^warning: bucket uploads-prod does not send its events to EventBridge/],
  ],
  ["no such bucket", { from: "s3", bucket: "uploads" }, {}, ["error: there is no bucket uploads"]],
  ["a bus", { from: "eventbridge", bus: "shop-{stage}", pattern: {} }, {}, ["ok: bus shop-prod"]],
  ["no such bus", { from: "eventbridge", bus: "shop", pattern: {} }, {}, ["error: there is no bus shop"]],
  ["the default bus", { from: "eventbridge", pattern: {} }, {}, ["ok: the default bus"]],
  ["direct events", { from: "direct" }, {}, [/^ok: who may invoke the events function/]],
])("%s", async (_, options, there, expected) => {
  expect(await findings(options, services(there))).toEqual(
    expected.map((each) => (typeof each === "string" ? each : expect.stringMatching(each))),
  );
});

test("a service that does not answer is a warning that says why", async () => {
  const silent: EventServices = { ...services({}), queue: () => Promise.reject(new Error("AccessDenied")) };
  expect(await findings(SQS, silent)).toEqual(["warning: sqs orders-prod could not be asked: AccessDenied"]);
});

test("the time that taking messages may last is that of the deployed function", () => {
  const text = readFileSync(join(__dirname, "../../serverless.yml"), "utf8");
  // CloudFormation's own tags are no concern here.
  const { functions } = parse(text, { logLevel: "error" });
  expect(functions.events.timeout).toBe(EVENTS_TIMEOUT_SECONDS);
});
