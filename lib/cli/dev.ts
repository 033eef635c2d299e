import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { startZooKeeper } from "../../infra/zookeeper/server";
import znodeSummary from "../../pipelines/znode-summary";
import { ensembleConnector } from "../aws/ensemble";
import type { CompiledPipeline } from "../beam/api";
import { compilePipeline, definePipeline, type PipelineDefinition } from "../beam/pipeline";
import { PipelineLayout } from "../checkpoint/layout";
import { createPath } from "../checkpoint/scope";
import { systemClock } from "../clock";
import type { Log } from "../log";
import { isBounded, readsOnlyEvents, watchesZnodes } from "../runner/deployment";
import { readSettings, type Settings } from "../settings";
import type { ZooKeeperClient } from "../zookeeper";
import { readArguments, UsageError } from "./arguments";
import { runBounded } from "./bounded";
import { judge, settle, write } from "./demonstration";
import { deployLocally, type LocalDeployment } from "./local-deployment";
import { namedPipeline } from "./named-pipelines";
import { removeTree } from "./remove-tree";
import { describe, grouped, type Terminal, terminal } from "./terminal";

export const DEV_USAGE = `npm start [-- [FILE | NAME] [options]]

Runs a pipeline on a real ZooKeeper on this machine. Without FILE it runs the classic example with a writer and
an oracle, for some seconds. With FILE (a module whose default export is a definePipeline), or the NAME of a
pipeline in pipelines/, it runs until ctrl-C. A bounded pipeline runs once, or by its schedule until ctrl-C.

  --keep           go on until ctrl-C, so that you can write znodes yourself
  --shards N       shards of every stage (default: what the pipeline says, else 1)
  --seconds N      how long the writer writes (default 8); with FILE: how long to run (default: until ctrl-C)
  --writes N       how many writes (default 4000)
  --znodes N       over how many znodes (default 300)
  --seed N         the writer's seed (default 1)
  --verbose        show the log
  --help           this text

ZOOKEEPER_CONNECT=host:port[,host:port...] uses that ensemble and starts none.`;

interface DevOptions {
  readonly file: string | undefined;
  readonly keep: boolean;
  readonly shards: number | undefined;
  readonly seconds: number | undefined;
  readonly writes: number;
  readonly znodes: number;
  readonly seed: number;
  readonly verbose: boolean;
}

// A shard that fails this often in a row will hardly succeed the next time; a person is watching.
const MAX_FAILURES = 5;

/** `npm start`: returns the exit code. Everything that it starts is stopped again, whatever happens. */
export async function dev(
  args: readonly string[],
  environment: NodeJS.ProcessEnv,
  signal: AbortSignal,
): Promise<number> {
  const options = parseOptions(args);
  if (options === "help") {
    terminal.say(DEV_USAGE);
    return 0;
  }
  const definition = withShards(
    options.file ? await namedPipeline(options.file) : znodeSummary,
    options.shards,
  );
  const compiled = compilePipeline(definition);
  const cleanUp: (() => Promise<void> | void)[] = [];
  try {
    const given = environment.ZOOKEEPER_CONNECT || (await startServer(cleanUp));
    const output = environment.BEAMKEEPER_OUTPUT ?? join("output", timeName());
    const outer = readSettings({ ...environment, ZOOKEEPER_CONNECT: given, BEAMKEEPER_OUTPUT: output });
    const settings = environment.ZOOKEEPER_CONNECT ? await placeOnEnsemble(options, outer, cleanUp) : outer;
    if (!settings.output.startsWith("s3://")) mkdirSync(settings.output, { recursive: true });
    const stages = compiled.stages.map(({ id }) => `${id} x ${compiled.shards.get(id) ?? 1}`).join(" -> ");
    terminal.say(`Pipeline ${definition.name}: ${stages}`);
    const client = await ensembleConnector(settings)();
    cleanUp.push(() => client.close());
    const run = { options, settings, definition, client, cleanUp, signal };
    return await (isBounded(compiled) ? runOnce(run) : runPipeline(run));
  } finally {
    for (const step of cleanUp.reverse()) await step();
  }
}

interface Run {
  readonly options: DevOptions;
  readonly settings: Settings;
  readonly definition: PipelineDefinition;
  readonly client: ZooKeeperClient;
  readonly cleanUp: (() => Promise<void> | void)[];
  readonly signal: AbortSignal;
}

