/**
 * esbuild plug-in for the runtimes of models (`onnxHandler`): they load WebAssembly or native files from beside their own
 * code, so they can't be put into a function's file. What a pipeline imports of them stays an import, and the files that run
 * on Lambda are copied into the package of the bundle function, the only one that loads a model.
 *
 * | Runtime | What is copied | Size |
 * |---|---|---|
 * | onnxruntime-web | its build for Node, and the WebAssembly for processors alone | 14 MB, 4 MB in the zip |
 * | onnxruntime-node | its code, and the native files for Linux on arm64, which the functions run on | some 25 MB |
 */
const { cpSync, existsSync, readdirSync, statSync } = require("node:fs");
const { basename, dirname, join, sep } = require("node:path");

const COMMON = { name: "onnxruntime-common", files: /^(package\.json|dist\/.*)$/ };

const RUNTIMES = new Map([
  [
    "onnxruntime-web",
    [
      {
        name: "onnxruntime-web",
        files: /^(package\.json|dist\/(ort\.node\.min\.m?js|ort-wasm-simd-threaded\.(mjs|wasm)))$/,
      },
      COMMON,
    ],
  ],
  [
    "onnxruntime-node",
    [{ name: "onnxruntime-node", files: /^(package\.json|dist\/.*|bin\/[^/]+\/linux\/arm64\/.*)$/ }, COMMON],
  ],
]);

/** The function that loads models, and the mark of serverless-esbuild for what one function alone is to have. */
const FUNCTION = "bundle";
const ONLY = `__only_${FUNCTION}`;
/** Lambda unpacks 250 MB at most; the function's own code and its clients have the rest. */
const MAX_BYTES = 240_000_000;

/** @returns the package's folder, as Node finds it from `from`; throws where it is not installed. */
function folderOf(name, from) {
  for (let at = from; ; at = dirname(at)) {
    const folder = join(at, "node_modules", name);
    if (existsSync(join(folder, "package.json"))) return folder;
    if (dirname(at) === at)
      throw new Error(`a pipeline imports ${name}, which is not installed: npm install ${name}`);
  }
}

/** @returns the files of a folder whose paths below it match; maps of sources are left out. */
function filesOf(folder, pattern) {
  return readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((file) => {
    const path = file.split(sep).join("/");
    return pattern.test(path) && !path.endsWith(".map") && statSync(join(folder, file)).isFile();
  });
}

/**
 * Copies what a runtime needs on Lambda.
 *
 * @param {string} runtime its name.
 * @param {string} from the project's folder.
 * @param {string} to a folder `node_modules`.
 * @returns {number} the bytes.
 */
function copyRuntime(runtime, from, to) {
  let bytes = 0;
  for (const { name, files } of RUNTIMES.get(runtime)) {
    const folder = folderOf(name, from);
    for (const file of filesOf(folder, files)) {
      bytes += statSync(join(folder, file)).size;
      cpSync(join(folder, file), join(to, name, file));
    }
  }
  if (bytes <= MAX_BYTES) return bytes;
  throw new Error(`${runtime} has ${bytes} bytes for Lambda, more than a function may have (${MAX_BYTES})`);
}

/** @returns {import("esbuild").Plugin} */
function runtimesPlugin() {
  return {
    name: "beamkeeper-runtimes",
    setup(build) {
      const { absWorkingDir = process.cwd(), entryPoints, outdir } = build.initialOptions;
      const wanted = new Set();
      build.onResolve({ filter: /^onnxruntime-(web|node)$/ }, ({ path }) => {
        wanted.add(path);
        return { path, external: true };
      });
      build.onEnd(({ errors }) => {
        const [entry] = Array.isArray(entryPoints) ? entryPoints : [];
        const isBundle = typeof entry === "string" && basename(entry).split(".", 1)[0] === FUNCTION;
        if (errors.length > 0 || outdir === undefined || !isBundle) return {};
        // Beside the function's file, where Node looks first.
        const to = join(dirname(outdir), ONLY, basename(outdir), "node_modules");
        try {
          for (const runtime of wanted) copyRuntime(runtime, absWorkingDir, to);
          return {};
        } catch (error) {
          return { errors: [{ text: error.message }] };
        }
      });
    },
  };
}

module.exports = { copyRuntime, runtimesPlugin };
