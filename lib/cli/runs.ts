import { ensembleConnector } from "../aws/ensemble";
import { knowsRun } from "../batch/decisions";
import { changeSchedule, endRun, enqueue } from "../batch/ledger";
import { listPipelines, NoPipelineError } from "../checkpoint/control";
import { PipelineLayout } from "../checkpoint/layout";
import {
  MAX_QUEUE,
  manualRunId,
  type QueuedRun,
  type RunCounters,
  type RunRecord,
  readRun,
  readRunScope,
  readScheduleRecord,
  type ScheduleRecord,
  tickRunId,
} from "../checkpoint/run";
import { readGeneration } from "../checkpoint/scope";
import { countersOf, readScopeStatus } from "../checkpoint/status";
import { systemClock } from "../clock";
import { ticksBetween } from "../schedule/schedule";
import { readSettings } from "../settings";
import type { ZooKeeperClient } from "../zookeeper";
import { readArguments, UsageError } from "./arguments";
import { columns, durationText, grouped, type Terminal } from "./terminal";

export const RUNS_USAGE = `beamkeeper runs list PIPELINE              the runs of a bounded pipeline: waiting, at work, ended
beamkeeper runs show PIPELINE RUN          one of them, with its counters and its error
beamkeeper runs start PIPELINE             asks for a run now; the batch function starts it within a minute
beamkeeper runs cancel PIPELINE RUN        stops it: nothing of it is committed after this
beamkeeper backfill PIPELINE --from TIME --to TIME     asks for a run for each tick from a time on and before another
    [--parallel N] [--reverse] [--dry-run]             N at once (default 1), latest first, or only tells which

TIME is a day (2026-11-23) or a time with its offset (2026-11-23T10:00:00Z).
--json prints JSON. Exit codes: 0 done, 1 failed or no such run, 2 not usable as called.`;

const ACTIONS = ["list", "show", "start", "cancel"] as const;
type Action = (typeof ACTIONS)[number];
const MAX_BACKFILL = 1_000;

interface Request {
  readonly action: Action | "backfill";
  readonly pipeline: string;
  readonly run: string;
  readonly json: boolean;
  readonly fromMs: number;
  readonly toMs: number;
  readonly parallel: number;
  readonly reverse: boolean;
  readonly dryRun: boolean;
}

interface Work {
  readonly client: ZooKeeperClient;
  readonly layout: PipelineLayout;
  readonly record: ScheduleRecord;
  readonly request: Request;
  readonly terminal: Terminal;
}

/** `beamkeeper runs ...` and `beamkeeper backfill ...`; returns the exit code. Throws UsageError, ControlError, RunError, SettingsError, or the client's error. */
export async function runs(
  verb: "runs" | "backfill",
  args: readonly string[],
  environment: NodeJS.ProcessEnv,
  terminal: Terminal,
): Promise<number> {
  const request = parse(verb, args);
  const settings = readSettings(environment);
  const layout = new PipelineLayout(settings.root, request.pipeline);
  const client = await ensembleConnector(settings)();
  try {
    const stored = await readScheduleRecord(client, layout);
    if (!stored) return await withoutRuns(client, layout, terminal);
    return await DO[request.action]({ client, layout, record: stored.record, request, terminal });
  } finally {
    await client.close();
  }
}

const DO: Readonly<Record<Request["action"], (work: Work) => Promise<number>>> = {
  list,
  show,
  start,
  cancel,
  backfill,
};

async function withoutRuns(
  client: ZooKeeperClient,
  layout: PipelineLayout,
  { complain }: Terminal,
): Promise<number> {
  const known = await listPipelines(client, layout.root);
  if (!known.includes(layout.pipeline)) throw new NoPipelineError(layout, known);
  complain(`${layout.pipeline} is not bounded: a relay reads its sources, and it has no runs`);
  return 1;
}

async function list({ client, layout, record, request, terminal }: Work): Promise<number> {
  const ids = [...record.active.toReversed(), ...record.ended];
  const known = await Promise.all(ids.map((id) => readRun(client, layout, id)));
  const found = known.filter((run) => run !== undefined);
  const queued = record.queue.map(({ id, cause, timeMs }) => ({
    id,
    cause,
    timeMs,
    state: "queued" as const,
  }));
  if (request.json) {
    const { schedule, highestTickMs, skippedTicks } = record;
    terminal.say(JSON.stringify({ schedule, highestTickMs, skippedTicks, runs: [...queued, ...found] }));
    return 0;
  }
  if (queued.length + found.length === 0) {
    terminal.say(`${layout.pipeline} has had no run yet`);
    return 0;
  }
  const rows = [
    ...queued.map(({ id, state, timeMs }) => [id, state, iso(timeMs), "-", "-", "-"]),
    ...found.map((run) => [
      ...[run.id, run.state, iso(run.timeMs), duration(run), grouped(run.attempt)],
      run.counters ? grouped(run.counters.elementsIn) : "-",
    ]),
  ];
  for (const line of columns([["run", "state", "for", "took", "attempt", "elements"], ...rows]))
    terminal.say(line);
  if (record.skippedTicks > 0)
    terminal.say(`${grouped(record.skippedTicks)} ticks were skipped because a run was at work`);
  return 0;
}

