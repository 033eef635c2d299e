/**
 * The size of the client alone, bundled and minified, and how long it takes to load it in a fresh process; beside it the
 * most common other client, an empty file, and node:net, which ours loads with its first connection.
 */
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buildSync } from "esbuild";
import { atMost, type Estimate, estimate, type Finding } from "./zookeeper-verdicts";

const LOADS = 21;
const MAX_LOAD_MS = 5;
const MAX_KB = 60;

function bundle(directory: string, name: string, entryPoint: string): string {
  const outfile = join(directory, `${name}.cjs`);
  buildSync({
    entryPoints: [entryPoint],
    outfile,
    bundle: true,
    minify: true,
    platform: "node",
    target: "node20",
  });
  return outfile;
}

function loadMs(file: string): number {
  const program = `const t = performance.now(); require(${JSON.stringify(file)}); console.log(performance.now() - t)`;
  return Number(execFileSync(process.execPath, ["-e", program], { encoding: "utf8" }));
}

export interface Loading {
  readonly findings: readonly Finding[];
  /** What it can be compared with, in milliseconds. */
  readonly beside: Readonly<Record<string, Estimate>>;
}

export function measureLoading(): Loading {
  const directory = mkdtempSync(join(tmpdir(), "beamkeeper-load-"));
  try {
    const empty = join(directory, "empty.cjs");
    writeFileSync(empty, "");
    const ours = bundle(directory, "ours", join(__dirname, "..", "lib", "zookeeper", "index.ts"));
    const peer = bundle(directory, "peer", require.resolve("node-zookeeper-client"));
    const files = { ours, "an empty file": empty, "node:net": "node:net", "node-zookeeper-client": peer };
    // One after the other in each round, so that what else happens on the machine meets all.
    const rounds = Array.from({ length: LOADS }, () => Object.values(files).map(loadMs));
    const times = Object.keys(files).map(
      (name, index) => [name, estimate(rounds.map((round) => round[index]!))] as const,
    );
    const [[, loading], ...others] = times as [(typeof times)[number], ...typeof times];
    const size = estimate([statSync(ours).size / 1024]);
    const findings = [
      { target: `at most ${MAX_KB} KB, minified`, measured: size, verdict: atMost(size, MAX_KB) },
      {
        target: `loads in at most ${MAX_LOAD_MS} ms`,
        measured: loading,
        verdict: atMost(loading, MAX_LOAD_MS),
      },
    ];
    return { findings, beside: Object.fromEntries(others) };
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}
