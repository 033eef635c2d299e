import { compilePipeline } from "../beam/pipeline";
import type { EventService } from "../checkpoint/event-source";
import { planPipeline } from "../runner/deployment";
import { loadPipelines } from "../runner/pipeline-folder";
import { readArguments, UsageError } from "./arguments";
import { type Estimate, estimate, FORMULA, type PipelineShape, type Rates } from "./estimate";
import { columns, grouped, type Terminal } from "./terminal";

export const COST_USAGE = `beamkeeper cost [PIPELINE...]         invocations, GB-seconds, ZooKeeper writes/s and dollars a month, with the formula
    [--changes N] [--events N]        a second: changes of each pipeline, and records of each source of events (default 1)
    [--duration S]                    how long an invocation takes, in seconds (default 0.1)
    [--idle S] [--linger S]           BEAMKEEPER_IDLE_INTERVAL_MS and _LINGER_MS, in seconds (default 1 and 0)`;

const DEFAULTS = { changes: "1", events: "1", duration: "0.1", idle: "1", linger: "0" } as const;

/** `beamkeeper cost`: an estimate for the pipelines of the folder `pipelines`. Throws UsageError, or what a pipeline throws. */
export async function cost(args: readonly string[], { say }: Terminal): Promise<number> {
  const { names, rates, json } = parse(args);
  const all = await loadPipelines("pipelines");
  const unknown = names.find((name) => all.every((definition) => definition.name !== name));
  if (unknown !== undefined)
    throw unusable(`there is no pipeline "${unknown}"; there are ${all.map(({ name }) => name).join(", ")}`);
  const chosen = all.filter(({ name }) => names.length === 0 || names.includes(name));
  const found = estimate(
    chosen.map((definition) => shapeOf(compilePipeline(definition))),
    rates,
  );
  if (json) say(JSON.stringify({ rates, formula: FORMULA, ...found }));
  else for (const line of costText(found, rates)) say(line);
  return 0;
}

export function shapeOf(compiled: ReturnType<typeof compilePipeline>): PipelineShape {
  const { plan, sources, eventSources } = planPipeline(compiled);
  const count = (stage: string): number => plan.shards[stage] ?? 1;
  const first = new Set([...sources, ...eventSources].flatMap(({ consumers }) => consumers));
  const total = (stages: readonly string[]): number => stages.reduce((sum, stage) => sum + count(stage), 0);
  return {
    name: compiled.name,
    sources: sources.length,
    stages: compiled.stages.length,
    shards: total(compiled.stages.map(({ id }) => id)),
    firstShards: total([...first]),
    eventSources: eventSources.map(({ source: { from }, settings }) => ({
      from,
      batchSize: settings.batchSize ?? BATCH_SIZE[from],
      windowSeconds: settings.batchWindowSeconds ?? 0,
    })),
  };
}

/** What the mappings ask for that infra/serverless/events.js makes; of direct events what a caller sends at once. */
const BATCH_SIZE: Readonly<Record<EventService, number>> = {
  ...{ sqs: 10, s3: 10, eventbridge: 10, kinesis: 100, direct: 1 },
};

function costText(found: Estimate, rates: Rates): string[] {
  const { changesPerSecond, eventsPerSecond, invocationSeconds } = rates;
  const rows = found.pipelines.map((each) => [
    each.name,
    rate(each.writesPerSecond),
    rate(each.invocationsPerSecond),
    rate(each.takingsPerSecond),
    grouped(Math.round(each.gbSecondsPerMonth)),
    each.dollarsPerMonth.toFixed(2),
  ]);
  const { standing } = found;
  return [
    `At ${changesPerSecond} changes a second of each pipeline, ${eventsPerSecond} events a second of each source of events, and ${invocationSeconds} s for an invocation:`,
    "",
    ...columns([
      ["pipeline", "writes/s", "invocations/s", "takings/s", "GB-s a month", "$ a month"],
      ...rows,
      [
        ...["relays, looks, alarms", "", "", "", grouped(Math.round(standing.gbSecondsPerMonth))],
        standing.dollarsPerMonth.toFixed(2),
      ],
      [
        ...["together", rate(found.writesPerSecond), "", ""],
        ...[grouped(Math.round(found.gbSecondsPerMonth)), found.dollarsPerMonth.toFixed(2)],
      ],
    ]),
    "",
    ...FORMULA,
    "A bounded pipeline costs its runs; S3, logs, the network, streams and buses cost what they do; none of these is in it.",
  ];
}

function rate(value: number): string {
  return value.toFixed(value < 10 ? 2 : 0);
}

function parse(args: readonly string[]): { names: readonly string[]; rates: Rates; json: boolean } {
  const text = { type: "string" } as const;
  const options = {
    changes: text,
    events: text,
    duration: text,
    idle: text,
    linger: text,
    json: { type: "boolean" },
  } as const;
  const { positionals, values } = readArguments(args, options, COST_USAGE);
  const number = (name: keyof typeof DEFAULTS, least: number): number => {
    const given = values[name] ?? DEFAULTS[name];
    const value = Number(given);
    if (given.trim() === "" || !(value >= least) || value > 1e9)
      throw unusable(`--${name} must be a number from ${least} on, not "${given}"`);
    return value;
  };
  const rates = {
    changesPerSecond: number("changes", 0),
    eventsPerSecond: number("events", 0),
    invocationSeconds: number("duration", 0.001),
    idleSeconds: number("idle", 0.01),
    lingerSeconds: number("linger", 0),
  };
  return { names: positionals, rates, json: values.json === true };
}

function unusable(problem: string): UsageError {
  return new UsageError(problem, COST_USAGE);
}
