#!/usr/bin/env node
// The command of the installed package. Pipelines are TypeScript files of the user's, which tsx loads.
import { existsSync } from "node:fs";

const MAIN = new URL("../dist/lib/cli/main.js", import.meta.url);

function refuse(message) {
  process.stderr.write(`beamkeeper: ${message}\n`);
  process.exit(1);
}

if (!existsSync(MAIN))
  refuse(
    "this is the project's source, which is not compiled. In its folder, run `npm install`, and then `npm run beamkeeper -- COMMAND` in the place of this file.",
  );
await import("tsx").catch((error) => {
  if (error.code !== "ERR_MODULE_NOT_FOUND") throw error;
  refuse(
    `the packages that it needs are not installed. Run \`npm install\` in your project.\n(${error.message})`,
  );
});
await import(MAIN);