async function runPipeline(run: Run): Promise<number> {
  const { options, settings, definition, cleanUp, signal } = run;
  const progress = { elements: 0, missed: 0, commits: 0, watermarkMs: Number.NEGATIVE_INFINITY };
  const started = deferred();
  const deployment = deployLocally({
    settings,
    definition,
    log: humanLog(terminal, options.verbose),
    maxFailures: MAX_FAILURES,
    onCommit: (commit) => {
      progress.elements += commit.elements;
      progress.missed += commit.missed;
      progress.commits += 1;
      progress.watermarkMs = commit.watermarkMs;
      started.resolve();
    },
  });
  cleanUp.push(() => deployment.stop());
  // Without a source that a relay reads there is no commit of its own to wait for.
  if (compilePipeline(definition).sources.every(({ kind }) => kind === "impulse")) started.resolve();
  const aborted = new Promise<void>((done) => {
    signal.addEventListener("abort", () => done(), { once: true });
    if (signal.aborted) done();
  });
  await Promise.race([started.promise, deployment.running, aborted]);
  if (signal.aborted) return INTERRUPTED;
  if (options.file === undefined) {
    const right = await Promise.race([demonstrate(run), failureOf(deployment), aborted]);
    if (signal.aborted) return INTERRUPTED;
    if (!options.keep || right !== true) return right === true ? 0 : 1;
  }
  await keepRunning(run, deployment, progress, aborted);
  await deployment.stop();
  return complainOf(await deployment.running);
}

const INTERRUPTED = 130;

/** A bounded pipeline, once or by its schedule. */
async function runOnce({ options, settings, definition, client, signal }: Run): Promise<number> {
  const enough = options.seconds === undefined ? [] : [AbortSignal.timeout(options.seconds * 1000)];
  const succeeded = await runBounded({
    ...{ settings, definition, client, terminal, maxFailures: MAX_FAILURES },
    log: humanLog(terminal, options.verbose),
    signal: AbortSignal.any([signal, ...enough]),
  });
  if (signal.aborted) return INTERRUPTED;
  return succeeded ? 0 : 1;
}

/** 1 if shards were failing when the pipeline ended: what they could not process waits in their inboxes. */
function complainOf(failing: readonly string[]): number {
  for (const failure of failing) terminal.complain(`\nStill failing: ${failure}`);
  if (failing.length > 0)
    terminal.complain("Nothing is lost: it waits in the inbox, and is processed when the cause is mended.");
  return failing.length > 0 ? 1 : 0;
}

function failureOf(deployment: LocalDeployment): Promise<never> {
  // A pipeline that ends by itself is no failure of the demonstration.
  return deployment.running.then(() => new Promise<never>(() => undefined));
}

/** Writes, waits, compares; true if everything is right. */
async function demonstrate({
  options,
  settings,
  definition,
  client,
  cleanUp,
  signal,
}: Run): Promise<boolean> {
  const { znodes, writes, seed } = options;
  const seconds = options.seconds ?? 8;
  const folder = mkdtempSync(join(tmpdir(), "beamkeeper-"));
  cleanUp.push(() => rmSync(folder, { recursive: true, force: true }));
  const logFile = join(folder, "writer.log");
  terminal.say(
    `Writing ${grouped(writes)} creates, changes and deletes to ${grouped(znodes)} znodes below /app, for ${seconds} s ...`,
  );
  await write(settings.connectString, logFile, { znodes, writes, seconds, seed }, signal);
  const layout = new PipelineLayout(settings.root, definition.name);
  // The ensemble's own clock says when the last write's window is over.
  const { stat } = await client.create(`${settings.root}/.clock`, undefined, { mode: "ephemeral" });
  await settle(client, layout, Math.ceil((stat.ctime + 1) / 1000) * 1000, systemClock, signal);
  if (signal.aborted) return false;
  const files = join(settings.output, "znode-summary");
  terminal.say("");
  const right = await judge(
    client,
    layout,
    { connectString: settings.connectString, logFile, files },
    terminal,
    signal,
  );
  terminal.say(`Text files: ${relative(process.cwd(), files)}/`);
  return right;
}

async function keepRunning(
  { options, settings, definition }: Run,
  deployment: LocalDeployment,
  progress: { elements: number; missed: number; commits: number; watermarkMs: number },
  aborted: Promise<void>,
): Promise<void> {
  const watched = options.file === undefined ? " below /app; results come below /summaries" : "";
  const feed = feedOf(compilePipeline(definition));
  terminal.say(`\nRunning "${definition.name}" at ${settings.connectString}: ${feed}${watched}.`);
  terminal.say(`Text files come below ${settings.output}/. Ctrl-C stops.`);
  const stop = new AbortController();
  const end =
    options.file !== undefined && options.seconds !== undefined
      ? systemClock.sleep(options.seconds * 1000, stop.signal)
      : aborted;
  const reporting = report(progress, stop.signal);
  try {
    await Promise.race([end, aborted, deployment.running]);
  } finally {
    stop.abort();
    await reporting;
  }
}

