import {
  type EventSourceShape,
  estimate,
  MONTH_SECONDS,
  type PipelineShape,
  PRICES,
  type Rates,
} from "../../lib/cli/estimate";

const SHAPE: PipelineShape = {
  ...{ name: "p", sources: 1, stages: 2, shards: 5, firstShards: 4 },
  eventSources: [],
};
const RATES: Rates = {
  ...{ changesPerSecond: 0, eventsPerSecond: 0, invocationSeconds: 0.2, idleSeconds: 1, lingerSeconds: 0.01 },
};
const QUEUE: EventSourceShape = { from: "sqs", batchSize: 10, windowSeconds: 0 };

const one = (rates: Partial<Rates>, shape: Partial<PipelineShape> = {}) =>
  estimate([{ ...SHAPE, ...shape }], { ...RATES, ...rates }).pipelines[0]!;

test("an idle pipeline costs one write a second and no invocation; the relays are always on", () => {
  expect(one({})).toMatchObject({ writesPerSecond: 1, invocationsPerSecond: 0, dollarsPerMonth: 0 });
  const { standing, dollarsPerMonth } = estimate([SHAPE], RATES);
  // Two relays of 256 MB: $8.76 each, as docs/deploy.md has it; 43,800 looks of a second; eight alarms.
  expect(standing.dollarsPerMonth).toBeCloseTo(
    2 * 8.76 + 43_800 * (0.25 * PRICES.gbSecond + PRICES.request) + 0.8,
    2,
  );
  expect(dollarsPerMonth).toBe(standing.dollarsPerMonth);
});

test("a change costs a commit of the relay, an invocation, and a commit in each stage", () => {
  const { dollarsPerMonth, ...found } = one({ changesPerSecond: 3 });
  expect(found).toEqual({
    name: "p",
    relayCommitsPerSecond: 3,
    takingsPerSecond: 0,
    invocationsPerSecond: 3,
    writesPerSecond: 9,
    gbSecondsPerMonth: 3 * 0.2 * 0.5 * MONTH_SECONDS,
  });
  expect(dollarsPerMonth).toBeCloseTo(MONTH_SECONDS * 3 * (0.2 * 0.5 * PRICES.gbSecond + PRICES.request), 6);
});

test("many changes share commits and invocations", () => {
  const { relayCommitsPerSecond, invocationsPerSecond, writesPerSecond } = one({ changesPerSecond: 10_000 });
  expect(relayCommitsPerSecond).toBeCloseTo(100, 6);
  expect(invocationsPerSecond).toBe(20);
  expect(writesPerSecond).toBeCloseTo(140, 6);
});

test("a bounded pipeline is not the relay's, and costs nothing while it has no run", () => {
  expect(one({ changesPerSecond: 10 }, { sources: 0, firstShards: 0 })).toMatchObject({
    writesPerSecond: 0,
    dollarsPerMonth: 0,
  });
});

test.each<[string, Partial<EventSourceShape>, number, number]>([
  ["a message of a queue comes alone where nothing waits for others", {}, 20, 20],
  ["a window fills batches", { windowSeconds: 1 }, 5, 1],
  ["up to their size", { windowSeconds: 60 }, 20, 2],
  ["a stream is read once a second", { from: "kinesis", batchSize: 100 }, 50, 1],
  ["no events, no takings", {}, 0, 0],
])("%s", (_, source, eventsPerSecond, takings) => {
  const shape = { sources: 0, eventSources: [{ ...QUEUE, ...source }] };
  expect(one({ eventsPerSecond }, shape).takingsPerSecond).toBeCloseTo(takings, 9);
});

test("a taking costs a commit, an invocation of its own and one of the bundle function; a queue costs its requests", () => {
  const shape = { sources: 0, firstShards: 4, eventSources: [QUEUE] };
  const { dollarsPerMonth, gbSecondsPerMonth, ...found } = one({ eventsPerSecond: 2 }, shape);
  expect(found).toEqual({
    ...{ name: "p", relayCommitsPerSecond: 0, takingsPerSecond: 2, invocationsPerSecond: 2 },
    writesPerSecond: 2 + 2 * 2,
  });
  // The driver is always at work, since something comes more often than it would end.
  expect(gbSecondsPerMonth).toBeCloseTo((2 * 0.2 * 0.5 + 2 * 0.2 * 0.25 + 0.25) * MONTH_SECONDS, 6);
  const requests = 4 * PRICES.request + (0.25 + 2 * 2) * PRICES.queueRequest;
  expect(dollarsPerMonth).toBeCloseTo(gbSecondsPerMonth * PRICES.gbSecond + requests * MONTH_SECONDS, 6);
  const behindRule = one({ eventsPerSecond: 2 }, { ...shape, eventSources: [{ ...QUEUE, from: "s3" }] });
  expect(behindRule.dollarsPerMonth - dollarsPerMonth).toBeCloseTo(
    2 * PRICES.queueRequest * MONTH_SECONDS,
    6,
  );
  // A relay is there already where znodes are watched as well.
  const watching = one({ eventsPerSecond: 2 }, { ...shape, sources: 1 });
  expect(gbSecondsPerMonth - watching.gbSecondsPerMonth).toBeCloseTo(0.25 * MONTH_SECONDS, 6);
});
