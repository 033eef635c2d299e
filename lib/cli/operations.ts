import { ensembleConnector } from "../aws/ensemble";
import { openBlobs } from "../aws/output";
import type { BlobStore } from "../checkpoint/blobs";
import {
  cancelPipeline,
  listPipelines,
  NoPipelineError,
  pausePipeline,
  resumePipeline,
} from "../checkpoint/control";
import { PipelineLayout } from "../checkpoint/layout";
import { readGeneration } from "../checkpoint/scope";
import { resetSource } from "../checkpoint/source-reset";
import { readStatus } from "../checkpoint/status";
import { systemClock } from "../clock";
import { rescale } from "../runner/rescale";
import { readSettings, type Settings } from "../settings";
import type { ZooKeeperClient } from "../zookeeper";
import { pathProblem } from "../zookeeper/paths";
import { readArguments, UsageError } from "./arguments";
import { drain } from "./drain";
import { inspect, inspectionText } from "./inspect";
import { orderSnapshot, type SnapshotOrder, snapshotText } from "./snapshot";
import { statusText, toJson } from "./status-screen";
import type { Terminal } from "./terminal";
import { top } from "./top";

export const OPERATIONS_USAGE = `beamkeeper status PIPELINE            where it stands: watermark, backlog, commits
beamkeeper top PIPELINE               the same for each stage, with lag and rates, again and again
    [--interval S] [--once]           every S seconds (default 1), or one picture
beamkeeper inspect PIPELINE [STAGE [SHARD]]
                                      heads, inboxes, timers and the size of the state; of a shard, each segment
    [--rows N]                        of a shard, so many rows of its state of each kind (default 20, at most 1000)
beamkeeper pause PIPELINE             stops every commit, those in flight too; the functions may stay
beamkeeper resume PIPELINE            goes on from where it stood
beamkeeper rescale PIPELINE STAGE=N...
                                      gives stages other numbers of shards: pauses, moves keys, and goes on
beamkeeper snapshot PIPELINE          delivers what is there once more, as elements of kind existing, among the changes
    [--source S] [--path P]           of one source (default: all), at and below a path (default: all)
    [--pause | --resume | --cancel | --show]
                                      changes or shows the one under way instead of beginning one
beamkeeper reset PIPELINE --source S  lets a source of a paused pipeline begin again, where its cursor can't be used
beamkeeper drain PIPELINE             reads no more, finishes what was read, closes all windows, and ends
    [--wait] [--timeout S]            waits for the end, at most S seconds (default: as long as it takes)
beamkeeper cancel PIPELINE            stops for good, at once; what is unfinished stays as it is

--json prints JSON, with top one line for each picture. Exit codes: 0 done, 1 failed or ended otherwise, 2 not usable as called.
ZOOKEEPER_CONNECT names the ensemble, BEAMKEEPER_ROOT the root (default /beamkeeper).`;

interface Operating {
  readonly client: ZooKeeperClient;
  readonly settings: Settings;
  readonly environment: NodeJS.ProcessEnv;
  readonly layout: PipelineLayout;
  readonly options: Options;
  readonly terminal: Terminal;
  readonly signal: AbortSignal;
}

interface Options {
  readonly json: boolean;
  readonly wait: boolean;
  readonly timeoutMs: number;
  readonly intervalMs: number;
  readonly once: boolean;
  readonly stage: string | undefined;
  readonly shard: number | undefined;
  readonly rows: number;
  /** Stages and their new numbers of shards. */
  readonly shards: Readonly<Record<string, number>>;
  readonly snapshot: SnapshotOrder;
}

interface Verb {
  /** The options that it takes beside --json. */
  readonly options: readonly string[];
  /** How many names it takes, the pipeline's included (default 1). */
  readonly names?: number;
  /** Resolves with the exit code. */
  readonly run: (operating: Operating) => Promise<number>;
}

export type Operation =
  | ("status" | "top" | "inspect" | "pause" | "resume")
  | ("rescale" | "snapshot" | "reset" | "drain" | "cancel");

