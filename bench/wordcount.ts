/** Words of generated text, counted by a pipeline with the memory of a function, and by a loop written by hand. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, mkdirSync, mkdtempSync, openSync, rmSync, writeSync } from "node:fs";
import { join } from "node:path";
import { build } from "esbuild";
import { startZooKeeper } from "../infra/zookeeper/server";
import { randomNumbers } from "../lib/simulation/random-numbers";
import type { Benchmark, Sample } from "./frame";

const ROOT = join(__dirname, "..");
/** A smaller amount for a quick look: TEXT_MB=50 npm run bench -- wordcount */
const MEGABYTES = Number(process.env.TEXT_MB ?? 1_000);
const FILES = 8;
const VOCABULARY = 50_000;
const HEAP_MB = 384;

interface Figures {
  readonly seconds: number;
  readonly cpuSeconds: number;
  readonly megabytesAtMost: number;
  readonly words: number;
  readonly hash: string;
}

/**
 * Lines of words that are as frequent as those of a language: the n-th has about 1/n of the first one's share. Files
 * hold the same 16 MB over and over, each from another place on.
 */
function generate(folder: string, megabytes: number): void {
  const random = randomNumbers(20_261_123);
  const words = Array.from({ length: VOCABULARY }, (_, rank) =>
    (rank * 7_919 + 703).toString(26).replace(/\d/g, (digit) => "qrstuvwxyz"[Number(digit)]!),
  );
  const parts: string[] = [];
  for (let bytes = 0; bytes < Math.min(16e6, (megabytes * 1e6) / FILES); ) {
    const word = words[Math.floor(Math.exp(random() * Math.log(VOCABULARY)))]!;
    parts.push(word, random() < 0.1 ? "\n" : " ");
    bytes += word.length + 1;
  }
  const text = Buffer.from(parts.join(""));
  const bytesOfFile = (megabytes * 1e6) / FILES;
  for (let file = 0; file < FILES; file++) {
    const descriptor = openSync(join(folder, `${file}.txt`), "w");
    let from = Math.floor((text.length * file) / FILES);
    for (let written = 0; written < bytesOfFile; from = 0)
      written += writeSync(descriptor, text, from, Math.min(text.length - from, bytesOfFile - written));
    closeSync(descriptor);
  }
}

async function run(program: string, args: readonly string[]): Promise<Figures> {
  const child = spawn(process.execPath, [`--max-old-space-size=${HEAP_MB}`, program, ...args], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let printed = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    printed += text;
  });
  const [code, signal] = await once(child, "close");
  if (code !== 0) throw new Error(`${args[0]} ended with ${signal ?? code}`);
  return JSON.parse(printed) as Figures;
}

export const wordcount: Benchmark = {
  name: "wordcount",
  description: `the words of ${MEGABYTES} MB of text, against a loop over its lines`,
  conditions:
    `Each is a process of its own with a heap of at most ${HEAP_MB} MB, so that it fits in a function of 512 MB.\n` +
    "Ours: batch function, bundle function and two shards in that process, a real ZooKeeper beside it, everything\n" +
    "committed bundle by bundle. Loop: readline, a Map, and nothing that outlives the process. Results are compared.",
  rounds: 1,
  warmUpRounds: 0,
  async prepare() {
    const parent = join(ROOT, ".beamkeeper");
    mkdirSync(parent, { recursive: true });
    const folder = mkdtempSync(join(parent, "bench-"));
    const text = join(folder, "text");
    mkdirSync(text);
    generate(text, MEGABYTES);
    const program = join(folder, "contestants.cjs");
    await build({
      entryPoints: [join(__dirname, "wordcount-contestants.ts")],
      outfile: program,
      bundle: true,
      packages: "external",
      alias: { beamkeeper: join(ROOT, "lib/index.ts") },
      platform: "node",
      target: "node20",
      format: "cjs",
      logLevel: "error",
    });
    const server = await startZooKeeper();
    const found: Figures[] = [];
    const contestant = (name: string) => async (): Promise<Sample> => {
      const figures = await run(program, [name, text, server.connectString, join(folder, "output")]);
      found.push(figures);
      if (found.some(({ hash }) => hash !== figures.hash)) throw new Error("the two counts differ");
      return {
        "MB/s": MEGABYTES / figures.seconds,
        "s of CPU": figures.cpuSeconds,
        "MB of memory at most": figures.megabytesAtMost,
      };
    };
    return {
      cases: [
        {
          name: `${MEGABYTES} MB`,
          metrics: [
            { name: "MB/s", better: "higher" },
            { name: "s of CPU", better: "lower" },
            { name: "MB of memory at most", better: "lower" },
          ],
          ours: contestant("pipeline"),
          peer: contestant("loop"),
        },
      ],
      async end() {
        await server.stop();
        rmSync(folder, { recursive: true, force: true });
      },
    };
  },
};
