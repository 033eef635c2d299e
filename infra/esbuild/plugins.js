/** The list that serverless-esbuild asks for (`custom.esbuild.plugins`). */
const { beamPlugin } = require("./beam-plugin.js");

module.exports = [beamPlugin()];