const OPERATIONS: Readonly<Record<Operation, Verb>> = {
  status: { options: [], run: showStatus },
  top: { options: ["interval", "once"], run: showTop },
  inspect: { options: ["rows"], names: 3, run: showInspection },
  pause: { options: [], run: changed(pausePipeline) },
  resume: { options: [], run: changed(resumePipeline) },
  rescale: { options: [], names: Number.POSITIVE_INFINITY, run: rescaleAndShow },
  snapshot: { options: ["source", "path", "pause", "resume", "cancel", "show"], run: snapshotAndShow },
  reset: { options: ["source"], run: resetAndShow },
  drain: { options: ["wait", "timeout"], run: drainAndShow },
  cancel: { options: [], run: changed(cancelPipeline) },
};

export function isOperation(verb: string | undefined): verb is Operation {
  return verb !== undefined && Object.hasOwn(OPERATIONS, verb);
}

/** Runs one operation; returns the exit code. Throws UsageError, ControlError, SettingsError, or the client's error. */
export async function operate(
  verb: Operation,
  args: readonly string[],
  environment: NodeJS.ProcessEnv,
  terminal: Terminal,
  signal: AbortSignal,
): Promise<number> {
  const { pipeline, options } = parseOperation(verb, args);
  const settings = readSettings(environment);
  const layout = new PipelineLayout(settings.root, pipeline);
  const client = await ensembleConnector(settings)();
  try {
    return await OPERATIONS[verb].run({ client, settings, environment, layout, options, terminal, signal });
  } finally {
    await client.close();
  }
}

function changed(change: (client: ZooKeeperClient, layout: PipelineLayout) => Promise<unknown>) {
  return async (operating: Operating): Promise<number> => {
    await change(operating.client, operating.layout);
    return showStatus(operating);
  };
}

async function showStatus({ client, layout, options, terminal }: Operating): Promise<number> {
  const status = await readStatus(client, layout);
  if (!status) throw await noPipeline(client, layout);
  terminal.say(options.json ? toJson(status) : statusText(layout.pipeline, status));
  return 0;
}

async function showTop({ client, layout, options, terminal, signal }: Operating): Promise<number> {
  if (await top(client, layout, options, terminal, systemClock, signal)) return 0;
  throw await noPipeline(client, layout);
}

async function showInspection(operating: Operating): Promise<number> {
  const { client, layout, options, terminal } = operating;
  const current = await readGeneration(client, layout);
  if (!current) throw await noPipeline(client, layout);
  const found = await inspect(client, blobsOf(operating), layout.pipeline, current, options);
  terminal.say(options.json ? toJson(found) : inspectionText(found, options, systemClock.now()));
  return 0;
}

async function noPipeline(client: ZooKeeperClient, layout: PipelineLayout): Promise<NoPipelineError> {
  return new NoPipelineError(layout, await listPipelines(client, layout.root));
}

async function rescaleAndShow(operating: Operating): Promise<number> {
  const { client, layout, options } = operating;
  if (Object.keys(options.shards).length === 0)
    throw unusable("rescale: name stages and numbers, as groupBy=4");
  await rescale(client, blobsOf(operating), layout, options.shards);
  return showStatus(operating);
}

function blobsOf({ settings, environment }: Operating): BlobStore {
  return openBlobs(settings.blobStore, { pathStyle: environment.AWS_ENDPOINT_URL !== undefined });
}

async function snapshotAndShow({ client, layout, options, terminal }: Operating): Promise<number> {
  const found = await orderSnapshot(client, layout, options.snapshot, systemClock);
  terminal.say(options.json ? JSON.stringify(found) : snapshotText(layout.pipeline, found));
  const isRefused = found.some(({ progress }) => progress?.end === "not wanted");
  return isRefused && options.snapshot.change === undefined ? 1 : 0;
}

async function resetAndShow({ client, layout, options, terminal }: Operating): Promise<number> {
  const { source } = options.snapshot;
  if (source === undefined) throw unusable("reset: name the source with --source");
  await resetSource(client, layout, source);
  if (options.json) terminal.say(JSON.stringify({ source }));
  else
    terminal.say(
      `source "${source}" begins again, as at its first start, once "beamkeeper resume ${layout.pipeline}" lets it`,
    );
  return 0;
}

