import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { setPriority, tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { build, type Plugin } from "esbuild";

import functionBuildOptions = require("../../infra/esbuild/options");

import type { SeedReport } from "./seeds";

export const REPORT_EVERY = 50;

const PROJECT = join(__dirname, "../..");

/** One text of one file to be replaced: how a mutant differs from the code. */
export interface Replacement {
  readonly file: string;
  readonly from: string;
  readonly to: string;
}

export interface SeedOptions {
  readonly from: number;
  readonly to: number;
  readonly workers: number;
  /** A worker ends after so many failed seeds (default: never). */
  readonly stopAt?: number;
  /** Runs between two reports of a worker (default {@link REPORT_EVERY}). */
  readonly reportEvery?: number;
  readonly replacements?: readonly Replacement[];
  readonly signal?: AbortSignal;
  /** How far the workers stand back for other processes, 0 to 19 (default 0). */
  readonly nice?: number;
  readonly onReport: (report: SeedReport, worker: number) => void;
}

/**
 * Runs seeds in processes of their own, from one bundle of the simulator, which starts faster and runs faster than
 * modules that are compiled as they are loaded. Rejects when a worker fails.
 */
export async function runSeeds(options: SeedOptions): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "beamkeeper-seeds-"));
  const workers: ChildProcess[] = [];
  const stop = (): void => {
    for (const worker of workers) worker.kill("SIGKILL");
  };
  options.signal?.addEventListener("abort", stop, { once: true });
  try {
    const file = join(folder, "seeds.js");
    await bundle(file, options.replacements ?? []);
    const ends = Array.from({ length: options.workers }, (_, index) =>
      work(file, options, index, (child) => workers.push(child)),
    );
    await Promise.all(ends);
  } finally {
    stop();
    rmSync(folder, { recursive: true, force: true });
  }
}

async function bundle(outfile: string, replacements: readonly Replacement[]): Promise<void> {
  const { plugins = [], ...options } = functionBuildOptions();
  await build({
    ...options,
    minify: false,
    absWorkingDir: PROJECT,
    entryPoints: ["test/simulation/seeds.ts"],
    outfile,
    plugins: [replacing(replacements), ...plugins],
  });
}

function replacing(replacements: readonly Replacement[]): Plugin {
  return {
    name: "beamkeeper-mutant",
    setup({ onLoad }) {
      for (const file of new Set(replacements.map((each) => each.file))) {
        const path = join(PROJECT, file);
        onLoad({ filter: new RegExp(`${file.replace(/[/.]/g, "\\$&")}$`) }, () => {
          let text = readFileSync(path, "utf8");
          for (const { from, to } of replacements.filter((each) => each.file === file)) {
            if (text.split(from).length !== 2) throw new Error(`${file} does not contain once: ${from}`);
            text = text.replace(from, () => to);
          }
          return { contents: text, loader: "ts" };
        });
      }
    },
  };
}

async function work(
  file: string,
  { from, to, workers, stopAt, reportEvery, signal, nice, onReport }: SeedOptions,
  index: number,
  started: (child: ChildProcess) => void,
): Promise<void> {
  const args = [from + index, to, workers, stopAt ?? Number.MAX_SAFE_INTEGER, reportEvery ?? REPORT_EVERY];
  const child = spawn(process.execPath, ["--max-semi-space-size=32", file, ...args.map(String)], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  started(child);
  if (nice !== undefined && child.pid !== undefined) setPriority(child.pid, nice);
  let complaints = "";
  child.stderr!.on("data", (chunk: Buffer) => {
    complaints = (complaints + chunk.toString()).slice(-10_000);
  });
  const ended = new Promise<number | null>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", resolve);
  });
  for await (const line of createInterface({ input: child.stdout! }))
    onReport(JSON.parse(line) as SeedReport, index);
  const code = await ended;
  if (code !== 0 && code !== null && !signal?.aborted)
    throw new Error(`the simulation did not run to its end:\n${complaints}`);
}
