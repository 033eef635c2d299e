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
  },
  setupFiles: ["<rootDir>/lib/register.ts", "<rootDir>/test/support/property-seed.ts"],
  // Two workers: the machine that this is measured on has two cores, and every integration test owns a server.
  maxWorkers: 2,
  testTimeout: 60_000,
};
