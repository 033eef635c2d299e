import { ensembleConnector } from "../aws/ensemble";
import { openBlobs } from "../aws/output";
import { compilePipeline } from "../beam/pipeline";
import type { GraphDifference, UpdateChoices } from "../checkpoint/graph";
import { PipelineLayout } from "../checkpoint/layout";
import type { Generation } from "../checkpoint/records";
import { compareWithStored } from "../checkpoint/update";
import { planPipeline } from "../runner/deployment";
import { update as updateCode } from "../runner/rescale";
import { readSettings } from "../settings";
import { readArguments, UsageError } from "./arguments";
import { namedPipeline } from "./named-pipelines";
import type { Terminal } from "./terminal";

export const UPDATE_USAGE = `beamkeeper update PIPELINE            hands what a pipeline has to its changed code, once that is deployed
    [--dry-run]                           says what differs and whether that fits, and changes nothing
    [--rename OLD=NEW]...                 a stage that has another name now
    [--discard STAGE]...                  a stage that is gone: what it has left is lost

PIPELINE is a file with the changed code, or the name of a pipeline in pipelines/. --json prints JSON. Exit codes: 0 done (or
it fits), 1 failed (or it does not), 2 not usable as called.`;

/** `beamkeeper update ...`; returns the exit code. Throws UsageError, ControlError, SettingsError, or the client's error. */
export async function update(
  args: readonly string[],
  environment: NodeJS.ProcessEnv,
  terminal: Terminal,
): Promise<number> {
  const { pipeline, choices, isDryRun, json } = parse(args);
  const settings = readSettings(environment);
  const { name, plan } = planPipeline(compilePipeline(await namedPipeline(pipeline)));
  const layout = new PipelineLayout(settings.root, name);
  const client = await ensembleConnector(settings)();
  try {
    const difference = await compareWithStored({ client, layout, plan, choices });
    if (!json) for (const line of differenceLines(name, difference)) terminal.say(line);
    const isRefused = difference.problems.length > 0;
    if (isDryRun || isRefused) {
      const { stages, problems } = difference;
      if (json) terminal.say(JSON.stringify({ stages, problems }));
      return isRefused ? 1 : 0;
    }
    const blobs = openBlobs(settings.blobStore, { pathStyle: environment.AWS_ENDPOINT_URL !== undefined });
    const generation = await updateCode(client, blobs, layout, plan, choices);
    terminal.say(
      json ? JSON.stringify({ stages: difference.stages, generation }) : doneText(name, generation),
    );
    return 0;
  } finally {
    await client.close();
  }
}

function differenceLines(name: string, { stages, problems }: GraphDifference): string[] {
  if (problems.length > 0)
    return [
      ...problems,
      `${name} can't go on with this code: deploy the code of before, or give the changed pipeline or transform another name`,
    ];
  if (stages.length === 0) return [`${name}: no stage differs from what is stored`];
  const lines = stages.flatMap(({ stage, change, what }) => [
    `stage "${stage}" is ${change}`,
    ...what.map((text) => `    ${text}`),
  ]);
  return [...lines, `${name} can go on with this code`];
}

function doneText(name: string, { epoch, state }: Generation): string {
  return `${name} is ${state} (epoch ${epoch}) and waits for a deployment of this code`;
}

interface UpdateRequest {
  readonly pipeline: string;
  readonly choices: UpdateChoices;
  readonly isDryRun: boolean;
  readonly json: boolean;
}

function parse(args: readonly string[]): UpdateRequest {
  const config = {
    "dry-run": { type: "boolean", default: false },
    rename: { type: "string", multiple: true, default: [] as string[] },
    discard: { type: "string", multiple: true, default: [] as string[] },
    json: { type: "boolean", default: false },
  } as const;
  const { positionals, values } = readArguments(args, config, UPDATE_USAGE);
  const [pipeline] = positionals;
  if (pipeline === undefined || positionals.length > 1)
    throw new UsageError("update: name one pipeline", UPDATE_USAGE);
  const renames = Object.fromEntries(values.rename.map(renameOf));
  return {
    ...{ pipeline, choices: { renames, discard: values.discard }, json: values.json },
    isDryRun: values["dry-run"],
  };
}

function renameOf(text: string): [string, string] {
  const [, from, to] = /^(.+)=(.+)$/.exec(text) ?? [];
  if (from === undefined || to === undefined)
    throw new UsageError(`update: "${text}" is not of the form OLD=NEW`, UPDATE_USAGE);
  return [from, to];
}
