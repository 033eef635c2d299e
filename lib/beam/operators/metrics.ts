import type { Distribution } from "../api";

/** User metrics of one bundle, by full transform name and metric name. Beginning anew with each bundle counts once. */
export class BundleMetrics {
  readonly counters = new Map<string, number>();
  readonly distributions = new Map<string, Distribution>();

  increment(transform: string, name: string, by: number): void {
    const key = `${transform}:${name}`;
    this.counters.set(key, (this.counters.get(key) ?? 0) + by);
  }

  record(transform: string, name: string, value: number): void {
    const key = `${transform}:${name}`;
    const before = this.distributions.get(key);
    if (before === undefined) {
      this.distributions.set(key, { count: 1, sum: value, min: value, max: value });
      return;
    }
    const { count, sum, min, max } = before;
    const after = {
      count: count + 1,
      sum: sum + value,
      min: Math.min(min, value),
      max: Math.max(max, value),
    };
    this.distributions.set(key, after);
  }
}
