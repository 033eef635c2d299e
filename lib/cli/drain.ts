import { completeDrain, drainPipeline } from "../checkpoint/control";
import type { PipelineLayout } from "../checkpoint/layout";
import { type PipelineStatus, readStatus } from "../checkpoint/status";
import type { Clock } from "../clock";
import type { ZooKeeperClient } from "../zookeeper";
import { grouped, type Terminal } from "./terminal";

export interface DrainOptions {
  /** Wait until the pipeline is drained. */
  readonly wait: boolean;
  /** Give up waiting after this many ms. */
  readonly timeoutMs: number;
  /** Print nothing on the way. */
  readonly quietly: boolean;
}

const POLL_MS = 250;

/**
 * Drains a pipeline and shows what is still to be done; returns the exit code: 0 draining (without `wait`) or drained,
 * 1 not drained in time, or ended in another way. Throws ControlError.
 */
export async function drain(
  client: ZooKeeperClient,
  layout: PipelineLayout,
  { wait, timeoutMs, quietly }: DrainOptions,
  terminal: Terminal,
  clock: Clock,
  signal: AbortSignal,
): Promise<number> {
  await drainPipeline(client, layout);
  if (!wait) return 0;
  const deadlineMs = clock.now() + timeoutMs;
  for (let shown = ""; !signal.aborted; await clock.sleep(POLL_MS, signal)) {
    const { state } = await completeDrain(client, layout);
    if (state === "drained") return 0;
    if (state !== "draining") {
      terminal.complain(`${layout.pipeline} is ${state}: it was stopped before it was drained`);
      return 1;
    }
    const status = await readStatus(client, layout);
    const left = status ? whatIsLeft(status) : "";
    if (clock.now() >= deadlineMs) {
      terminal.complain(
        `${layout.pipeline} is not drained after ${timeoutMs / 1000} s: ${left}. It goes on draining; a relay has to ` +
          `run for that. "beamkeeper inspect ${layout.pipeline}" shows what waits, "beamkeeper cancel" gives it up.`,
      );
      return 1;
    }
    if (left !== shown && !quietly) terminal.say(`draining: ${left}`);
    shown = left;
  }
  return 130;
}

/** What keeps a draining pipeline from being drained, in the order in which data flows. */
export function whatIsLeft({ sources, shards, waitingFiles }: PipelineStatus): string {
  const reading = sources.filter(({ watermarkMs }) => watermarkMs < Number.POSITIVE_INFINITY);
  const segments = shards.reduce((sum, { backlog }) => sum + backlog, 0);
  const timers = shards.filter(
    (shard) => Math.min(shard.nextTimerMs, shard.nextProcessingTimerMs) < Number.POSITIVE_INFINITY,
  );
  const parts = [
    counted(reading.length, "source still reads", "sources still read"),
    counted(segments, "segment waits", "segments wait"),
    counted(timers.length, "shard has windows to close", "shards have windows to close"),
    counted(waitingFiles, "file waits for its name", "files wait for their names"),
  ].filter(Boolean);
  return parts.length > 0 ? parts.join(", ") : "all is done";
}

function counted(count: number, one: string, many: string): string {
  return count === 0 ? "" : `${grouped(count)} ${count === 1 ? one : many}`;
}
