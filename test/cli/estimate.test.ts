import { estimate, MONTH_SECONDS, type PipelineShape, PRICES, type Rates } from "../../lib/cli/estimate";

const SHAPE: PipelineShape = { name: "p", sources: 1, stages: 2, shards: 5, firstShards: 4 };
const RATES: Rates = { changesPerSecond: 0, invocationSeconds: 0.2, idleSeconds: 1, lingerSeconds: 0.01 };

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
