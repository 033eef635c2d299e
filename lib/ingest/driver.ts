import { claim, release } from "../checkpoint/claim";
import { PipelineLayout } from "../checkpoint/layout";
import { admitsCommits } from "../checkpoint/records";
import { openPipeline } from "../checkpoint/scope";
import { type PipelineStatus, readStatus } from "../checkpoint/status";
import { EventSourceRelay } from "../relay/event-source-relay";
import { type IdleOptions, longestDelay, type RelayEnd, type RelayOptions, runRelay } from "../relay/relay";

/** `idle`: there is nothing to do. `elsewhere`: another driver is at work. `interrupted`: the signal came before the end. */
export type DriveEnd = "idle" | "elsewhere" | "interrupted" | RelayEnd["reason"];

/** How long a driver stays after the last thing that it did, in ms: what comes meanwhile needs no other one. */
export const LINGER_MS = 1_000;
/** It also waits for windows that close before the schedule's next invocation. */
const IDLE: IdleOptions = { lingerMs: LINGER_MS, aheadMs: 60_000 };

/**
 * Does for a pipeline that reads only events what a relay does for others, for as long as there is something to do:
 * publishes the watermarks of its sources and calls its shards. One driver at a time in the normal case (an ephemeral
 * znode), correct in every case. Looks once more after it gave the role up, for whoever appended before that has called
 * nobody. Rejects as {@link runRelay} does.
 */
export async function driveEvents(options: RelayOptions, signal: AbortSignal): Promise<DriveEnd> {
  const { client, root, pipeline, clock } = options;
  const layout = new PipelineLayout(root, pipeline.name);
  await publish(options, layout);
  const me = Buffer.from(clock.uniqueId());
  let end: DriveEnd = "idle";
  while (await hasWork(options, layout)) {
    if (signal.aborted) return "interrupted";
    if (!(await claim(client, layout.driver, me))) return "elsewhere";
    try {
      end = (await runRelay({ ...options, untilIdle: IDLE }, signal)).reason;
    } finally {
      await release(client, layout.driver, me);
    }
    // Paused or cancelled, what waits stays where it is.
    if (end !== "finished") break;
    end = "idle";
  }
  return end === "signal" ? "interrupted" : end;
}

/** Moves the watermarks on, whoever drives. */
async function publish(options: RelayOptions, layout: PipelineLayout): Promise<void> {
  const { client, pipeline, blobs, clock, log, limits } = options;
  const current = await openPipeline(client, layout, pipeline.plan);
  if (!admitsCommits(current.generation)) return;
  for (const planned of pipeline.eventSources ?? [])
    await new EventSourceRelay({
      ...{ client, planned, current, blobs, clock, log, limits },
      nextTimerMs: () => Number.POSITIVE_INFINITY,
      onCommit: () => undefined,
      wake: () => undefined,
    }).publishOnce();
}

async function hasWork({ client, clock, pipeline }: RelayOptions, layout: PipelineLayout): Promise<boolean> {
  const status = await readStatus(client, layout);
  if (!status || !admitsCommits(status.generation)) return false;
  return (
    status.generation.state === "draining" ||
    status.waitingFiles > 0 ||
    isWaiting(status, clock.now() + IDLE.aheadMs, longestDelay(pipeline.eventSources ?? []))
  );
}

/** Whether a shard has elements, or a timer that is due by then. */
function isWaiting({ shards }: PipelineStatus, untilMs: number, delayMs: number): boolean {
  return shards.some(
    ({ backlog, nextTimerMs, nextProcessingTimerMs }) =>
      backlog > 0 || Math.min(nextTimerMs + delayMs, nextProcessingTimerMs) <= untilMs,
  );
}
