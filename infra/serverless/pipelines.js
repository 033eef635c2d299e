/** Compiles the pipelines of a folder as the functions do, and tells what a deployment has to know of them. */
const { execFileSync } = require("node:child_process");
const { mkdtempSync, rmSync } = require("node:fs");
const { tmpdir } = require("node:os");
const { join } = require("node:path");
const { build } = require("esbuild");
const functionBuildOptions = require("../esbuild/options.js");

const DESCRIPTION = join(__dirname, "../../functions/description.ts");

/**
 * @param {string} serviceDir the folder that holds `pipelines`
 * @returns {Promise<{ name: string, watches: boolean, outputs: string[], inputs: string[], eventSources: object[] }[]>} each pipeline,
 * whether it watches znodes, with the prefixes of its text, the patterns of what it reads, and its sources of events
 */
async function describePipelines(serviceDir) {
  const folder = mkdtempSync(join(tmpdir(), "beamkeeper-pipelines-"));
  const outfile = join(folder, "description.js");
  try {
    const options = { ...functionBuildOptions(), absWorkingDir: serviceDir, minify: false };
    await build({ ...options, entryPoints: [DESCRIPTION], outfile });
    const text = execFileSync(process.execPath, ["--enable-source-maps", outfile], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "pipe"],
    });
    return JSON.parse(text);
  } catch (error) {
    // What the program says before the stack of its error; it may have several lines.
    const reason = /^\w*Error: [\s\S]*?(?=\n\s+at )/m.exec(String(error.stderr ?? ""))?.[0] ?? error.message;
    throw new Error(`the pipelines cannot be deployed: ${reason}`, { cause: error });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

module.exports = { describePipelines };
