import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { UsageError } from "./arguments";
import type { Terminal } from "./terminal";

export const INIT_USAGE = `beamkeeper init   makes this folder deployable: serverless.yml and the functions that it names`;

const PACKAGE = "node_modules/beamkeeper";
const FUNCTIONS = ["relay", "bundle", "batch", "events", "driver"];

/**
 * Writes what `serverless deploy` needs beside the pipelines: serverless.yml, as this project's own with its parts
 * taken from the installed package, and the functions, which the package has. Throws UsageError before it would
 * overwrite anything.
 */
export function init(args: readonly string[], folder: string, terminal: Terminal): number {
  if (args.length > 0) throw new UsageError(`init takes no arguments\n\n${INIT_USAGE}`);
  const files = new Map([["serverless.yml", serviceText(folder)]]);
  for (const name of FUNCTIONS)
    files.set(`functions/${name}.ts`, `export { handler } from "beamkeeper/functions/${name}";\n`);
  const there = [...files.keys()].filter((file) => existsSync(join(folder, file)));
  if (there.length > 0) throw new UsageError(`${there.join(", ")}: already there; nothing was written`);
  for (const [file, text] of files) {
    mkdirSync(dirname(join(folder, file)), { recursive: true });
    writeFileSync(join(folder, file), text);
  }
  terminal.say(`Wrote ${[...files.keys()].join(", ")}. Put pipelines into pipelines/, one in each file, and then:

  npm install --save-dev serverless@npm:osls serverless-esbuild serverless-offline
  npx serverless deploy --param zookeeperConnect=host:port`);
  return 0;
}

function serviceText(folder: string): string {
  const text = readFileSync(packageFile("serverless.yml"), "utf8");
  const service = basename(resolve(folder))
    .replace(/[^A-Za-z0-9-]/g, "-")
    .replace(/^[^A-Za-z]+/, "");
  return text
    .replace(/^service: .*$/m, `service: ${service || "pipelines"}`)
    .replaceAll("./infra/", `./${PACKAGE}/infra/`)
    .replaceAll("file(infra/", `file(${PACKAGE}/infra/`);
}

/** A file of the package that this code belongs to: as it is installed, the code lies one folder deeper. */
function packageFile(name: string): string {
  const candidates = [join(__dirname, "../..", name), join(__dirname, "../../..", name)];
  return candidates.find((file) => existsSync(file)) ?? candidates[0]!;
}
