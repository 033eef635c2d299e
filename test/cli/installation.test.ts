import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { temporaryFolder } from "../support/deployment";

test("without its compiled code or its packages, the command says what to do", () => {
  const { path: clone, remove } = temporaryFolder();
  const start = (): string => {
    const { status, stderr } = spawnSync(process.execPath, ["bin/beamkeeper.mjs", "status"], { cwd: clone });
    expect(status).toBe(1);
    return stderr.toString("utf8");
  };
  try {
    cpSync(join(__dirname, "../../bin"), join(clone, "bin"), { recursive: true });
    expect(start()).toMatch(
      /^beamkeeper: .*not compiled\..* `npm install`, .*`npm run beamkeeper -- COMMAND`.*\n$/,
    );
    mkdirSync(join(clone, "dist/lib/cli"), { recursive: true });
    writeFileSync(join(clone, "dist/lib/cli/main.js"), "");
    expect(start()).toMatch(
      /^beamkeeper: .*packages.* not installed\. Run `npm install`.*\n\(.*'tsx'.*\)\n$/,
    );
  } finally {
    remove();
  }
});