async function show({ client, layout, record, request, terminal }: Work): Promise<number> {
  const queued = record.queue.find(({ id }) => id === request.run);
  const run = queued ? { ...queued, state: "queued" } : await runNow(client, layout, request.run);
  if (!run) return absent(request, terminal);
  if (request.json) terminal.say(JSON.stringify(run));
  else if ("limit" in run) terminal.say(`${run.id} is queued, for ${iso(run.timeMs)}`);
  else terminal.say(runText(run as RunRecord));
  return 0;
}

/** The record of a run, with what it has done so far where it is still at work. */
async function runNow(
  client: ZooKeeperClient,
  layout: PipelineLayout,
  id: string,
): Promise<RunRecord | undefined> {
  const run = await readRun(client, layout, id);
  if (run?.state !== "running") return run;
  const pipeline = await readGeneration(client, layout);
  const scope = pipeline && (await readRunScope(client, pipeline, id));
  return scope ? { ...run, counters: countersOf(await readScopeStatus(client, scope)) } : run;
}

/** How far the sources of a run are, for a person; undefined where they do not say. */
export function bytesText({ readBytes, totalBytes }: RunCounters): string | undefined {
  if (totalBytes === 0) return undefined;
  const megabytes = (bytes: number): string => grouped(Math.round(bytes / 1e5) / 10);
  const percent = Math.floor((100 * readBytes) / totalBytes);
  return `read ${megabytes(readBytes)} of ${megabytes(totalBytes)} MB (${percent}%)`;
}

/** A run for a person, in several lines. */
export function runText(run: RunRecord): string {
  const { counters, error } = run;
  const lines = [
    `${run.id} ${run.state} (${run.cause}, attempt ${run.attempt})`,
    `  for ${iso(run.timeMs)}, started ${iso(run.startedMs)}, took ${duration(run)}`,
  ];
  if (counters)
    lines.push(
      `  ${grouped(counters.elementsIn)} elements in, ${grouped(counters.elementsOut)} out, ${grouped(counters.commits)} commits, ` +
        `${grouped(counters.failures)} failures, ${grouped(counters.deadLettered)} dead letters`,
    );
  const bytes = counters && bytesText(counters);
  if (bytes) lines.push(`  ${bytes}`);
  if (error !== null) lines.push("", error);
  return lines.join("\n");
}

async function start({ client, layout, request, terminal }: Work): Promise<number> {
  const nowMs = systemClock.now();
  const id = manualRunId(nowMs, systemClock.uniqueId());
  const run: QueuedRun = { id, cause: "manual", timeMs: nowMs, limit: 0 };
  await add(client, layout, [run]);
  terminal.say(
    request.json
      ? JSON.stringify({ run: id })
      : `${id} is asked for; "beamkeeper runs show ${layout.pipeline} ${id}" tells how it goes`,
  );
  return 0;
}

async function cancel({ client, layout, record, request, terminal }: Work): Promise<number> {
  const { run } = request;
  if (!knowsRun(record, run)) return absent(request, terminal);
  const waiting = await changeSchedule(client, layout, async (now) => {
    const queue = now.queue.filter(({ id }) => id !== run);
    return queue.length === now.queue.length ? undefined : { record: { ...now, queue }, ops: [] };
  });
  const end = {
    state: "cancelled",
    endedMs: systemClock.now(),
    counters: null,
    error: "cancelled by hand",
  } as const;
  const isDone = waiting !== undefined || (await endRun(client, layout, run, end));
  const state = (await readRun(client, layout, run))?.state ?? "cancelled";
  if (request.json) terminal.say(JSON.stringify({ run, state }));
  else terminal.say(isDone ? `${run} is cancelled` : `${run} has ended already: it ${state}`);
  return isDone || state === "cancelled" ? 0 : 1;
}

