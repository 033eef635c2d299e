import { ensembleConnector, otherEnsembles } from "../aws/ensemble";
import { openEventServices } from "../aws/event-services";
import { openOutput } from "../aws/output";
import type { CompiledPipeline } from "../beam/api";
import { compilePipeline } from "../beam/pipeline";
import { systemClock } from "../clock";
import { definitionOf } from "../runner/definitions";
import { type PipelinePlan, planPipeline } from "../runner/deployment";
import { loadModule, pipelineFiles } from "../runner/pipeline-folder";
import { deployableSchedule } from "../runner/readiness";
import { checkOutputs } from "../runner/text-files";
import { readSettings, type Settings } from "../settings";
import type { ZooKeeper } from "../zookeeper";
import { readArguments, UsageError } from "./arguments";
import { shapeOf } from "./cost";
import {
  checkConnections,
  checkFollowed,
  checkRoot,
  checkSources,
  checkVersions,
  checkWrites,
} from "./ensemble-checks";
import type { PipelineShape } from "./estimate";
import { checkEventSources } from "./event-checks";
import { type Finding, failure, ok } from "./finding";
import type { Terminal } from "./terminal";

export const CHECK_USAGE = `beamkeeper check [PIPELINE...]        before a deployment, and without a change: pipelines, schedules, settings, secret,
    [--changes N] [--stage S]         servers and versions, rights, connections, znodes, writes at N changes a second, and
    [--json]                          the queues, streams, buses and buckets that are read ({stage} is S, default: dev)
                                      Exit codes: 0 nothing is in the way, 1 something is, 2 not usable as called.`;

interface CheckedPipeline {
  readonly compiled: CompiledPipeline;
  readonly plan: PipelinePlan;
  readonly shape: PipelineShape;
}

/** `beamkeeper check`: returns 0 where a deployment would work as far as can be seen from here, else 1. Throws UsageError. */
export async function check(
  args: readonly string[],
  environment: NodeJS.ProcessEnv,
  terminal: Terminal,
): Promise<number> {
  const { names, changes, stage, json } = parse(args);
  const findings: Finding[] = [];
  const settings = await attempt(findings, "settings", "see README.md, Settings", async () =>
    readSettings(environment),
  );
  if (settings)
    findings.push(ok("settings", `the ensemble is ${settings.connectString}, the root ${settings.root}`));
  const pipelines = await checkPipelines(findings, names, settings);
  await checkEvents(findings, pipelines, stage, environment);
  if (settings) await checkEnsemble(findings, settings, pipelines, changes);
  report(findings, json, terminal);
  return findings.some(({ level }) => level === "error") ? 1 : 0;
}

/** What the step gives; where it fails, that is a finding, and undefined. */
async function attempt<T>(
  findings: Finding[],
  about: string,
  remedy: string,
  step: () => Promise<T>,
): Promise<T | undefined> {
  try {
    return await step();
  } catch (error) {
    findings.push(failure(about, error instanceof Error ? error.message : String(error), remedy));
    return undefined;
  }
}

async function checkPipelines(
  findings: Finding[],
  names: readonly string[],
  settings: Settings | undefined,
): Promise<CheckedPipeline[]> {
  const files = await attempt(
    findings,
    "pipelines",
    "run this in the folder that holds pipelines/",
    async () => pipelineFiles("pipelines"),
  );
  const found = new Map<string, CheckedPipeline>();
  for (const file of files ?? []) {
    const checked = await attempt(
      findings,
      file,
      "mend the file; nothing is deployed while it can't be compiled",
      () => checkFile(file, settings),
    );
    if (!checked) continue;
    const { name } = checked.plan;
    if (names.length > 0 && !names.includes(name)) continue;
    const remedy = "give one of them another name";
    if (found.has(name))
      findings.push(failure(file, `another file defines the pipeline "${name}" as well`, remedy));
    found.set(name, checked);
    findings.push(checked.finding);
  }
  for (const name of names.filter((each) => !found.has(each)))
    findings.push(
      failure(`pipeline ${name}`, "there is no such pipeline", `name one of those in pipelines/`),
    );
  return [...found.values()];
}

async function checkFile(
  file: string,
  settings: Settings | undefined,
): Promise<CheckedPipeline & { readonly finding: Finding }> {
  const definition = definitionOf(file, await loadModule(file));
  const compiled = compilePipeline(definition);
  if (settings) checkOutputs(compiled, openOutput(settings.output, { pathStyle: false }));
  const schedule = deployableSchedule(definition, compiled, systemClock.now());
  const about = `pipeline ${definition.name}`;
  const shape = shapeOf(compiled);
  const size = `${shape.stages} stages, ${shape.shards} shards`;
  const when = schedule && `, ${schedule.expression} in ${schedule.timeZone}`;
  const finding: Finding = schedule?.isOver
    ? {
        ...{ level: "warning", about, text: `${size}; its schedule has ended` },
        remedy: "give it a later end, or leave out the schedule",
      }
    : ok(about, `${size}${when ?? ""}`);
  return { compiled, plan: planPipeline(compiled), shape, finding };
}

