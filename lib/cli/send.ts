import { readFileSync } from "node:fs";
import { text } from "node:stream/consumers";
import { ensembleConnector } from "../aws/ensemble";
import { openBlobs } from "../aws/output";
import { compilePipeline } from "../beam/pipeline";
import { PipelineLayout } from "../checkpoint/layout";
import { systemClock } from "../clock";
import { type DirectResponse, ingest } from "../ingest/ingestion";
import { EventIntake } from "../ingest/intake";
import { silent } from "../log";
import { planPipeline } from "../runner/deployment";
import { readSettings } from "../settings";
import { readArguments, UsageError } from "./arguments";
import { namedPipeline } from "./named-pipelines";
import { grouped, type Terminal } from "./terminal";

export const SEND_USAGE = `beamkeeper send PIPELINE --source NAME [--file FILE]    gives events to a source, each once by its id
    FILE, or what comes in, is a JSON array of events or has one on each line:
    {"id": "o-1", "data": {"amount": 3}, "key"?: ..., "time"?: ..., "attributes"?: {...}}

PIPELINE is a file, or the name of a pipeline in pipelines/, which has been started. Sending again what was sent changes nothing.
--json prints JSON. Exit codes: 0 done, 1 failed or some can't be taken as they are, 2 not usable as called.`;

/** `beamkeeper send ...`; returns the exit code. Throws UsageError, RecordsRefusedError, ControlError, SettingsError, or the client's error. */
export async function send(
  args: readonly string[],
  environment: NodeJS.ProcessEnv,
  terminal: Terminal,
): Promise<number> {
  const request = parse(args);
  const settings = readSettings(environment);
  const { name, eventSources } = planPipeline(compilePipeline(await namedPipeline(request.pipeline)));
  const events = parseEvents(
    request.file === undefined ? await text(process.stdin) : readFileSync(request.file, "utf8"),
  );
  const client = await ensembleConnector(settings)();
  try {
    const intake = new EventIntake({
      client,
      layout: new PipelineLayout(settings.root, name),
      blobs: openBlobs(settings.blobStore, { pathStyle: environment.AWS_ENDPOINT_URL !== undefined }),
      clock: systemClock,
      log: silent,
      limits: settings,
    });
    const sources = eventSources.map((planned) => ({ pipeline: name, planned, intake }));
    const { stage } = settings;
    // Whoever relays hears of it; where nobody does, the driver's schedule.
    const wake = async (): Promise<void> => undefined;
    const answer = await ingest(
      { sources, stage, wake, clock: systemClock, log: silent },
      { pipeline: name, source: request.source, events },
    );
    return show(answer as DirectResponse, request.json, terminal);
  } finally {
    await client.close();
  }
}

function show(response: DirectResponse, json: boolean, terminal: Terminal): number {
  const { accepted, duplicates, rejected } = response;
  if (json) terminal.say(JSON.stringify(response));
  else {
    terminal.say(`${grouped(accepted)} taken, ${grouped(duplicates)} had been taken before`);
    for (const { index, reason } of rejected)
      terminal.complain(`event ${index + 1} was not taken: ${reason}`);
  }
  return rejected.length > 0 ? 1 : 0;
}

/** A JSON array, or JSON lines. Throws UsageError. */
function parseEvents(given: string): unknown[] {
  try {
    if (given.trimStart().startsWith("[")) return JSON.parse(given) as unknown[];
  } catch (error) {
    throw unusable(`the events are no JSON array: ${(error as Error).message}`);
  }
  const lines = given.split("\n").map((line, index) => ({ line, number: index + 1 }));
  return lines
    .filter(({ line }) => line.trim() !== "")
    .map(({ line, number }) => {
      try {
        return JSON.parse(line) as unknown;
      } catch (error) {
        throw unusable(`line ${number} is no JSON: ${(error as Error).message}`);
      }
    });
}

interface Request {
  readonly pipeline: string;
  readonly source: string;
  readonly file: string | undefined;
  readonly json: boolean;
}

function parse(args: readonly string[]): Request {
  const options = {
    source: { type: "string" },
    file: { type: "string" },
    json: { type: "boolean", default: false },
  } as const;
  const { positionals, values } = readArguments(args, options, SEND_USAGE);
  const [pipeline, ...others] = positionals;
  if (pipeline === undefined || others.length > 0) throw unusable("send: name one pipeline");
  if (values.source === undefined) throw unusable("send: name the source with --source");
  return { pipeline, source: values.source, file: values.file, json: values.json };
}

function unusable(problem: string): UsageError {
  return new UsageError(problem, SEND_USAGE);
}
