import { parseArgs } from "node:util";
import { pausePipeline, resumePipeline } from "../checkpoint/control";
import { PipelineLayout } from "../checkpoint/layout";
import { type PipelineStatus, readStatus } from "../checkpoint/status";
import { readSettings } from "../settings";
import { connect, type ZooKeeperClient } from "../zookeeper";
import { grouped, type Terminal } from "./terminal";
import { UsageError } from "./usage-error";

export const OPERATIONS_USAGE = `beamkeeper status PIPELINE [--json]   where it stands: watermark, backlog, commits
beamkeeper pause PIPELINE [--json]    stops every commit, those in flight too; the functions may stay
beamkeeper resume PIPELINE [--json]   goes on from where it stood

ZOOKEEPER_CONNECT names the ensemble, BEAMKEEPER_ROOT the root (default /beamkeeper).`;

export type Operation = "status" | "pause" | "resume";

export function isOperation(verb: string | undefined): verb is Operation {
  return verb === "status" || verb === "pause" || verb === "resume";
}

/** Runs one operation; returns the exit code: 0 done, 1 there is no such pipeline. Throws UsageError, ControlError. */
export async function operate(
  verb: Operation,
  args: readonly string[],
  environment: NodeJS.ProcessEnv,
  terminal: Terminal,
): Promise<number> {
  const { pipeline, json } = parseOperation(args);
  const settings = readSettings(environment);
  const layout = new PipelineLayout(settings.root, pipeline);
  const client = await connect({ ...settings });
  try {
    if (verb === "pause") await pausePipeline(client, layout);
    if (verb === "resume") await resumePipeline(client, layout);
    return await showStatus(client, layout, json, terminal);
  } finally {
    await client.close();
  }
}

async function showStatus(
  client: ZooKeeperClient,
  layout: PipelineLayout,
  json: boolean,
  terminal: Terminal,
): Promise<number> {
  const status = await readStatus(client, layout);
  if (!status) {
    terminal.complain(
      `there is no pipeline at ${layout.path}; start its relay first, or look for it under another root`,
    );
    return 1;
  }
  terminal.say(json ? JSON.stringify(status, infinities) : statusText(layout.pipeline, status));
  return 0;
}

/** JSON has no infinities: they are written as text. */
function infinities(_name: string, value: unknown): unknown {
  return typeof value === "number" && !Number.isFinite(value) ? String(value) : value;
}

function statusText(pipeline: string, { generation, sources, shards, waitingFiles }: PipelineStatus): string {
  const rows = [
    ["stage", "shard", "backlog", "watermark", "commits", "in", "out", "late"],
    ...shards.map((shard) => [
      shard.stage,
      String(shard.shard),
      grouped(shard.backlog),
      time(shard.watermarkMs),
      grouped(shard.commits),
      grouped(shard.elementsIn),
      grouped(shard.elementsOut),
      grouped(shard.droppedLate),
    ]),
  ];
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  const lines = rows.map((row) =>
    row
      .map((cell, column) => (column === 0 ? cell.padEnd(widths[0]!) : cell.padStart(widths[column]!)))
      .join("  "),
  );
  const from = sources.map(
    ({ id, watermarkMs, commits }) =>
      `source ${id}: watermark ${time(watermarkMs)}, ${grouped(commits)} commits`,
  );
  const files = waitingFiles > 0 ? [`${grouped(waitingFiles)} files wait for their final names`] : [];
  return [
    `${pipeline} is ${generation.state} (epoch ${generation.epoch})`,
    ...from,
    ...files,
    "",
    ...lines,
  ].join("\n");
}

function time(ms: number): string {
  return Number.isFinite(ms) && Math.abs(ms) < 8.64e15 ? new Date(ms).toISOString() : "-";
}

function parseOperation(args: readonly string[]): { pipeline: string; json: boolean } {
  const options = { json: { type: "boolean", default: false } } as const;
  let parsed: ReturnType<
    typeof parseArgs<{ options: typeof options; allowPositionals: true; args: string[] }>
  >;
  try {
    parsed = parseArgs({ args: [...args], options, allowPositionals: true });
  } catch (error) {
    throw new UsageError(`${(error as Error).message}\n\n${OPERATIONS_USAGE}`);
  }
  const [pipeline, ...more] = parsed.positionals;
  if (pipeline === undefined || more.length > 0)
    throw new UsageError(`name one pipeline\n\n${OPERATIONS_USAGE}`);
  return { pipeline, json: parsed.values.json };
}
