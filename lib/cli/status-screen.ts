import type { PipelineStatus } from "../checkpoint/status";
import { columns, grouped } from "./terminal";

/** What `status` prints. */
export function statusText(
  pipeline: string,
  { generation, sources, shards, waitingFiles, metrics }: PipelineStatus,
): string {
  const rows = shards.map((shard) => [
    shard.stage,
    String(shard.shard),
    grouped(shard.backlog),
    watermarkText(shard.watermarkMs),
    grouped(shard.commits),
    grouped(shard.elementsIn),
    grouped(shard.elementsOut),
    grouped(shard.droppedLate),
    grouped(shard.deadLetters),
  ]);
  const failing = shards.flatMap(({ stage, shard, failing: bundle }) =>
    bundle
      ? [
          `shard ${shard} of ${stage} fails since ${watermarkText(bundle.sinceMs)}, ${grouped(bundle.attempts)} attempts`,
        ]
      : [],
  );
  const from = sources.map(
    ({ id, watermarkMs, commits }) =>
      `source ${id}: watermark ${watermarkText(watermarkMs)}, ${grouped(commits)} commits`,
  );
  const files = waitingFiles > 0 ? [`${grouped(waitingFiles)} files wait for their final names`] : [];
  const rescaling = generation.isRescaling ? " for a rescale; repeat that, or resume" : "";
  return [
    `${pipeline} is ${generation.state} (epoch ${generation.epoch})${rescaling}`,
    ...from,
    ...files,
    ...failing,
    "",
    ...columns([["stage", "shard", "backlog", "watermark", "commits", "in", "out", "late", "dead"], ...rows]),
    ...metricsText(metrics),
  ].join("\n");
}

/** The user's own metrics, those of committed bundles. */
function metricsText({ counters, distributions }: PipelineStatus["metrics"]): string[] {
  const rows = [
    ...Object.entries(counters).map(([name, value]) => [name, grouped(value), "", "", ""]),
    ...Object.entries(distributions).map(([name, { count, sum, min, max }]) => [
      name,
      ...[count, sum / count, min, max].map((value) => grouped(Math.round(value * 1000) / 1000)),
    ]),
  ].sort(([a], [b]) => (a! < b! ? -1 : 1));
  return rows.length === 0 ? [] : ["", ...columns([["metric", "count", "mean", "min", "max"], ...rows])];
}

/** A watermark for a person: the time, `-` before the first, `end` at infinity. */
export function watermarkText(ms: number): string {
  if (ms === Number.POSITIVE_INFINITY) return "end";
  return Math.abs(ms) < 8.64e15 ? new Date(ms).toISOString() : "-";
}

/** The same, without the date where that is the date of `nowMs`. */
export function shortTime(ms: number, nowMs: number): string {
  const text = watermarkText(ms);
  const today = new Date(nowMs).toISOString().slice(0, 11);
  return text.startsWith(today) ? text.slice(11, -1) : text;
}

/** JSON has no infinities: they are written as text. */
export function toJson(value: unknown): string {
  return JSON.stringify(value, (_name, each) => {
    if (typeof each === "bigint") return `0x${each.toString(16)}`;
    return typeof each === "number" && !Number.isFinite(each) ? String(each) : each;
  });
}
