import type { CurrentGeneration } from "../checkpoint/scope";
import { type StageStatus, stageStatuses } from "../checkpoint/stage-status";
import { type PipelineStatus, readStatus, type ShardStatus } from "../checkpoint/status";
import type { Clock } from "../clock";
import type { Log } from "../log";
import type { ZooKeeperClient } from "../zookeeper";
import type { Dispatcher } from "./dispatcher";

export interface SweepOptions {
  readonly client: ZooKeeperClient;
  readonly current: CurrentGeneration;
  readonly dispatcher: Dispatcher;
  /** The number of the last commit of each source that this relay heard the reply of, or LAST_COMMIT. */
  readonly heardCommits: ReadonlyMap<string, number>;
  readonly clock: Clock;
  readonly log: Log;
  /** How often to look, in ms. */
  readonly intervalMs: number;
  /** Work was found that nothing would ever have woken: a defect, and it is woken now. */
  readonly onLost: (stage: string, shard: number) => void;
}

/** What waits on a shard that nobody is going to call, and how often the shard had been looked at by then. */
interface Suspect {
  readonly stage: string;
  readonly shard: number;
  readonly looks: number;
  readonly work: string;
}

// What an answer that is on its way would tell has been told by then.
const CONFIRM_MS = 1_000;

/** This relay knows that the source has ended, and has looked after what was appended by then. */
export const LAST_COMMIT = Number.POSITIVE_INFINITY;

export const LOST_WORK = "work was waiting that nothing would have woken; this is a defect of Beamkeeper";

/**
 * Looks at all inboxes, timers and watermarks from time to time. That should find nothing: whoever appends or commits
 * tells, and what may have been told to nobody is looked after at once. Work that was there twice, on a shard that
 * nobody had called or was going to call, is woken, and reported. Resolves when the signal aborts; rejects with the
 * client's error.
 */
export async function sweepRegularly(options: SweepOptions, signal: AbortSignal): Promise<void> {
  const { current, dispatcher, clock, log, intervalMs, onLost } = options;
  while (!signal.aborted) {
    await clock.sleep(intervalMs, signal);
    const before = signal.aborted ? [] : await suspects(options);
    if (before.length === 0) continue;
    await clock.sleep(CONFIRM_MS, signal);
    const again = signal.aborted ? [] : await suspects(options);
    for (const { stage, shard, work } of again.filter((suspect) => before.some(isSameAs(suspect)))) {
      log("error", LOST_WORK, { pipeline: current.layout.pipeline, stage, shard, work });
      onLost(stage, shard);
      dispatcher.ask(stage, shard, options.client.lastZxid);
    }
  }
}

function isSameAs(a: Suspect): (b: Suspect) => boolean {
  return (b) => a.stage === b.stage && a.shard === b.shard && a.looks === b.looks && a.work === b.work;
}

async function suspects({ client, current, dispatcher, heardCommits }: SweepOptions): Promise<Suspect[]> {
  const status = await readStatus(client, current.layout);
  if (!status || status.generation.epoch !== current.generation.epoch) return [];
  // The reply of a commit may be on its way, and will tell what it appended. Where it is another relay's, that one looks
  // after it: one whose source is held by back-pressure may not know yet that it was superseded.
  const isHeard = ({ id, commits }: PipelineStatus["sources"][number]): boolean =>
    heardCommits.get(id) === commits || heardCommits.get(id) === LAST_COMMIT;
  if (!status.sources.every(isHeard)) return [];
  const stages = new Map(stageStatuses(status).map((stage) => [stage.stage, stage]));
  return status.shards.flatMap((shard) => {
    const looks = dispatcher.looksOfAbandoned(shard.stage, shard.shard);
    const work = looks === undefined ? undefined : workOf(shard, stages.get(shard.stage));
    return looks === undefined || work === undefined
      ? []
      : [{ stage: shard.stage, shard: shard.shard, looks, work }];
  });
}

function workOf(shard: ShardStatus, stage: StageStatus | undefined): string | undefined {
  if (shard.backlog > 0) return `segments, the oldest element at ${shard.oldestMs}`;
  const isDue = stage !== undefined && shard.nextTimerMs <= stage.inputWatermarkMs;
  return isDue && shard.nextTimerMs < Number.POSITIVE_INFINITY
    ? `a timer at ${shard.nextTimerMs}`
    : undefined;
}