async function drainAndShow(operating: Operating): Promise<number> {
  const { client, layout, options, terminal, signal } = operating;
  const { wait, timeoutMs, json } = options;
  const code = await drain(client, layout, { wait, timeoutMs, quietly: json }, terminal, systemClock, signal);
  if (code !== 130) await showStatus(operating);
  if (!wait && !json)
    terminal.say(`\n"beamkeeper drain ${layout.pipeline} --wait" waits until nothing is left to do.`);
  return code;
}

const SHOWN_ROWS = 20;

function rowsOf(text: string): number {
  if (/^\d{1,3}$|^1000$/.test(text)) return Number(text);
  throw unusable(`--rows must be a whole number from 0 to 1000, not "${text}"`);
}

function parseOperation(verb: Operation, args: readonly string[]): { pipeline: string; options: Options } {
  const config = {
    json: { type: "boolean", default: false },
    wait: { type: "boolean", default: false },
    timeout: { type: "string" },
    interval: { type: "string" },
    once: { type: "boolean", default: false },
    rows: { type: "string" },
    source: { type: "string" },
    path: { type: "string", default: "/" },
    pause: { type: "boolean", default: false },
    resume: { type: "boolean", default: false },
    cancel: { type: "boolean", default: false },
    show: { type: "boolean", default: false },
  } as const;
  const { positionals, values } = readArguments(args, config, OPERATIONS_USAGE);
  const allowed: readonly string[] = ["json", ...OPERATIONS[verb].options];
  const foreign = Object.keys(values).find(
    (name) => !allowed.includes(name) && values[name as "wait"] !== config[name as "wait"].default,
  );
  if (foreign !== undefined) throw unusable(`${verb} has no option --${foreign}`);
  const [pipeline, ...others] = positionals;
  const [stage, shard] = verb === "inspect" ? others : [];
  const { names: most = 1 } = OPERATIONS[verb];
  if (pipeline === undefined || positionals.length > most)
    throw unusable(
      `${verb}: name one pipeline${most > 1 ? ", and a stage and a shard of it if you like" : ""}`,
    );
  if (shard !== undefined && !/^\d{1,4}$/.test(shard))
    throw unusable(`a shard is named by its number, from 0, not "${shard}"`);
  const options: Options = {
    json: values.json,
    wait: values.wait || values.timeout !== undefined,
    timeoutMs: values.timeout === undefined ? Number.POSITIVE_INFINITY : seconds("timeout", values.timeout),
    intervalMs: values.interval === undefined ? 1_000 : seconds("interval", values.interval),
    once: values.once,
    stage,
    shards: verb === "rescale" ? Object.fromEntries(others.map(shardsText)) : {},
    shard: shard === undefined ? undefined : Number(shard),
    rows: values.rows === undefined ? SHOWN_ROWS : rowsOf(values.rows),
    snapshot: { source: values.source, path: values.path, change: snapshotChange(values) },
  };
  return { pipeline, options };
}

const SNAPSHOT_CHANGES = { pause: "paused", resume: "running", cancel: "cancelled", show: "show" } as const;

function snapshotChange(
  values: Readonly<Record<keyof typeof SNAPSHOT_CHANGES, boolean>> & { readonly path: string },
): SnapshotOrder["change"] {
  const named = (["pause", "resume", "cancel", "show"] as const).filter((name) => values[name]);
  if (named.length > 1) throw unusable("snapshot: choose one of --pause, --resume, --cancel, --show");
  if (named.length === 1 && values.path !== "/")
    throw unusable(`snapshot: --path goes with a new one, not with --${named[0]}`);
  const problem = pathProblem(values.path);
  if (problem !== undefined) throw unusable(`snapshot: the path ${JSON.stringify(values.path)} ${problem}`);
  return named[0] && SNAPSHOT_CHANGES[named[0]];
}

function shardsText(text: string): [string, number] {
  const [, stage, count] = /^(.+)=(\d{1,4})$/.exec(text) ?? [];
  if (stage === undefined) throw unusable(`rescale: "${text}" is not of the form STAGE=N`);
  return [stage, Number(count)];
}

function seconds(name: string, text: string): number {
  const value = Number(text);
  if (text.trim() === "" || !(value > 0) || value > 1e6)
    throw unusable(`--${name} must be a number of seconds above 0, not "${text}"`);
  return value * 1000;
}

function unusable(problem: string): UsageError {
  return new UsageError(problem, OPERATIONS_USAGE);
}
