import { type StateRowText, stateRowText } from "../beam/state-text";
import type { BlobStore } from "../checkpoint/blobs";
import {
  type InspectedSegment,
  inspectShard,
  inspectState,
  type ShardInspection,
  type StateRows,
} from "../checkpoint/inspection";
import type { ScopeLayout } from "../checkpoint/layout";
import type { Generation, Upstream } from "../checkpoint/records";
import type { ZooKeeperClient } from "../zookeeper";
import { UsageError } from "./arguments";
import { shortTime, watermarkText } from "./status-screen";
import { columns, grouped } from "./terminal";

/** What `inspect` looks at: a whole pipeline, one of its stages, or one shard. */
export interface Inspected {
  readonly stage: string | undefined;
  readonly shard: number | undefined;
  /** Rows of the state of each kind that are shown of a single shard; 0 for none. */
  readonly rows: number;
}

/** What `inspect` found; with --json, as it is. */
export interface Inspection {
  readonly pipeline: string;
  readonly generation: Generation;
  readonly shards: readonly ({ readonly stage: string; readonly shard: number } & ShardInspection)[];
  /** Of a single shard: what its state holds, which may be newer than its head here. */
  readonly rows?: StateRows<StateRowText>;
}

/** Reads the chosen shards. Throws UsageError where the pipeline has no such stage or shard. */
export async function inspect(
  client: ZooKeeperClient,
  blobs: BlobStore,
  pipeline: string,
  { generation, scope }: { readonly generation: Generation; readonly scope: ScopeLayout },
  { stage: chosenStage, shard: chosenShard, rows: most }: Inspected,
): Promise<Inspection> {
  const all = Object.entries(generation.shards);
  const stages = all.filter(([stage]) => chosenStage === undefined || stage === chosenStage);
  if (stages.length === 0)
    throw new UsageError(
      `${pipeline} has no stage "${chosenStage}"; its stages are ${all.map(([stage]) => stage).join(", ")}`,
    );
  const [only, count] = stages[0]!;
  if (chosenShard !== undefined && chosenShard >= count)
    throw new UsageError(`stage ${only} has the shards 0 to ${count - 1}, not ${chosenShard}`);
  const shards: Inspection["shards"][number][] = [];
  for (const [stage, shardCount] of stages) {
    const wanted = Array.from({ length: shardCount }, (_, shard) => shard).filter(
      (shard) => chosenShard === undefined || shard === chosenShard,
    );
    const found = wanted.map(async (shard) => ({
      stage,
      shard,
      ...(await inspectShard(client, scope.shard(stage, shard))),
    }));
    await Promise.allSettled(found);
    shards.push(...(await Promise.all(found)));
  }
  if (chosenShard === undefined || most === 0) return { pipeline, generation, shards };
  const rows = await inspectState(client, blobs, scope.shard(only, chosenShard), most, stateRowText);
  return { pipeline, generation, shards, ...(rows ? { rows } : {}) };
}

export function inspectionText(
  { pipeline, generation, shards, rows: state }: Inspection,
  { shard, rows: most }: Inspected,
  nowMs: number,
): string {
  const time = (ms: number): string => shortTime(ms, nowMs);
  if (shard !== undefined)
    return [...shardText(shards[0]!), ...(most > 0 ? stateText(state) : [])].join("\n");
  const upstream = Object.entries(generation.upstream).map(
    ([stage, from]) => `  ${stage} <- ${from.map(originText).join(", ")}`,
  );
  const rows = shards.map(({ stage, shard: number, head, backlog, segments, state, committedMs }) => [
    stage,
    String(number),
    grouped(head.number),
    head.number === 0 ? "-" : time(committedMs),
    grouped(backlog),
    segments[0] ? time(segments[0].minTimestampMs) : "-",
    timerText(head.nextTimerMs, time),
    timerText(head.nextProcessingTimerMs, time),
    grouped(state.znodes),
    grouped(state.bytes),
  ]);
  const heading = [
    ...["stage", "shard", "commits", "last commit", "backlog", "oldest element"],
    ...["next timer", "by the clock", "state znodes", "bytes"],
  ];
  return [
    `${pipeline} is ${generation.state} (epoch ${generation.epoch}), graph ${generation.fingerprint.slice(0, 12)}`,
    ...upstream,
    "",
    ...columns([heading, ...rows]),
  ].join("\n");
}

function originText({ type, id }: Upstream): string {
  return type === "source" ? `source ${id}` : id;
}

function shardText({
  stage,
  shard,
  head,
  version,
  committedMs,
  segments,
  backlog,
  state,
}: Inspection["shards"][number]): string[] {
  const { position, counters } = head;
  const rows = [
    ["last commit", head.number === 0 ? "none" : `${grouped(head.number)} at ${watermarkText(committedMs)}`],
    ["commit ids", head.ids.join(" ") || "-"],
    ["head's version", grouped(version)],
    ["input watermark then", watermarkText(head.watermarkMs)],
    ["output held at", timerText(head.holdMs)],
    ["next timer", timerText(head.nextTimerMs)],
    ["next timer by the clock", timerText(head.nextProcessingTimerMs)],
    [
      "elements in, out, late",
      [counters.elementsIn, counters.elementsOut, counters.droppedLate].map(grouped).join(", "),
    ],
    [
      "oldest segment",
      position ? `${grouped(position.elements)} elements of ${position.segment} are done` : "untouched",
    ],
    ["state", `${grouped(state.bytes)} bytes in ${grouped(state.znodes)} znodes`],
    ["backlog", `${grouped(backlog)} segments`],
  ] as const;
  const width = Math.max(...rows.map(([name]) => name.length));
  return [
    `shard ${shard} of ${stage}`,
    ...rows.map(([name, value]) => `  ${name.padEnd(width)}  ${value}`),
    ...(segments.length > 0 ? ["", ...segmentRows(segments)] : []),
    ...(backlog > segments.length ? [`... ${grouped(backlog - segments.length)} more segments`] : []),
  ];
}

function segmentRows(segments: readonly InspectedSegment[]): string[] {
  const rows = segments.map(({ name, minTimestampMs, appendedMs, bytes }) => [
    name,
    watermarkText(minTimestampMs),
    watermarkText(appendedMs),
    grouped(bytes),
  ]);
  return columns([["segment", "oldest element", "appended", "bytes"], ...rows]);
}

/** What the state holds, kind by kind. */
function stateText(state: StateRows<StateRowText> | undefined): string[] {
  if (state === undefined)
    return ["", "The shard commits too often for its state to be read; pause it first."];
  return Object.entries(state.counts).flatMap(([kind, count]) => {
    const shown = state.rows.filter((row) => row.kind === kind);
    const more = count > shown.length ? `, the first ${grouped(shown.length)}` : "";
    return ["", `${kind}: ${grouped(count)}${more}`, ...shown.map(rowText)];
  });
}

function rowText({ key, window, atMs, text }: StateRowText): string {
  const when = atMs === undefined ? "" : `due ${timerText(atMs)}`;
  return `  ${[key, windowText(window), when, text].filter((part) => part !== "").join("  ")}`;
}

function windowText(window: StateRowText["window"]): string {
  if (window === undefined || window.kind === "global") return "";
  return `[${watermarkText(window.startMs)}, ${watermarkText(window.endMs)})`;
}

/** A time at which something is due; `-` where nothing is. */
function timerText(ms: number, text = watermarkText): string {
  return ms === Number.POSITIVE_INFINITY ? "-" : text(ms);
}
