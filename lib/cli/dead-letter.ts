import { ensembleConnector } from "../aws/ensemble";
import { referredBlob } from "../checkpoint/blobs";
import {
  discardDeadLetter,
  type LetterOutcome,
  listDeadLetters,
  readDeadLetter,
  replayDeadLetter,
  type StoredLetter,
} from "../checkpoint/dead-letter";
import { PipelineLayout } from "../checkpoint/layout";
import { decodeSegment } from "../checkpoint/segment";
import { readSettings } from "../settings";
import type { ZooKeeperClient } from "../zookeeper";
import { readArguments, UsageError } from "./arguments";
import { columns, grouped, type Terminal } from "./terminal";

export const DEAD_LETTER_USAGE = `beamkeeper dead-letter list PIPELINE [--stage S]    what could not be processed, with the reasons
beamkeeper dead-letter show PIPELINE ID             one of them, whole
beamkeeper dead-letter replay PIPELINE ID... | --all [--stage S]    puts them back into their shards' inboxes
beamkeeper dead-letter discard PIPELINE ID... | --all [--stage S]   gives them up for good

--json prints JSON. Exit codes: 0 done, 1 failed or no such dead letter, 2 not usable as called.`;

const ACTIONS = ["list", "show", "replay", "discard"] as const;
type Action = (typeof ACTIONS)[number];

interface Request {
  readonly action: Action;
  readonly pipeline: string;
  readonly ids: readonly string[];
  readonly all: boolean;
  readonly stage: string | undefined;
  readonly json: boolean;
}

/** `beamkeeper dead-letter ...`; returns the exit code. Throws UsageError, ControlError, SettingsError, or the client's error. */
export async function deadLetter(
  args: readonly string[],
  environment: NodeJS.ProcessEnv,
  terminal: Terminal,
): Promise<number> {
  const request = parse(args);
  const settings = readSettings(environment);
  const layout = new PipelineLayout(settings.root, request.pipeline);
  const client = await ensembleConnector(settings)();
  try {
    if (request.action === "list") return await list(client, layout, request, terminal);
    if (request.action === "show") return await show(client, layout, request, terminal);
    return await takeOut(client, layout, request, terminal);
  } finally {
    await client.close();
  }
}

async function list(
  client: ZooKeeperClient,
  layout: PipelineLayout,
  { stage, json, pipeline }: Request,
  terminal: Terminal,
): Promise<number> {
  const letters = await listDeadLetters(client, layout, stage);
  if (json) terminal.say(JSON.stringify(letters.map(plain)));
  else if (letters.length === 0) terminal.say(`${pipeline} has no dead letters`);
  else {
    const rows = letters.map(({ id, letter: { kind, deadMs, attempts } }) => [
      ...[id, kind, new Date(deadMs).toISOString(), grouped(attempts)],
    ]);
    const what = letters.map(({ letter: { error, text } }) => `${error.name}: ${oneLine(text)}`);
    const lines = columns([["id", "kind", "since", "attempts"], ...rows]);
    for (const [index, line] of lines.entries()) terminal.say(`${line}  ${["what", ...what][index]}`);
  }
  return 0;
}

async function show(
  client: ZooKeeperClient,
  layout: PipelineLayout,
  { ids: [id], json }: Request,
  terminal: Terminal,
): Promise<number> {
  const stored = await readDeadLetter(client, layout, id!);
  if (!stored) {
    terminal.complain(absent(layout.pipeline, id!));
    return 1;
  }
  terminal.say(json ? JSON.stringify(plain(stored)) : letterText(stored));
  return 0;
}

