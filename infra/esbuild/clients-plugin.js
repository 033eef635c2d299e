/**
 * esbuild plug-in that keeps out of the functions' own files what most of them never use: each AWS client becomes a file
 * beside them, which `import()` loads when the first call comes, and so does the library for cron expressions, which
 * `require` loads with the first one. A function's cold start then reads and compiles nothing that it does not use.
 * Within a single file, esbuild would keep every unused part of a client that is loaded lazily.
 */
const { createRequire } = require("node:module");
const { basename, join } = require("node:path");
const { build: bundle } = require("esbuild");

/** The files of lib/aws that import a client of the SDK, as they are imported. */
const CLIENTS = /^\.\/[a-z0-9]+-client\.js$/;
/** A package that is loaded with `require`, by its name. */
const LIBRARIES = /^croner$/;
const NAMESPACE = "beamkeeper-client";

async function clientOf(path, options) {
  const { outputFiles, errors, warnings, metafile } = await bundle({
    ...options,
    entryPoints: [path],
    outfile: basename(path),
    sourcemap: false,
    metafile: true,
    plugins: [],
    write: false,
  });
  const { absWorkingDir } = options;
  const watchFiles = Object.keys(metafile.inputs).map((input) => `${absWorkingDir}/${input}`);
  return { contents: outputFiles[0].contents, loader: "copy", errors, warnings, watchFiles };
}

/** Functions are built one by one, and have the same clients. A process lives for one build of all of them. */
const built = new Map();

/** @returns {import("esbuild").Plugin} */
function clientsPlugin() {
  return {
    name: "beamkeeper-clients",
    setup(build) {
      const { bundle, minify, platform, target, format, mainFields, logLevel, absWorkingDir } =
        build.initialOptions;
      const options = { bundle, minify, platform, target, format, mainFields, logLevel };
      options.absWorkingDir = absWorkingDir ?? process.cwd();
      build.onResolve({ filter: CLIENTS }, ({ path, resolveDir, namespace }) =>
        namespace === "file" && /[\\/]lib[\\/]aws$/.test(resolveDir)
          ? { path: join(resolveDir, path), namespace: NAMESPACE }
          : undefined,
      );
      build.onResolve({ filter: LIBRARIES }, ({ path, kind, resolveDir, namespace }) => {
        if (kind !== "require-call" || namespace !== "file") return undefined;
        const from = createRequire(join(resolveDir, "from.js"));
        return { path: from.resolve(path), namespace: NAMESPACE };
      });
      // esbuild finds the .ts of a .js by itself.
      build.onLoad({ filter: /./, namespace: NAMESPACE }, ({ path }) => {
        if (!built.has(path)) built.set(path, clientOf(path, options));
        return built.get(path);
      });
    },
  };
}

module.exports = { clientsPlugin };
