/**
 * The order in which Jest starts the files: the longest first, so that no worker is left with one at the end. Jest
 * knows their times from the run before, which a fresh machine has not had.
 */
const Sequencer = require("@jest/test-sequencer").default;

/** The files that take more than 20 s on two quiet cores, in the order of their times. */
const LONGEST = [
  "integration/deploy",
  "integration/package",
  "simulation/simulation",
  "integration/deploy-events",
  "integration/bad-input",
  "integration/start",
  "integration/verify",
  "integration/exactly-once",
  "integration/relay-process",
  "integration/bounded",
  "runner/large-groups",
  "integration/bundled-function",
  "relay/standby",
  "integration/relay-away",
  "integration/offline",
  "integration/templates",
  "integration/packaging",
  "cli/check",
  "simulation/conformance",
];

module.exports = class LongestFirst extends Sequencer {
  sort(tests) {
    const place = ({ path }) => {
      const index = LONGEST.findIndex((name) => path.endsWith(`/${name}.test.ts`));
      return index < 0 ? LONGEST.length : index;
    };
    return super.sort(tests).sort((a, b) => place(a) - place(b));
  }
};
