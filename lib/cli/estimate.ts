/**
 * What pipelines cost at given rates, as arithmetic: every figure comes from a line of {@link FORMULA}. Pure.
 * An estimate before anything runs; `beamkeeper top` shows what is.
 */

/** US dollars in us-east-1 on arm64, November 2026; docs/deploy.md says where from. */
export const PRICES = {
  gbSecond: 0.0000133334,
  request: 0.0000002,
  alarmMonth: 0.1,
} as const;

export const MONTH_SECONDS = 730 * 3600;
const RELAYS = 2;
/** Of the deployment; each pipeline that watches znodes has one more, on its lag. */
const ALARMS = 7;
/** Of the functions in serverless.yml. */
const GB = { relay: 0.25, batch: 0.25, bundle: 0.5 } as const;
const LOOKS_PER_SECOND = 1 / 60;
const LOOK_SECONDS = 1;

/** A pipeline as the estimate needs it. */
export interface PipelineShape {
  readonly name: string;
  /** Sources that a relay reads; 0 for a bounded pipeline. */
  readonly sources: number;
  readonly stages: number;
  /** Over all stages. */
  readonly shards: number;
  /** Of the stages that read a source. */
  readonly firstShards: number;
}

export interface Rates {
  /** Changes of znodes a second, of each pipeline. */
  readonly changesPerSecond: number;
  /** How long one invocation of the bundle function takes, all that it goes on with included. */
  readonly invocationSeconds: number;
  /** Between two commits of an idle source. */
  readonly idleSeconds: number;
  /** The least time between two commits of a busy source. */
  readonly lingerSeconds: number;
}

export interface PipelineEstimate {
  readonly name: string;
  readonly relayCommitsPerSecond: number;
  readonly invocationsPerSecond: number;
  readonly writesPerSecond: number;
  readonly gbSecondsPerMonth: number;
  readonly dollarsPerMonth: number;
}

export interface Estimate {
  readonly pipelines: readonly PipelineEstimate[];
  /** Relays, the batch function's look each minute, and alarms: whatever the number of pipelines. */
  readonly standing: { readonly gbSecondsPerMonth: number; readonly dollarsPerMonth: number };
  readonly writesPerSecond: number;
  readonly invocationsPerMonth: number;
  readonly gbSecondsPerMonth: number;
  readonly dollarsPerMonth: number;
}

export const FORMULA = [
  "relay commits/s = sources x max(1 / idle, min(changes / sources, 1 / max(linger, 3 ms)))",
  "invocations/s   = min(changes, relay commits, shards of the first stages / duration)",
  "writes/s        = relay commits/s + invocations/s x stages",
  `GB-seconds      = invocations/s x duration x ${GB.bundle} GB x month + ${RELAYS} relays x ${GB.relay} GB x month + a look each minute x ${LOOK_SECONDS} s x ${GB.batch} GB`,
  `dollars         = GB-seconds x ${PRICES.gbSecond.toFixed(10)} + invocations x ${PRICES.request.toFixed(7)} + (${ALARMS} alarms and one for each pipeline) x ${PRICES.alarmMonth.toFixed(2)}`,
  `a month         = ${MONTH_SECONDS} s; writes are ZooKeeper multis`,
] as const;

/** What a commit takes at a small ensemble: the next one of the same source begins after it. */
const COMMIT_SECONDS = 0.003;

export function estimate(shapes: readonly PipelineShape[], rates: Rates): Estimate {
  const pipelines = shapes.map((shape) => estimateOne(shape, rates));
  const looks = LOOKS_PER_SECOND * MONTH_SECONDS;
  const alarms = ALARMS + shapes.filter(({ sources }) => sources > 0).length;
  const standingGbSeconds = RELAYS * GB.relay * MONTH_SECONDS + looks * LOOK_SECONDS * GB.batch;
  const standing = {
    gbSecondsPerMonth: standingGbSeconds,
    dollarsPerMonth:
      standingGbSeconds * PRICES.gbSecond + looks * PRICES.request + alarms * PRICES.alarmMonth,
  };
  const sum = (of: (pipeline: PipelineEstimate) => number): number =>
    pipelines.reduce((total, pipeline) => total + of(pipeline), 0);
  return {
    pipelines,
    standing,
    writesPerSecond: sum(({ writesPerSecond }) => writesPerSecond),
    invocationsPerMonth: sum(({ invocationsPerSecond }) => invocationsPerSecond) * MONTH_SECONDS + looks,
    gbSecondsPerMonth: sum(({ gbSecondsPerMonth }) => gbSecondsPerMonth) + standing.gbSecondsPerMonth,
    dollarsPerMonth: sum(({ dollarsPerMonth }) => dollarsPerMonth) + standing.dollarsPerMonth,
  };
}

function estimateOne({ name, sources, stages, firstShards }: PipelineShape, rates: Rates): PipelineEstimate {
  const { changesPerSecond, invocationSeconds, idleSeconds, lingerSeconds } = rates;
  const changes = sources === 0 ? 0 : changesPerSecond;
  const busy = Math.min(changes / Math.max(1, sources), 1 / Math.max(lingerSeconds, COMMIT_SECONDS));
  const relayCommitsPerSecond = sources * Math.max(1 / idleSeconds, busy);
  const invocationsPerSecond = Math.min(changes, relayCommitsPerSecond, firstShards / invocationSeconds);
  const gbSecondsPerMonth = invocationsPerSecond * invocationSeconds * GB.bundle * MONTH_SECONDS;
  return {
    name,
    relayCommitsPerSecond,
    invocationsPerSecond,
    writesPerSecond: relayCommitsPerSecond + invocationsPerSecond * stages,
    gbSecondsPerMonth,
    dollarsPerMonth:
      gbSecondsPerMonth * PRICES.gbSecond + invocationsPerSecond * MONTH_SECONDS * PRICES.request,
  };
}
