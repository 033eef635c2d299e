/**
 * esbuild plug-in that puts the deployment's pipelines into a function: in the place of `functions/pipelines`, which
 * loads the files of `pipelines/` when it is called, a module that imports the same files. So nobody lists them.
 */
const { readdirSync } = require("node:fs");
const { join, resolve } = require("node:path");

const FOLDER = "pipelines";

/** As `pipelineFiles` of lib/runner/pipeline-folder.ts has it; there each mistake is told with its remedy. */
function filesOf(folder) {
  return readdirSync(folder)
    .filter((name) => /\.[cm]?[jt]s$/.test(name) && !/\.d\.[cm]?ts$/.test(name))
    .sort();
}

function moduleOf(folder, definitions) {
  const names = filesOf(folder);
  const imports = names.map(
    (name, index) => `import * as m${index} from ${JSON.stringify(join(folder, name))};`,
  );
  const entries = names.map((name, index) => `[${JSON.stringify(`${FOLDER}/${name}`)}, m${index}]`);
  return [
    `import { collectDefinitions } from ${JSON.stringify(definitions)};`,
    ...imports,
    `export const deployedPipelines = async () => collectDefinitions([${entries.join(", ")}]);`,
  ].join("\n");
}

/** @returns {import("esbuild").Plugin} */
function pipelinesPlugin() {
  return {
    name: "beamkeeper-pipelines",
    setup(build) {
      const folder = resolve(build.initialOptions.absWorkingDir ?? process.cwd(), FOLDER);
      build.onLoad({ filter: /[\\/]functions[\\/]pipelines\.[jt]s$/ }, ({ path }) => ({
        contents: moduleOf(folder, resolve(path, "../../lib/runner/definitions")),
        loader: "js",
        resolveDir: folder,
        watchDirs: [folder],
      }));
    },
  };
}

module.exports = { pipelinesPlugin };
