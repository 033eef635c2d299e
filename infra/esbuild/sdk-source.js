/**
 * The SDK's modules without what they have for serialisation and as CommonJS modules. Each file brings its own copy of
 * TypeScript's functions for imports, each function a list of what it closes over, and each name that it imports a
 * variable, even where it is a type. Lines stay where they are, for the source maps.
 */

/** What stands for TypeScript's functions, once for all files. */
const INTEROP = "beamkeeper-interop";
const INTEROP_SOURCE = `
exports.importStar = (module) => (module.__esModule ? module : { ...module, default: module });
exports.exportStar = (module, exports) => {
  for (const name of Object.keys(module))
    if (name !== "default" && !Object.hasOwn(exports, name))
      Object.defineProperty(exports, name, { enumerable: true, get: () => module[name] });
};`;

const INTEROP_FUNCTION = /^var __(\w+) = \(this && this\.__\1\) \|\| [\s\S]*?^\}\)*;$/gm;
const CLOSURE_STATEMENT = /^ *[\w.]+\.__closure = \(\) => \(\{[^{}]*\}\);$/gm;
const CLOSURE_EXPRESSION = /, \w+\.__closure = \(\) => \(\{[^{}]*\}\)/g;
const IMPORTED_NAME = /^var (\w+) = \w+\.\1;$/gm;
const IMPORTED_MODULE = /^const (\w+) = __importStar\((require\("[^"]+"\))\);$/gm;

/** For each of TypeScript's functions that files call; the others are called by these alone. */
const INTEROP_IMPORTS = new Map(
  ["importStar", "exportStar"].map((name) => [name, `var __${name} = require("${INTEROP}").${name};`]),
);

function occurrences(text, word) {
  return text.match(new RegExp(`\\b${word}\\b`, "g")).length;
}

/** @returns {string} a module of the SDK that does the same, where nothing is serialised. */
function slimModule(text) {
  const alone = text
    .replace(INTEROP_FUNCTION, (found, name) => (INTEROP_IMPORTS.get(name) ?? "") + linesOf(found))
    .replace(CLOSURE_STATEMENT, linesOf)
    .replace(CLOSURE_EXPRESSION, linesOf);
  // In its own line a name stands twice. Modules are still loaded in the order that the SDK has them in.
  const named = alone.replace(IMPORTED_NAME, (found, name) => (occurrences(alone, name) > 2 ? found : ""));
  return named.replace(IMPORTED_MODULE, (found, name, load) =>
    occurrences(named, name) > 1 ? found : `${load};`,
  );
}

function linesOf(found) {
  return "\n".repeat(found.split("\n").length - 1);
}

module.exports = { INTEROP, INTEROP_SOURCE, slimModule };
