/** What the client is to reach, and whether a row's rounds show it. Pure. */
import type { Name } from "./zookeeper-peers";

/** A median, and the interval that it lies in with 95% certainty. */
export interface Estimate {
  readonly median: number;
  readonly low: number;
  readonly high: number;
}

/** What one contestant showed in one round. */
export interface Sample {
  /** Operations a second, or µs for a latency. */
  readonly figure: number;
  readonly cpuUs: number;
}

export interface RowTarget {
  readonly kind: string;
  readonly inFlight: number;
  /** The median latency counts, not the rate. */
  readonly isLatency?: boolean;
}

/**
 * `tie`: the median falls short, but the interval does not. `ceiling`: it falls short, and the bare loop is no more than
 * a tenth faster, so that Node can do no more.
 */
export type Verdict = "pass" | "tie" | "ceiling" | "MISS";

export interface Finding {
  readonly target: string;
  readonly measured: Estimate;
  readonly verdict: Verdict;
}

const CERTAINTY = 0.95;
/** How far below the bare loop is near enough. */
const NEAR = 0.9;
const RIVALS: readonly Name[] = ["node-zookeeper-client", "native", "kazoo"];
/** These are to be reached where many requests are in flight. */
const FAST_RIVALS: readonly Name[] = ["java", "c"];
const MANY = 100;
const MAX_CPU_US = 30;
const MAX_MULTI_CPU_US = 40;

/**
 * The median, and the two values of the sample that enclose the true one: how many of the values lie below it follows
 * the binomial distribution, whatever theirs is.
 */
export function estimate(values: readonly number[]): Estimate {
  const sorted = [...values].sort((a, b) => a - b);
  const count = sorted.length;
  const middle = count >> 1;
  const median = count % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
  const outside = outsideOf(count);
  return { median, low: sorted[outside]!, high: sorted[count - 1 - outside]! };
}

/** How many values at each end lie outside of the interval. */
function outsideOf(count: number): number {
  let probability = 0.5 ** count;
  let below = 0;
  for (let cut = 0; cut < count >> 1; cut += 1) {
    below += probability;
    if (below > (1 - CERTAINTY) / 2) return Math.max(0, cut - 1);
    probability *= (count - cut) / (cut + 1);
  }
  return 0;
}

type Samples = Readonly<Partial<Record<Name, readonly Sample[]>>>;

/** Holds a row against all that it is to reach. */
export function judge(row: RowTarget, samples: Samples): Finding[] {
  const { ours, bare } = samples;
  if (!ours) return [];
  const ceiling = bare && ratios(row, ours, bare);
  const isAtCeiling = ceiling !== undefined && ceiling.median >= NEAR;
  const findings: Finding[] = [];
  if (ceiling) {
    findings.push({
      target: `at least ${NEAR} of bare`,
      measured: ceiling,
      verdict: verdictOf(ceiling, NEAR, false),
    });
  }
  for (const name of row.inFlight >= MANY ? [...RIVALS, ...FAST_RIVALS] : RIVALS) {
    const other = samples[name];
    if (!other) continue;
    const measured = ratios(row, ours, other);
    findings.push({ target: `not behind ${name}`, measured, verdict: verdictOf(measured, 1, isAtCeiling) });
  }
  const most = row.kind === "multi" ? MAX_MULTI_CPU_US : row.inFlight === 1_000 ? MAX_CPU_US : undefined;
  if (most !== undefined) {
    const measured = estimate(ours.map(({ cpuUs }) => cpuUs));
    findings.push({ target: `at most ${most} µs of CPU`, measured, verdict: atMost(measured, most) });
  }
  return findings;
}

/** How many times as good as the other we were, round by round: what slows a round down slows both. */
function ratios(row: RowTarget, ours: readonly Sample[], other: readonly Sample[]): Estimate {
  const rounds = Math.min(ours.length, other.length);
  const each = Array.from({ length: rounds }, (_, round) => {
    const [a, b] = [ours[round]!.figure, other[round]!.figure];
    return row.isLatency ? b / a : a / b;
  });
  return estimate(each);
}

function verdictOf({ median, high }: Estimate, least: number, isAtCeiling: boolean): Verdict {
  if (median >= least) return "pass";
  if (high >= least) return "tie";
  return isAtCeiling ? "ceiling" : "MISS";
}

export function atMost({ median, low }: Estimate, most: number): Verdict {
  if (median <= most) return "pass";
  return low <= most ? "tie" : "MISS";
}
