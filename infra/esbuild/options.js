/**
 * How every function is bundled: the one place that serverless.yml (`custom.esbuild.config`) and the tests share.
 *
 * | Option | Why |
 * |---|---|
 * | target node20 | the oldest Node that runs the functions, here and in the tests; the deployed one is newer |
 * | conditions | the installed package is bundled from its sources, so that pipelines and functions have one copy of it |
 * | mainFields | the AWS SDK and zod shake their trees as ES modules only |
 * | sourcesContent false | a map without the sources is a third of the size, and enough for names and lines |
 */
const plugins = require("./plugins.js");

module.exports = () => ({
  bundle: true,
  minify: true,
  sourcemap: true,
  sourcesContent: false,
  platform: "node",
  target: "node20",
  format: "cjs",
  conditions: ["beamkeeper-source"],
  mainFields: ["module", "main"],
  logLevel: "error",
  plugins,
});
