/**
 * esbuild plug-in for CommonJS modules that every function runs while it loads. esbuild makes an arrow function of each,
 * which V8 first only scans for errors and then, when it is called, reads once more. A `function` in parentheses is
 * compiled at once, which spares a sixth of the time that a function takes to load. `marked` puts a mark at either end of
 * such a module, and when the file is written, what is left of the marks gives way to the other form. The text is as
 * long as before, so the source map holds.
 *
 *   name((e,t)=>{"use strict";e.$begin7$; ... ;e.$end7$})
 *   name((function(e,t){"use strict";     ... })         )
 */
const { readFileSync, writeFileSync } = require("node:fs");
const { resolve } = require("node:path");

/** Beside the SDK's own modules, which its plug-in marks. */
const MODULES = /[\\/]node_modules[\\/](protobufjs|@protobufjs[\\/][^\\/]+|long)[\\/].*\.js$/;

const BEGIN = /(\([\w$]+(?:,[\w$]+)*\)|[\w$]+)=>\{("use strict";)?[\w$]+\.\$begin(\d+)\$[;,]/g;
const END = /[;,]?[\w$]+\.\$end(\d+)\$;?\}/g;

let marks = 0;

/** @returns {string} the text of a CommonJS module with its marks, its lines where they were. */
function marked(text) {
  const number = ++marks;
  const begun = text.replace(/^("use strict";)?/, (directive) => `${directive}exports.$begin${number}$;`);
  return `${begun}\nexports.$end${number}$;`;
}

/** @returns {string} the same file with eager functions in the place of marked ones. */
function unmarked(text) {
  const ends = new Set([...text.matchAll(END)].map(([, number]) => number));
  const begun = new Set();
  const begin = (found, parameters, directive = "", number) => {
    if (!ends.has(number)) return found;
    begun.add(number);
    const inside = parameters.replace(/^\(|\)$/g, "");
    return `(function(${inside}){${directive}`.padEnd(found.length);
  };
  const opened = text.replace(BEGIN, begin);
  return opened.replace(END, (found, number) => (begun.has(number) ? "})".padEnd(found.length) : found));
}

/** What a build has written, or holds to be written by whoever asked for it. */
function rewrite({ outputFiles, metafile }, folder) {
  for (const file of outputFiles ?? [])
    if (file.path.endsWith(".js")) file.contents = Buffer.from(unmarked(file.text));
  if (outputFiles !== undefined) return;
  for (const path of Object.keys(metafile?.outputs ?? {})) {
    if (!path.endsWith(".js")) continue;
    const file = resolve(folder, path);
    writeFileSync(file, unmarked(readFileSync(file, "utf8")));
  }
}

/** @returns {import("esbuild").Plugin} */
function eagerModulesPlugin() {
  return {
    name: "beamkeeper-eager-modules",
    setup(build) {
      const { initialOptions } = build;
      // In text that is not made small, the marks would stay.
      if (!initialOptions.minify) return;
      initialOptions.metafile = true;
      build.onLoad({ filter: MODULES }, ({ path }) => ({
        contents: marked(readFileSync(path, "utf8")),
        loader: "js",
      }));
      build.onEnd((result) => rewrite(result, initialOptions.absWorkingDir ?? process.cwd()));
    },
  };
}

module.exports = { eagerModulesPlugin, marked };
