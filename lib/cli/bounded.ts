import { enqueue, openRuns } from "../batch/ledger";
import { compilePipeline, type PipelineDefinition } from "../beam/pipeline";
import { PipelineLayout } from "../checkpoint/layout";
import { manualRunId, readRun } from "../checkpoint/run";
import { systemClock } from "../clock";
import type { Log } from "../log";
import { planPipeline } from "../runner/deployment";
import { nextTick } from "../schedule/schedule";
import type { Settings } from "../settings";
import type { ZooKeeperClient } from "../zookeeper";
import { runBatchLocally } from "./local-deployment";
import { bytesText, runText } from "./runs";
import { grouped, type Terminal } from "./terminal";

export interface BoundedOptions {
  readonly settings: Settings;
  readonly definition: PipelineDefinition;
  readonly client: ZooKeeperClient;
  readonly log: Log;
  readonly terminal: Terminal;
  /** Failures of a shard in a row after which an attempt of a run has failed. */
  readonly maxFailures: number;
  readonly signal: AbortSignal;
}

/**
 * `npm start` with a bounded pipeline: runs it once, or, where it has a schedule, at its times until the signal.
 * Resolves with whether every run that ended has succeeded. Rejects with PipelineMismatchError, RunError or the
 * client's error.
 */
export async function runBounded(options: BoundedOptions): Promise<boolean> {
  const { definition, client, terminal, settings } = options;
  const layout = new PipelineLayout(settings.root, definition.name);
  await openRuns(client, layout, planPipeline(compilePipeline(definition)).plan);
  const nowMs = systemClock.now();
  if (definition.schedule === undefined) {
    const id = manualRunId(nowMs, systemClock.uniqueId());
    await enqueue(client, layout, [{ id, cause: "manual", timeMs: nowMs, limit: 0 }]);
    terminal.say(`Running "${definition.name}" once, as ${id}. Ctrl-C stops.`);
  } else {
    const next = nextTick(definition.schedule, nowMs);
    const when = next === undefined ? "is over" : `runs next at ${new Date(next).toISOString()}`;
    terminal.say(`The schedule of "${definition.name}" ${when}. Ctrl-C stops.`);
    terminal.say(
      `For a run now: ZOOKEEPER_CONNECT=${settings.connectString} npm run beamkeeper -- runs start ${definition.name}`,
    );
  }
  const ends: Promise<boolean>[] = [];
  let shown = "";
  await runBatchLocally({
    ...options,
    onProgress: (_run, counters) => {
      const { elementsIn, elementsOut } = counters;
      const parts = [bytesText(counters), `${grouped(elementsIn)} elements in, ${grouped(elementsOut)} out`];
      const line = `  ${parts.filter(Boolean).join(", ")}`;
      if (line !== shown) terminal.say(line);
      shown = line;
    },
    onEnd: (id, end) => void ends.push(tellEnd(options, layout, id, end === "succeeded")),
  });
  return (await Promise.all(ends)).every(Boolean);
}

async function tellEnd(
  { client, terminal, signal }: BoundedOptions,
  layout: PipelineLayout,
  id: string,
  succeeded: boolean,
): Promise<boolean> {
  if (signal.aborted) return succeeded;
  const run = await readRun(client, layout, id);
  if (run) (succeeded ? terminal.say : terminal.complain)(runText(run));
  return succeeded;
}