function feedOf(compiled: CompiledPipeline): string {
  if (watchesZnodes(compiled)) return "write znodes with any client";
  return readsOnlyEvents(compiled) ? 'give it events with "beamkeeper send"' : "it reads by itself";
}

/** A line each second in which something happened. */
async function report(
  progress: { elements: number; missed: number; commits: number; watermarkMs: number },
  signal: AbortSignal,
): Promise<void> {
  for (let shown = progress.elements; !signal.aborted; ) {
    await systemClock.sleep(1000, signal);
    if (progress.elements === shown) continue;
    const { elements, missed, commits, watermarkMs } = progress;
    const watermark = Number.isFinite(watermarkMs) ? new Date(watermarkMs).toISOString().slice(11, 23) : "-";
    terminal.say(
      `  ${grouped(elements)} elements (+${grouped(elements - shown)}), ${grouped(missed)} missed, ${grouped(commits)} relay commits, watermark ${watermark}`,
    );
    shown = elements;
  }
}

async function startServer(cleanUp: Run["cleanUp"]): Promise<string> {
  const local = await startZooKeeper();
  cleanUp.push(() => local.stop());
  terminal.say(
    `ZooKeeper ${local.version} is running at ${local.connectString} (temporary data, loopback only)`,
  );
  return local.connectString;
}

/** A user's pipeline works on the ensemble as it is; the example keeps to a path of its own, which is taken away at the end. */
async function placeOnEnsemble(
  options: DevOptions,
  settings: Settings,
  cleanUp: Run["cleanUp"],
): Promise<Settings> {
  const given = settings.connectString;
  if (options.file !== undefined) {
    terminal.say(`Using the ensemble at ${given}`);
    return settings;
  }
  const [hosts, chroot = ""] = splitChroot(given);
  const path = `${chroot}/beamkeeper-demo-${timeName()}`;
  const client = await ensembleConnector({ ...settings, connectString: hosts })();
  cleanUp.push(() => client.close());
  await createPath(client, path);
  if (!options.keep) cleanUp.push(() => removeTree(client, path));
  terminal.say(`Using the ensemble at ${hosts}, below ${path}${options.keep ? "" : " (removed at the end)"}`);
  return { ...settings, connectString: `${hosts}${path}` };
}

function splitChroot(connectString: string): [string, string?] {
  const slash = connectString.indexOf("/");
  return slash < 0
    ? [connectString]
    : [connectString.slice(0, slash), connectString.slice(slash).replace(/\/$/, "")];
}

function timeName(): string {
  return new Date().toISOString().slice(0, 19).replaceAll(":", "-");
}

function withShards(definition: PipelineDefinition, shards: number | undefined): PipelineDefinition {
  return shards === undefined ? definition : definePipeline({ ...definition, shards });
}

function parseOptions(args: readonly string[]): DevOptions | "help" {
  const number = { type: "string" } as const;
  const flag = { type: "boolean", default: false } as const;
  const config = {
    keep: flag,
    verbose: flag,
    help: flag,
    shards: number,
    seconds: number,
    writes: number,
    znodes: number,
    seed: number,
  };
  const { values, positionals } = readArguments(args, config, DEV_USAGE);
  if (values.help) return "help";
  if (positionals.length > 1)
    throw new UsageError(`one pipeline file at most, not ${positionals.join(" ")}`, DEV_USAGE);
  const whole = (name: "shards" | "seconds" | "writes" | "znodes" | "seed"): number | undefined => {
    const text = values[name];
    if (text === undefined) return undefined;
    if (!/^[1-9]\d{0,8}$/.test(text))
      throw new UsageError(`--${name} must be a whole number from 1, not "${text}"`);
    return Number(text);
  };
  return {
    file: positionals[0],
    keep: values.keep,
    verbose: values.verbose,
    shards: whole("shards"),
    seconds: whole("seconds"),
    writes: whole("writes") ?? 4000,
    znodes: whole("znodes") ?? 300,
    seed: whole("seed") ?? 1,
  };
}

function humanLog({ complain }: Terminal, verbose: boolean): Log {
  return (level, message, fields) => {
    if (!verbose && (level === "debug" || level === "info")) return;
    const { error, ...rest } = fields ?? {};
    const details = Object.entries(rest).map(([name, value]) => `${name}=${String(value)}`);
    const reason = error === undefined ? "" : `: ${describe(error)}`;
    complain(`[${level}] ${message} (${details.join(", ")})${reason}`);
  };
}

function deferred(): { promise: Promise<void>; resolve: () => void } {
  let resolve: () => void = () => undefined;
  const promise = new Promise<void>((done) => {
    resolve = done;
  });
  return { promise, resolve };
}