async function backfill({ client, layout, record, request, terminal }: Work): Promise<number> {
  const { pipeline, fromMs, toMs, parallel, reverse, dryRun, json } = request;
  if (!record.schedule) {
    terminal.complain(
      `${pipeline} has no schedule, so there are no ticks to make up for; "beamkeeper runs start" runs it`,
    );
    return 1;
  }
  const ticks = ticksBetween(record.schedule, fromMs, toMs, MAX_BACKFILL + 1);
  if (ticks.length > MAX_BACKFILL)
    throw new UsageError(
      `there are more than ${grouped(MAX_BACKFILL)} ticks in that time; backfill it in parts`,
    );
  const wanted = (reverse ? ticks.toReversed() : ticks).map(
    (timeMs): QueuedRun => ({ id: tickRunId(timeMs), cause: "backfill", timeMs, limit: parallel }),
  );
  const queued = dryRun
    ? wanted.filter(({ id }) => !knowsRun(record, id))
    : await add(client, layout, wanted);
  const known = wanted.length - queued.length;
  if (json) terminal.say(JSON.stringify({ dryRun, runs: queued.map(({ id }) => id), known }));
  else {
    for (const { id } of queued) terminal.say(id);
    terminal.say(
      `${grouped(queued.length)} runs ${dryRun ? "would be" : "are"} asked for, ${grouped(known)} ticks have a run already`,
    );
  }
  return 0;
}

function add(
  client: ZooKeeperClient,
  layout: PipelineLayout,
  wanted: readonly QueuedRun[],
): Promise<readonly QueuedRun[]> {
  return enqueue(client, layout, wanted, ({ queue }, fresh) =>
    queue.length + fresh.length <= MAX_QUEUE
      ? undefined
      : `${grouped(queue.length)} runs are waiting, and ${grouped(fresh.length)} more do not fit: wait, or cancel some`,
  );
}

function absent({ pipeline, run }: Request, { complain }: Terminal): number {
  complain(
    `${pipeline} has no run "${run}" (any more); "beamkeeper runs list ${pipeline}" shows those that it has`,
  );
  return 1;
}

function duration({ startedMs, endedMs }: RunRecord): string {
  return durationText(Math.max(0, (endedMs ?? systemClock.now()) - startedMs));
}

function iso(ms: number): string {
  return new Date(ms).toISOString();
}

function parse(verb: "runs" | "backfill", args: readonly string[]): Request {
  const flag = { type: "boolean", default: false } as const;
  const text = { type: "string" } as const;
  const options = {
    json: flag,
    from: text,
    to: text,
    parallel: text,
    reverse: flag,
    "dry-run": flag,
  } as const;
  const unusable = (problem: string): UsageError => new UsageError(problem, RUNS_USAGE);
  const { values, positionals } = readArguments(args, options, RUNS_USAGE);
  const isBackfill = verb === "backfill";
  const [action, pipeline, run, ...more] = isBackfill ? ["backfill", ...positionals] : positionals;
  if (!isBackfill && !(ACTIONS as readonly (string | undefined)[]).includes(action))
    throw unusable(
      `runs ${action === undefined ? "needs" : `has no "${action}"; it has`} ${ACTIONS.join(", ")}`,
    );
  if (pipeline === undefined) throw unusable(`${isBackfill ? verb : `runs ${action}`}: name one pipeline`);
  const takesRun = action === "show" || action === "cancel";
  if (takesRun !== (run !== undefined) || more.length > 0)
    throw unusable(`${action}: name one pipeline${takesRun ? " and one of its runs" : ""}`);
  const foreign = (["from", "to", "parallel", "reverse", "dry-run"] as const).find((name) => values[name]);
  if (!isBackfill && foreign) throw unusable(`runs ${action} has no option --${foreign}`);
  const time = (name: "from" | "to"): number => {
    const given = values[name] ?? "";
    const ms = /^\d{4}-\d\d-\d\d(T.*(Z|[+-]\d\d:?\d\d))?$/.test(given) ? Date.parse(given) : Number.NaN;
    if (Number.isNaN(ms))
      throw unusable(`backfill needs --${name} with a day or a time with its offset, not "${given}"`);
    return ms;
  };
  const parallel = values.parallel ?? "1";
  if (!/^[1-9]\d{0,2}$/.test(parallel))
    throw unusable(`--parallel must be a whole number from 1 to 999, not "${parallel}"`);
  const [fromMs, toMs] = isBackfill ? [time("from"), time("to")] : [0, 0];
  if (isBackfill && fromMs >= toMs) throw unusable("--from must be before --to");
  return {
    ...{ action: action as Request["action"], pipeline, run: run ?? "", fromMs, toMs },
    ...{ json: values.json, reverse: values.reverse, dryRun: values["dry-run"], parallel: Number(parallel) },
  };
}
