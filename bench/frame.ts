/**
 * The frame of every benchmark: two contestants do the same, round by round in turn, so that what else happens on
 * the machine meets both. A figure is the median of the rounds, with their range, and its ratio to the peer's;
 * ratios are what is compared with the recorded baseline, since they depend on the machine the least.
 */
import { cpus } from "node:os";

export interface Metric {
  readonly name: string;
  /** Which of two figures is the better one; without it there is no ratio. */
  readonly better?: "higher" | "lower";
}

/** The figures of one round, by the metric's name. */
export type Sample = Readonly<Record<string, number>>;

export interface Case {
  readonly name: string;
  readonly metrics: readonly Metric[];
  readonly ours: () => Promise<Sample>;
  /** The peer; or several by their names, who take their turns in the same rounds. */
  readonly peer: (() => Promise<Sample>) | Readonly<Record<string, () => Promise<Sample>>>;
  /** A single round without a warm-up, where it takes so long that one says enough. */
  readonly once?: boolean;
}

export interface Benchmark {
  readonly name: string;
  readonly description: string;
  /** Who the peer is, and under what conditions both run. */
  readonly conditions: string;
  readonly rounds: number;
  /** First rounds that are thrown away, where code that is not compiled yet would distort the figures. */
  readonly warmUpRounds: number;
  /** Prepares the cases; `end` is called whatever happens. */
  prepare(): Promise<{ readonly cases: readonly Case[]; end(): Promise<void> }>;
}

export interface Spread {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

export interface Figure {
  readonly case: string;
  readonly metric: string;
  readonly ours: Spread;
  readonly peer: Spread;
  /** How many times better than the peer; null where neither direction is better. */
  readonly ratio: number | null;
}

/** What --record keeps of a run. */
export interface Baseline {
  readonly recordedAt: string;
  readonly machine: string;
  readonly note: string;
  readonly figures: readonly Figure[];
}

/** The name of a peer that needs none. */
const ALONE = "";

export function machine(): string {
  const processors = cpus();
  return `Node ${process.versions.node}, ${processors.length} x ${processors[0]?.model ?? "unknown processor"}`;
}

export function spread(values: readonly number[]): Spread {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const median = sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
  return { median, min: sorted[0]!, max: sorted.at(-1)! };
}

/** The value below which the fraction of the values lies; 0 where there are none. */
export function quantile(values: readonly number[], fraction: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * fraction))] ?? 0;
}

/** Runs all cases in interleaved rounds; `said` hears of each case's figures when they are there. */
export async function measure(
  benchmark: Benchmark,
  said: (figures: readonly Figure[]) => void,
): Promise<Figure[]> {
  const { cases, end } = await benchmark.prepare();
  try {
    const figures: Figure[] = [];
    for (const each of cases) {
      const measured = await measureCase(each, benchmark);
      figures.push(...measured);
      said(measured);
    }
    return figures;
  } finally {
    await end();
  }
}

async function measureCase(
  { name, metrics, ours, peer, once = false }: Case,
  benchmark: Benchmark,
): Promise<Figure[]> {
  const { rounds, warmUpRounds } = once ? { rounds: 1, warmUpRounds: 0 } : benchmark;
  const peers = typeof peer === "function" ? { [ALONE]: peer } : peer;
  const contestants = [ours, ...Object.values(peers)];
  const samples: Sample[][] = contestants.map(() => []);
  for (let round = -warmUpRounds; round < rounds; round++) {
    // Who comes first changes from round to round.
    const order = [...contestants.keys()];
    for (const who of round % 2 === 0 ? order : order.reverse()) {
      const sample = await contestants[who]!();
      if (round >= 0) samples[who]!.push(sample);
    }
  }
  return Object.keys(peers).flatMap((peerName, index) =>
    metrics.map((metric) => {
      const [one, other] = [0, index + 1].map((who) =>
        spread(samples[who]!.map((sample) => sample[metric.name]!)),
      ) as [Spread, Spread];
      const caseName = peerName === ALONE ? name : `${name} / ${peerName}`;
      return {
        case: caseName,
        metric: metric.name,
        ours: one,
        peer: other,
        ratio: ratio(metric, one, other),
      };
    }),
  );
}

function ratio({ better }: Metric, ours: Spread, peer: Spread): number | null {
  if (better === undefined || ours.median === 0 || peer.median === 0) return null;
  return better === "higher" ? ours.median / peer.median : peer.median / ours.median;
}

const HEADINGS = ["case", "figure", "ours", "(range)", "peer", "(range)", "x better", "baseline"] as const;

/** The figures as lines of a table, beside the baseline's ratios where there are any. */
export function table(figures: readonly Figure[], baseline: Baseline | undefined): string {
  const rows = figures.map((figure) => {
    const recorded = baseline?.figures.find(
      (each) => each.case === figure.case && each.metric === figure.metric,
    );
    const { ours, peer } = figure;
    return [
      figure.case,
      figure.metric,
      ...[show(ours.median), range(ours), show(peer.median), range(peer)],
      ...[times(figure.ratio), times(recorded?.ratio ?? null)],
    ];
  });
  const all = [[...HEADINGS], ...rows];
  const widths = HEADINGS.map((_, column) => Math.max(...all.map((row) => row[column]!.length)));
  const line = (row: readonly string[]): string =>
    row
      .map((text, column) => (column < 2 ? text.padEnd(widths[column]!) : text.padStart(widths[column]!)))
      .join("  ");
  return all.map(line).join("\n");
}

/** One figure while the others are still being measured. */
export function progressLine({ case: name, metric, ours, peer, ratio: times }: Figure): string {
  return `${name}, ${metric}: ${show(ours.median)} against ${show(peer.median)}${times === null ? "" : ` (x ${times.toFixed(2)})`}`;
}

function times(value: number | null): string {
  return value === null ? "-" : value.toFixed(2);
}

function range({ min, max }: Spread): string {
  return `(${show(min)}-${show(max)})`;
}

function show(value: number): string {
  return value.toLocaleString("en-US", { maximumFractionDigits: value < 100 ? 1 : 0 });
}
