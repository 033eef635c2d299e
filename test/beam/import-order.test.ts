import { execFileSync } from "node:child_process";
import { join } from "node:path";

test("the SDK may be loaded before Beamkeeper, outside of a test's sandbox as well", () => {
  const file = join(__dirname, "../support/imports/beam-first.ts");
  const output = execFileSync(process.execPath, ["--import", "tsx", file], { encoding: "utf8" });
  expect(JSON.parse(output)).toEqual(["readZnodeChanges", "groupBy", "groupBy-2"]);
});
