import { embeddedMetrics, prometheusText } from "../../lib/relay/metric-formats";
import { RelayMetrics } from "../../lib/relay/metrics";

let nowMs: number;
let metrics: RelayMetrics;

beforeEach(() => {
  nowMs = 1_000_000;
  metrics = new RelayMetrics('orders "new"\n', () => nowMs);
});

const commit = { elements: 3, missed: 2, coalesced: 1 };

/** A source whose first commit at 0x10 is published by its second; the ensemble's clock is 500 ms ahead. */
function relayTwoCommits(): void {
  metrics.enter("active");
  const source = metrics.source("znodes");
  source.walked(7, 1_500);
  source.committed({ ...commit, zxid: 0x10n, mtimeMs: nowMs + 500, watermarkMs: Number.NEGATIVE_INFINITY });
  source.heard(0x15n);
  source.heard(-1n);
  nowMs += 2_000;
  source.committed({ ...commit, zxid: 0x18n, mtimeMs: nowMs + 500, watermarkMs: 1_000_500 });
}

test("the lag is from what is published and appended to the ensemble's clock and the latest change heard of", () => {
  relayTwoCommits();
  nowMs += 100;
  expect(metrics.figures().sources[0]).toMatchObject({ lagZxids: 5, lagMs: 2_100, commits: 2, events: 2 });
});

test("after an election the transactions of the new leader are counted", () => {
  relayTwoCommits();
  metrics.source("znodes").heard((2n << 32n) + 9n);
  expect(metrics.figures().sources[0]?.lagZxids).toBe(9);
});

test("a lag is unknown before a commit, before a watermark, and once another relay is active", () => {
  metrics.enter("active");
  const source = metrics.source("znodes");
  expect(metrics.figures().sources[0]).toMatchObject({ lagZxids: undefined, lagMs: undefined });
  source.committed({ ...commit, zxid: 1n, mtimeMs: nowMs, watermarkMs: Number.NEGATIVE_INFINITY });
  expect(metrics.figures().sources[0]).toMatchObject({ lagZxids: undefined, lagMs: undefined });
  relayTwoCommits();
  metrics.enter("standby");
  expect(metrics.figures().sources[0]).toMatchObject({ lagZxids: undefined, lagMs: undefined, elements: 9 });
});

test("a source that has ended lags behind nothing", () => {
  relayTwoCommits();
  metrics
    .source("znodes")
    .committed({ ...commit, zxid: 0x20n, mtimeMs: nowMs, watermarkMs: Number.POSITIVE_INFINITY });
  expect(metrics.figures().sources[0]).toMatchObject({ lagZxids: 0, lagMs: 0 });
});

test("invocations are in flight until they have ended, and those that failed are counted", async () => {
  let answer: (text: string) => void = () => undefined;
  const slow = metrics.invocation(() => new Promise<string>((done) => (answer = done)));
  const failing = metrics.invocation(() => Promise.reject(new Error("broken")));
  expect(metrics.figures()).toMatchObject({ invocations: 2, inFlight: 2, failures: 0 });
  await expect(failing).rejects.toThrow("broken");
  expect(metrics.figures()).toMatchObject({ invocations: 2, inFlight: 1, failures: 1 });
  answer("done");
  expect(await slow).toBe("done");
  expect(metrics.figures()).toMatchObject({ invocations: 2, inFlight: 0, failures: 1 });
});

test("Prometheus reads every metric with its help and type", () => {
  relayTwoCommits();
  const text = prometheusText([metrics.figures()]);
  const labels = 'pipeline="orders \\"new\\"\\n"';
  expect(text).toContain(
    `# HELP beamkeeper_relay_active 1 where this relay is the active one, 0 where it stands by.\n` +
      `# TYPE beamkeeper_relay_active gauge\nbeamkeeper_relay_active{${labels}} 1\n`,
  );
  const ofSource = `{${labels},source="znodes"}`;
  expect(text).toContain(`# TYPE beamkeeper_relay_elements_total counter\n`);
  expect(text).toContain(`beamkeeper_relay_elements_total${ofSource} 6\n`);
  expect(text).toContain(`beamkeeper_relay_missed_total${ofSource} 4\n`);
  expect(text).toContain(`beamkeeper_relay_coalesced_total${ofSource} 2\n`);
  expect(text).toContain(`beamkeeper_relay_walked_znodes_total${ofSource} 7\n`);
  expect(text).toContain(`beamkeeper_relay_walk_seconds_total${ofSource} 1.5\n`);
  expect(text).toContain(`beamkeeper_relay_lag_seconds${ofSource} 2\n`);
  // The text format: comments, samples, and nothing else; every family once.
  for (const line of text.trimEnd().split("\n"))
    expect(line).toMatch(/^(# (HELP|TYPE) beamkeeper_\S+ .+|beamkeeper_\w+\{.*\} [\d.]+)$/);
  const families = [...text.matchAll(/^# TYPE (\S+)/gm)].map(([, name]) => name);
  expect(new Set(families).size).toBe(families.length);
});

test("what is unknown is left out", () => {
  metrics.source("znodes");
  expect(prometheusText([metrics.figures()])).not.toContain("lag");
  expect(JSON.stringify(embeddedMetrics(metrics.figures(), "relay-of-orders", 1))).not.toContain("Lag");
});

test("CloudWatch gets what was added since the record before, sources together, and the highest lag", () => {
  relayTwoCommits();
  const before = metrics.figures();
  const other = metrics.source("other");
  other.committed({
    elements: 10,
    missed: 0,
    coalesced: 0,
    zxid: 1n,
    mtimeMs: nowMs,
    watermarkMs: nowMs - 60_000,
  });
  metrics.source("znodes").committed({ ...commit, zxid: 0x20n, mtimeMs: nowMs, watermarkMs: nowMs });
  const record = embeddedMetrics(metrics.figures(), "relay-of-orders", 42, before);
  expect(record).toMatchObject({
    FunctionName: "relay-of-orders",
    Pipeline: 'orders "new"\n',
    Active: 1,
    Elements: 13,
    Missed: 2,
    Commits: 2,
  });
  expect(record).toMatchObject({ Walks: 0, WalkTime: 0, Lag: 60_000, Invocations: 0, InFlight: 0 });
  expect(embeddedMetrics(before, "relay-of-orders", 42)).toMatchObject({ Elements: 6, WalkTime: 1_500 });
  // Each metric that is announced has a number, as the format asks.
  const { _aws, ...values } = record as {
    _aws: {
      Timestamp: number;
      CloudWatchMetrics: {
        Namespace: string;
        Dimensions: string[][];
        Metrics: { Name: string; Unit: string }[];
      }[];
    };
  };
  expect(_aws).toMatchObject({
    Timestamp: 42,
    CloudWatchMetrics: [{ Namespace: "Beamkeeper", Dimensions: [["FunctionName", "Pipeline"]] }],
  });
  const announced = _aws.CloudWatchMetrics[0]!.Metrics.map(({ Name }) => Name);
  expect([...announced, "FunctionName", "Pipeline"].sort()).toEqual(Object.keys(values).sort());
  for (const name of announced) expect(typeof (values as Record<string, unknown>)[name]).toBe("number");
});