async function checkEvents(
  findings: Finding[],
  pipelines: readonly CheckedPipeline[],
  stage: string,
  environment: NodeJS.ProcessEnv,
): Promise<void> {
  const reading = pipelines.map(({ plan }) => plan).filter(({ eventSources }) => eventSources.length > 0);
  if (reading.length === 0) return;
  const services = await openEventServices(environment.AWS_ENDPOINT_URL);
  for (const plan of reading) findings.push(...(await checkEventSources(services, plan, stage)));
}

async function checkEnsemble(
  findings: Finding[],
  settings: Settings,
  pipelines: readonly CheckedPipeline[],
  changes: number,
): Promise<void> {
  const shapes = pipelines.map(({ shape }) => shape);
  const remedy =
    "is the ensemble up, may this machine reach it, and are ZOOKEEPER_CONNECT and ZOOKEEPER_SECRET right?";
  const client = await attempt<ZooKeeper>(findings, "ensemble", remedy, ensembleConnector(settings));
  findings.push(checkWrites(shapes, settings, changes));
  if (!client) return;
  findings.push(
    ok(
      "ensemble",
      `${client.server} answers${settings.secret ? ", with the credentials of the secret" : ""}`,
    ),
  );
  const steps: (() => Promise<readonly Finding[]>)[] = [
    () => checkVersions(client),
    async () => [await checkRoot(client, settings.root)],
    ...pipelines.map(({ plan, compiled }) => async () => [
      ...(await checkSources(client, plan)),
      ...(await checkFollowed(client, compiled)),
    ]),
    ...ensemblesOf(pipelines).map((name) => () => checkOther(settings, name, pipelines)),
    () => checkConnections(client, shapes, settings),
  ];
  try {
    for (const step of steps) findings.push(...((await attempt(findings, "ensemble", remedy, step)) ?? []));
  } finally {
    await client.close();
  }
}

/** The other ensembles that sources are on. */
function ensemblesOf(pipelines: readonly CheckedPipeline[]): string[] {
  const named = pipelines.flatMap(({ plan }) => plan.sources.map(({ source }) => source.ensemble));
  return [...new Set(named)].filter((name) => name !== undefined);
}

async function checkOther(
  settings: Settings,
  name: string,
  pipelines: readonly CheckedPipeline[],
): Promise<readonly Finding[]> {
  const about = `ensemble ${name}`;
  const findings: Finding[] = [];
  const remedy = "is it up, may this machine reach it, and is BEAMKEEPER_ENSEMBLES right?";
  const connect = (): Promise<ZooKeeper> => otherEnsembles(settings)(name);
  const client = await attempt(findings, about, remedy, connect);
  if (!client) return findings;
  try {
    findings.push(ok(about, `${client.server} answers`));
    for (const { plan } of pipelines)
      findings.push(
        ...((await attempt(findings, about, remedy, () => checkSources(client, plan, name))) ?? []),
      );
  } finally {
    await client.close();
  }
  return findings;
}

function report(findings: readonly Finding[], json: boolean, { say }: Terminal): void {
  const count = (level: Finding["level"]): number => findings.filter((each) => each.level === level).length;
  if (json) {
    say(JSON.stringify({ errors: count("error"), warnings: count("warning"), findings }));
    return;
  }
  for (const { level, about, text, remedy } of findings)
    say(`${level.padEnd(7)}  ${about}: ${text}${remedy === undefined ? "" : `\n         -> ${remedy}`}`);
  say(
    `\n${count("error")} errors, ${count("warning")} warnings. From here only: the functions' network and roles are not this one's.`,
  );
}

function parse(args: readonly string[]): {
  names: readonly string[];
  changes: number;
  stage: string;
  json: boolean;
} {
  const options = {
    changes: { type: "string", default: "1" },
    stage: { type: "string", default: "dev" },
    json: { type: "boolean", default: false },
  } as const;
  const { values, positionals } = readArguments(args, options, CHECK_USAGE);
  const changes = Number(values.changes);
  if (!(changes >= 0) || values.changes.trim() === "")
    throw new UsageError(`--changes must be a number from 0 on, not "${values.changes}"`, CHECK_USAGE);
  return { names: positionals, changes, stage: values.stage, json: values.json };
}
