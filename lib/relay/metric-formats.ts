import type { RelayFigures, SourceFigures } from "./metrics";

type Unit = "Count" | "Milliseconds";

/** A metric of a relay: how to read it, and what it is called in each format. */
interface Metric<Figures> {
  /** In CloudWatch. */
  readonly name: string;
  /** In Prometheus, without the prefix. Times are in seconds there. */
  readonly label: string;
  readonly kind: "counter" | "gauge";
  readonly unit: Unit;
  readonly help: string;
  readonly read: (figures: Figures) => number | undefined;
}

const SOURCE_METRICS: readonly Metric<SourceFigures>[] = [
  metric(
    "counter",
    "Events",
    "events_total",
    "Watch events that concern the source.",
    ({ events }) => events,
  ),
  metric("counter", "Elements", "elements_total", "Elements appended.", ({ elements }) => elements),
  metric("counter", "Missed", "missed_total", "Values that could not be seen.", ({ missed }) => missed),
  metric(
    "counter",
    "Coalesced",
    "coalesced_total",
    "Events that shared a read with an earlier one of the same znode.",
    ({ coalesced }) => coalesced,
  ),
  metric("counter", "Commits", "commits_total", "Commits of the source's cursor.", ({ commits }) => commits),
  metric("counter", "Walks", "walks_total", "Walks that came to their end.", ({ walks }) => walks),
  metric(
    "counter",
    "WalkedZnodes",
    "walked_znodes_total",
    "Znodes that these walks read.",
    ({ walkedZnodes }) => walkedZnodes,
  ),
  metric(
    "counter",
    "WalkTime",
    "walk_seconds_total",
    "The time that these walks took.",
    ({ walkMs }) => walkMs,
    "Milliseconds",
  ),
  metric(
    "gauge",
    "LagZxids",
    "lag_zxids",
    "Transactions from the position up to which all is appended to the latest change heard of.",
    ({ lagZxids }) => lagZxids,
  ),
  metric(
    "gauge",
    "Lag",
    "lag_seconds",
    "How far the published watermark is behind the ensemble's clock.",
    ({ lagMs }) => lagMs,
    "Milliseconds",
  ),
];

const RELAY_METRICS: readonly Metric<RelayFigures>[] = [
  metric(
    "gauge",
    "Active",
    "active",
    "1 where this relay is the active one, 0 where it stands by.",
    ({ state }) => (state === "active" ? 1 : 0),
  ),
  metric(
    "counter",
    "Invocations",
    "invocations_total",
    "Invocations of the bundle function.",
    ({ invocations }) => invocations,
  ),
  metric(
    "counter",
    "Failures",
    "failures_total",
    "Invocations that ended with an error instead of an answer.",
    ({ failures }) => failures,
  ),
  metric("gauge", "InFlight", "in_flight", "Invocations under way.", ({ inFlight }) => inFlight),
];

const PREFIX = "beamkeeper_relay_";

/** In Prometheus's text format, version 0.0.4: the relay's metrics by pipeline, those of sources by source as well. */
export function prometheusText(relays: readonly RelayFigures[]): string {
  const ofRelays = RELAY_METRICS.map((metric) =>
    family(
      metric,
      relays.map((relay) => [{ pipeline: relay.pipeline }, metric.read(relay)]),
    ),
  );
  const ofSources = SOURCE_METRICS.map((metric) =>
    family(
      metric,
      relays.flatMap(({ pipeline, sources }) =>
        sources.map((each) => [{ pipeline, source: each.source }, metric.read(each)] as const),
      ),
    ),
  );
  return [...ofRelays, ...ofSources].join("");
}

function family(
  { label, kind, unit, help }: Metric<never>,
  samples: readonly (readonly [Readonly<Record<string, string>>, number | undefined])[],
): string {
  const name = `${PREFIX}${label}`;
  const lines = samples.flatMap(([labels, value]) =>
    value === undefined
      ? []
      : [`${name}{${labelText(labels)}} ${unit === "Milliseconds" ? value / 1_000 : value}\n`],
  );
  return lines.length === 0 ? "" : `# HELP ${name} ${help}\n# TYPE ${name} ${kind}\n${lines.join("")}`;
}

function labelText(labels: Readonly<Record<string, string>>): string {
  const escaped = (value: string): string =>
    value.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
  return Object.entries(labels)
    .map(([name, value]) => `${name}="${escaped(value)}"`)
    .join(",");
}

/** The namespace in CloudWatch. */
export const NAMESPACE = "Beamkeeper";

/**
 * The fields of a log record in CloudWatch's embedded metric format. Dimensions are FunctionName, which tells deployments
 * apart, and Pipeline, and no others, since each combination is a metric to pay for. Counters are what was added since
 * `before` (default: all), over the sources together; of gauges the highest.
 */
export function embeddedMetrics(
  now: RelayFigures,
  functionName: string,
  timestampMs: number,
  before?: RelayFigures,
): Record<string, unknown> {
  const ofSources = SOURCE_METRICS.map((metric) => {
    const values = now.sources.map((source) => metric.read(source)).filter((value) => value !== undefined);
    if (metric.kind === "gauge")
      return [metric, values.length === 0 ? undefined : Math.max(...values)] as const;
    return [metric, sumOf(metric, now) - (before ? sumOf(metric, before) : 0)] as const;
  });
  const ofRelay = RELAY_METRICS.map((metric) => {
    const value = metric.read(now) ?? 0;
    const known = before && metric.kind === "counter" ? (metric.read(before) ?? 0) : 0;
    return [metric, value - known] as const;
  });
  const told = [...ofRelay, ...ofSources].filter(([, value]) => value !== undefined);
  const Metrics = told.map(([{ name, unit }]) => ({ Name: name, Unit: unit }));
  return {
    _aws: {
      Timestamp: timestampMs,
      CloudWatchMetrics: [{ Namespace: NAMESPACE, Dimensions: [["FunctionName", "Pipeline"]], Metrics }],
    },
    FunctionName: functionName,
    Pipeline: now.pipeline,
    ...Object.fromEntries(told.map(([{ name }, value]) => [name, value])),
  };
}

function sumOf({ read }: Metric<SourceFigures>, { sources }: RelayFigures): number {
  return sources.reduce((sum, source) => sum + (read(source) ?? 0), 0);
}

function metric<Figures>(
  kind: Metric<Figures>["kind"],
  name: string,
  label: string,
  help: string,
  read: Metric<Figures>["read"],
  unit: Unit = "Count",
): Metric<Figures> {
  return { name, label, kind, unit, help, read };
}
