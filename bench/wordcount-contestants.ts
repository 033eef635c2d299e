/**
 * A process of its own that counts the words of text files: with the pipeline of `pipelines/wordcount.ts`, run by the
 * batch function and the bundle function in this process, or with a loop written by hand. Prints its figures as JSON.
 */
import { createHash } from "node:crypto";
import { createReadStream, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import * as beam from "apache-beam";
import { definePipeline, readText, writeToText } from "beamkeeper";
import { enqueue, openRuns } from "../lib/batch/ledger";
import { compilePipeline } from "../lib/beam/pipeline";
import { PipelineLayout } from "../lib/checkpoint/layout";
import { readRun } from "../lib/checkpoint/run";
import { runBatchLocally } from "../lib/cli/local-deployment";
import { silent } from "../lib/log";
import { planPipeline } from "../lib/runner/deployment";
import { readSettings } from "../lib/settings";
import { connect } from "../lib/zookeeper";

const [, , contestant, folder, connectString, output] = process.argv;
const WORDS = /\p{L}+/gu;

const wordcount = definePipeline({
  name: "wordcount",
  shards: 2,
  build: (root) =>
    root
      .apply(readText(`${folder}/`))
      .flatMap((line: string) => line.toLowerCase().match(WORDS) ?? [])
      .apply(beam.countPerElement())
      .apply(writeToText("counts", { format: ({ element, count }) => `${element}: ${count}` })),
});

async function withPipeline(): Promise<string[]> {
  const settings = readSettings({ ZOOKEEPER_CONNECT: connectString, BEAMKEEPER_OUTPUT: output });
  const client = await connect({ ...settings });
  const layout = new PipelineLayout(settings.root, wordcount.name);
  await openRuns(client, layout, planPipeline(compilePipeline(wordcount)).plan);
  const id = `r${process.pid}`;
  await enqueue(client, layout, [{ id, cause: "manual", timeMs: 0, limit: 0 }]);
  let shown = 0;
  await runBatchLocally({
    ...{ settings, definition: wordcount, log: silent, maxFailures: 3, onEnd: () => undefined },
    onProgress: (_run, { readBytes, totalBytes }) => {
      const percent = Math.floor((10 * readBytes) / totalBytes) * 10;
      if (percent > shown) process.stderr.write(`  ${percent}% read\n`);
      shown = Math.max(shown, percent);
    },
    signal: new AbortController().signal,
  });
  const run = await readRun(client, layout, id);
  await client.close();
  if (run?.state !== "succeeded") throw new Error(`the run ${run?.state}: ${run?.error}`);
  process.stderr.write(`  ${JSON.stringify(run.counters)}\n`);
  const files = readdirSync(output!).filter((name) => name.startsWith(`counts-${id}-`));
  return files.flatMap((name) => readFileSync(join(output!, name), "utf8").split("\n").filter(Boolean));
}

async function withLoop(): Promise<string[]> {
  const counts = new Map<string, number>();
  for (const name of readdirSync(folder!)) {
    const lines = createInterface({ input: createReadStream(join(folder!, name)), crlfDelay: Infinity });
    for await (const line of lines)
      for (const word of line.toLowerCase().match(WORDS) ?? []) counts.set(word, (counts.get(word) ?? 0) + 1);
  }
  return [...counts].map(([word, count]) => `${word}: ${count}`);
}

async function main(): Promise<void> {
  const startedAt = performance.now();
  const lines = await (contestant === "pipeline" ? withPipeline() : withLoop());
  const { user, system } = process.cpuUsage();
  const figures = {
    seconds: (performance.now() - startedAt) / 1000,
    cpuSeconds: (user + system) / 1e6,
    megabytesAtMost: process.resourceUsage().maxRSS / 1024,
    words: lines.length,
    hash: createHash("sha256").update(lines.sort().join("\n")).digest("hex"),
  };
  process.stdout.write(JSON.stringify(figures));
}

void main().then(
  () => process.exit(),
  (error: unknown) => {
    process.stderr.write(`${error instanceof Error ? error.stack : error}\n`);
    process.exit(1);
  },
);
