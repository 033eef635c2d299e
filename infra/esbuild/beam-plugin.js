/**
 * esbuild plug-in for functions that contain the Beam SDK: leaves out what no function needs, and what would call
 * eval, so that the bundle runs under `--disallow-code-generation-from-strings`.
 *
 * | Module | Instead | Why |
 * |---|---|---|
 * | serialize-closures | a slot that `lib/beam/sdk/function-registry.ts` fills | calls eval when it is merely loaded |
 * | @protobufjs/inquire | knows `long` only | finds modules through eval(require), so loses Long in a bundle |
 * | protobufjs | protobufjs/minimal | the SDK uses its Reader and Writer only |
 * | @google-cloud/pubsub, grpc and its transport | nothing | talk to other runners and sources, which never run here |
 * | @protobuf-ts/runtime-rpc | a description of services | no service is called |
 * | uuid | Node's own | its version 4 is all that the SDK asks for |
 * | bson | nothing | the SDK's coder for objects, whose place Beamkeeper's own coders take |
 * | the SDK's protobuf messages | made when they are first asked for, and read and written by protobuf-ts's reflection | making all takes a quarter of the time to load, and the code for each is a sixth of a function |
 * | the SDK's modules | the same without what serialisation asks for | a fifth of the SDK; nothing is serialised (sdk-source.js) |
 * | serialization of the SDK | nothing | registers all exports of all modules for serialisation |
 * | the SDK's runners, its worker, and their APIs | nothing | Beamkeeper runs the pipeline itself, and says which combines can be lifted |
 * | the SDK's sources in other languages | nothing | a pipeline that uses one is refused when it is packaged |
 */
const { readFileSync } = require("node:fs");
const { marked } = require("./eager-plugin.js");
const { INTEROP, INTEROP_SOURCE, slimModule } = require("./sdk-source.js");

const SERIALIZER = `
exports.default = () => { throw new Error("functions are not serialised in a bundle; run pipelines with Beamkeeper"); };
Object.defineProperty(exports, "__esModule", { value: true });`;

const CLOSURES = `
const serializer = require("serialize-closures/dist/src/serialize");
exports.serialize = (...args) => serializer.default(...args);
exports.deserialize = () => { throw new Error("functions are not deserialised in a bundle"); };
exports.defaultBuiltins = [];
Object.defineProperty(exports, "__esModule", { value: true });`;

const INQUIRE = `module.exports = (name) => (name === "long" ? require("long") : null);`;

// Classes are extended and properties looked up while the SDK's modules load, so the stub is a class whose
// properties are itself.
const NOTHING = `
class Absent { constructor() { throw new Error("this part of the Beam SDK is left out of Beamkeeper's functions"); } }
module.exports = new Proxy(Absent, { get: (target, name) => (name in target ? target[name] : Absent) });`;

/** The SDK describes a service that it never calls here. */
const SERVICES = `exports.ServiceType = class ServiceType {};`;

/** What the SDK registers for its serialisation, all that its modules export, is never asked for. */
const UNREGISTERED = `
exports.requireForSerialization = () => {};
exports.registeredObjects = [];
exports.getRegisteredModules = () => [];
Object.defineProperty(exports, "__esModule", { value: true });`;

const RANDOM_IDS = `exports.v4 = () => require("node:crypto").randomUUID();`;

const CONTENTS = new Map([
  ["serialize-closures/dist/src/serialize", SERIALIZER],
  ["serialize-closures", CLOSURES],
  ["@protobufjs/inquire", INQUIRE],
  ["@google-cloud/pubsub", NOTHING],
  ["@grpc/grpc-js", NOTHING],
  ["@protobuf-ts/grpc-transport", NOTHING],
  ["@protobuf-ts/runtime-rpc", SERVICES],
  ["uuid", RANDOM_IDS],
  ["bson", NOTHING],
  [INTEROP, INTEROP_SOURCE],
]);

/** The SDK's own modules that only run pipelines, or talk to what runs them. */
const RUNNERS = [
  "runners/(artifacts|direct_runner|portable_runner/runner)",
  "worker/(data|external_worker_service|logging|metrics|operators|pardo_context|state|worker)",
  "utils/service",
  "proto/beam_(artifact|expansion|fn|job)_api(\\.[^/]+)?",
  "proto/(external_transforms|metrics)",
  "io/(avroio|bigqueryio|kafka|parquetio|pubsub|pubsublite|schemaio)",
].join("|");

