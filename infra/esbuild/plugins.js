/** The list that serverless-esbuild asks for (`custom.esbuild.plugins`). */
const { beamPlugin } = require("./beam-plugin.js");
const { clientsPlugin } = require("./clients-plugin.js");
const { eagerModulesPlugin } = require("./eager-plugin.js");
const { pipelinesPlugin } = require("./pipelines-plugin.js");
const { runtimesPlugin } = require("./runtimes-plugin.js");

module.exports = [beamPlugin(), eagerModulesPlugin(), pipelinesPlugin(), clientsPlugin(), runtimesPlugin()];
