import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { ensureNode, NODE_VERSIONS } from "../../infra/node/versions";

const NODES: readonly [string, () => string][] = [
  [process.version, () => process.execPath],
  [`v${NODE_VERSIONS[24]}`, () => ensureNode(24)],
];

test.each(NODES)(
  "the SDK may be loaded before Beamkeeper, outside of a test's sandbox as well: %s",
  (_, node) => {
    const register = join(__dirname, "../../lib/register.ts");
    const file = join(__dirname, "../support/imports/beam-first.ts");
    const args = ["--import", "tsx", "--import", register, file];
    const output = execFileSync(node(), args, { encoding: "utf8" });
    expect(JSON.parse(output)).toEqual(["readZnodeChanges", "groupBy", "groupBy-2"]);
  },
);