/** Methods that protobuf-ts generates for speed; its base class has the same ones, which go by the list of fields. */
const GENERATED_METHODS =
  /^ {4}(?:create|internalBinaryRead|internalBinaryWrite|binaryReadMap\d+)\([^)]*\) \{\n[\s\S]*?^ {4}\}\n/gm;
const GENERATED_MESSAGE = /^exports\.(\w+) = (new \w+\$Type\(\));$/gm;
const LAZILY = `
function lazily(name, make) {
  let made;
  Object.defineProperty(exports, name, { enumerable: true, configurable: true, get: () => (made ??= make()) });
}
`;

/** A file of generated messages, without the methods, and each message made at its first use. */
function lazyMessages(text, path) {
  if (text.search(GENERATED_MESSAGE) < 0)
    throw new Error(`${path} holds no message in the form that protobuf-ts generates`);
  const small = text.replace(GENERATED_METHODS, "");
  return small.replace(GENERATED_MESSAGE, (_, name, made) => `lazily("${name}", () => ${made});`) + LAZILY;
}

/** Each `require` of an ES module copies its exports, and the SDK's messages ask for this one some ten times a file. */
const RUNTIME = "@protobuf-ts/runtime";

/** What is handed on whole is copied by its own names. */
const HANDED_ON = /export\s*\*\s*from\s*["']apache-beam/;

/**
 * esbuild gives each file that imports a CommonJS module an object of its own with a getter for each export, and the
 * SDK has hundreds. Of an object that has none itself and inherits them all, there is nothing to copy.
 */
function inheriting(path) {
  return `module.exports = Object.create(require(${JSON.stringify(path)}));`;
}

/** @returns {import("esbuild").Plugin} */
function beamPlugin() {
  return {
    name: "beamkeeper-beam",
    setup(build) {
      const names = [...CONTENTS.keys()].map((name) => name.replace(/[/]/g, "\\/")).join("|");
      build.onResolve({ filter: new RegExp(`^(${names})$`) }, ({ path }) => ({
        path,
        namespace: "beamkeeper",
      }));
      build.onLoad({ filter: /.*/, namespace: "beamkeeper" }, ({ path }) => ({
        contents: CONTENTS.get(path),
        loader: "js",
        resolveDir: __dirname,
      }));
      build.onResolve({ filter: /^apache-beam(\/|$)/ }, ({ path, kind, importer, namespace, resolveDir }) =>
        kind === "import-statement" && namespace === "file" && !HANDED_ON.test(readFileSync(importer, "utf8"))
          ? { path, namespace: "beamkeeper-sdk", pluginData: { resolveDir } }
          : undefined,
      );
      build.onLoad({ filter: /./, namespace: "beamkeeper-sdk" }, ({ path, pluginData }) => ({
        contents: inheriting(path),
        loader: "js",
        resolveDir: pluginData.resolveDir,
      }));
      build.onLoad({ filter: new RegExp(`/apache-beam/dist/src/apache_beam/(${RUNNERS})\\.js$`) }, () => ({
        contents: NOTHING,
        loader: "js",
      }));
      build.onResolve({ filter: new RegExp(`^${RUNTIME}$`) }, ({ path, kind, namespace, resolveDir }) =>
        kind === "require-call" && namespace === "file"
          ? { path, namespace: "beamkeeper-once", pluginData: { resolveDir } }
          : undefined,
      );
      build.onLoad({ filter: /./, namespace: "beamkeeper-once" }, ({ path, pluginData }) => ({
        contents: `module.exports = require(${JSON.stringify(path)});`,
        loader: "js",
        resolveDir: pluginData.resolveDir,
      }));
      build.onLoad({ filter: /\/apache-beam\/dist\/src\/apache_beam\/serialization\.js$/ }, () => ({
        contents: UNREGISTERED,
        loader: "js",
      }));
      build.onLoad({ filter: /\/apache-beam\/dist\/src\/apache_beam\/.*\.js$/ }, ({ path }) => {
        const text = slimModule(readFileSync(path, "utf8"));
        const isGenerated = /\/proto\/org\/apache\//.test(path);
        const contents = isGenerated ? lazyMessages(text, path) : text;
        return { contents: build.initialOptions.minify ? marked(contents) : contents, loader: "js" };
      });
      build.onResolve({ filter: /^protobufjs$/ }, ({ resolveDir }) =>
        build.resolve("protobufjs/minimal.js", { resolveDir, kind: "require-call" }),
      );
    },
  };
}

module.exports = { beamPlugin };
