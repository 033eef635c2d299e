/** The metrics of user code over a shard's committed bundles, by `transform:name`. */
export interface UserMetrics {
  readonly counters: Readonly<Record<string, number>>;
  readonly distributions: Readonly<Record<string, Distribution>>;
}

export interface Distribution {
  readonly count: number;
  readonly sum: number;
  readonly min: number;
  readonly max: number;
}

/** What a bundle counted. */
export interface BundleMetrics {
  readonly counters: ReadonlyMap<string, number>;
  readonly distributions: ReadonlyMap<string, Distribution>;
}

export const NO_METRICS: UserMetrics = { counters: {}, distributions: {} };

/** Of a bundle, as a record; undefined where it counted nothing. */
export function countedBy({ counters, distributions }: BundleMetrics): UserMetrics | undefined {
  if (counters.size === 0 && distributions.size === 0) return undefined;
  return { counters: Object.fromEntries(counters), distributions: Object.fromEntries(distributions) };
}

/** Counters are added, distributions joined. */
export function sumOfMetrics(all: readonly UserMetrics[]): UserMetrics {
  const counters: Record<string, number> = {};
  const distributions: Record<string, Distribution> = {};
  for (const each of all) {
    for (const [name, value] of Object.entries(each.counters)) counters[name] = (counters[name] ?? 0) + value;
    for (const [name, value] of Object.entries(each.distributions))
      distributions[name] = joined(distributions[name], value);
  }
  return { counters, distributions };
}

function joined(before: Distribution | undefined, { count, sum, min, max }: Distribution): Distribution {
  if (before === undefined) return { count, sum, min, max };
  return {
    count: before.count + count,
    sum: before.sum + sum,
    min: Math.min(before.min, min),
    max: Math.max(before.max, max),
  };
}

/** Whatever user code counted: JSON has neither infinities nor NaN. */
export function metricsToJson(metrics: UserMetrics): unknown {
  if (metrics === NO_METRICS) return metrics;
  return mapNumbers(metrics, (value) => (Number.isFinite(value) ? value : String(value)));
}

export function metricsFromJson(json: UserMetrics | undefined): UserMetrics {
  return json === undefined || isNothing(json) ? NO_METRICS : mapNumbers(json, Number);
}

function isNothing({ counters, distributions }: UserMetrics): boolean {
  for (const _ in counters) return false;
  for (const _ in distributions) return false;
  return true;
}

function mapNumbers<T>({ counters, distributions }: UserMetrics, map: (value: number) => T) {
  return {
    counters: Object.fromEntries(Object.entries(counters).map(([name, value]) => [name, map(value)])),
    distributions: Object.fromEntries(
      Object.entries(distributions).map(([name, { count, sum, min, max }]) => [
        name,
        { count: map(count), sum: map(sum), min: map(min), max: map(max) },
      ]),
    ),
  };
}
