/** How long it takes to load the client alone, bundled and minified, in a fresh process; and the most common other. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buildSync } from "esbuild";
import { type Spread, spread } from "./frame";

const LOADS = 15;

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

export function measureLoading(): { readonly ours: Spread; readonly peer: Spread } {
  const directory = mkdtempSync(join(tmpdir(), "beamkeeper-load-"));
  try {
    const ours = bundle(directory, "ours", join(__dirname, "..", "lib", "zookeeper", "index.ts"));
    const peer = bundle(directory, "peer", require.resolve("node-zookeeper-client"));
    const pairs = Array.from({ length: LOADS }, () => [loadMs(ours), loadMs(peer)] as const);
    return { ours: spread(pairs.map(([ms]) => ms)), peer: spread(pairs.map(([, ms]) => ms)) };
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}
