import type { PipelineLayout } from "../checkpoint/layout";
import { type RelayReport, readRelayReports } from "../checkpoint/relay-report";
import { type StageStatus, stageStatuses } from "../checkpoint/stage-status";
import { type PipelineStatus, readStatus } from "../checkpoint/status";
import type { Clock } from "../clock";
import type { ZooKeeperClient } from "../zookeeper";
import { shortTime, toJson } from "./status-screen";
import { columns, durationText, grouped, type Terminal } from "./terminal";

export interface TopOptions {
  readonly intervalMs: number;
  /** One picture, with the rates of one interval, and an end. */
  readonly once: boolean;
  readonly json: boolean;
}

/** One look at a pipeline. */
interface Sample {
  readonly atMs: number;
  readonly status: PipelineStatus;
  readonly stages: readonly StageStatus[];
  readonly relays: readonly RelayReport[];
}

/** A stage with what it did between two looks. */
interface StageLine extends StageStatus {
  readonly lagMs: number;
  readonly commitsPerSecond: number;
  readonly elementsPerSecond: number;
}

/** What `top` shows at one time; with --json, one line each. */
interface Picture {
  readonly pipeline: string;
  readonly state: string;
  readonly epoch: number;
  readonly time: string;
  readonly sources: PipelineStatus["sources"];
  readonly stages: readonly StageLine[];
  readonly relays: readonly RelayReport[];
  readonly waitingFiles: number;
}

/**
 * Shows each stage's backlog, watermark and rates again and again until the signal aborts; on a terminal in place, else
 * one picture after the other. Returns false where there is no such pipeline. Rejects with the client's error.
 */
export async function top(
  client: ZooKeeperClient,
  layout: PipelineLayout,
  { intervalMs, once, json }: TopOptions,
  terminal: Terminal,
  clock: Clock,
  signal: AbortSignal,
): Promise<boolean> {
  const isLive = terminal.size() !== undefined && !once && !json;
  let before = await sample(client, layout, clock);
  if (!before) return false;
  if (isLive) terminal.say(frame(screen(picture(layout, before, before)), terminal));
  while (!signal.aborted) {
    await clock.sleep(intervalMs, signal);
    if (signal.aborted) break;
    const now = await sample(client, layout, clock);
    if (!now) return false;
    const shown = picture(layout, before, now);
    if (json) terminal.say(toJson(shown));
    else terminal.say(isLive ? frame(screen(shown), terminal) : `${screen(shown).join("\n")}\n`);
    if (once) break;
    before = now;
  }
  return true;
}

async function sample(
  client: ZooKeeperClient,
  layout: PipelineLayout,
  clock: Clock,
): Promise<Sample | undefined> {
  const status = await readStatus(client, layout);
  if (!status) return undefined;
  const relays = await readRelayReports(client, layout);
  return { atMs: clock.now(), status, stages: stageStatuses(status), relays };
}

function picture(layout: PipelineLayout, before: Sample, { atMs, status, stages, relays }: Sample): Picture {
  const seconds = (atMs - before.atMs) / 1000;
  const perSecond = (now: number, then: number | undefined): number =>
    seconds > 0 ? Math.max(0, now - (then ?? 0)) / seconds : 0;
  return {
    pipeline: layout.pipeline,
    state: status.generation.state,
    epoch: status.generation.epoch,
    time: new Date(atMs).toISOString(),
    sources: status.sources,
    stages: stages.map((stage) => {
      const then = before.stages.find((each) => each.stage === stage.stage);
      return {
        ...stage,
        lagMs: lagMs(atMs, stage.inputWatermarkMs),
        commitsPerSecond: perSecond(stage.commits, then?.commits),
        elementsPerSecond: perSecond(stage.elementsIn, then?.elementsIn),
      };
    }),
    relays,
    waitingFiles: status.waitingFiles,
  };
}

/** How far a watermark is behind this machine's clock; 0 at the end of a source, Infinity before its start. */
function lagMs(nowMs: number, watermarkMs: number): number {
  return Math.max(0, nowMs - watermarkMs);
}

function screen({ pipeline, state, epoch, time, sources, stages, relays, waitingFiles }: Picture): string[] {
  const nowMs = Date.parse(time);
  const failing = relays.flatMap((relay) => relay.failing);
  const rows = stages.map((stage) => [
    stage.stage,
    grouped(stage.shards),
    grouped(stage.backlog),
    shortTime(stage.inputWatermarkMs, nowMs),
    lagText(stage.lagMs),
    rate(stage.commitsPerSecond),
    rate(stage.elementsPerSecond),
    grouped(stage.elementsIn),
    grouped(stage.elementsOut),
    grouped(stage.droppedLate),
    grouped(stage.failures),
    grouped(stage.deadLetters),
    grouped(failing.filter((shard) => shard.stage === stage.stage).length),
  ]);
  const heading = [
    ...["stage", "shards", "backlog", "watermark", "lag"],
    ...["commits/s", "elements/s", "in", "out", "late", "failures", "dead", "failing"],
  ];
  return [
    `${pipeline} is ${state} (epoch ${epoch}) at ${time}, ${relaysText(relays, nowMs)}`,
    ...sources.map(({ id, watermarkMs, commits }) => {
      const behind = lagText(lagMs(nowMs, watermarkMs));
      return `source ${id}: watermark ${shortTime(watermarkMs, nowMs)}, lag ${behind}, ${grouped(commits)} commits`;
    }),
    ...lostText(relays),
    ...(waitingFiles > 0 ? [`${grouped(waitingFiles)} files wait for their final names`] : []),
    "",
    ...columns([heading, ...rows]),
    ...failing.map(
      ({ stage, shard, failures, error }) =>
        `shard ${shard} of ${stage} failed ${grouped(failures)} times in a row: ${error.split("\n")[0]}`,
    ),
  ];
}

function relaysText(relays: readonly RelayReport[], nowMs: number): string {
  if (relays.length === 0) return "no relay is at work";
  const oldest = Math.min(...relays.map(({ startedMs }) => startedMs));
  const since = durationText(Math.max(0, nowMs - oldest));
  return relays.length === 1 ? `its relay works since ${since}` : `${relays.length} relays, since ${since}`;
}

function lostText(relays: readonly RelayReport[]): string[] {
  const lost = relays.reduce((sum, { lostWork }) => sum + lostWork, 0);
  return lost > 0 ? [`${grouped(lost)} times a sweep found forgotten work: please report this defect`] : [];
}

function lagText(ms: number): string {
  return Number.isFinite(ms) ? durationText(ms) : "-";
}

function rate(perSecond: number): string {
  return perSecond >= 100 ? grouped(Math.round(perSecond)) : perSecond.toFixed(1);
}

/** In place of what was there before: cut to the terminal, so that nothing scrolls. */
function frame(lines: readonly string[], terminal: Terminal): string {
  const { rows, columns: width } = terminal.size() ?? { rows: 24, columns: 80 };
  const room = Math.max(1, rows - 1);
  const kept =
    lines.length <= room
      ? lines
      : [...lines.slice(0, room - 1), `... ${grouped(lines.length - room + 1)} more lines; --once shows all`];
  return `\x1b[H\x1b[J${kept.map((line) => line.slice(0, width)).join("\n")}`;
}