async function takeOut(
  client: ZooKeeperClient,
  layout: PipelineLayout,
  { action, ids, all, stage, json, pipeline }: Request,
  terminal: Terminal,
): Promise<number> {
  const wanted = all ? (await listDeadLetters(client, layout, stage)).map(({ id }) => id) : ids;
  const take = action === "replay" ? replayDeadLetter : discardDeadLetter;
  const outcomes: { readonly id: string; readonly outcome: LetterOutcome }[] = [];
  // One after the other: what was read first is processed first.
  for (const id of wanted) outcomes.push({ id, outcome: await take(client, layout, id) });
  const gone = outcomes.filter(({ outcome }) => outcome === "gone");
  if (json) terminal.say(JSON.stringify(outcomes));
  else {
    const done = grouped(outcomes.length - gone.length);
    terminal.say(`${action === "replay" ? "replayed" : "discarded"} ${done} of ${pipeline}'s dead letters`);
    for (const { id } of gone) terminal.complain(absent(pipeline, id));
  }
  // Of all that were listed some may be taken by another at the same moment; of those asked for by name none should.
  return gone.length > 0 && !all ? 1 : 0;
}

function absent(pipeline: string, id: string): string {
  return `${pipeline} has no dead letter "${id}" (any more); "beamkeeper dead-letter list ${pipeline}" shows those that it has`;
}

function letterText({ id, path, stage, shard, letter }: StoredLetter): string {
  const { kind, text, error, position, attempts, firstFailedMs, deadMs, segment } = letter;
  const blob = referredBlob(segment, path);
  return [
    `${id} (${path})`,
    `  ${kind} of stage ${stage}, shard ${shard}: ${oneLine(text)}`,
    `  at ${JSON.stringify(position)}`,
    `  failed first ${new Date(firstFailedMs).toISOString()}, ${grouped(attempts)} attempts, given up ${new Date(deadMs).toISOString()}`,
    `  ${grouped(blob?.bytes ?? segment.length)} bytes${blob ? `, in the blob store as ${blob.name}` : ""}`,
    "",
    `${error.name}: ${error.message}`,
    "",
    error.stack,
  ].join("\n");
}

/** `payload` is the encoded element, in base64; null where it lies in the blob store, in a segment named `blob`. */
function plain({ id, path, stage, shard, letter }: StoredLetter): unknown {
  const { segment, ...told } = letter;
  const blob = referredBlob(segment, path);
  const whole = blob
    ? { payload: null, blob: blob.name }
    : { payload: decodeSegment(segment, path)[0]!.toString("base64") };
  return { id, stage, shard, ...told, ...whole };
}

function oneLine(text: string): string {
  return text.replaceAll(/\s+/g, " ");
}

function parse(args: readonly string[]): Request {
  const config = {
    json: { type: "boolean", default: false },
    all: { type: "boolean", default: false },
    stage: { type: "string" },
  } as const;
  const unusable = (problem: string): UsageError => new UsageError(problem, DEAD_LETTER_USAGE);
  const { positionals, values } = readArguments(args, config, DEAD_LETTER_USAGE);
  const { json, all, stage } = values;
  const [action, pipeline, ...ids] = positionals;
  if (!isAction(action))
    throw unusable(
      `dead-letter ${action === undefined ? "needs" : `has no "${action}"; it has`} ${ACTIONS.join(", ")}`,
    );
  if (pipeline === undefined) throw unusable(`dead-letter ${action}: name one pipeline`);
  const takes = action === "replay" || action === "discard";
  if (action === "list" && ids.length > 0) throw unusable("dead-letter list: name one pipeline");
  if (action === "show" && ids.length !== 1)
    throw unusable("dead-letter show: name one dead letter by its id");
  if (all && !takes) throw unusable(`dead-letter ${action} has no option --all`);
  if (stage !== undefined && !(action === "list" || all))
    throw unusable(`dead-letter ${action}: --stage goes with list, or with --all`);
  if (takes && all === ids.length > 0)
    throw unusable(`dead-letter ${action}: name dead letters by their ids, or say --all`);
  return { action, pipeline, ids, all, stage, json };
}

function isAction(action: string | undefined): action is Action {
  return (ACTIONS as readonly (string | undefined)[]).includes(action);
}
