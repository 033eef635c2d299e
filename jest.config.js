/** @type {import("jest").Config} */
module.exports = {
  testEnvironment: "node",
  roots: ["<rootDir>/test"],
  testMatch: ["**/*.test.ts"],
  transform: {
    "^.+\\.[jt]s$": [
      "@swc/jest",
      { jsc: { parser: { syntax: "typescript" }, target: "es2022" }, module: { type: "commonjs" } },
    ],
  },
  transformIgnorePatterns: ["/node_modules/"],
  moduleNameMapper: {
    "^beamkeeper$": "<rootDir>/lib/index.ts",
    "^beamkeeper/testing$": "<rootDir>/lib/testing/index.ts",
    // What is loaded by import() is named with the extension that it has after compilation.
    "^(\\.{1,2}/.*)\\.js$": "$1",
    // As in deployed functions. Loading it would take two fifths of each file's start.
    "^@google-cloud/pubsub$": "<rootDir>/test/support/absent.cjs",
  },
  setupFiles: ["<rootDir>/lib/register.ts", "<rootDir>/test/support/property-seed.ts"],
  testSequencer: "<rootDir>/test/support/longest-first.cjs",
  // One more than the cores of the machine that this is measured on: integration tests wait more than they compute.
  maxWorkers: 3,
  // Ends what hangs, on a machine that is busy with other work as well.
  testTimeout: 600_000,
};
