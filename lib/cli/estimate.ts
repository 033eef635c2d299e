/**
 * What pipelines cost at given rates, as arithmetic: every figure comes from a line of {@link FORMULA}. Pure.
 * An estimate before anything runs; `beamkeeper top` shows what is.
 */

import type { EventService } from "../checkpoint/event-source";

/** US dollars in us-east-1 on arm64; docs/deploy.md says which were confirmed, by what. */
export const PRICES = {
  gbSecond: 0.0000133334,
  request: 0.0000002,
  alarmMonth: 0.1,
  queueRequest: 0.0000004,
} as const;
/** When the prices were last compared with published ones. */
export const PRICES_AS_OF = "23 November 2026";

export const MONTH_SECONDS = 730 * 3600;
const RELAYS = 2;
/** Of the deployment; each pipeline that watches znodes has one more, on its lag, and all streams together one. */
const ALARMS = 7;
/** Of the functions in serverless.yml. */
const GB = { relay: 0.25, batch: 0.25, events: 0.25, driver: 0.25, bundle: 0.5 } as const;
/** Lambda's pollers of a queue, each of which waits up to 20 s. */
const POLLS_PER_SECOND = 5 / 20;
/** How often Lambda reads a shard of a stream, in seconds. */
const STREAM_POLL_SECONDS = 1;
/** A driver ends when nothing has been under way for so long. */
const DRIVER_QUIET_SECONDS = 1;
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
  readonly eventSources: readonly EventSourceShape[];
}

/** A source of events as the estimate needs it. */
export interface EventSourceShape {
  readonly from: EventService;
  /** Records that one invocation of the events function gets at most. */
  readonly batchSize: number;
  readonly windowSeconds: number;
}

export interface Rates {
  /** Changes of znodes a second, of each pipeline. */
  readonly changesPerSecond: number;
  /** Records a second, of each source of events. */
  readonly eventsPerSecond: number;
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
  /** Of the events function. */
  readonly takingsPerSecond: number;
  /** Of the bundle function. */
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
  `takings/s       = for each source of events, events / min(batchSize, max(1, events x batchWindowSeconds; of a stream ${STREAM_POLL_SECONDS} s at least))`,
  "invocations/s   = min(changes, relay commits) + takings/s, at most shards of the first stages / duration",
  "writes/s        = relay commits/s + takings/s + invocations/s x stages",
  `GB-seconds      = (invocations/s x ${GB.bundle} GB + takings/s x ${GB.events} GB) x duration x month + ${RELAYS} relays x ${GB.relay} GB x month + a look each minute x ${LOOK_SECONDS} s x ${GB.batch} GB`,
  `                  + for a pipeline of events only, a driver: min(1, takings/s x (${DRIVER_QUIET_SECONDS} s + duration)) x ${GB.driver} GB x month`,
  `dollars         = GB-seconds x ${PRICES.gbSecond.toFixed(10)} + (invocations + takings) x ${PRICES.request.toFixed(7)} + (${ALARMS} alarms, one for each pipeline, and one for streams) x ${PRICES.alarmMonth.toFixed(2)}`,
  `                  + requests of queues x ${PRICES.queueRequest.toFixed(7)}: ${POLLS_PER_SECOND} polls/s, 2 for each taking, and 1 for each event behind a rule (S3, EventBridge)`,
  `prices          = us-east-1, arm64, as of ${PRICES_AS_OF}`,
  `a month         = ${MONTH_SECONDS} s; writes are ZooKeeper multis`,
] as const;

/** What a commit takes at a small ensemble: the next one of the same source begins after it. */
const COMMIT_SECONDS = 0.003;

export function estimate(shapes: readonly PipelineShape[], rates: Rates): Estimate {
  const pipelines = shapes.map((shape) => estimateOne(shape, rates));
  const looks = LOOKS_PER_SECOND * MONTH_SECONDS;
  const readsStream = shapes.some(({ eventSources }) => eventSources.some(({ from }) => from === "kinesis"));
  const alarms = ALARMS + shapes.filter(({ sources }) => sources > 0).length + (readsStream ? 1 : 0);
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
    invocationsPerMonth:
      sum((each) => each.invocationsPerSecond + each.takingsPerSecond) * MONTH_SECONDS + looks,
    gbSecondsPerMonth: sum(({ gbSecondsPerMonth }) => gbSecondsPerMonth) + standing.gbSecondsPerMonth,
    dollarsPerMonth: sum(({ dollarsPerMonth }) => dollarsPerMonth) + standing.dollarsPerMonth,
  };
}

function estimateOne(shape: PipelineShape, rates: Rates): PipelineEstimate {
  const { name, sources, stages, firstShards, eventSources } = shape;
  const { changesPerSecond, eventsPerSecond, invocationSeconds, idleSeconds, lingerSeconds } = rates;
  const changes = sources === 0 ? 0 : changesPerSecond;
  const busy = Math.min(changes / Math.max(1, sources), 1 / Math.max(lingerSeconds, COMMIT_SECONDS));
  const relayCommitsPerSecond = sources * Math.max(1 / idleSeconds, busy);
  const sum = (of: (source: EventSourceShape) => number): number =>
    eventSources.reduce((total, source) => total + of(source), 0);
  const takingsPerSecond = sum((source) => takings(source, eventsPerSecond));
  const wakes = Math.min(changes, relayCommitsPerSecond) + takingsPerSecond;
  const invocationsPerSecond = Math.min(wakes, firstShards / invocationSeconds);
  const hasDriver = sources === 0 && eventSources.length > 0;
  const driving = hasDriver
    ? Math.min(1, takingsPerSecond * (DRIVER_QUIET_SECONDS + invocationSeconds)) * GB.driver
    : 0;
  const working = (invocationsPerSecond * GB.bundle + takingsPerSecond * GB.events) * invocationSeconds;
  const gbSecondsPerMonth = (working + driving) * MONTH_SECONDS;
  const queueRequestsPerSecond = sum((source) => queueRequests(source, eventsPerSecond));
  const perSecond =
    (invocationsPerSecond + takingsPerSecond) * PRICES.request + queueRequestsPerSecond * PRICES.queueRequest;
  return {
    name,
    relayCommitsPerSecond,
    takingsPerSecond,
    invocationsPerSecond,
    writesPerSecond: relayCommitsPerSecond + takingsPerSecond + invocationsPerSecond * stages,
    gbSecondsPerMonth,
    dollarsPerMonth: gbSecondsPerMonth * PRICES.gbSecond + perSecond * MONTH_SECONDS,
  };
}

/** Invocations of the events function a second. */
function takings({ from, batchSize, windowSeconds }: EventSourceShape, eventsPerSecond: number): number {
  const seconds = from === "kinesis" ? Math.max(STREAM_POLL_SECONDS, windowSeconds) : windowSeconds;
  return eventsPerSecond / Math.min(batchSize, Math.max(1, eventsPerSecond * seconds));
}

/** Requests of SQS a second, by Lambda and by the rule. */
function queueRequests(source: EventSourceShape, eventsPerSecond: number): number {
  const isBehindRule = source.from === "s3" || source.from === "eventbridge";
  if (source.from !== "sqs" && !isBehindRule) return 0;
  return POLLS_PER_SECOND + 2 * takings(source, eventsPerSecond) + (isBehindRule ? eventsPerSecond : 0);
}
